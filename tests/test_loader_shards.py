"""Shards of every origin through the loader: layouts of others, a web server that fails, and what is damaged."""

import base64
import io
import json
import logging
import re
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import simplejpeg
import torch
from shards_written import jpeg, pair, small, write_shards, write_tar
from web_server import Reply, WebServer

from flamingo_model import augment
from flamingo_model.augment import GpuDecoder
from flamingo_model.data import DataError, Loader
from schemas.config import ConfigError

TEXT = "The heron stands in the reeds, number {}."


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMINGO_CACHE", str(tmp_path / "cache"))


# Layouts of others, as their documentation has them


def as_json(tree):
    return json.dumps(tree).encode()


def obelics(number):
    tree = {
        "texts": [None, TEXT.format(number), None],
        "images": ["0a.jpg", None, "1b.jpg"],
        "url": "https://a.example",
    }
    return [("json", as_json(tree)), ("0a.jpg", jpeg(number)), ("1b.jpg", jpeg(number + 1))]


def mmc4(number):
    image = {"image_base64": base64.b64encode(jpeg(number)).decode(), "matched_text_index": 1, "image_name": "a.jpg"}
    tree = {
        "text_list": ["First.", TEXT.format(number)],
        "image_info": [image],
        "similarity_matrix": [[0.1, 0.3]],
        "url": "https://a.example",
    }
    return [("json", as_json(tree))]


def img2dataset(number):
    tree = {
        "caption": TEXT.format(number),
        "url": "https://a.example/a.jpg",
        "key": f"{number:09}",
        "status": "success",
    }
    tree |= {"error_message": None, "width": 24, "height": 16, "original_width": 24, "original_height": 16}
    return [("jpg", jpeg(number)), ("json", as_json(tree)), ("txt", TEXT.format(number).encode())]


def laion(number):
    return [("jpg", jpeg(number)), ("txt", TEXT.format(number).encode())]


def m4(number):
    names = ["0.image.jpg", "1.text.txt"]
    return [
        ("0.image.jpg", jpeg(number)),
        ("1.text.txt", TEXT.format(number).encode()),
        ("metadata.txt", as_json({"url": "https://a.example", "parts": names})),
    ]


@pytest.mark.parametrize(
    ("layout", "kind", "images"),
    [(obelics, "interleaved", 2), (mmc4, "interleaved", 1), (img2dataset, "pairs", 1), (laion, "pairs", 1)],
)
def test_shards_of_others_are_read(tmp_path, layout, kind, images):
    for shard in range(2):
        samples = ((f"{number:09}", layout(number)) for number in range(10 * shard, 10 * shard + 10))
        write_tar(tmp_path / f"{shard:05}.tar", samples)
    dataset = {"kind": kind, "shards": (f"{tmp_path}/{{00000..00001}}.tar",), "batch": 4, "tokens": 128}
    with Loader(small({"theirs": dataset}, lanes=4, once=True)) as loader:
        steps = [step["theirs"] for step in loader]
        rows = [loader.tokenizer.decode(row.tolist()) for batch in steps for row in batch.tokens]
    assert Counter(len(batch.media_row) for batch in steps) == {4 * images: 5}
    found = [match[1] for row in rows for match in re.finditer(r"reeds, number (\d+)\.", row)]
    assert sorted(map(int, found)) == list(range(20))
    assert not loader.stats.skipped


def test_a_kind_that_the_shards_are_not_of_is_one_line(tmp_path):
    write_tar(tmp_path / "a.tar", [("a", laion(1))])
    with pytest.raises(ConfigError, match="kind is interleaved, but its samples are stored as pair"):
        Loader(small({"a": {"shards": (f"{tmp_path}/a.tar",), "batch": 8}}))
    with pytest.raises(ConfigError, match=r"data.datasets.a: .*b\.tar"):
        Loader(small({"a": {"shards": (f"{tmp_path}/b.tar",), "batch": 8}}))


# Over the web


class Files:
    """Serves files by ranges, late; every so-many-th answer is an error, cut short, or none."""

    def __init__(self, folder, every):
        self.folder, self.every, self.asked, self.failed = folder, every, 0, 0

    def __call__(self, seen):
        data = (self.folder / Path(seen.path).name).read_bytes()
        self.asked += 1
        wrong = self.every and self.asked % self.every == 0
        if wrong:
            self.failed += 1
        if "range" not in seen.headers:
            return Reply(data, headers=(("ETag", '"1"'), ("Accept-Ranges", "bytes")))
        begin, _, end = seen.headers["range"].removeprefix("bytes=").partition("-")
        begin, end = int(begin), min(len(data), int(end or len(data)) + 1)
        headers = (("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}"), ("ETag", '"1"'))
        if wrong:
            return (
                Reply(b"", status=503) if self.failed % 2 else Reply(data[begin:end], "a/tar", headers, 206, way="cut")
            )
        return Reply(data[begin:end], status=206, headers=headers, delay_s=0.005)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_on_a_web_server_that_fails_stream_without_loss(tmp_path, monkeypatch, workers):
    paths = write_shards(tmp_path / "shards", "pairs", 240, per_shard=40)
    route = Files(tmp_path / "shards", every=0)
    with WebServer() as server:
        names = [f"/{Path(path).name}" for path in paths]
        server.routes = dict.fromkeys(names, route)
        urls = tuple(server.url(name) for name in names)
        dataset = {"kind": "pairs", "shards": urls, "batch": 8, "tokens": 64}
        config = small({"pairs": dataset}, once=True, workers=workers)
        with Loader(config) as loader:
            route.every = 9  # more than one in a hundred, as there are few requests
            seen = Counter(key for step in loader for row in step["pairs"].keys for key in row)
        local = replace(config.datasets["pairs"], shards=paths)
        with Loader(replace(config, datasets={"pairs": local}, workers=0)) as loader:
            wanted = Counter(key for step in loader for row in step["pairs"].keys for key in row)
    assert route.failed > 2
    assert seen == wanted == Counter(pair(number)[0] for number in range(240))


def test_blocks_read_ahead_are_let_go_of(tmp_path):
    # Directories between the samples are bytes that nobody reads.
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(160):
            key, members = pair(number)
            folder = tarfile.TarInfo(f"folder-{number}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name, data in members:
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with WebServer() as server:
        server.routes = {"/a.tar": Files(tmp_path, every=0)}
        dataset = {"kind": "pairs", "shards": (server.url("/a.tar"),), "batch": 8}
        with Loader(small({"p": dataset}, once=True)) as loader:
            begun = loader.state_dict()
            (storage,) = loader.storages()
            for _ in range(2):
                assert len([key for step in loader for row in step["p"].keys for key in row]) == 160
                assert not storage.ahead.blocks
                loader.load_state_dict(begun)
            next(loader)
            loader.load_state_dict(begun)
            assert not storage.ahead.blocks


# Damage


def test_a_sample_that_cannot_be_used_is_skipped_and_counted_by_name(tmp_path):
    paths = write_shards(tmp_path, "pairs", 40)
    bad = [(f"bad{number}", [("jpg", data), ("txt", b"said")]) for number, data in enumerate((b"", b"no picture"))]
    bad += [("cut", [("jpg", jpeg(3)[:-100]), ("txt", b"said")]), ("mute", [("jpg", jpeg(3)), ("txt", b" ")])]
    write_tar(tmp_path / "bad.tar", bad)
    config = small({"p": {"kind": "pairs", "shards": (*paths, f"{tmp_path}/bad.tar"), "batch": 8}}, once=True)
    with Loader(config) as loader:
        steps = [step["p"] for step in loader]
    assert loader.stats.skipped == {
        ("p", "empty_part"): 1,
        ("p", "unreadable"): 1,
        ("p", "truncated"): 1,
        ("p", "no_text"): 1,
    }
    assert all("bad.tar bytes " in skip.told for skip in loader.stats.told)
    # What was found out only while decoding keeps its row, grey and without targets.
    for batch in steps:
        for row, keys in enumerate(batch.keys):
            if keys in (("bad1",), ("cut",)):
                assert not batch.loss[row].any()
                assert batch.frames[batch.media_row == row].unique().numel() <= 3
    assert sum(len(row) for batch in steps for row in batch.keys) == 42
    with Loader(replace(config, on_damage="raise")) as loader, pytest.raises(DataError, match=r"bad\.tar bytes"):
        list(loader)


def test_too_much_damage_is_an_error_that_says_what(tmp_path):
    write_tar(
        tmp_path / "bad.tar", ((f"{n}", [("jpg", jpeg(n)), ("txt", b"" if n % 2 else b"said")]) for n in range(80))
    )
    config = small({"p": {"kind": "pairs", "shards": (f"{tmp_path}/bad.tar",), "batch": 8}}, once=True)
    with Loader(config) as loader, pytest.raises(DataError, match=r"samples lost of \d+ read, more than .*p no_text"):
        list(loader)
    with Loader(replace(config, max_damaged=0.6)) as loader:
        assert sum(len(row) for step in loader for row in step["p"].keys) == 40


def test_a_shard_that_is_cut_is_told_and_read_as_far_as_it_goes(tmp_path, caplog):
    whole, cut = write_shards(tmp_path, "pairs", 40)
    data = Path(cut).read_bytes()
    Path(cut).write_bytes(data[: len(data) // 2])
    config = small({"p": {"kind": "pairs", "shards": (whole, cut), "batch": 8}}, once=True)
    with caplog.at_level(logging.WARNING), Loader(config) as loader:
        samples = sum(len(row) for step in loader for row in step["p"].keys)
    assert 25 < samples < 32
    assert f"{cut}: cut; {samples - 20} samples of it are read" in caplog.text
    with pytest.raises(ConfigError, match=re.escape(cut)):
        Loader(replace(config, on_damage="raise"))


def test_a_shard_that_goes_away_while_it_is_read_is_counted(tmp_path, caplog):
    paths = write_shards(tmp_path, "pairs", 200, per_shard=100)
    config = small({"p": {"kind": "pairs", "shards": paths, "batch": 8}}, max_damaged=1.0, retries=0, once=True)
    with Loader(config) as loader:
        Path(paths[1]).unlink()
        read = sum(len(row) for step in loader for row in step["p"].keys)
        lost = loader.stats.skipped
    assert read + sum(lost.values()) == 200
    assert lost["p", "not_found"] > 50
    # And who opens it anew is told.
    with caplog.at_level(logging.WARNING), Loader(config) as loader:
        assert sum(len(row) for step in loader for row in step["p"].keys) == 100
    assert f"{paths[1]}: not_found; 0 samples of it are read" in caplog.text
    with pytest.raises(ConfigError, match=re.escape(paths[1])):
        Loader(replace(config, on_damage="raise"))


# Decoding elsewhere


def test_images_that_a_gpu_decodes_are_the_same_batches(tmp_path, monkeypatch):
    datasets = {
        "pairs": {"kind": "pairs", "shards": write_shards(tmp_path / "p", "pairs", 40), "batch": 8},
        "clips": {"kind": "videos", "shards": write_shards(tmp_path / "v", "videos", 20), "batch": 8, "frames": 4},
    }

    def on_this_processor(files):
        return [torch.from_numpy(simplejpeg.decode_jpeg(file.numpy().tobytes())).permute(2, 0, 1) for file in files]

    monkeypatch.setattr(augment, "nvjpeg", lambda device: on_this_processor)
    config = small(datasets, mix="mixed", batch=8, tokens=64)
    with Loader(config) as here, Loader(replace(config, decode="gpu"), device="cpu") as there:
        assert isinstance(there.gpu, GpuDecoder)
        for _ in range(5):
            ours, theirs = next(here)["mixed"], next(there)["mixed"]
            assert ours.keys == theirs.keys
            assert torch.equal(ours.loss, theirs.loss)
            assert (ours.frames.int() - theirs.frames.int()).abs().max() <= 2


def test_a_gpu_that_is_not_there_is_one_line(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    paths = write_shards(tmp_path, "pairs", 8)
    config = small({"p": {"kind": "pairs", "shards": paths, "batch": 8}}, decode="gpu")
    with pytest.raises(DataError, match="needs CUDA and torchvision"):
        Loader(config)


def test_what_was_shuffled_is_not_in_the_order_of_the_shards(tmp_path):
    paths = write_shards(tmp_path, "pairs", 400, per_shard=100)
    place = {pair(number)[0]: number // 100 for number in range(400)}
    with Loader(small({"p": {"kind": "pairs", "shards": paths, "batch": 8}}, lanes=8)) as loader:
        shards = [[place[key] for row in next(loader)["p"].keys for key in row] for _ in range(40)]
    assert sum(len(set(batch)) for batch in shards) / 40 > 3.2  # of 8 drawn at random from 4: 3.6
