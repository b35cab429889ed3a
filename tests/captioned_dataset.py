"""A dataset of pairs and clips for tests: generated pictures in the media store, rows of the tables, shards."""

import hashlib
import io
from datetime import UTC, datetime

from PIL import Image, ImageDraw

from pipeline.build import BuildConfig
from pipeline.folder import Folder
from pipeline.kinds import PAIR_KIND, VIDEO_KIND
from pipeline.shard import merge_index, write_shard
from pipeline.stage import Job, Output, Unit
from pipeline.store import MediaStore
from pipeline.tables import key_ranges, stream_range
from schemas.media import STORED, Media
from schemas.page import Origin, key_of, origin_to_row
from schemas.shard import Manifest, Shard, manifest_name, manifest_to_json
from schemas.video import clip_key

HOST = "https://h.example"
PAGE = f"{HOST}/page"
HERON = f"{HOST}/heron.jpg"
FILM = f"{HOST}/film.mp4"
MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256))
"""The beginning of an MP4: nothing here decodes it."""


def jpeg(number, width_px=64, height_px=48):
    """Draw a picture of its own for each number."""
    image = Image.new("RGB", (width_px, height_px), (number * 37 % 256, 90, 40))
    ImageDraw.Draw(image).ellipse([number % 20, 5, 40, 40], fill="white")
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def stored(store, data, format="jpeg", width_px=64, height_px=48):
    """Put a file into the media store; gives the fields that say where it lies and what it is."""
    location = store.add(Media(f"{HOST}/file", STORED, format=format), data, None)
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "phash": "0123456789abcdef" * 4 if format == "jpeg" else "",
        "format": format,
        "width_px": width_px,
        "height_px": height_px,
        "location": origin_to_row(location),
    }


def captioned(key, url, text, kind, texts=()):
    """Give the fields that rows of pairs and clips have alike."""
    return {
        "key": key,
        "url": url,
        "page_url": PAGE,
        "text": text,
        "kind": kind,
        "texts": [{"kind": name, "text": said} for name, said in ((kind, text), *texts)],
        "language": "en",
        "licence": "",
        "origin": origin_to_row(Origin("a.warc", 7, 9)),
        "fetched": datetime(2024, 5, 1, tzinfo=UTC),
    }


def pair_rows(store, count):
    """Give rows of pairs: a heron first, then numbered pictures, every second of them without a date."""
    heron = captioned(key_of(HERON), HERON, "A heron in the reeds.", "figcaption", [("alt", "heron.jpg")])
    rows = [heron | stored(store, jpeg(0))]
    for number in range(1, count):
        url = f"{HOST}/{number}.jpg"
        row = captioned(key_of(url), url, f"Picture number {number} of this page, naïve “quotes” 漢字.", "alt")
        dates = {} if number % 2 else {"fetched": None}
        rows.append(row | dates | stored(store, jpeg(number)))
    return rows


def clip_row(store, start_s, end_s, text, frames):
    """Give the row of a clip of `frames` frames, of one MP4 where that is 0."""
    row = captioned(clip_key(FILM, start_s, end_s), FILM, text, "cues", [("name", "The fens in May")])
    parts = [stored(store, jpeg(number)) for number in range(frames)] or [stored(store, MP4, "mp4", 640, 360)]
    return row | {"start_s": start_s, "end_s": end_s, "fps": 1.0 if frames else 25.0, "parts": parts}


def make_shards(folder, kind, rows, shards=1):
    """Write the shards of a kind, their index and manifest, from rows of its table."""
    job = Job(folder, BuildConfig())
    table = Output(job, Unit("rows", kind.name, None), {})
    for row in rows:
        table.write(kind.table, row)
    table.commit()
    facts = []
    for keys in key_ranges(shards):
        output = Output(job, Unit(kind.stage, f"{keys.index}", keys), {})
        write_shard(output.unit, {kind.table.directory: stream_range(folder, kind.table, keys)}, output, kind=kind)
        output.commit()
        facts.append(Shard(**output.facts))
    merge_index(folder, [shard.name for shard in facts], kind)
    manifest = Manifest(kind.name, tuple(facts), (), {}, "0.1.0")
    folder.write_text(manifest_name(kind.name), manifest_to_json(manifest))
    return output.counts


def add_captioned(root, pairs=7, clips=True, shards=1):
    """Write pairs and, if wanted, two clips of frames and one MP4 to a dataset folder."""
    folder = Folder(str(root))
    with MediaStore(folder, "captioned") as store:
        of_pairs = pair_rows(store, pairs)
        of_clips = [
            clip_row(store, 0.0, 8.0, "The river rises.", 3),
            clip_row(store, 8.0, 20.5, "Birds leave the water.", 2),
            clip_row(store, 60.0, 70.0, "Night falls.", 0),
        ]
    make_shards(folder, PAIR_KIND, of_pairs, shards)
    if clips:
        make_shards(folder, VIDEO_KIND, of_clips, shards)
    return folder
