"""The demo site through the whole build: its pairs say what is true, and each of its videos is kept or refused."""

import json
import tarfile
from pathlib import Path

import pytest

from flamingo_model.config import DataConfig, paper_dataset
from flamingo_model.data import Loader
from pipeline.build import BUILD, BuildConfig
from pipeline.demo import describe_expected, site, write_warc
from pipeline.folder import Folder
from pipeline.local import LocalOptions
from pipeline.run import run
from pipeline.tables import REJECTED, KeyRange, stream_range
from schemas.config import from_tree

PAGES, SEED = 36, 5
TRUE_SHARE = 0.9
"""Pairs whose text is one that the site holds for true of its picture. What is wrong today: where a picture has no
caption, the paragraph beside it can be taken for one."""
UNFIT = {"truncated": "decode_videos", "html": "decode_videos", "gone": "locate_videos", "absent": "locate_videos"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_warc(site(PAGES, SEED), str(folder / "site.warc.gz"))
    tree = {
        "source": {"paths": [str(folder / "site.warc.gz")]},
        "pairs": {"preset": "ltip"},
        "videos": {"keep": "frames"},
    }
    run(str(folder / "out"), from_tree(BuildConfig, tree, "test"), BUILD, LocalOptions(2), lambda state: None)
    return folder / "out"


def told(folder, kind):
    """Read the JSON of every sample of a kind."""
    for shard in sorted(Path(folder, kind).glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    yield json.loads(tar.extractfile(member).read())


REASONS = {
    "the page is not in English": {"other_language"},
    "the page has no picture": {"no_image"},
    "the page has almost no text": {"too_few_words", "no_content", "too_few_stop_words"},
}
"""What refuses the pages that a correct build drops, where it is a rule of pages and not what their site allows."""


def test_pages_are_kept_or_refused_as_they_should_be(built):
    kept = {document["url"] for document in told(built, "interleaved")}
    rows = stream_range(Folder(str(built)), REJECTED, KeyRange("", ""))
    refused = {row["url"]: row["reason"] for row in rows if row["kind"] == "page"}
    pages = list(describe_expected(SEED, PAGES))
    for page in pages:
        urls = {page.url, page.mirror_url} - {""}
        assert len(urls & kept) == (0 if page.reason else 1), page
        for url in (urls & refused.keys()) if page.reason in REASONS else ():
            assert refused[url] in REASONS[page.reason] | {"same_address"}, page
    assert {page.reason for page in pages} & REASONS.keys()


def test_pairs_say_what_is_true_of_their_picture(built):
    truths = {
        url: [text.truth.lower() for text in picture.texts if text.truth]
        for page in describe_expected(SEED, PAGES)
        for picture in page.pictures
        for url in (copy.url for copy in picture.copies)
    }
    pairs = [pair for pair in told(built, "pairs") if pair["url"] in truths]
    true = [any(truth in pair["caption"].lower() for truth in truths[pair["url"]]) for pair in pairs]
    assert len(pairs) > PAGES
    assert sum(true) >= TRUE_SHARE * len(pairs)


def test_whole_videos_are_cut_into_clips_and_the_others_have_a_reason(built):
    expected = {video: page for page in describe_expected(SEED, PAGES) for video in page.videos}
    clips = {}
    for clip in told(built, "videos"):
        clips.setdefault(clip["url"], []).append(clip)
    rows = stream_range(Folder(str(built)), REJECTED, KeyRange("", ""))
    rejected = {row["url"]: (row["stage"], row["reason"]) for row in rows if row["kind"] in ("video", "clip")}
    whole = 0
    for video, page in expected.items():
        urls = {copy.url for copy in video.copies}
        if page.reason:
            assert not urls & clips.keys(), video
        elif video.unfit:
            assert not urls & clips.keys(), video
            assert UNFIT[video.unfit] in {rejected[url][0] for url in urls & rejected.keys()}, video
        else:
            (url,) = urls & clips.keys()
            spoken = {cue.text for cue in video.cues}
            assert {clip["text_kind"] for clip in clips[url]} == ({"cues"} if spoken else {clips[url][0]["text_kind"]})
            assert clips[url][-1]["end_s"] == pytest.approx(video.duration_s, abs=0.2)
            whole += 1
    assert whole >= 4
    assert clips.keys() <= {url for video in expected for url in (copy.url for copy in video.copies)}


def test_the_loader_gives_every_sample_once(built, tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path))
    for kind in ("interleaved", "pairs", "videos"):
        dataset = paper_dataset(kind, shards=(str(built),), batch=8, tokens=512)
        found = {}
        with Loader(DataConfig({"demo": dataset}, image_px=32, once=True)) as loader:
            for step in loader:
                batch = step["demo"]
                assert len(batch.frames) == batch.media_frames.sum()
                for row, tokens in zip(batch.keys, batch.tokens.tolist(), strict=True):
                    found |= dict.fromkeys(row, loader.tokenizer.decode(tokens))
        samples = {sample["key"]: sample for sample in told(built, kind)}
        assert found.keys() == samples.keys()
        assert not loader.stats.skipped
        if kind != "interleaved":
            assert all(samples[key]["caption"][:300] in text for key, text in found.items())
