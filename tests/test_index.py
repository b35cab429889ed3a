"""Finding samples: the index of a dataset must agree with what is there, foreign shards are read once."""

import io
import json
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from captioned_dataset import jpeg
from test_tar import by_webdataset
from web_server import Reply, WebServer
from webdataset.cache import FileCache
from webdataset.gopen import gopen_schemes

from flamingo_model import datasets, foreign, places, ranged, tar
from flamingo_model import index as indexing
from flamingo_model.index import BadIndex, Damage, Index, open_index
from flamingo_model.storage import Storage
from flamingo_model.tar import sample_parts, scan
from pipeline.kinds import PAIR_KIND
from pipeline.shard import write_sample
from schemas.page import Origin
from schemas.pair import ImageText, Part
from schemas.shard import Manifest, Shard, manifest_to_json

PICTURE = jpeg(3)


def pair(key):
    part = Part("0" * 64, "0" * 64, "jpeg", 64, 48, PICTURE)
    return ImageText(
        key, "https://a.test/i", "https://a.test", f"it is {key}", "alt", (), part, "en", "", Origin("a.warc", 0, 1)
    )


def dataset(folder, counts=(3, 0, 4), kind="pairs"):
    """Write shards of pairs with their index and manifest, as the pipeline does."""
    folder = folder / kind
    folder.mkdir(parents=True)
    rows, shards = [], []
    for number, count in enumerate(counts):
        name, stream = f"shard-{number:06d}.tar", io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as writer:
            rows += [write_sample(writer, pair(f"{number}x{at}"), name, PAIR_KIND) for at in range(count)]
        (folder / name).write_bytes(stream.getvalue())
        shards.append(Shard(name, count, len(stream.getvalue()), ""))
    write_index(folder, rows)
    (folder / "manifest.json").write_text(manifest_to_json(Manifest(kind, tuple(shards), (), {}, "1")))
    return folder.parent


def write_index(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows, PAIR_KIND.index_schema), folder / "index.parquet")


def tars(folder, *counts, word="heron"):
    """Write foreign shards."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, count in enumerate(counts):
        path = folder / f"{number:05d}.tar"
        with wds.TarWriter(str(path), mtime=0) as writer:
            for at in range(count):
                writer.write({"__key__": f"{at:04d}", "jpg": PICTURE, "txt": f"{word} {number} {at}"})
        found.append(str(path))
    return found


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture
def opened(cache):
    def opened(*shards, kind="pairs", **named):
        return open_index([str(shard) for shard in shards], kind, **{"cache": cache, **named})

    return opened


def refused(opening, reason):
    with pytest.raises(BadIndex) as caught:
        opening()
    assert caught.value.reason == reason, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texts(index):
    """Read every sample's text by its place."""
    with Storage(index.urls, index.sizes) as storage:
        return [sample_parts(storage.read(*index.locate(sample)))[1]["txt"].decode() for sample in range(len(index))]


# Datasets of ours


def test_a_dataset_is_found_by_either_folder(tmp_path, opened):
    root = dataset(tmp_path / "data")
    expected = [f"it is {shard}x{at}" for shard, count in enumerate((3, 0, 4)) for at in range(count)]
    for place in (root, f"{root}/", root / "pairs", f"file://{root}"):
        index = opened(place)
        assert texts(index) == expected
        assert index.first.tolist() == [0, 3, 3, 7]
        assert [index.locate(sample)[0] for sample in range(7)] == [0] * 3 + [2] * 4
        assert index.sizes.tolist() == [os.path.getsize(url) for url in index.urls]
        assert index.damage == ()
    for sample in (-1, 7):
        with pytest.raises(IndexError):
            index.locate(sample)


def test_the_index_says_what_a_scan_finds(tmp_path, opened):
    root = dataset(tmp_path / "data")
    index, scanned = opened(root), opened(f"{root}/pairs/*.tar")
    assert index.urls == scanned.urls
    for name in ("first", "sizes", "offset", "length"):
        assert np.array_equal(getattr(index, name), getattr(scanned, name))
    assert index.same() == scanned.same()


def test_arrays_are_shared_and_read_only(tmp_path, opened):
    index = opened(dataset(tmp_path / "data"))
    again = pickle.loads(pickle.dumps(index))
    assert len(pickle.dumps(index)) < 1000
    assert isinstance(again, Index)
    assert np.array_equal(index.offset, again.offset)
    assert (index.urls, index.same(), index.folder) == (again.urls, again.same(), again.folder)
    for array in (index.offset, index.length):
        assert isinstance(array.base, np.memmap)
        assert array.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_what_was_found_is_not_looked_for_again(tmp_path, opened, monkeypatch):
    root = dataset(tmp_path / "data")
    foreign_shards = tars(tmp_path / "foreign", 2, 3)
    first = opened(root, *foreign_shards)
    expected = texts(first)
    monkeypatch.setattr(indexing, "build", lambda *_: pytest.fail("it was built again"))
    assert opened(root, *foreign_shards).folder == first.folder
    monkeypatch.undo()
    for spoil in (lambda path: path.write_bytes(path.read_bytes()[:-8]), os.remove):
        spoil(tmp_path / "cache" / "joined" / os.path.basename(first.folder) / "offsets.bin")
        assert texts(opened(root, *foreign_shards)) == expected


def test_an_unknown_place_or_kind(tmp_path, opened):
    root = dataset(tmp_path / "data")
    assert "no shard" in refused(lambda: opened(tmp_path / "other"), ranged.NOT_FOUND)
    assert "'pairs', 'videos'" in refused(lambda: opened(root / "pairs", kind="videos"), datasets.WRONG_KIND)
    os.remove(root / "pairs" / "index.parquet")
    refused(lambda: opened(root), ranged.NOT_FOUND)


def manifest_of(root):
    path = root / "pairs" / "manifest.json"
    return path, json.loads(path.read_text())


def test_a_manifest_that_disagrees_with_its_index(tmp_path, opened):
    root = dataset(tmp_path / "data")
    path, tree = manifest_of(root)
    for samples, told in ((2, "more than 2"), (4, "has 3 rows")):
        tree["shards"][0]["samples"] = samples
        path.write_text(json.dumps(tree))
        assert told in refused(lambda: opened(root), datasets.DISAGREES)
    tree["shards"][0]["samples"] = 3
    for shards in (tree["shards"][::-1], tree["shards"][:2], tree["shards"][1:]):
        path.write_text(json.dumps(tree | {"shards": shards}))
        refused(lambda: opened(root), datasets.DISAGREES)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: tree["shards"][0].update(name="../../secret.tar"),
        lambda tree: tree["shards"][0].update(name="shard-000002.tar"),
        lambda tree: tree["shards"][0].update(name=5),
        lambda tree: tree["shards"][0].update(samples="3"),
        lambda tree: tree["shards"][0].update(samples=-1),
        lambda tree: tree["shards"][0].update(bytes=True),
        lambda tree: tree["shards"][0].pop("bytes"),
        lambda tree: tree.update(shards=5),
        lambda tree: tree.update(schema=99),
        lambda tree: tree.clear(),
    ],
)
def test_a_spoiled_manifest(tmp_path, opened, spoil):
    root = dataset(tmp_path / "data")
    path, tree = manifest_of(root)
    spoil(tree)
    path.write_text(json.dumps(tree))
    assert str(path) in refused(lambda: opened(root), datasets.BAD_MANIFEST)


def test_a_manifest_that_is_no_json(tmp_path, opened):
    root = dataset(tmp_path / "data")
    for text in (b"{", b"\xff", b"[]", b"[" * 100_000):
        (root / "pairs" / "manifest.json").write_bytes(text)
        refused(lambda: opened(root), datasets.BAD_MANIFEST)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (1, {"offset": 0}),
        (0, {"length": 1 << 20}),
        (2, {"length": 1 << 62}),
        (2, {"offset": (1 << 63) - 512}),
        (0, {"offset": -512}),
        (1, {"length": 0}),
        (1, {"offset": 100}),
    ],
)
def test_rows_that_overlap_or_reach_beyond(tmp_path, opened, row, change):
    root = dataset(tmp_path / "data")
    rows = pq.read_table(root / "pairs" / "index.parquet").to_pylist()
    rows[row] |= change
    write_index(root / "pairs", rows)
    assert "shard-000000.tar" in refused(lambda: opened(root), indexing.BAD_ROWS)


def test_rows_out_of_order(tmp_path, opened):
    root = dataset(tmp_path / "data")
    rows = pq.read_table(root / "pairs" / "index.parquet").to_pylist()
    write_index(root / "pairs", [rows[1], rows[0], *rows[2:]])
    refused(lambda: opened(root), indexing.BAD_ROWS)


def test_a_spoiled_index(tmp_path, opened):
    root = dataset(tmp_path / "data")
    path = root / "pairs" / "index.parquet"
    table = pq.read_table(path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-50], whole[: len(whole) // 2]):
        path.write_bytes(data)
        refused(lambda: opened(root), datasets.BAD_INDEX)
    nulls = pa.array([None] * 7, pa.int64())
    for other in (
        table.drop_columns(["length"]),
        table.set_column(table.schema.get_field_index("offset"), "offset", nulls),
        table.set_column(table.schema.get_field_index("offset"), "offset", pa.array(["0"] * 7)),
        table.set_column(table.schema.get_field_index("shard"), "shard", pa.array(range(7))),
    ):
        pq.write_table(other, path)
        refused(lambda: opened(root), datasets.BAD_INDEX)


def test_rows_are_read_in_batches(tmp_path, opened, monkeypatch):
    root = dataset(tmp_path / "data", (3, 0, 4, 1))
    whole = opened(root)
    monkeypatch.setattr(datasets, "ROWS_AT_ONCE", 2)
    again = opened(root, cache=str(tmp_path / "other"))
    assert again.same() == whole.same()
    assert again.first.tolist() == [0, 3, 3, 7, 8]


def test_a_dataset_whose_shards_are_damaged(tmp_path, opened):
    root = dataset(tmp_path / "data", (3, 2, 4, 2))
    shards = [root / "pairs" / f"shard-{number:06d}.tar" for number in range(4)]
    whole = opened(root)
    os.remove(shards[1])
    shards[2].write_bytes(shards[2].read_bytes()[: whole.locate(7)[1] + 100])
    assert "is not there" in refused(lambda: opened(root), ranged.NOT_FOUND)
    index = opened(root, on_damage="skip")
    assert texts(index) == ["it is 0x0", "it is 0x1", "it is 0x2", "it is 2x0", "it is 2x1", "it is 3x0", "it is 3x1"]
    assert index.damage == (
        Damage(str(shards[1]), ranged.NOT_FOUND, 0),
        Damage(str(shards[2]), ranged.CUT, 2),
    )
    assert index.same() != whole.same()
    assert pickle.loads(pickle.dumps(index)).damage == index.damage
    shards[3].write_bytes(shards[3].read_bytes() + b"more")
    assert opened(root, on_damage="skip").damage[2] == Damage(str(shards[3]), ranged.CHANGED, 0)
    shards[2].unlink()
    shards[0].unlink()
    assert len(opened(root, on_damage="skip")) == 0


# Foreign shards


def test_foreign_shards_are_scanned_once(tmp_path, opened, monkeypatch):
    paths = tars(tmp_path / "a", 3, 0, 2)
    done = []
    index = opened(f"{tmp_path}/a/{{00000..00002}}.tar", progress=lambda *counts: done.append(counts))
    assert index.urls == tuple(paths)
    assert texts(index) == ["heron 0 0", "heron 0 1", "heron 0 2", "heron 2 0", "heron 2 1"]
    assert done == [(1, 3), (2, 3), (3, 3)]
    real, seen = foreign.scan, []
    monkeypatch.setattr(foreign, "scan", lambda stream, size: seen.append(size) or real(stream, size))
    more = tars(tmp_path / "b", 1)
    assert len(opened(*paths, *more)) == 6
    assert len(seen) == 1
    with open(paths[0], "ab") as shard:
        shard.write(bytes(512))
    assert len(opened(*paths)) == 5
    assert len(seen) == 2


def test_a_spoiled_cache_is_made_again(tmp_path, opened):
    paths = tars(tmp_path / "a", 3)
    first = opened(*paths)
    for path in (tmp_path / "cache" / "shards").iterdir():
        for data in (b"", path.read_bytes()[:90], b"not numpy"):
            path.write_bytes(data)
            shutil.rmtree(tmp_path / "cache" / "joined")
            assert opened(*paths).same() == first.same()
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    shutil.rmtree(tmp_path / "cache" / "joined")
    assert opened(*paths).same() == first.same()


# Trap C, at the level of a dataset.


def test_a_damaged_foreign_shard_is_an_error_or_a_counted_loss(tmp_path, opened):
    paths = tars(tmp_path / "a", 4, 4, 4)
    data = bytearray((tmp_path / "a" / "00001.tar").read_bytes())
    data[scan(io.BytesIO(data))[2].offset + 3] ^= 4
    (tmp_path / "a" / "00001.tar").write_bytes(data)
    assert len(by_webdataset(*((tmp_path / "a" / f"{number:05d}.tar").read_bytes() for number in range(3)))) == 10
    told = refused(lambda: opened(*paths), tar.BAD_HEADER)
    assert paths[1] in told
    assert "(1 samples of it are whole)" in told
    index = opened(*paths, tmp_path / "a" / "none.tar", on_damage="skip")
    assert len(index) == 9
    assert index.damage == (
        Damage(paths[1], tar.BAD_HEADER, 1),
        Damage(str(tmp_path / "a" / "none.tar"), ranged.NOT_FOUND, 0),
    )
    assert index.sizes.tolist()[-1] == -1
    tars(tmp_path / "a", 4, 4)  # mended
    assert opened(*paths, on_damage="skip").damage == ()


# Trap J: two shards of one name.


def test_shards_of_one_name_are_not_mixed_up(tmp_path, opened, monkeypatch):
    ours = tars(tmp_path / "a", 2, word="heron") + tars(tmp_path / "b", 2, word="otter")
    monkeypatch.setitem(gopen_schemes, "s3", lambda url, *_: io.BytesIO(Path(url.removeprefix("s3://")).read_bytes()))
    theirs = FileCache(str(tmp_path / "wds"))
    assert theirs.get_file(f"s3://{ours[0]}") == theirs.get_file(f"s3://{ours[1]}")  # the second is never read
    assert os.path.getsize(ours[0]) == os.path.getsize(ours[1])
    for path in ours:
        os.utime(path, (1, 1))
    assert texts(opened(*ours)) == ["heron 0 0", "heron 0 1", "otter 0 0", "otter 0 1"]
    assert texts(opened(ours[1])) == ["otter 0 0", "otter 0 1"]


def test_the_digest_tells_other_data_but_not_another_folder(tmp_path, opened):
    index = opened(*tars(tmp_path / "a", 2, 3))
    assert opened(*tars(tmp_path / "b", 2, 3)).same() == index.same()
    assert opened(*tars(tmp_path / "c", 3, 2)).same() != index.same()
    assert opened(*tars(tmp_path / "d", 2)).same() != index.same()
    assert opened(*tars(tmp_path / "e", 2, 3, word="a longer word " * 99)).same() != index.same()


# How shards are named


def test_braces_and_patterns(tmp_path):
    assert places.places(["/a/{08..10}.tar", "/{x,y}/{1..0}.tar"]) == [
        "/a/08.tar", "/a/09.tar", "/a/10.tar", "/x/1.tar", "/x/0.tar", "/y/1.tar", "/y/0.tar"
    ]  # fmt: skip
    assert places.places(["https://a.test/{0..1}.tar?x=[*]"]) == [f"https://a.test/{n}.tar?x=[*]" for n in (0, 1)]
    paths = tars(tmp_path, 1, 1)
    assert places.places([f"{tmp_path}/*.tar"]) == places.places([f"file://{tmp_path}/0000?.tar"]) == paths


@pytest.mark.parametrize("expected", ["{000000..000099}", "a{b,c}d", "{9..11}", "{01..2}{x,y}", "{3..1}", "no"])
def test_braces_are_written_out_as_webdataset_does(expected):
    assert list(places.expand(expected)) == list(wds.shardlists.expand_urls(expected))


class Broken(fsspec.AbstractFileSystem):
    """Fails to list, with an error of its own."""

    def glob(self, path, **_):
        raise ConnectionResetError(path)


def test_places_that_are_none(tmp_path, opened, monkeypatch):
    fsspec.register_implementation("broken", Broken, clobber=True)
    monkeypatch.setattr(places, "MAX_PLACES", 1000)
    for shards, reason in (
        ([], places.NO_SHARDS),
        ([f"{tmp_path}/*.tar"], places.NO_SHARDS),
        (["a{b}.tar"], places.BAD_PLACE),
        (["{0..9999999999}.tar"], places.BAD_PLACE),
        (["{0..99}{0..99}{0..99}.tar"], places.BAD_PLACE),
        (["nosuch://a/*.tar"], places.BAD_PLACE),
        (["broken://a/*.tar"], places.BAD_PLACE),
        (["a.tar", "./a.tar"], places.REPEATED_SHARD),
    ):
        refused(lambda: opened(*shards), reason)  # noqa: B023
    root = dataset(tmp_path / "data")
    refused(lambda: opened(root, root / "pairs" / "shard-000000.tar"), places.REPEATED_SHARD)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    paths = tars(tmp_path / "a", 1)
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "mine"))
    assert open_index(paths, "pairs").folder.startswith(str(tmp_path / "mine"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/nowhere")

    monkeypatch.setattr(indexing.tempfile, "mkdtemp", refuse)
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "other"))
    assert "FLAMINGO_CACHE" in refused(lambda: open_index(paths, "pairs"), indexing.NO_CACHE)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "file"))
    assert "FLAMINGO_CACHE" in refused(lambda: open_index(paths, "pairs"), indexing.NO_CACHE)


def test_a_process_that_was_faster_keeps_its_index(tmp_path, opened, monkeypatch):
    paths = tars(tmp_path / "a", 1)
    mine = opened(*paths)
    made = tmp_path / "made"
    shutil.copytree(mine.folder, made)
    inode = Path(mine.folder).stat().st_ino
    indexing.publish(made, Path(mine.folder))
    assert Path(mine.folder).stat().st_ino == inode  # nobody's open files were pulled away
    (Path(mine.folder) / indexing.OFFSETS).write_bytes(b"spoiled")
    indexing.publish(made, Path(mine.folder))
    assert len(indexing.load(mine.folder)) == len(mine)
    assert not [path for path in Path(mine.folder).parent.iterdir() if path.name != Path(mine.folder).name]


# Remote


def serve(folder):
    """Answer requests for ranges of the files of a folder."""

    def route(seen):
        path = folder / seen.path.lstrip("/")
        if not path.is_file():
            return Reply(status=404)
        data = path.read_bytes()
        begin, _, end = seen.headers["range"].removeprefix("bytes=").partition("-")
        piece = data[int(begin) : int(end) + 1]
        told = f"bytes {begin}-{int(begin) + len(piece) - 1}/{len(data)}"
        headers = (("Content-Range", told), ("ETag", f'"{path.stat().st_mtime_ns}"'))
        return Reply(piece, status=206, headers=headers, delay_s=0.005)

    return {f"/{path.relative_to(folder)}": route for path in folder.rglob("*") if path.is_file()}


def test_shards_and_datasets_over_http(tmp_path, opened):
    root = dataset(tmp_path / "data")
    tars(tmp_path / "foreign", 3, 2)
    with WebServer(serve(tmp_path)) as server:
        index = opened(server.url("/data"), server.url("/foreign/{00000..00001}.tar"), retries=0)
        assert texts(index) == texts(opened(root, *tars(tmp_path / "foreign", 3, 2)))
        os.truncate(tmp_path / "foreign" / "00001.tar", 3000)
        again = opened(server.url("/foreign/{00000..00002}.tar"), retries=0, on_damage="skip")
        assert [damage.reason for damage in again.damage] == [tar.CUT, ranged.NOT_FOUND]
        assert len(again) == 3
        refused(lambda: opened(server.url("/none"), retries=0), ranged.NOT_FOUND)


def test_shards_and_datasets_in_any_file_system(tmp_path, opened):
    system = fsspec.filesystem("memory")
    root = dataset(tmp_path / "data")
    paths = tars(tmp_path / "foreign", 3, 2)
    try:
        for path in (*(root / "pairs").iterdir(), *(tmp_path / "foreign").iterdir()):
            system.pipe_file(f"/index-test/{path.relative_to(tmp_path)}", path.read_bytes())
        index = opened("memory://index-test/data", "memory://index-test/foreign/*.tar")
        assert texts(index) == texts(opened(root, *paths))
        assert index.urls[-1] == "memory:///index-test/foreign/00001.tar"
    finally:
        system.rm("/index-test", recursive=True)
