"""What a site allows, by its robots.txt, headers, meta elements and TDMRep file.

In: what the site says, as bytes or as pairs of name and value, and URLs in the form of `clean_url`. Out: a `Refusal`,
or None where nothing is refused. Nothing here touches the network or the clock.

| reason | detail | refused by |
|---|---|---|
| `robots_disallowed` | empty, or `too_complex` | a Disallow rule for `flamingo`, else for `*` |
| `robots_unavailable` | `status_503`, `too_many_rules`, the failure's reason | robots.txt gave no rules: for now only |
| `content_signal` | `robots.txt`, `header` | `Content-Signal: ai-train=no` |
| `content_usage` | `robots.txt`, `header` | `Content-Usage: train-ai=n` |
| `x_robots_tag` | the directive | an X-Robots-Tag header |
| `meta_robots` | the directive | `<meta name="robots">` or `<meta name="flamingo">` |
| `tdm_reservation` | `tdmrep.json`, `header`, `meta` | `tdm-reservation: 1` |
| `opted_out` | the domain, or the start of the URL, that is listed | the user's list: see `optout` |

Sources: RFC 9309 (robots.txt); draft-ietf-aipref-attach-05 and draft-ietf-aipref-vocab-08 (Content-Usage);
contentsignals.org and draft-romm-aipref-contentsignals-00 (Content-Signal); the X-Robots-Tag pages of Google and MDN;
the TDMRep report of the W3C community group, 10 May 2024. Any refusal counts: nothing that one of them says lifts what
another says. `unavailable_after` is read over: it speaks of search results.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from protego import Protego

from schemas.page import Refusal

PRODUCT = "flamingo"
"""The product token by which robots.txt, headers and meta elements may address this program."""

ROBOTS_DISALLOWED = "robots_disallowed"
ROBOTS_UNAVAILABLE = "robots_unavailable"
CONTENT_SIGNAL = "content_signal"
CONTENT_USAGE = "content_usage"
X_ROBOTS_TAG = "x_robots_tag"
META_ROBOTS = "meta_robots"
TDM_RESERVATION = "tdm_reservation"

MAX_FILE_BYTES = 512 << 10
"""How much of a robots.txt or tdmrep.json is read; RFC 9309 asks for 500 KiB at least."""

MAX_RULES = 10_000
"""Rules for this program in a robots.txt; testing one costs 0.2 µs a URL, and 260 bytes while it is in use."""

MAX_WILDCARD_RULES = 2_000
"""Rules with a `*` among them; testing one costs 1 µs a URL."""

MAX_LOCATIONS = 500
"""Rules of a tdmrep.json; testing one costs 35 µs for the longest URL."""

MAX_PATTERN_WORK = 20_000_000
"""Characters of all patterns with a `*` times characters of the URL: comparing so many takes 10 ms at worst."""

MAX_CRAWL_DELAY_S = 86_400.0

MATCHERS = 32
"""Hosts whose rules are kept ready for matching; the others are parsed again from their text."""

REFUSING = frozenset({"none", "noindex", "noai", "noml"})
REFUSING_IMAGES = REFUSING | {"noimageai", "noimageindex"}
VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives with a value after a colon, so that the word before it is no robot's name."""

TDM_FIELD = "tdm-reservation"

TRAINING = frozenset({"train-ai", "train-genai", "ai-train"})
"""Keys that speak of training generative models; the second is of older drafts of Content-Usage."""

ANSWERS = {"n": False, "no": False, "y": True, "yes": True}

ACCESS = "access"
PREFERENCES = {"content-signal": CONTENT_SIGNAL, "content-usage": CONTENT_USAGE}
RIGHTS_HEADERS = frozenset({"x-robots-tag", TDM_FIELD, *PREFERENCES})
"""Headers that say what an answer may be used for."""

FIELDS = {
    **dict.fromkeys(("user-agent", "useragent", "user agent"), "user-agent"),
    **dict.fromkeys(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    **dict.fromkeys(("crawl-delay", "crawl delay"), "crawl-delay"),
    **{name: name for name in ("allow", *PREFERENCES)},
}
"""Fields of robots.txt that are read, by their spellings in use; others neither count nor end a group."""


@dataclass(frozen=True, slots=True)
class RightsConfig:
    """Which refusals are honoured."""

    robots: bool = True
    """Allow, Disallow and Crawl-delay of robots.txt (RFC 9309; SPEC-corpus 2)."""
    preferences: bool = True
    """Content-Usage and Content-Signal, in robots.txt and as headers (IETF AI Preferences drafts)."""
    tags: bool = True
    """X-Robots-Tag headers and robots meta elements (SPEC-corpus 2)."""
    tdm: bool = True
    """TDMRep: tdmrep.json, headers and meta elements (SPEC-corpus 2)."""
    opt_out: tuple[str, ...] = ()
    """Paths or URLs of lists of domains and URLs that are never used (SPEC-corpus 2)."""


# robots.txt


@dataclass(frozen=True, slots=True)
class Robots:
    """What the robots.txt of a host allows this program, small enough to hold for many hosts and to write to a row.

    One robots.txt serves a host's http and https. `text` holds the rules for this program alone, as a
    robots.txt with up to three groups: `access`, `content-signal` and `content-usage`, where Disallow is a refusal;
    `unavailable` says why there are no rules, so that nothing is allowed for now. `crawl_delay_s` is 0 where none is
    asked for, and a day at most.
    """

    status: int
    text: str = ""
    unavailable: str = ""
    crawl_delay_s: float = 0.0

    def refuse(self, url: str, rights: RightsConfig) -> Refusal | None:
        """Judge a URL of the host."""
        if self.unavailable and rights.robots:
            return Refusal(ROBOTS_UNAVAILABLE, self.unavailable)
        if not self.text or not (rights.robots or rights.preferences):
            return None
        rules, wildcard_chars = read_rules(self.text)
        if wildcard_chars * len(url) > MAX_PATTERN_WORK:
            return Refusal(ROBOTS_DISALLOWED, "too_complex")
        if rights.robots and not rules.can_fetch(url, ACCESS):
            return Refusal(ROBOTS_DISALLOWED)
        for field, reason in PREFERENCES.items() if rights.preferences else ():
            if not rules.can_fetch(url, field):
                return Refusal(reason, "robots.txt")
        return None


@lru_cache(maxsize=MATCHERS)
def read_rules(text: str) -> tuple[Protego, int]:
    """Make rules ready for matching, and count the characters of those with a `*`."""
    return Protego.parse(text), count_wildcard_chars(text)


def count_wildcard_chars(text: str) -> int:
    """Count the characters of the lines that hold a `*`."""
    return sum(len(line) for line in text.splitlines() if "*" in line)


def parse_robots(status: int, body: bytes, reason: str = "") -> Robots:
    """Read the answer to a request for robots.txt, as RFC 9309 says.

    `reason` says why no whole answer came (`status` may be 0 then), and is empty where a body was cut after
    `MAX_FILE_BYTES`. Rules come with a 2xx; a 4xx other than 429 allows everything; all else allows nothing for now,
    also a redirect that was not followed to its end.
    """
    if 400 <= status < 500 and status != 429:
        return Robots(status)
    if reason or not 200 <= status < 300:
        return Robots(status, unavailable=reason or f"status_{status}")
    if len(body) >= MAX_FILE_BYTES:
        body = body[: max(body.rfind(end, 0, MAX_FILE_BYTES) for end in (b"\n", b"\r")) + 1]
    text = body.decode("utf-8", "replace").replace("\0", "").lstrip("\ufeff\ufffd")
    rules, delay_s = merge_rules(select_group(text))
    lines = [f"{verb}: {path}" for paths in rules.values() for path, verb in paths.items()]
    if len(lines) > MAX_RULES or sum("*" in line for line in lines) > MAX_WILDCARD_RULES:
        return Robots(status, unavailable="too_many_rules")
    return Robots(status, "\n".join(write_group(name, paths) for name, paths in rules.items()), "", delay_s)


def select_group(text: str) -> list[tuple[str, str]]:
    """Pick the fields and values of a robots.txt that are for this program: its own group, else that of `*`.

    Groups for the same name are one. A preference before the first group is one of `*`.
    """
    groups: dict[str, list[tuple[str, str]]] = {"*": []}
    names = {"*"}
    in_heading = in_group = False
    for field, value in map(read_line, text.splitlines()):
        if field == "user-agent":
            names = names if in_heading else set()
            in_heading = in_group = True
            if (name := read_agent(value)) in ("*", PRODUCT):
                names.add(name)
                groups.setdefault(name, [])
        elif field:
            in_heading = False
            if in_group or field in PREFERENCES:
                for name in names:
                    groups[name].append((field, value))
    return groups.get(PRODUCT, groups["*"])


def read_line(line: str) -> tuple[str, str]:
    """Split a line into its field, as it is spelt right, and its value; both are empty for a line that is not read."""
    line = line.partition("#")[0].strip()
    name, _, value = line.partition(":")
    if field := FIELDS.get(name.strip().lower()):
        return field, value.strip()
    # The colon is often forgotten; what was meant is clear.
    name, _, value = line.replace("\t", " ").partition(" ")
    field = FIELDS.get(name.lower(), "")
    return field, value.strip() if field else ""


def read_agent(value: str) -> str:
    """Read the product token of a user-agent line or a header's prefix: `Flamingo/1.0 (contact)` names `flamingo`."""
    if value[:1] == "*":
        return "*"
    found = re.match(r"[a-z_-]*", value.lower())
    return found[0] if found else ""


def merge_rules(fields: Iterable[tuple[str, str]]) -> tuple[dict[str, dict[str, str]], float]:
    """Merge a group's lines into a verb (`allow` or `disallow`) for each path of each kind of rule, and its delay.

    For one path Allow wins over Disallow, as RFC 9309 says; in preferences the refusal wins, as their draft says. A
    preference that says nothing of training lifts none.
    """
    rules: dict[str, dict[str, str]] = {}
    delay_s = 0.0
    for field, value in fields:
        if field == "crawl-delay":
            delay_s = max(delay_s, read_delay_s(value))
        elif field in PREFERENCES:
            path, _, stated = value.replace("\t", " ").partition(" ") if value[:1] == "/" else ("/", "", value)
            if (allowed := allows_training(stated)) is not None:
                paths = rules.setdefault(field, {})
                paths[path] = "allow" if allowed and paths.get(path) != "disallow" else "disallow"
        elif value:
            paths = rules.setdefault(ACCESS, {})
            paths[value] = "allow" if "allow" in (field, paths.get(value)) else "disallow"
    return rules, delay_s


def read_delay_s(value: str) -> float:
    """Read seconds; 0 for what is no number of seconds."""
    try:
        delay_s = float(value)
    except ValueError:
        return 0.0
    return min(delay_s, MAX_CRAWL_DELAY_S) if math.isfinite(delay_s) and delay_s > 0 else 0.0


def write_group(name: str, paths: dict[str, str]) -> str:
    """Write rules as one group of a robots.txt."""
    return "\n".join([f"user-agent: {name}", *(f"{verb}: {path}" for path, verb in paths.items())])


def allows_training(stated: str) -> bool | None:
    """Read a Content-Usage or Content-Signal value; None where it says nothing of training.

    Both are read alike, and more kindly than the drafts ask: `yes` or `y`, commas or semicolons, any case.
    """
    said = {}
    for part in re.split("[,;]", stated.lower()):
        key, _, answer = part.partition("=")
        if key.strip() in TRAINING:
            said[key.strip()] = ANSWERS.get(answer.strip())
    answers = [answer for answer in said.values() if answer is not None]
    return all(answers) if answers else None


# Headers and meta elements


def refuse_headers(headers: Iterable[tuple[str, str]], rights: RightsConfig, *, image: bool) -> Refusal | None:
    """Judge an answer by its headers, given as names and values.

    `image` asks about an image, or about the pictures of the page that was answered: two directives are for them only.
    """
    for name, value in headers:
        field = name.lower()
        if rights.tags and field == "x-robots-tag" and (directive := find_directive(value, image=image)):
            return Refusal(X_ROBOTS_TAG, directive)
        if rights.preferences and field in PREFERENCES and allows_training(value) is False:
            return Refusal(PREFERENCES[field], "header")
        if rights.tdm and field == TDM_FIELD and is_reserved(value):
            return Refusal(TDM_RESERVATION, "header")
    return None


def refuse_meta(metas: Iterable[tuple[str, str]], rights: RightsConfig, *, image: bool) -> Refusal | None:
    """Judge a page, or with `image` its pictures, by the names and contents of its meta elements."""
    for name, content in metas:
        field = name.strip().lower()
        if rights.tags and field in ("robots", PRODUCT) and (directive := find_directive(content, image=image)):
            return Refusal(META_ROBOTS, directive)
        if rights.tdm and field == TDM_FIELD and is_reserved(content):
            return Refusal(TDM_RESERVATION, "meta")
    return None


def find_directive(value: str, *, image: bool) -> str:
    """Find the first directive that refuses in a list such as `max-snippet:-1, otherbot: noindex, nofollow`.

    A robot's name is one word before a colon, is no directive with a value and no part of a date (of
    `unavailable_after`); what follows it in this header is for that robot alone.
    """
    refusing = REFUSING_IMAGES if image else REFUSING
    is_ours = True
    for part in re.split("[,;]", value.lower()):
        name, colon, rest = (text.strip() for text in part.partition(":"))
        if colon and name not in VALUED and not name[:1].isdigit() and len(name.split()) == 1:
            is_ours = read_agent(name) in ("*", "robots", PRODUCT)
            name, colon, rest = (text.strip() for text in rest.partition(":"))
        words = rest.split()[name in VALUED :] if colon else name.split()
        for word in words:
            if is_ours and word in refusing:
                return word
    return ""


def is_reserved(value: str) -> bool:
    """Tell whether a tdm-reservation says 1; headers sent twice may come joined by a comma."""
    return any(part.strip() == "1" for part in value.split(","))


# /.well-known/tdmrep.json


@dataclass(frozen=True, slots=True)
class Tdmrep:
    """What a host's tdmrep.json reserves; `text` has a rule a line, such as `1 /gallery/`, first match first."""

    text: str = ""

    def refuse(self, url: str, rights: RightsConfig) -> Refusal | None:
        """Judge a URL of the host by the first rule that matches it."""
        if not self.text or not rights.tdm:
            return None
        runs, wildcard_chars = read_reservations(self.text)
        is_reservation = wildcard_chars * len(url) > MAX_PATTERN_WORK or next(
            (is_reservation for is_reservation, rules in runs if not rules.can_fetch(url, ACCESS)), False
        )
        return Refusal(TDM_RESERVATION, "tdmrep.json") if is_reservation else None


RESERVED = Tdmrep("1 /")


def parse_tdmrep(body: bytes) -> Tdmrep:
    """Read a tdmrep.json; rules that break the format count for nothing, and a file that is no JSON has none.

    More rules than `MAX_LOCATIONS`, or JSON of `MAX_FILE_BYTES` and more, reserve everything. `tdm-policy`, which says
    where a licence may be had, is not read.
    """
    if len(body) >= MAX_FILE_BYTES:
        return RESERVED if body[:100].lstrip()[:1] in (b"[", b"{") else Tdmrep()
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return Tdmrep()
    lines = []
    for rule in found if isinstance(found, list) else [found]:
        location = rule.get("location") if isinstance(rule, dict) else None
        if isinstance(location, str) and (value := rule.get(TDM_FIELD)) in (0, 1, "0", "1"):
            lines.append(f"{int(value)} {read_location(location)}")
    lines = list(dict.fromkeys(lines))
    return Tdmrep("\n".join(lines)) if len(lines) <= MAX_LOCATIONS else RESERVED


def read_location(location: str) -> str:
    """Bring a location into the form of a robots.txt path; also where it was written as a URL."""
    path = location.strip().partition("#")[0].encode("utf-8", "replace").decode()
    path = re.sub(r"^https?://[^/]*", "", re.sub(r"\s", "%20", path))
    return path if path[:1] in ("/", "*") else f"/{path}"


@lru_cache(maxsize=MATCHERS)
def read_reservations(text: str) -> tuple[tuple[tuple[bool, Protego], ...], int]:
    """Make a host's rules ready for matching, neighbours that say the same as one, and count as `read_rules` does."""
    runs: list[tuple[str, dict[str, str]]] = []
    for value, _, path in (line.partition(" ") for line in text.splitlines()):
        if not runs or runs[-1][0] != value:
            runs.append((value, {}))
        runs[-1][1][path] = "disallow"
    matchers = tuple((value == "1", Protego.parse(write_group(ACCESS, paths))) for value, paths in runs)
    return matchers, count_wildcard_chars(text)
