"""Texts of pictures: what is cut from them, and what a text is that says nothing of its picture.

    text → make_plain → trim → the part that says something
    text → nothing_said → why the whole of it says nothing, a constant below

A text is cut into segments at sentence ends, bars, dashes, brackets and the signs of a credit. A segment that only
credits, dates, names a file, points elsewhere or asks for a click falls away at both ends, and in brackets anywhere.
Words are known in English, German, French, Spanish and Italian.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape

from pipeline.names import SENTENCE_END, starts_credit
from pipeline.nesting import words
from schemas.document import ALT

REFERENCE_ONLY = "reference_only"
"""The text points at another: see caption, as described in text."""
FILE_NAME = "file_name"
CREDIT_ONLY = "credit_only"
DATE_ONLY = "date_only"
BOILERPLATE = "boilerplate"
"""The text is for using the page (click to enlarge) or about something else than the picture."""

# --- what says nothing of the picture --------------------------------------------------------------------------------

MONTH = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|febrero|febbraio|f[ée]vr(?:ier)?|mar(?:ch|s|zo)?|märz|apr(?:il|ile)?"
    r"|avril|abril|may|mai|mayo|maggio|june?|juni|juin|junio|giugno|jul[iy]?|juillet|julio|luglio|aug(?:ust)?|août"
    r"|agosto|sep(?:t(?:ember|iembre)?)?|septembre|settembre|[ok][ck]t(?:ober|obre|ubre)?|ottobre|nov(?:ember|embre"
    r"|iembre)?|de[cz](?:ember|embre)?|décembre|diciembre|dicembre|enero|gennaio)\b\.?"
)
DATE = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})\b|\d{4}-\d{2}-\d{2}\b"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|\.)?\s(?:de\s)?{MONTH},?\s(?:de\s)?\d{{4}}\b"
    rf"|{MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}\b)"
)
DATE_LINE = re.compile(
    r"(?:(?:stand|as of|updated|last updated|published|posted|on)\b[:\s]*){0,3}"
    r"(?:(?-i:[A-ZÀ-Þ])[\w.'-]{1,30}(?:\s(?-i:[A-ZÀ-Þ])[\w.'-]{1,30}){0,3},\s)?"
    rf"(?:{DATE}|{MONTH}\s\d{{4}})(?:\s?[@,]?\s?\d{{1,2}}[:h]\d{{2}})?\.?",
    re.IGNORECASE,
)
DATE_AT_END = re.compile(
    rf"(?:\s?[,–—-])?\s(?:(?:on|am|le|el|il|vom)\s)?{DATE}\.?$|,\s{MONTH}\s\d{{4}}\.?$", re.IGNORECASE
)
MAX_DATE_TAIL_CHARS = 5
"""Characters at the end of a text among which a date has a digit."""
DATELINE = re.compile(
    r"(?:[A-ZÄÖÜÉ][A-ZÄÖÜÉ .'-]{1,40}(?:,\s[A-Z][A-Za-z .'-]{1,30})?"
    rf"(?:\s\((?:AP|AFP|dpa|EFE|ANSA|APA|Reuters|REUTERS)\)|,?\s(?i:{DATE}))"
    r"|[A-Z][A-Z .'-]{1,40},\s[A-Z .'-]{2,40})"
    rf"\s[–—-]+\s(?:(?i:{MONTH})\s\d{{1,2}}(?:,\s\d{{4}})?\s?[:–-]\s)?"
)
"""Place by format at the start of agency captions: BERLIN, 12 May 2019 - ...; LONDON, ENGLAND - MAY 12: ..."""
FILE = re.compile(
    r"[^\s/]{1,120}\.(?:jpe?g|png|gif|webp|svg|bmp|tiff?|avif|heic|mp4)"
    r"|(?:img|dsc[nf]?|pict|mvi|gopr|scan|screen[ -]?shot|bildschirmfoto)[-_ ]?\d[\d_-]*"
    r"|(?:image|photo|foto|bild|picture|imagen|immagine|untitled|unnamed|unbenannt)(?:[-_ ]?\(?\d[\d_-]*\)?)?"
    r"|(?:p|\d+-p)\d{4,}",
    re.IGNORECASE,
)
SLUG = re.compile(r"[\w.()+-]+")
MIN_SLUG_HYPHENS = 3
TEXT_NAMES = (
    r"(?:captions?|text|legende?|description|beschreibung|bild(?:unterschrift|text|legende)|légende|texte|leyenda"
    r"|pie de foto|texto|didascalia|testo|article|artikel)"
)
REFERENCE = re.compile(
    r"(?:please )?(?:see|refer to|read|siehe|s\.|vgl\.?|voir|cf\.?|véase|ver|vedi)(?: [a-z]{2,12})?"
    rf" (?:{TEXT_NAMES}|above|below|oben|unten|ci-dess(?:ous|us))(?: (?:above|below|for \w{{3,12}}|oben|unten))?"
    r"|.{0,60}\b(?:described|explained|discussed|beschrieben|décrite?s?|descrit[oa]s?|descritt[oa])"
    rf" (?:in|im|dans|en|nel)(?: \w{{2,3}})? {TEXT_NAMES}"
    rf"|(?:same )?as (?:above|below|in {TEXT_NAMES})|{TEXT_NAMES} (?:above|below|oben|unten)|wie oben|ditto|idem",
    re.IGNORECASE,
)
PROMPT_ACTS = words(
    "click tap hover enlarge zoom expand view open opens download play watch slideshow read more loading full complete"
    " larger bigger fullscreen share send print"
    " klicken klick klicke anklicken vergrößern vergrössern vergrößerung großansicht öffnen öffnet anzeigen ansehen"
    " mehr weiterlesen teilen verschicken drucken"
    " cliquez cliquer agrandir zoomer voir lire clic pinchar pulse ampliar agrandar ver leer más"
    " clicca cliccare ingrandire ingrandisci leggi"
)
PROMPT_WORDS = PROMPT_ACTS | words(
    "here on the this image images photo photos picture pictures map icon thumbnail figure below above for to a an in"
    " or and it its screen large size sized version high resolution res new window tab details info information gallery"
    " featured video all article see"
    " zum zur zu auf das dem den die der ein eine bild bilder foto fotos grafik karte neuem neues fenster tab galerie"
    " lesen erfahren shop inhalt artikel link bitte hier"
    " sur la le les l en grand plein écran une nouvelle fenêtre suite plus pour"
    " haga haz sobre para imagen imagens el nueva ventana"
    " qui su per immagine immagini di più tutto"
)
MAX_PROMPT_WORDS = 14
STAMPS = words("symbolbild symbolfoto archivbild archivfoto beispielbild ausschnitt advertisement anzeige werbung")
STAMP_PHRASES = words(
    "file_photo file_image stock_photo stock_image public_domain representative_image handout all_rights_reserved"
)
NOISE = re.compile(
    r"(?:image|photo) may contain|may be (?:an image|a \w+ image)|puede ser (?:una? )?(?:imagen|foto)"
    r"|(?:könnte|kann) ein(?:e|en)? (?:bild|person|text)|bild könnte enthalten|peut être une (?:image|photo)"
    r"|l'image contient peut|potrebbe essere un'immagine|--\w+--|\bminutes? read\b|\bmin read\b|^written by|^posted by"
    r"|lesen sie auch|könnte sie auch interessieren|e-mail:|\btel\.?:|\bcc[ -]by\b"
    r"|^(?:dpa|afp|ap|reuters|istock|getty)\w{0,12}/|enable javascript|playback is (?:not |un)supported"
    r"|cookies?\b.{0,40}\baccept"
    r"|\b(?:profile|author) (?:picture|photo|image) of|©",
    re.IGNORECASE,
)
"""Texts of machines that guess, of contacts and teasers, and credits in the middle of a text."""


def nothing_said(text: str) -> str:
    """Give the reason if the whole of a text says nothing of the picture; else an empty string."""
    bare = text.strip(" .,;:!|()[]-–—")
    if len(bare) > MAX_SEGMENT_CHARS:
        return ""
    found = WORD.findall(bare.casefold())
    if len(found) <= MAX_PROMPT_WORDS:
        if REFERENCE.fullmatch(bare):
            return REFERENCE_ONLY
        if FILE.fullmatch(bare) or (SLUG.fullmatch(bare) and ("_" in bare or bare.count("-") >= MIN_SLUG_HYPHENS)):
            return FILE_NAME
        if DATE_LINE.fullmatch(bare):
            return DATE_ONLY
        if is_prompt(found) or (len(found) == 1 and found[0] in STAMPS) or "_".join(found) in STAMP_PHRASES:
            return BOILERPLATE
    return CREDIT_ONLY if is_named_credit(text) or ADDRESS.fullmatch(bare) else ""


def is_prompt(found: Sequence[str]) -> bool:
    """Say whether words only ask for an act: click on the image to enlarge."""
    return PROMPT_WORDS.issuperset(found) and not PROMPT_ACTS.isdisjoint(found)


ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
AGENCIES = re.compile(
    r"\b(?:getty images|afp|(?-i:AP|EPA|APA|ANSA|EFE)|reuters|dpa|xinhua|imago images|picture[ -]alliance|akg-images"
    r"|shutterstock|istock(?:photo)?|adobe ?stock|fotolia|alamy|depositphotos|unsplash|pixabay|pexels|flickr|thinkstock"
    r"|colourbox|wikimedia|wikipedia|cc[ -]by|creative commons|courtesy|archivo?|privat|handout)\b",
    re.IGNORECASE,
)
CREDIT_LOWER = words(
    "by via von of for from the and und on in de del la para le du et y e da di per courtesy privat private archiv"
    " istock unsplash pixabay pexels flickr shutterstock picture alliance images photos cc sa nc nd dpa epa lizenz"
    " credit should read"
)
MAX_SEGMENT_CHARS = 200
MIN_PLAIN_WORDS = 3
"""Words in lower case, other than those that link names, from which a text says more than names."""
NAMES_BY_SLASH = re.compile(r"[A-ZÀ-Þ][\w.&' -]{1,40}(?:/[A-ZÀ-Þ][\w.&' -]{1,40}){1,4}")
PICTURE_BY = re.compile(r"^(?:photos?|fotos?|bild|image|fot\.)\s(?=\S)", re.IGNORECASE)
HYPHENED = re.compile(r"\W*\w+-\w")
CREDIT_SIGN = re.compile(r"[:©|]")
MAX_SIGN_CHARS = 30
COMPOUND = re.compile(r"\W*[a-zäöü]{1,12}(?=(?:foto|bild)\s?:)", re.IGNORECASE)


def is_named_credit(text: str) -> bool:
    """Say whether a text is names alone and says that they took or own the picture."""
    bare = text.strip(" .,;:!|()[]-–—")
    if not bare or len(bare) > MAX_SEGMENT_CHARS or SENTENCE_END.search(PICTURE_BY.sub("", bare)):
        return False
    plain = [token for token in bare.split() if token[0].islower() and not any(sign in token for sign in "./@")]
    more = sum(token.strip(",;:()[]-").casefold() not in CREDIT_LOWER for token in plain)
    compound = COMPOUND.match(text)
    if starts_credit(text[compound.end() :] if compound else text) and not HYPHENED.match(text):
        return more < (MIN_PLAIN_WORDS if CREDIT_SIGN.search(text[:MAX_SIGN_CHARS]) else 1)
    named = AGENCIES.search(bare) or NAMES_BY_SLASH.fullmatch(bare) or PICTURE_BY.match(bare)
    return more == 0 and named is not None


# --- cleaning --------------------------------------------------------------------------------------------------------

MAX_TEXT_CHARS = 5_000
"""Characters that are looked at: no caption is longer."""
MAX_ROUNDS = 8
"""Segments that are taken off one end, at most."""
WORD = re.compile(r"[^\W\d_]+")
TAG = re.compile(r"</?[a-z][^<>]{0,200}>", re.IGNORECASE)
QUOTES = str.maketrans({"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"'})
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffc\ufffd]")
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
NOTE = re.compile(r"\[\d{1,4}\]")
COPYRIGHT = re.compile(r"\(C\)\s*(?=[A-ZÀ-Þ])")
GLUED_CREDIT = re.compile(r"(?:Credit){1,2}[.…]{0,3}(?=[A-ZÀ-Þ])")
BRACKET = re.compile(r"\s*[(\[]([^()\[\]]{1,200})[)\]]")
BREAK = re.compile(
    r"(?<=[\w)\]\"'%][.!?…])\s+|\s+[|•·–—/-]+\s+|\s+\|\s?|\s*(?=©)"
    r"|(?:\s+|(?<=[.!?…)]))(?=(?i:credits?|fot\.|quelle|source|copyright|image|illustration"
    r"|(?:[a-zäöü]{1,12})?(?:photo|foto|bild)[a-zäöü]{0,10})\s?[:©])"
    r"|\s+(?=(?:Photo|Foto|Image|Illustration)s?\s(?:by|via|von|de)\b|fot\.\s)"
)
"""Where a credit, a date or a prompt may begin."""
AGENCY_AT_END = re.compile(r"\s\S{0,40}(?:Getty Images|Shutterstock|iStock|Adobe ?Stock)\S{0,40}$")
SAYS_NOTHING = re.compile(
    r"(?:(?:featured )?(?:image|photo|picture|foto|imagen|immagine)(?:\s\d+(?:\s?(?:of|von|de|di|sur|/)\s?\d+)?)?"
    r"|symbolbild|archivbild|symbolfoto|archivfoto|file photo|(?:image |photo )?caption|legende|légende|leyenda"
    r"|didascalia|bild(?:unterschrift|beschreibung)?|alt(?:ernativ)?[ -]?text"
    r"|descripción de la (?:foto|imagen)[^:]{0,60})(?:\s?:\s*|\s[|–—-]\s+)"
    r"|(?:image|photo|picture|foto|bild)\s\d+\s?(?:of|von|de|di|sur|/)\s?\d+\s+|\d{1,3}\s?/\s?\d{1,3}\s+(?=\D)",
    re.IGNORECASE,
)
"""Labels at the start of a text, without a number that the page may refer to."""
PICTURE_OF = re.compile(r"(?:an?\s|the\s)?(?:picture|image|photo|photograph) of\s(?=an?\s|the\s)", re.IGNORECASE)
PANELS = re.compile(r"a(?: [b-z])* (?=(?:Fig|Abb|Plate|Pl|Taf)\b)")
"""Letters under the parts of a figure, which stand before its caption in reading order."""


def clean_text(text: str, kind: str) -> str:
    """Clean a text of a picture: one line, straight quotes, no credits, dates, file names, prompts, empty labels.

    Printed labels (Fig. 1.) stay. Of a text that says nothing a part stays, so that `judge_text` can tell what it is.
    """
    text = make_plain(text)
    for _ in range(MAX_ROUNDS):
        shorter = "" if nothing_said(text) else trim(text, kind)
        if shorter in ("", text):
            break
        text = shorter
    return text


def make_plain(text: str) -> str:
    """Write a text in one line without markup, invisible characters and curled quotes."""
    text = TAG.sub(" ", unescape(text[:MAX_TEXT_CHARS]))
    text = CONTROLS.sub(" ", INVISIBLE.sub("", text)).translate(QUOTES).replace("``", '"').replace("''", '"')
    text = NOTE.sub("", text)
    return " ".join(GLUED_CREDIT.sub(" Credit: ", COPYRIGHT.sub("© ", text)).split())


def trim(text: str, kind: str) -> str:
    """Take from a plain text what says nothing of the picture: brackets anywhere, one segment at each end."""
    for pattern in (PANELS, DATELINE, *((PICTURE_OF,) if kind == ALT else ())):
        text = text[found.end() :] if (found := pattern.match(text)) else text
    text = trim_end(trim_start(BRACKET.sub(keep_bracket, text)))
    return text.strip(" |•·,;–—-")


def keep_bracket(bracket: re.Match[str]) -> str:
    """Keep a bracket that says something."""
    return "" if nothing_said(bracket[1].replace(" / ", "/")) else bracket[0]


def trim_start(text: str) -> str:
    """Drop what says nothing at the start: the first segment, a label or a file name."""
    first = BREAK.search(text)
    if first and nothing_said(text[: first.start()]):
        return text[first.end() :]
    if label := SAYS_NOTHING.match(text):
        return text[label.end() :]
    token, _, rest = text.partition(" ")
    return rest if rest and "." in token and FILE.fullmatch(token) and any(map(str.isalpha, token)) else text


def trim_end(text: str) -> str:
    """Drop what says nothing at the end: a date, the last segments, an agency or a file name."""
    if any(map(str.isdigit, text[-MAX_DATE_TAIL_CHARS:])):
        text = DATE_AT_END.sub("", text)
    for cut in BREAK.finditer(text, max(0, len(text) - MAX_SEGMENT_CHARS)):
        if nothing_said(text[cut.end() :]):
            return text[: cut.start()]
    text = AGENCY_AT_END.sub("", text)
    head, _, token = text.rpartition(" ")
    return head if head and "." in token and FILE.fullmatch(token) and any(map(str.isalpha, token)) else text
