"""The fetch job: image URLs of the documents → checked, normalised images in the media store.

locate      references × captures, by URL → what is wanted, by place; a media row for what is nowhere
normalise   a stretch of the sources: read what is wanted, decode, check, shrink → media/*.warc + media rows
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from pipeline.folder import OpenFiles
from pipeline.media import normalise_image
from pipeline.sources import read_capture
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit
from pipeline.store import MediaStore
from pipeline.tables import CAPTURES, MEDIA, REFERENCES, WANTED
from schemas.media import MISSING, REJECTED, STORED, Media, media_to_row
from schemas.page import Origin, Rejected

LOCATE, NORMALISE = "locate", "normalise"
NOT_IN_SOURCES = "not_in_sources"


def locate_media(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Find where each image URL of a key range lies in the sources."""
    captures = group_rows(inputs[CAPTURES.directory])
    held_key, held = next(captures, ("", []))
    for key, references in group_rows(inputs[REFERENCES.directory]):
        while held_key and held_key < key:
            held_key, held = next(captures, ("", []))
        found = best_capture(held if held_key == key else [])
        url = references[0]["url"]
        if isinstance(found, str):
            write_media(Media(url, MISSING, found), LOCATE, output)
        else:
            output.keep(LOCATE, "image url")
            wanted = {"key": found["place"], "url": url, "source": found["source"], "fetched": found["fetched"]}
            output.write(WANTED, wanted)


def group_rows(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Group rows that are sorted by key."""
    for key, group in groupby(rows, key=lambda row: str(row["key"])):
        yield key, list(group)


def best_capture(captures: Sequence[dict[str, Any]]) -> dict[str, Any] | str:
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
        output.keep(stage, "image url")
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
                media, data = normalise_capture(files, row["url"], source, config)
            location = store.add(media, data, row["fetched"]) if media.status == STORED else None
            write_media(replace(media, source=source, location=location), NORMALISE, output)


def normalise_capture(files: OpenFiles, url: str, source: Origin, config: Any) -> tuple[Media, bytes]:
    """Read a capture from the sources and normalise it."""
    data = read_capture(files, source, config.source)
    if isinstance(data, str):
        return Media(url, REJECTED, data), b""
    return normalise_image(url, data, config.media)
