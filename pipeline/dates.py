"""Dates as pages write them: text in, a UTC time out, or None where the text does not name one day for certain.

ISO 8601 and what comes close to it, RFC 2822, and English with the month's name. A date of digits alone whose day and
month could be swapped (05/06/2014) is not read. No clock is asked.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

MAX_DATE_CHARS = 100
FIRST_YEAR = 1990
"""Pages cannot be older; earlier years are those of the things they write about, or zeroes of a clock."""
AHEAD = timedelta(days=1)
"""How far a date may lie after the capture: the zone is often missing."""

CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
ZONE = r"(?: ?(?P<zone>(?:GMT|UTC)?[+-]\d\d(?::?\d\d)?|[A-Za-z]{1,4})(?: \([A-Za-z ]+\))?)?"
LATE = ZONE.replace("<zone>", "<late>")
WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}\.?,? )?"
NAMED = r"(?P<name>[A-Za-z]{3,9})\.?"
DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
YEAR = r"(?P<year>\d{4})"
FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"{YEAR}([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}})(?:(?:[Tt]| (?:at )?){CLOCK}{ZONE}|{LATE})?",
        rf"{YEAR}(?P<month>\d\d)(?P<day>\d\d)(?:T(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d))?{ZONE})?",
        rf"{WEEKDAY}{DAY}[ -]{NAMED},?[ -]{YEAR}(?:,? (?:at )?{CLOCK}{ZONE})?",
        rf"{WEEKDAY}{NAMED} {DAY},? {YEAR}(?:,? (?:at )?{CLOCK}{ZONE})?",
        rf"{WEEKDAY}{NAMED} {DAY} {CLOCK}{ZONE} {YEAR}",
        rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.{YEAR}(?:,? {CLOCK}{ZONE})?",
    )
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
FULL_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
ZONE_HOURS = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8,
    "pdt": -7,
}  # fmt: skip
"""Names of zones in RFC 2822, with hours east of Greenwich."""


def parse_published(text: str, fetched: datetime | None) -> datetime | None:
    """Read a date of publication: a day that a page captured at `fetched` can have been published on."""
    found = parse_date(text)
    if found is None or found.year < FIRST_YEAR or (fetched is not None and found - fetched > AHEAD):
        return None
    return found


def parse_date(text: str) -> datetime | None:
    """Read a date, with or without a time of day; without a zone it is UTC. Parts of a second are dropped."""
    if len(text) > MAX_DATE_CHARS:
        return None
    folded = " ".join(text.split())
    for form in FORMS:
        if match := form.fullmatch(folded):
            return make_date(match.groupdict())
    return None


def make_date(parts: dict[str, str | None]) -> datetime | None:
    """Put the parts of a date together; None where they are no day, no time or no zone."""
    name = (parts.get("name") or "").lower()
    try:
        month = month_number(name) if name else int(parts["month"] or "")
        hour = int(parts.get("hour") or 0)
        if half := parts.get("half"):
            hour = hour % 12 + (12 if half in "Pp" else 0) if 1 <= hour <= 12 else -1
        zone = parse_zone(parts.get("zone") or parts.get("late") or "z")
        minute, second = int(parts.get("minute") or 0), int(parts.get("second") or 0)
        local = datetime(int(parts["year"] or ""), month, int(parts["day"] or ""), hour, minute, second, tzinfo=zone)
        return local.astimezone(UTC)
    except (ValueError, OverflowError, KeyError):
        return None


def month_number(name: str) -> int:
    """Give the number of a month by its English name or the beginning of it."""
    number = MONTHS.index(name[:3])
    if not FULL_MONTHS[number].startswith(name) and name != "sept":
        raise ValueError(name)
    return number + 1


def parse_zone(zone: str) -> timezone:
    """Read a zone: an offset, or a name of RFC 2822; any other name is a `KeyError`."""
    if zone.isalpha():
        return timezone(timedelta(hours=ZONE_HOURS[zone.lower()]))
    offset = zone.removeprefix("GMT").removeprefix("UTC")
    digits = offset[1:].replace(":", "").ljust(4, "0")
    east = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-east if offset[0] == "-" else east)
