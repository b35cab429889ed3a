"""Shards of pairs and clips: what their index says, and that the programs of others read the same from them."""

import hashlib
import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset
from captioned_dataset import FILM, HERON, MP4, PAGE, add_captioned, jpeg, make_shards, pair_rows
from PIL import Image

from pipeline.folder import Folder
from pipeline.kinds import KINDS, PAIR_KIND, VIDEO_KIND
from pipeline.store import MediaStore
from schemas.page import key_of
from schemas.pair import pair_from_members
from schemas.shard import manifest_from_json
from schemas.video import clip_key, video_from_members

PAIRS = 40
READ = {"pairs": pair_from_members, "videos": video_from_members}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return Path(add_captioned(tmp_path_factory.mktemp("dataset"), PAIRS, shards=3).root)


@pytest.fixture(scope="module")
def written(dataset):
    """Give what the shards hold of pairs, read with the standard library: key → members."""
    return read_tars(dataset / "pairs")


def read_tars(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, name = info.name.partition(".")
                found.setdefault(key, {})[name] = tar.extractfile(info).read()
    return found


def index_of(dataset, kind):
    return pq.read_table(dataset / kind / "index.parquet").to_pylist()


def test_every_pair_is_a_picture_its_json_and_its_text(written):
    assert len(written) == PAIRS
    assert {tuple(members) for members in written.values()} == {("jpg", "json", "txt")}
    heron = pair_from_members(written[key_of(HERON)].items())
    assert (heron.url, heron.page_url, heron.text, heron.kind) == (HERON, PAGE, "A heron in the reeds.", "figcaption")
    assert [(said.kind, said.text) for said in heron.texts][1] == ("alt", "heron.jpg")
    assert heron.picture.data == jpeg(0)


def test_clips_are_frames_or_one_mp4(dataset):
    found = read_tars(dataset / "videos")
    frames = video_from_members(found[clip_key(FILM, 0.0, 8.0)].items())
    assert (frames.start_s, frames.end_s, frames.fps) == (0.0, 8.0, 1.0)
    assert [part.data for part in frames.parts] == [jpeg(number) for number in range(3)]
    names = {key: list(members) for key, members in found.items()}
    assert names[frames.key] == ["000.jpg", "001.jpg", "002.jpg", "json", "txt"]
    whole = clip_key(FILM, 60.0, 70.0)
    assert names[whole] == ["json", "mp4", "txt"]
    assert found[whole]["mp4"] == MP4
    assert found[whole]["txt"] == b"Night falls."


@pytest.mark.parametrize("kind", [PAIR_KIND, VIDEO_KIND], ids=lambda kind: kind.name)
def test_the_index_points_at_the_bytes(dataset, kind):
    rows = index_of(dataset, kind.name)
    assert pq.read_schema(dataset / kind.name / "index.parquet").equals(kind.index_schema)
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    assert len({row["shard"] for row in rows}) > 1
    for row in rows:
        data = (dataset / kind.name / row["shard"]).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data[row["offset"] :][: row["length"]] + bytes(1024))) as tar:
            members = [(info.name.partition(".")[2], tar.extractfile(info).read()) for info in tar]
        sample = READ[kind.name](members)
        assert (row["url"], row["page_url"], row["language"]) == (sample.url, sample.page_url, sample.language)
        assert (row["text"], row["text_kind"], row["chars"]) == (sample.text, sample.kind, len(sample.text))
        assert row["words"] == len(sample.text.split())
        parts = [data[part["offset"] :][: part["bytes"]] for part in row["parts"]]
        stored = [member for name, member in members if name not in ("json", "txt")]
        assert parts == stored
        assert [part["name"] for part in row["parts"]] == [name for name, _ in members if name not in ("json", "txt")]
        assert [part["sha256"] for part in row["parts"]] == [hashlib.sha256(part).hexdigest() for part in parts]
        first = row["parts"][0]
        assert (row["width_px"], row["height_px"]) == (first["width_px"], first["height_px"])
        if kind is PAIR_KIND:
            assert (row["sha256"], row["phash"]) == (first["sha256"], first["phash"])
        else:
            assert (row["start_s"], row["end_s"], row["fps"]) == (sample.start_s, sample.end_s, sample.fps)


@pytest.mark.parametrize("kind", ["pairs", "videos"])
def test_shards_are_what_the_manifest_says(dataset, kind):
    manifest = manifest_from_json((dataset / kind / "manifest.json").read_text())
    assert sum(shard.samples for shard in manifest.shards) == len(index_of(dataset, kind))
    for shard in manifest.shards:
        data = (dataset / kind / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


def test_the_same_rows_give_the_same_bytes(dataset, tmp_path):
    again = Path(add_captioned(tmp_path, PAIRS, shards=3).root)
    for path in sorted(dataset.glob("*/shard-*.tar")):
        assert (again / path.relative_to(dataset)).read_bytes() == path.read_bytes()


def test_the_funnel_counts_what_is_written(tmp_path):
    folder = Folder(str(tmp_path))
    with MediaStore(folder, "m") as store:
        rows = pair_rows(store, 5)
    assert make_shards(folder, PAIR_KIND, rows) == {("pair_shard", "image", ""): 5}


def test_kinds_keep_apart():
    for names in (
        [kind.name for kind in KINDS],
        [kind.stage for kind in KINDS],
        [kind.table.directory for kind in KINDS],
        [directory for kind in KINDS for directory in kind.directories],
    ):
        assert len(set(names)) == len(names)


@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same_pictures_and_texts(dataset, written):
    shards = sorted(map(str, (dataset / "pairs").glob("*.tar")))
    raw = {sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)}
    assert raw.keys() == written.keys()
    for key, members in written.items():
        assert {name: raw[key][name] for name in members} == members
    decoded = webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb").to_tuple("__key__", "jpg", "txt")
    seen = {key: (image.tobytes(), text) for key, image, text in decoded}
    assert seen == {key: (pixels(members["jpg"]), members["txt"].decode()) for key, members in written.items()}


def pixels(data):
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """Give the `datasets` package, with no network and no cache of this machine's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        import datasets

        yield datasets


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_the_same_pictures_and_texts(dataset, written, hugging_face, streaming, tmp_path):
    shards = sorted(map(str, (dataset / "pairs").glob("*.tar")))
    loaded = hugging_face.load_dataset(
        "webdataset", data_files=shards, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    raw = loaded.cast_column("jpg", hugging_face.Image(decode=False))
    found = {row["__key__"]: (row["jpg"]["bytes"], row["txt"]) for row in raw}
    assert found == {key: (members["jpg"], members["txt"].decode()) for key, members in written.items()}
    shown = {row["__key__"]: row["jpg"].convert("RGB").tobytes() for row in loaded}
    assert shown == {key: pixels(members["jpg"]) for key, members in written.items()}
    told = {row["__key__"]: row["json"] for row in raw}
    assert all(told[key]["texts"] for key in written)
    assert {tuple(row) for row in told.values()} == {tuple(told[key_of(HERON)])}
