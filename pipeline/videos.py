"""Videos: references of pages → clips of bounded length, each with the text that is said of it.

locate_videos   references × captures × ledger, by URL → what is wanted, by place
decode_videos   a stretch of the sources: videos → clips, their frames in the media store; caption tracks → cues
clip            references × clips × cues, by video: the text of each clip → a row of the videos table
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate, chain, groupby
from typing import Any

import pyarrow as pa

from pipeline.clips import Clip, Unfit, sample_clips
from pipeline.fetch import Rows, best_capture, by_key, moment
from pipeline.folder import OpenFiles
from pipeline.optout import OptOut, hold_lists
from pipeline.pairs import first_of_key
from pipeline.privacy import Masker
from pipeline.refer import FILM, TRACK
from pipeline.sources import place_of, read_capture
from pipeline.stage import SET_ASIDE, Inputs, Output, Unit
from pipeline.store import MediaStore
from pipeline.tables import ASKED, CAPTURES, STORED_FIELDS, VIDEO_REFERENCES, VIDEOS, Table
from pipeline.timeline import NONE
from pipeline.web import in_dataset, newest
from pipeline.webvtt import Cue, parse_cues, text_between
from schemas.asked import GOT, VIDEO
from schemas.document import (
    CAPTION,
    DESCRIPTION,
    FIGCAPTION,
    NAME,
    TITLE,
    Said,
    said_rows,
)
from schemas.document import CUES as SPOKEN_TEXT
from schemas.media import STORED, Media
from schemas.page import ORIGIN_TYPE, TIME_TYPE, Origin, Refusal, Rejected, key_of, origin_to_row
from schemas.video import clip_key

LOCATE, DECODE, CLIP, MASK = "locate_videos", "decode_videos", "clip", "video_mask"
VIDEO_WANTED = Table(
    "work/video_wanted",
    pa.schema(
        [
            ("key", pa.string()),
            ("url", pa.string()),
            ("video", pa.string()),
            ("kind", pa.string()),
            ("rank", pa.int32()),
            ("source", ORIGIN_TYPE),
            ("fetched", TIME_TYPE),
        ]
    ),
)
"""A video or track that lies in the sources; `key` is its place."""
CLIPS = Table(
    "work/clips",
    pa.schema(
        [
            ("key", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("fps", pa.float64()),
            ("parts", pa.list_(pa.struct(STORED_FIELDS))),
        ]
    ),
)
"""A clip of a video by its files in the media store; `key` is of the video."""
CUE_TYPE = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())])
CUES = Table(
    "work/cues",
    pa.schema([("key", pa.string()), ("url", pa.string()), ("rank", pa.int32()), ("cues", pa.list_(CUE_TYPE))]),
)
"""The cues of a track at `url`; `key` is of the video."""
HTTP_HEADER_BYTES = 1 << 20
MAX_PAGES = 1_000
"""References to one video whose texts are looked at: a site may show one on all its pages."""
MAX_TEXTS_CHARS = 100_000
"""Characters of the texts of one video that go with each of its clips; of more, the best texts go."""
NOT_WANTED = "not_wanted"
"""The dataset holds no videos: `videos.keep` is none."""
NO_TEXT = "no_text"
BEST_KINDS = (SPOKEN_TEXT, CAPTION, FIGCAPTION, DESCRIPTION, NAME, TITLE)
"""What is taken as the text of a clip, the best first."""


def locate_videos(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Find where each video and track of a key range lies, in the sources or in what was got from the web."""
    config = output.job.config
    listed = hold_lists(config.rights)
    tables = (VIDEO_REFERENCES.directory, CAPTURES.directory, ASKED.directory)
    for references, captures, ledger in by_key(inputs, *tables):
        first = references[0]
        wanted = config.videos.keep != NONE
        found = find_video(first["url"], captures, ledger, listed) if wanted else Refusal(NOT_WANTED)
        if isinstance(found, Refusal):
            output.reject(Rejected(LOCATE, found.reason, first["kind"], first["url"], first["page_url"], found.detail))
            continue
        output.keep(LOCATE, first["kind"])
        place, source, fetched = found
        for rank, kind, video in sorted({(row["rank"], row["kind"], row["video"]) for row in references}):
            told = {"url": first["url"], "kind": kind, "video": video, "source": source, "fetched": fetched}
            output.write(VIDEO_WANTED, {"key": place, "rank": rank} | told)


def find_video(url: str, captures: Rows, ledger: Rows, listed: OptOut) -> tuple[str, Any, Any] | Refusal:
    """Give the place, source and date of a file, or say why there is none."""
    if refusal := listed.refuse(url):
        return refusal
    found, asked = best_capture(captures), newest(ledger, VIDEO)
    if not isinstance(found, str):
        refused = found["refused"]
        if refused:
            return Refusal(refused, found["refusal"])
        return str(found["place"]), found["source"], found["fetched"]
    if asked is None:
        return Refusal(found)
    if asked.outcome != GOT or asked.location is None:
        return Refusal(asked.reason, asked.detail)
    if refusal := listed.refuse(asked.final_url):
        return refusal
    file = in_dataset(asked.location.file)
    source = Origin(file, asked.location.offset, asked.location.length)
    return place_of(file, source.offset), origin_to_row(source), asked.asked


def decode_videos(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Cut the videos of a split into clips, and read its tracks."""
    config = output.job.config
    # What was got from the web keeps to the limits of asking for it.
    most = max(config.source.max_record_bytes, config.fetch.max_video_bytes + HTTP_HEADER_BYTES)
    limits = replace(config.source, max_record_bytes=most)
    with OpenFiles() as files, MediaStore(output.folder, f"{unit.stage}-{unit.name}") as store:
        for _, rows in groupby(inputs[VIDEO_WANTED.directory], key=lambda row: (row["key"], row["url"], row["kind"])):
            # Several videos may have one track.
            row = next(rows)
            url, source = row["url"], Origin(**row["source"])
            set_aside = output.begin(int(row["key"][-16:], 16))
            data = read_capture(files, source, limits, output.folder) if set_aside is None else SET_ASIDE
            if isinstance(data, str):
                output.reject(Rejected(DECODE, data, row["kind"], url, detail=set_aside or "", origin=source))
            elif row["kind"] == TRACK:
                output.keep(DECODE, TRACK)
                cues = [asdict(cue) for cue in parse_cues(data)]
                for each in chain((row,), rows):
                    told = {"key": key_of(each["video"]), "url": url, "rank": each["rank"]}
                    output.write(CUES, told | {"cues": cues}, 256 + len(data))
            else:
                write_clips(row, data, store, output)


def write_clips(row: Mapping[str, Any], data: bytes, store: MediaStore, output: Output) -> None:
    """Store the clips of a video."""
    config, url = output.job.config, row["url"]
    clips = 0
    for found in sample_clips(url, data, config.videos, config.media):
        if isinstance(found, Unfit):
            # What was whole before the damage is kept: then a part is lost, and not the video.
            lost, source = "clip" if clips else FILM, Origin(**row["source"])
            for _ in range(found.clips if clips else 1):
                output.reject(Rejected(DECODE, found.reason, lost, url, detail=found.detail, origin=source))
            continue
        output.begin(int(row["key"][-16:], 16))
        output.write(CLIPS, clip_row(found, row, store), 1024 + 256 * len(found.frames))
        clips += 1
    if clips:
        output.keep(DECODE, FILM)
    output.keep(DECODE, "clip", clips)


def clip_row(clip: Clip, row: Mapping[str, Any], store: MediaStore) -> dict[str, Any]:
    """Store the files of a clip; returns its row."""
    files = clip.frames
    if clip.data:
        sha256, size = hashlib.sha256(clip.data).hexdigest(), (clip.width_px, clip.height_px)
        whole = Media(
            row["url"], STORED, sha256=sha256, format="mp4", stored_width_px=size[0], stored_height_px=size[1]
        )
        files = ((whole, clip.data),)
    parts = [file_part(media, store.add(media, data, row["fetched"])) for media, data in files]
    times = {"start_s": clip.start_s, "end_s": clip.end_s, "fps": clip.fps}
    return {"key": key_of(row["video"]), "parts": parts} | times


def file_part(media: Media, location: Origin) -> dict[str, Any]:
    """Describe a stored file."""
    known = {"sha256": media.sha256, "phash": media.phash, "format": media.format}
    size = {"width_px": media.stored_width_px, "height_px": media.stored_height_px}
    return known | size | {"location": origin_to_row(location)}


def write_captioned(unit: Unit, inputs: Inputs, output: Output) -> None:
    """Give each clip of a range of videos its text."""
    films = (row for row in inputs[VIDEO_REFERENCES.directory] if row["kind"] == FILM)
    spoken = (row for row in inputs[CUES.directory] if row["cues"])
    tables = {
        VIDEO_REFERENCES.directory: first_of_key(films, MAX_PAGES, by_page),
        CLIPS.directory: inputs[CLIPS.directory],
        CUES.directory: first_of_key(spoken, 1, lambda row: (row["rank"], row["url"])),
    }
    found = by_key(tables, VIDEO_REFERENCES.directory, CLIPS.directory, CUES.directory)
    for number, (pages, clips, tracks) in enumerate(found):
        output.begin(number)
        cues = [Cue(**cue) for track in tracks for cue in track["cues"]]
        for clip in sorted(clips, key=lambda clip: clip["start_s"]):
            texts = texts_of(pages, text_between(cues, clip["start_s"], clip["end_s"]))
            chosen = min(texts, key=rank, default=None)
            if chosen is None:
                where = f"{clip['start_s']:g} to {clip['end_s']:g} s"
                output.reject(Rejected(CLIP, NO_TEXT, "clip", pages[0]["url"], pages[0]["page_url"], where))
                continue
            output.keep(CLIP, "clip", bytes=sum(part["location"]["length"] for part in clip["parts"]))
            size = 1024 + 256 * len(clip["parts"]) + sum(len(said.text) for said in texts)
            masker = Masker(output.job.config.privacy)
            output.write(VIDEOS, video_row(pages[0], clip, chosen, texts, masker), size)
            masker.tell(MASK, output.counts)


def by_page(row: Mapping[str, Any]) -> tuple[str, float, str, int]:
    """Order references by page, captures of one page the newest first."""
    origin = row["origin"]
    return row["page_url"], -moment(row["fetched"]).timestamp(), origin["file"], origin["offset"]


def texts_of(pages: Sequence[Mapping[str, Any]], spoken: str) -> list[Said]:
    """Gather what is said of a clip: the cues over it, and what the pages say of its video."""
    found = list(dict.fromkeys(Said(text["kind"], text["text"]) for page in pages for text in page["texts"]))
    if sum(len(said.text) for said in found) > MAX_TEXTS_CHARS:
        chars = list(accumulate(len(said.text) for said in sorted(found, key=rank)))
        found = sorted(found, key=rank)[: max(1, bisect_right(chars, MAX_TEXTS_CHARS))]
    return [*([Said(SPOKEN_TEXT, spoken)] if spoken else []), *found]


def rank(said: Said) -> tuple[int, str]:
    """Order texts: what is said over the clip itself first; of equal kinds the first by alphabet."""
    return (BEST_KINDS.index(said.kind) if said.kind in BEST_KINDS else len(BEST_KINDS)), said.text


def video_row(
    page: Mapping[str, Any], clip: Mapping[str, Any], chosen: Said, texts: Sequence[Said], masker: Masker
) -> dict[str, Any]:
    """Write a clip and its text as a row of the videos table, masked."""
    masked = masker.each(said.text for said in texts)
    names = ("url", "page_url", "language", "licence", "origin", "fetched")
    return {name: page[name] for name in names} | {
        "key": clip_key(page["url"], clip["start_s"], clip["end_s"]),
        "text": masked[chosen.text],
        "kind": chosen.kind,
        "texts": said_rows(tuple(Said(said.kind, masked[said.text]) for said in texts)),
        "start_s": clip["start_s"],
        "end_s": clip["end_s"],
        "fps": clip["fps"],
        "parts": clip["parts"],
    }
