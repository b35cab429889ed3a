"""The index of an evaluation set: what it holds, what is refused on the way into it, and what is told of it."""

import hashlib
import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline import decontaminate
from pipeline.cli import main
from pipeline.decontaminate import THUMBNAIL_PX, index_pictures, read_pictures, write_index
from pipeline.evaluation import EVALUATION_SCHEMA
from pipeline.folder import UserError
from pipeline.media import CORRUPT, NOT_AN_IMAGE, TOO_MANY_BYTES, TOO_MANY_PIXELS, TRUNCATED, MediaConfig
from pipeline.perceptual import bits_apart, hash_picture

CONFIG = MediaConfig()


def picture(seed):
    patches = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((240, 180), Image.Resampling.BICUBIC)


def file_of(image, format="JPEG", **how):
    buffer = io.BytesIO()
    image.save(buffer, format, **how)
    return buffer.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def make_index(source, path, config=CONFIG):
    refusals = {}
    with path.open("wb") as stream:
        count = write_index(index_pictures(read_pictures(str(source), config), config, refusals), stream)
    return count, refusals


@pytest.fixture
def indexed(tmp_path):
    """Index two pictures of a folder."""
    (tmp_path / "set" / "val").mkdir(parents=True)
    for seed, name in ((1, "one.jpg"), (2, "val/two.PNG")):
        (tmp_path / "set" / name).write_bytes(file_of(picture(seed), "PNG" if "PNG" in name else "JPEG"))
    (tmp_path / "set" / "labels.json").write_text("{}")
    assert make_index(tmp_path / "set", tmp_path / "coco.parquet") == (2, {})
    return tmp_path


def test_an_index_holds_hashes_names_and_thumbnails(indexed):
    table = pq.read_table(indexed / "coco.parquet")
    assert table.schema.equals(EVALUATION_SCHEMA)
    assert table["name"].to_pylist() == ["one.jpg", "val/two.PNG"]
    assert table["sha256"][0].as_py() == digest((indexed / "set" / "one.jpg").read_bytes())
    assert bits_apart(table["look"][1].as_py(), hash_picture(picture(2))) <= 8
    thumbnail = Image.open(io.BytesIO(table["thumbnail"][0].as_py()))
    assert max(thumbnail.size) == THUMBNAIL_PX


def test_the_same_folder_gives_the_same_bytes(indexed):
    make_index(indexed / "set", indexed / "again.parquet")
    assert (indexed / "again.parquet").read_bytes() == (indexed / "coco.parquet").read_bytes()


def test_shards_are_read_with_their_pictures(tmp_path):
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as tar:
        for name, data in (("k1.json", b"{}"), ("k1.m000.jpg", file_of(picture(1))), ("k2.png", b"junk")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for source in (tmp_path, tmp_path / "shard-000000.tar"):
        assert make_index(source, tmp_path / "shards.parquet") == (1, {NOT_AN_IMAGE: 1})
    assert pq.read_table(tmp_path / "shards.parquet")["name"].to_pylist() == ["shard-000000.tar/k1.m000.jpg"]


def test_hostile_files_are_refused_with_their_reason(tmp_path):
    whole = file_of(picture(1), "PNG")
    wide = bytearray(whole)
    wide[16:20] = (1 << 30).to_bytes(4, "big")
    files = {"cut.png": whole[:300], "broken.png": bytes(wide), "text.jpg": b"<html>", "long.jpg": bytes(60_000)}
    (tmp_path / "set").mkdir()
    for name, data in files.items():
        (tmp_path / "set" / name).write_bytes(data)
    (tmp_path / "set" / "large.png").write_bytes(file_of(Image.new("RGB", (300, 300)), "PNG"))
    count, refusals = make_index(
        tmp_path / "set", tmp_path / "x.parquet", MediaConfig(max_bytes=50_000, max_pixels=80_000)
    )
    expected = {TRUNCATED: 1, CORRUPT: 1, NOT_AN_IMAGE: 1, TOO_MANY_BYTES: 1, TOO_MANY_PIXELS: 1}
    assert (count, refusals) == (0, expected)


def command(*arguments):
    """Run the command; gives its exit status and what it said on stderr."""
    result = CliRunner().invoke(main, ["decontaminate-index", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_the_command_tells_what_is_in_and_what_was_refused(indexed, monkeypatch):
    (indexed / "set" / "cut.png").write_bytes(file_of(picture(3), "PNG")[:300])
    monkeypatch.setattr(decontaminate, "PLAIN_EVERY_S", 0.0)
    status, said = command(indexed / "set", "-o", indexed / "again.parquet")
    *progress, last = said.splitlines()
    assert (status, last) == (0, f"wrote {indexed}/again.parquet: 2 pictures; refused: 1 truncated")
    assert [line.partition(",")[0] for line in progress] == [f"{number} pictures read" for number in range(3)]
    assert (indexed / "again.parquet").read_bytes() == (indexed / "coco.parquet").read_bytes()


def test_what_cannot_be_indexed_is_told_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.png").write_bytes(b"junk")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes(file_of(picture(1), "PNG"))
    (tmp_path / "good" / "b.tar").write_bytes(b"junk")
    for source, out, message in (
        ("nowhere", "x.parquet", "no such file or folder"),
        ("empty", "x.parquet", "no picture that can be read\n"),
        ("junk", "x.parquet", "no picture that can be read; refused: 1 not_an_image"),
        ("good", "x.parquet", "no tar file, or a damaged one"),
        ("good/a.png", "good/a.png/x.parquet", "good/a.png: File exists"),
    ):
        status, said = command(tmp_path / source, "-o", tmp_path / out)
        assert (status, said.count("\n")) == (2, 1)
        assert message in said
        assert not list(tmp_path.glob("*.parquet*"))
        assert not list(tmp_path.glob(".*.tmp"))


def test_a_folder_that_is_not_there_is_told():
    with pytest.raises(UserError, match="no such file or folder"):
        next(read_pictures("nowhere", CONFIG))
