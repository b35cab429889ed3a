"""Lists of words that texts are judged by, and the words of a text in the form in which they are looked up.

In: a text, or the path or URL of the user's list of flagged words. Out: bare words: what stands between white space, in
lower case and without the digits and marks at its ends; what is nothing else is none.
"""

from __future__ import annotations

import string
from functools import lru_cache

from pipeline.folder import UserError, open_input
from pipeline.sources import stat

ENDS = string.punctuation + string.digits + "“”„‟‘’‚‛«»‹›–—―−…·•¡¿§©®™°€£¥×、。！？，：；（）「」"
"""What bare words are stripped of."""
CURLY = {ord("’"): "'"}
"""`don’t` and `don't` are one word."""
MAX_LIST_BYTES = 16 << 20
"""Bytes of a list of flagged words, at most: a thousand times the longest in use."""


def bare_words(text: str) -> list[str]:
    """Split a text into its bare words."""
    if "’" in text:
        text = text.translate(CURLY)
    return [word for word in [word.strip(ENDS) for word in text.lower().split()] if word]


def listed(text: str) -> frozenset[str]:
    """Make a list of the words of a text, as they stand."""
    return frozenset(text.split())


GOPHER_STOP_WORDS = listed("the be to of and that have with")
"""Gopher's eight (paper A1.1)."""
STOP_WORDS = listed("""
    a about above across after again against ago all almost along already also although always am among an and another
    any anyone anything are around as at away back be became because become been before behind being below between both
    but by came can cannot come could did do does doing done down during each either else enough even ever every
    everyone everything few for from get gets getting go goes going got had has have having he her here hers herself
    him himself his how however i if in inside instead into is it its itself just least less let like made make many
    may maybe me might mine more most much must my myself near neither never no nobody none nor not nothing now of off
    often on once one only onto or other others our ours ourselves out outside over own per perhaps quite rather really
    said same say says see seen several shall she should since so some someone something sometimes somewhere soon still
    such take than that the their theirs them themselves then there therefore these they thing things this those though
    through throughout thus till to together too toward towards two under unless until up upon us very was way we well
    went were what whatever when where whether which while who whole whom whose why will with within without would yes
    yet you your yours yourself yourselves aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he'd he'll
    he's i'd i'll i'm i've isn't it'll it's let's she'd she'll she's shouldn't that's there's they'd they'll they're
    they've wasn't we'd we'll we're we've weren't what's who's won't wouldn't you'd you'll you're you've
    """)
"""Function words and the commonest verbs of English, which are about half of any English prose."""
FLAGGED_WORDS = listed("""
    bdsm blowjob blowjobs bukkake camgirl camgirls creampie cumming cumshot cumshots cunt cunts deepthroat dildo dildos
    fuck fucked fucking fucks gangbang gangbangs handjob handjobs hentai horny jizz masturbate masturbates masturbating
    milf milfs orgasms orgy porn porno pornos pornstar pornstars pussies pussy sexcam sexcams sluts squirting strapon
    threesome threesomes titties upskirt whores xvideos xxx
    """)
"""Words of explicit sexual text; words that health, law, art or other languages need too are left out."""


def hold_flagged(path: str) -> frozenset[str]:
    """Give the flagged words of a run, read once a process and again when the list has changed; "" is our own list."""
    return read_flagged(path, stamp_flagged(path)) if path else FLAGGED_WORDS


def stamp_flagged(path: str) -> str:
    """Give what changes when the content of a list does; `UserError` where there is no such file."""
    try:
        return stat(path)[1] if path else ""
    except FileNotFoundError:
        raise UserError(f"{path}: no such list of flagged words") from None


@lru_cache(maxsize=1)
def read_flagged(path: str, stamp: str) -> frozenset[str]:
    """Read a list, a word a line in UTF-8; a line that begins with `#` is a comment."""
    with open_input(path) as stream:
        content = stream.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise UserError(f"{path}: a list of flagged words holds at most {MAX_LIST_BYTES:,} bytes")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: a list of flagged words is text in UTF-8") from None
    words = frozenset(word for line in lines if not line.startswith("#") for word in bare_words(line))
    if not words:
        raise UserError(f"{path}: no word in this list of flagged words")
    return words
