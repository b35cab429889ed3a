"""The fetch job, after the web was asked: image URLs of the documents → checked, normalised images.

locate      references × captures × ledger, by URL → what is wanted, by place; a media row for what is nowhere,
            and for what was normalised as it came from the web
normalise   a stretch of the sources: read what is wanted, decode, check, shrink → media/*.warc + media rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from pipeline.folder import Folder, OpenFiles
from pipeline.media import normalise_image
from pipeline.optout import hold_lists
from pipeline.sources import place_of, read_capture
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit
from pipeline.store import MediaStore
from pipeline.tables import ASKED, CAPTURES, MEDIA, REFERENCES, WANTED
from pipeline.web import in_dataset, newest
from schemas.asked import GOT, IMAGE, Asked
from schemas.media import MISSING, REJECTED, STORED, Media, media_to_row
from schemas.page import Origin, Rejected, origin_to_row

LOCATE, NORMALISE = "locate", "normalise"
NOT_IN_SOURCES = "not_in_sources"


Rows = Sequence[dict[str, Any]]


def locate_media(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Find where each image URL of a key range lies, in the sources or in what was got from the web."""
    listed = hold_lists(output.job.config.rights)
    for references, captures, ledger in by_key(inputs, REFERENCES.directory, CAPTURES.directory, ASKED.directory):
        url = references[0]["url"]
        found, asked = best_capture(captures), newest(ledger, IMAGE)
        led_to = asked.final_url if asked and asked.outcome == GOT and isinstance(found, str) else ""
        if refusal := listed.refuse(url) or listed.refuse(led_to):
            write_media(Media(url, MISSING, refusal.reason, refusal.detail), LOCATE, output)
        elif isinstance(found, str) and asked is not None and asked.outcome == GOT:
            locate_in_web(asked, output)
        elif isinstance(found, str):
            reason, detail = (asked.reason, asked.detail) if asked else (found, "")
            write_media(Media(url, MISSING, reason, detail), LOCATE, output)
        elif found["refused"]:
            write_media(Media(url, MISSING, found["refused"], found["refusal"]), LOCATE, output)
        else:
            output.keep(LOCATE, "image url")
            wanted = {"key": found["place"], "url": url, "source": found["source"], "fetched": found["fetched"]}
            output.write(WANTED, wanted)


def locate_in_web(asked: Asked, output: Output) -> None:
    """Take over what was normalised as it came; an original is wanted as from any other archive."""
    output.keep(LOCATE, "image url")
    if asked.media is not None:
        source = asked.location and replace(asked.location, file=in_dataset(asked.location.file))
        write_media(replace(asked.media, source=source, location=asked.location), NORMALISE, output)
        return
    assert asked.location is not None
    source = replace(asked.location, file=in_dataset(asked.location.file))
    place = place_of(source.file, source.offset)
    row = {"key": place, "url": asked.url, "source": origin_to_row(source), "fetched": asked.asked}
    output.write(WANTED, row)


def by_key(inputs: Mapping[str, Iterator[dict[str, Any]]], first: str, *others: str) -> Iterator[tuple[Rows, ...]]:
    """Yield the rows of the first table key by key, each with the rows of the others that have the same key."""
    groups = [group_rows(inputs[name]) for name in others]
    heads = [next(group, ("", [])) for group in groups]
    for key, rows in group_rows(inputs[first]):
        for index, group in enumerate(groups):
            while heads[index][0] and heads[index][0] < key:
                heads[index] = next(group, ("", []))
        yield rows, *(held if held_key == key else [] for held_key, held in heads)


def group_rows(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Group rows that are sorted by key."""
    for key, group in groupby(rows, key=lambda row: str(row["key"])):
        yield key, list(group)


def best_capture(captures: Rows) -> dict[str, Any] | str:
    """Choose the newest successful capture; a string says why there is none."""
    good = [capture for capture in captures if capture["status"] == 200]
    if good:
        return max(good, key=lambda capture: (moment(capture["fetched"]), capture["place"]))
    statuses = sorted({capture["status"] for capture in captures})
    return f"http_{statuses[0]}" if statuses else NOT_IN_SOURCES


def moment(fetched: datetime | None) -> datetime:
    """Order captures without a date before all others."""
    return fetched or datetime.min.replace(tzinfo=UTC)


def write_media(media: Media, stage: str, output: Output) -> None:
    """Write what became of an image URL, and its rejection if it was one."""
    output.write(MEDIA, media_to_row(media))
    if media.status == STORED:
        output.keep(stage, "image url", bytes=media.stored_bytes)
    else:
        output.reject(Rejected(stage, media.reason, "image url", media.url, detail=media.detail, origin=media.source))


def normalise_media(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Bring the wanted captures of a split into the media store."""
    config = output.job.config
    with OpenFiles() as files, MediaStore(output.folder, f"{unit.stage}-{unit.name}") as store:
        for row in inputs[WANTED.directory]:
            source = Origin(**row["source"])
            set_aside = output.begin(int(row["key"][-16:], 16))
            if set_aside is not None:
                media, data = Media(row["url"], REJECTED, SET_ASIDE, set_aside), b""
            else:
                media, data = normalise_capture(files, row["url"], source, config, output.folder)
            location = store.add(media, data, row["fetched"]) if media.status == STORED else None
            write_media(replace(media, source=source, location=location), NORMALISE, output)


def normalise_capture(files: OpenFiles, url: str, source: Origin, config: Any, folder: Folder) -> tuple[Media, bytes]:
    """Read a capture from the sources and normalise it."""
    data = read_capture(files, source, config.source, folder)
    if isinstance(data, str):
        return Media(url, REJECTED, data), b""
    return normalise_image(url, data, config.media)
