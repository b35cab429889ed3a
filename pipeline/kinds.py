"""The kinds of samples beside interleaved ones: pairs and videos, from rows of their tables to shards.

In: rows of `PAIRS` and `VIDEOS`, whose pictures, frames and clips lie in the media store. Out: what `shard` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.folder import Folder, OpenFiles
from pipeline.shard import INTERLEAVED_KIND, Kind, Row
from pipeline.store import read_stored
from pipeline.tables import PAIRS, VIDEOS
from schemas.document import read_said
from schemas.media import read_scores, score_rows
from schemas.page import Origin
from schemas.pair import IMAGE_TEXT, TEXT_NAME, ImageText, Part, pair_to_members
from schemas.shard import PAIR_INDEX_SCHEMA, VIDEO_INDEX_SCHEMA
from schemas.video import VIDEO_TEXT, VideoText, video_to_members


def load_pair(row: Row, folder: Folder, files: OpenFiles) -> ImageText:
    """Fill a pair's row with the bytes of its picture."""
    picture, scores = load_part(row, folder, files), read_scores(row["scores"])
    return ImageText(picture=picture, scores=scores, **captioned_fields(row))


def load_video(row: Row, folder: Folder, files: OpenFiles) -> VideoText:
    """Fill a clip's row with the bytes of its frames, or its own."""
    return VideoText(
        start_s=row["start_s"],
        end_s=row["end_s"],
        fps=row["fps"],
        parts=tuple(load_part(part, folder, files) for part in row["parts"]),
        **captioned_fields(row),
    )


def load_part(row: Mapping[str, Any], folder: Folder, files: OpenFiles) -> Part:
    """Read a stored file and what is known of it."""
    known = {name: row[name] for name in ("sha256", "phash", "format", "width_px", "height_px")}
    return Part(**known, data=read_stored(files, folder, Origin(**row["location"])))


def captioned_fields(row: Row) -> dict[str, Any]:
    """Read what the rows of pairs and clips have alike."""
    names = ("key", "url", "page_url", "text", "kind", "language", "licence", "fetched")
    known = {name: row[name] for name in names}
    return known | {"texts": read_said(row["texts"]), "origin": Origin(**row["origin"])}


def pair_index_row(pair: ImageText, offsets: Mapping[str, int]) -> Row:
    """Write what the index says of a pair."""
    own = {"sha256": pair.picture.sha256, "phash": pair.picture.phash, "scores": score_rows(pair.scores)}
    return captioned_index_row(pair, (pair.picture,), offsets) | own


def video_index_row(video: VideoText, offsets: Mapping[str, int]) -> Row:
    """Write what the index says of a clip."""
    own = {"start_s": video.start_s, "end_s": video.end_s, "fps": video.fps}
    return captioned_index_row(video, video.parts, offsets) | own


def captioned_index_row(sample: ImageText | VideoText, parts: tuple[Part, ...], offsets: Mapping[str, int]) -> Row:
    """Write what the index says alike of pairs and clips."""
    names = [name for name in offsets if name not in ("json", TEXT_NAME)]
    return {
        "key": sample.key,
        "url": sample.url,
        "page_url": sample.page_url,
        "text": sample.text,
        "text_kind": sample.kind,
        "words": len(sample.text.split()),
        "chars": len(sample.text),
        "language": sample.language,
        "licence": sample.licence,
        "width_px": parts[0].width_px,
        "height_px": parts[0].height_px,
        "parts": [
            {
                "name": name,
                "offset": offsets[name],
                "bytes": len(part.data),
                "width_px": part.width_px,
                "height_px": part.height_px,
                "sha256": part.sha256,
                "phash": part.phash,
            }
            for name, part in zip(names, parts, strict=True)
        ],
    }


def count_pair(pair: ImageText) -> dict[str, int]:
    """Count a pair for the funnel."""
    return {"image": 1}


def count_clip(video: VideoText) -> dict[str, int]:
    """Count a clip for the funnel."""
    return {"clip": 1}


PAIR_KIND = Kind(
    name=IMAGE_TEXT,
    stage="pair_shard",
    table=PAIRS,
    load=load_pair,
    members=pair_to_members,
    index_schema=PAIR_INDEX_SCHEMA,
    index_row=pair_index_row,
    counts=count_pair,
)
VIDEO_KIND = Kind(
    name=VIDEO_TEXT,
    stage="video_shard",
    table=VIDEOS,
    load=load_video,
    members=video_to_members,
    index_schema=VIDEO_INDEX_SCHEMA,
    index_row=video_index_row,
    counts=count_clip,
)
KINDS = (INTERLEAVED_KIND, PAIR_KIND, VIDEO_KIND)
"""Every kind that a dataset may hold, in the order in which they are shown."""
