"""Personal data in texts: a text → the same with placeholders for addresses and numbers, and how many there were.

    (text, kinds) → mask → (text, {kind: count})

Mail addresses, phone numbers, numbers of payment cards and IP addresses (SPEC-corpus 2). Precision comes first: years,
prices, dates, ISBNs, coordinates and versions are left alone, so a number that nothing marks as a phone number stays.
What is written to shards is masked, and URLs are not: an address of a page or picture names where it was found. The
rules and the search for duplicates judge the texts as they were, so that masking never changes what is kept.

Every pattern repeats a bounded number of times, over characters that no two neighbours of it share: the work at one
character is bounded, and that for a text linear.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from schemas.document import Document, ImageRef, Item, Text

MAIL, PHONE, CARD, IP = "mail", "phone", "card", "ip"
PLACEHOLDERS: Mapping[str, str] = {MAIL: "<EMAIL>", CARD: "<CARD>", IP: "<IP_ADDRESS>", PHONE: "<PHONE>"}
"""What stands for each kind, in the order in which they are looked for: those that can be told for sure come first.
Words in angle brackets, as StarCoder's corpus has them; a tokenizer can be given each as one token."""
COUNTED: Mapping[str, str] = {MAIL: "mail address", PHONE: "phone number", CARD: "card number", IP: "IP address"}
"""What the funnel counts each kind as."""
MASKED = "masked"


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """What of people's data is left out of texts."""

    mask: tuple[str, ...] = ()
    """Kinds that placeholders stand for in every text of the shards: mail, phone, card, ip. URLs are left as they are,
    and so are the tables beside the shards."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.mask if kind not in PLACEHOLDERS]:
            raise ValueError(f"mask is of {', '.join(COUNTED)}, not {unknown[0]!r}")


def mask(text: str, kinds: Iterable[str]) -> tuple[str, Counter[str]]:
    """Replace what is found of these kinds by their placeholders; gives the counts by kind."""
    counts: Counter[str] = Counter()
    wanted = set(kinds)
    for kind in PLACEHOLDERS:
        if kind in wanted:
            text, count = MASKS[kind](text)
            if count:
                counts[kind] += count
    return text, counts


class Masker:
    """Masks the texts of one thing after the other, and adds up what it found."""

    def __init__(self, config: PrivacyConfig) -> None:
        self.kinds = config.mask
        self.counts: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        """Mask a text."""
        if not self.kinds or not text:
            return text
        masked, counts = mask(text, self.kinds)
        self.counts.update(counts)
        return masked

    def each(self, texts: Iterable[str]) -> dict[str, str]:
        """Mask texts, each of them once; gives the masked by the plain ones."""
        return {text: self(text) for text in dict.fromkeys(texts)}

    def tell(self, stage: str, counts: Counter[tuple[str, str, str]]) -> None:
        """Add what was masked to the counts of a unit. No row tells what it was: that would keep it."""
        for kind, count in self.counts.items():
            counts[stage, COUNTED[kind], MASKED] += count
        self.counts.clear()


def mask_document(document: Document, masker: Masker, shown: Container[int]) -> Document:
    """Mask the texts of a document; of its pictures, those at the positions that are `shown`."""
    if not masker.kinds:
        return document
    items: list[Item] = []
    for position, item in enumerate(document.items):
        if isinstance(item, Text):
            items.append(Text(masker(item.text)))
        elif isinstance(item, ImageRef) and position in shown:
            items.append(replace(item, alt=masker(item.alt), caption=masker(item.caption)))
        else:
            items.append(item)
    return replace(document, title=masker(document.title), author=masker(document.author), items=tuple(items))


def replace_found(pattern: re.Pattern[str], text: str, placeholder: str, holds: Any) -> tuple[str, int]:
    """Replace the matches of which `holds` says that they are what they look like."""
    count = 0

    def judged(found: re.Match[str]) -> str:
        nonlocal count
        if not holds(found):
            return found[0]
        count += 1
        return placeholder

    return pattern.sub(judged, text), count


def before(found: re.Match[str], most: int = 24) -> str:
    """Give the text before a match, in lower case."""
    return found.string[max(0, found.start() - most) : found.start()].lower()


# --- mail addresses --------------------------------------------------------------------------------------------------

LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}")
LOCAL_CHARS = 64  # RFC 5321, 4.5.3.1.1
AT = re.compile(r"(?<=[^\s@(<\[])@(?=[^\W_])|[\[({][ ]?(?:at|AT|@)[ ]?[\])}][ ]?")
DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|[ ]?[\[({][ ]?(?:dot|DOT|\.)[ ]?[\])}][ ]?)){1,6}"
    r"(?P<top>[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w@])"
)
FILES = frozenset(["png", "jpg", "jpeg", "gif", "webp", "svg", "avif", "js", "css", "html", "py"])
"""Endings of file names such as logo@2x.png."""
NOT_PEOPLE = frozenset(["git", "hg", "svn"])
EDGES = ".!#$%&'*+/=?^`{|}~-"


def mask_mail(text: str) -> tuple[str, int]:
    """Mask mail addresses; `name [at] host [dot] example` too."""
    pieces, done = [], 0
    for at in AT.finditer(text):
        if at.start() < done:
            continue
        end = at.start() - (at[0] != "@" and text[at.start() - 1 : at.start()] == " ")
        backwards = LOCAL.match(text[max(done, end - LOCAL_CHARS) : max(done, end)][::-1])
        domain = DOMAIN.match(text, at.end()) if backwards else None
        if backwards is None or domain is None or domain["top"].lower() in FILES:
            continue
        name = backwards[0][::-1].lstrip(EDGES)
        if name and name not in NOT_PEOPLE and not name.endswith("."):
            pieces += [text[done : end - len(name)], PLACEHOLDERS[MAIL]]
            done = domain.end()
    return "".join([*pieces, text[done:]]), len(pieces) // 2


# --- payment cards ---------------------------------------------------------------------------------------------------

CARD_NUMBER = re.compile(
    r"(?<![\w.,:/=#&-])(?<![+\d][ ])(?:[0-9]{13,19}"
    r"|[0-9]{4}(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}(?:(?P=gap)[0-9]{1,3})?"
    r"|[0-9]{4}(?P<gap_of_three>[ -])[0-9]{6}(?P=gap_of_three)[0-9]{4,5})(?![\w/=-]|[ ][0-9]|[.,][0-9])"
)
LONG_NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){12}")
"""What every card number holds; most texts have none, and this is found several times as fast."""
ISSUERS = re.compile(
    r"4[0-9]{12}(?:[0-9]{3}){0,2}|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:6011|65[0-9]{2}|64[4-9][0-9])[0-9]{12}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|62[0-9]{14,17}|(?:50|5[6-8]|6[37])[0-9]{14}"
)
"""Lengths and first digits of Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay and Maestro."""


def mask_cards(text: str) -> tuple[str, int]:
    """Mask card numbers: of an issuer's form, and with the right check digit."""
    return replace_found(CARD_NUMBER, text, PLACEHOLDERS[CARD], is_card) if LONG_NUMBER.search(text) else (text, 0)


def is_card(found: re.Match[str]) -> bool:
    """Tell whether digits are those of a card."""
    digits = re.sub(r"[ -]", "", found[0])
    return ISSUERS.fullmatch(digits) is not None and luhn(digits)


def luhn(digits: str) -> bool:
    """Tell whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(value - 9 * (value > 9) for value in doubled)) % 10 == 0


# --- IP addresses ----------------------------------------------------------------------------------------------------

OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
TWO_DOTS = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
V4 = re.compile(rf"(?<![\w.:-])(?<![0-9][,/]){OCTET}(?:\.{OCTET}){{3}}(?![\w-]|\.[\w]|,[0-9])")
V6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{3,34}(?![\w:])")
NUMBERED = re.compile(
    r"(?:\bv|\bver|version|release|build|update|section|\bsec|chapter|clause|rule|§|firmware)[.: #]{0,3}$"
)
CALLED_IP = re.compile(r"\b(?:ips?|address|addresses|host|server|ping|dns|gateway|from)\b[\W_]{0,3}(?:is )?$")
PLAIN_BELOW = 100
"""An address without any number from here on (2 of 100 have none) has to be called one."""
MIN_COLONS = 3


def mask_ips(text: str) -> tuple[str, int]:
    """Mask addresses of the public net; those of private nets and of this machine name nobody."""
    count = more = 0
    if TWO_DOTS.search(text):
        text, count = replace_found(V4, text, PLACEHOLDERS[IP], is_v4)
    if text.count(":") >= MIN_COLONS:
        text, more = replace_found(V6, text, PLACEHOLDERS[IP], is_v6)
    return text, count + more


def is_v4(found: re.Match[str]) -> bool:
    """Tell an address from a version or a section: these are announced as such, or count in small steps."""
    said = before(found)
    if not is_public(found[0]) or NUMBERED.search(said):
        return False
    return max(map(int, found[0].split("."))) >= PLAIN_BELOW or CALLED_IP.search(said) is not None


def is_v6(found: re.Match[str]) -> bool:
    """Tell whether this is an address of the public net."""
    return found[0].count(":") >= MIN_COLONS and is_public(found[0])


def is_public(address: str) -> bool:
    """Tell whether an address is well formed, and given to somebody."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


# --- phone numbers ---------------------------------------------------------------------------------------------------

GAP = r"[ \u00a0.()/\u2010-\u2013-]"
START = r"(?<![\w.,:/=#&@%$€£¥+-])(?<![\w][/.,:-])"
END = r"(?![\w%°/=]|[.,:-]\w|[ ]?[€$£¥°%])"
INTERNATIONAL = re.compile(
    rf"(?<![\w+.,/=#&-])(?<![0-9]:)\(?(?:\+[ ]?|00(?=[1-9]))[1-9](?:{GAP}{{0,4}}[0-9]){{6,14}}{END}"
)
"""`+` or `00`, then 7 to 15 digits (ITU-T E.164)."""
NORTH_AMERICAN = re.compile(
    rf"{START}(?:\+?1[ .-]?)?(?:\([2-9][0-9]{{2}}\)[ .-]?|[2-9][0-9]{{2}}(?P<gap>[.-]))"
    rf"[2-9][0-9]{{2}}(?(gap)(?P=gap)|[ .-])[0-9]{{4}}{END}"
)
NATIONAL = re.compile(rf"{START}\(?0[1-9](?:{GAP}{{0,3}}[0-9]){{7,10}}{END}")
"""A trunk prefix 0, then 8 to 11 digits."""
SEVEN_DIGITS = re.compile(rf"[0-9](?:{GAP}{{0,4}}[0-9]){{6}}")
ANY_NUMBER = re.compile(rf"{START}\(?[0-9](?:{GAP}{{0,3}}[0-9]){{6,14}}{END}")
LABEL = re.compile(
    r"(?:\b(?:tele?phone|tel|teléfono|telefono|telefon|tél|téléphone|phones?|ph|fon|fone|fax|mobile?|mob|cell|whatsapp"
    r"|hotline|helpline|handy|móvil|call|dial|text|sms)\b|[☎📞☏])\ufe0f?"
    r"(?: (?:us|me|now|today|at|on|is|or|no|number)\b){0,3}"
    r"[ .:#\u00a0|-]{0,6}$"
)
DATE = re.compile(
    r"(?<![0-9])(?:[0-3]?[0-9][./-][01]?[0-9][./-](?:1[5-9]|20)[0-9]{2}|[01]?[0-9][./-][0-3]?[0-9][./-](?:1[5-9]|20)[0-9]{2}"
    r"|(?:1[5-9]|20)[0-9]{2}[./-][01]?[0-9][./-][0-3]?[0-9])(?![0-9])"
)
YEARS = re.compile(r"(?:1[5-9]|20)[0-9]{2}(?:[ –/-]+(?:1[5-9]|20)[0-9]{2})*")
BOOK_NUMBER = re.compile(
    r"\b(?:isbn|issn|ean|doi|isin|asin|upc|sku|item|order|no|nr|id|pp|pages)\b\W{0,3}(?:1[03])?\W{0,3}$"
)
MIN_DIGITS, MAX_GROUPS = 7, 8


def mask_phones(text: str) -> tuple[str, int]:
    """Mask phone numbers: international, those with a label, North American ones, and those that begin with 0."""
    total = 0
    if not SEVEN_DIGITS.search(text):
        return text, 0
    for pattern, holds in PHONES:
        text, count = replace_found(pattern, text, PLACEHOLDERS[PHONE], holds)
        total += count
    return text, total


def groups_of(found: re.Match[str]) -> list[str]:
    """Give the groups of digits of a number."""
    return re.findall(r"[0-9]+", found[0])


def is_number(found: re.Match[str]) -> bool:
    """Tell a phone number from a date, years, a row of figures and the number of a book."""
    groups = groups_of(found)
    number = found[0]
    if len(groups) > MAX_GROUPS or sum(map(len, groups)) < MIN_DIGITS or number.count("(") != number.count(")"):
        return False
    if len(groups) > 1 and all(int(b) - int(a) == 1 for a, b in pairwise(groups)):
        return False
    return not (DATE.search(number) or YEARS.fullmatch(number) or BOOK_NUMBER.search(before(found)))


def is_international(found: re.Match[str]) -> bool:
    """Tell a number with its country from one that is only written with a sign."""
    groups = groups_of(found)
    return is_number(found) and max(map(len, groups)) >= 3


def is_labelled(found: re.Match[str]) -> bool:
    """Tell a number that a word before it calls a phone number."""
    return LABEL.search(before(found, 40)) is not None and is_number(found)


def is_national(found: re.Match[str]) -> bool:
    """Tell a number with a trunk prefix: in groups, the last ones of two digits or more, and no times of day."""
    groups = groups_of(found)
    if len(groups) == 1 and len(groups[0]) not in (10, 11):
        return False
    times = all(len(group) == 4 and int(group[:2]) < 24 and int(group[2:]) < 60 for group in groups)
    small = len(groups) > 1 and any(len(group) < 2 for group in groups[1:])
    return is_number(found) and not times and not small


PHONES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    (INTERNATIONAL, is_international),
    (ANY_NUMBER, is_labelled),
    (NORTH_AMERICAN, is_number),
    (NATIONAL, is_national),
)
MASKS: Mapping[str, Callable[[str], tuple[str, int]]] = {
    MAIL: mask_mail,
    CARD: mask_cards,
    IP: mask_ips,
    PHONE: mask_phones,
}
