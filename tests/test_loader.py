"""The loader: the same batches wherever they are made, an exact way back, mixtures, packing, and losses counted."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from shards_written import jpeg, pair, small, write_shards

from flamingo_model.data import DataError, Loader, merge_states, open_streams, read_state

TENSORS = (
    "tokens", "loss", "image_of", "segment", "position", "source", "frames", "media_row", "media_number",
    "media_frames", "flip", "jitter",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAMINGO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return {kind: write_shards(folder, kind, 130) for kind in ("pairs", "interleaved", "videos")}


@pytest.fixture
def everything(shards):
    """Give settings of the paper's accumulation, with packed pairs and every augmentation."""
    datasets = {
        "pages": {"kind": "interleaved", "shards": shards["interleaved"], "batch": 16, "tokens": 96},
        "pairs": {"kind": "pairs", "shards": shards["pairs"], "batch": 8, "tokens": 200, "pack": True},
        "clips": {"kind": "videos", "shards": shards["videos"], "batch": 8, "tokens": 48, "frames": 4},
    }
    return small(datasets, flip=True, jitter=0.2)


def digest(batch, rows):
    """Hash what a batch holds of some of its rows."""
    told = hashlib.sha256(repr([batch.keys[row] for row in rows]).encode())
    starts = [0, *batch.media_frames.cumsum(0).tolist()]
    for row in rows:
        for name in TENSORS[:6]:
            told.update(getattr(batch, name)[row].numpy().tobytes())
        for medium in (batch.media_row == row).nonzero().flatten().tolist():
            told.update(batch.frames[starts[medium] : starts[medium + 1]].numpy().tobytes())
            for name in TENSORS[8:]:
                told.update(getattr(batch, name)[medium].numpy().tobytes())
    return told.hexdigest()


def digests(batches, lanes, all_lanes):
    """Hash the rows of each lane of a step: {(batch, lane): hash}."""
    found = {}
    for name, batch in batches.items():
        each = len(batch.keys) // len(lanes)
        for place, lane in enumerate(lanes):
            found[name, lane] = digest(batch, range(place * each, (place + 1) * each))
    assert set(lanes) <= set(all_lanes)
    return found


def run(config, steps, world=1, state=None, stages=()):
    """Run all ranks of a world, each a loader of its own; gives the global batches as hashes, and the joined state."""
    found, states = [{} for _ in range(steps)], []
    for rank in range(world):
        with Loader(config, rank, world, stages) as loader:
            if state is not None:
                loader.load_state_dict(json.loads(json.dumps(state)))
            for step in range(steps):
                found[step] |= digests(next(loader), list(loader.lanes), range(config.lane_count))
            states.append(loader.state_dict())
    assert all(len(step) == len(config.batches) * config.lane_count for step in found)
    return found, merge_states(states)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return {}


def expected(reference, config, steps):
    """Run once what others are compared with."""
    key = (repr(config), steps)
    if key not in reference:
        reference[key] = run(config, steps)[0]
    return reference[key]


@pytest.mark.parametrize(("workers", "threads"), [(0, 3), (1, 1), (2, 2), (4, 1)])
def test_batches_do_not_depend_on_workers_and_threads(everything, reference, workers, threads):
    wanted = expected(reference, everything, 6)
    assert run(replace(everything, workers=workers, threads=threads, prefetch=1 + workers % 3), 6)[0] == wanted


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_global_batch_does_not_depend_on_the_world(everything, reference, world):
    assert run(everything, 6, world)[0] == expected(reference, everything, 6)


@pytest.mark.parametrize(
    ("before", "after"), [((1, 0), (1, 0)), ((1, 0), (4, 0)), ((8, 0), (2, 0)), ((2, 0), (1, 2)), ((1, 2), (2, 0))]
)
@pytest.mark.parametrize("mix", ["accumulate", "mixed"])
def test_a_run_goes_on_with_the_same_batches_on_another_world(everything, reference, mix, before, after):
    config = everything
    if mix == "mixed":
        config = replace(everything, mix="mixed", batch=16, tokens=160, pack=True)
    wanted = expected(reference, config, 12)
    stop = random.Random(repr((mix, before, after))).randrange(1, 12)
    (world, workers), (world_after, workers_after) = before, after
    first, state = run(replace(config, workers=workers), stop, world)
    rest, _ = run(replace(config, workers=workers_after), 12 - stop, world_after, state)
    assert first + rest == wanted


def test_seeds_and_epochs_change_what_is_read(everything):
    one, other = run(everything, 2)[0], run(replace(everything, seed=1), 2)[0]
    assert not set(one[0].values()) & set(other[0].values())
    assert not set(one[0].values()) & set(one[1].values())


@pytest.mark.parametrize("pack", [False, True])
def test_no_sample_is_repeated_or_dropped_on_the_way_through_many_worlds(shards, pack):
    config = small({"pairs": {"kind": "pairs", "shards": shards["pairs"], "batch": 8, "tokens": 200, "pack": pack}})
    delivered, state = {lane: Counter() for lane in range(8)}, None
    for world in (1, 4, 2, 8, 1):
        states = []
        for rank in range(world):
            with Loader(config, rank, world) as loader:
                if state:
                    loader.load_state_dict(state)
                for _ in range(5):
                    for lane, row in zip(loader.lanes, next(loader)["pairs"].keys, strict=True):
                        delivered[lane].update(row)
                states.append(loader.state_dict())
        state = merge_states(states)
    (stream,) = open_streams(config)
    order = stream.sources[0].order
    for lane in range(8):
        at = read_state(state["lanes"]["pairs"][str(lane)])
        visits = [visit for window in range(at.cursors[0].window + 1) for visit in order.window_of(lane, window)]
        read = visits[: at.drawn[0] - lane]
        assert len({(visit.epoch, visit.sample) for visit in read}) == len(read) > 20
        assert delivered[lane] + Counter(key_of_pair(visit) for visit in at.held) == Counter(map(key_of_pair, read))
        assert bool(at.held) == pack


def key_of_pair(visit):
    return pair(visit.sample)[0]


def test_once_gives_every_sample_once_and_every_rank_as_many_steps(shards):
    config = small({"pages": {"shards": shards["interleaved"], "batch": 8}}, once=True, shuffle=False)
    for world in (1, 8):
        seen, steps = Counter(), []
        for rank in range(world):
            with Loader(config, rank, world) as loader:
                batches = [step["pages"] for step in loader]
            steps.append(len(batches))
            seen.update(key for batch in batches for row in batch.keys for key in row)
            assert {len(batch.tokens) for batch in batches} == {8 // world}
        assert len(seen) == 130
        assert set(seen.values()) == {1}
        assert len(set(steps)) == 1


def test_what_is_shown_belongs_to_the_text(everything):
    with Loader(everything) as loader:
        decode, image = loader.tokenizer.decode, loader.tokenizer.image
        for _, step in zip(range(4), loader, strict=False):
            for name, batch in step.items():
                assert batch.names == (name,)
                check_rows(batch, image)
            colours = batch.frames[0, :, 8, 8].float()
            text = decode(step["clips"].tokens[0].tolist())
            number = int(text.split("Clip ")[1].split(".")[0])
            wanted = {tuple(pixel(jpeg(100 * number + place))) for place in range(8)}
            assert any((colours - torch.tensor(colour)).abs().max() < 6 for colour in wanted)


def pixel(data):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data)).getpixel((12, 8))


def check_rows(batch, image):
    """Compare what belongs to the tokens with each other, whatever the sampler chose."""
    for row in range(len(batch.tokens)):
        real = batch.segment[row] > 0
        assert not batch.loss[row][~real].any()
        assert not batch.image_of[row][~real].any()
        assert batch.segment[row].unique_consecutive().tolist()[: len(batch.keys[row])] == list(
            range(1, len(batch.keys[row]) + 1)
        )
        media = (batch.media_row == row).nonzero().flatten()
        assert batch.media_number[media].tolist() == list(range(1, len(media) + 1))
        assert (batch.tokens[row] == image[0]).sum() == len(media)
        for segment in batch.segment[row].unique().tolist():
            here = batch.segment[row] == segment
            if segment:
                assert batch.position[row][here].tolist() == list(range(int(here.sum())))
        # A token sees only media whose tags stand in its own sample.
        tags = (batch.tokens[row] == image[0]).nonzero().flatten().tolist()
        for number, tag in enumerate(tags, start=1):
            sees = batch.image_of[row] == number
            assert set(batch.segment[row][sees].tolist()) == {int(batch.segment[row][tag])}


def test_mixed_batches_hold_the_shares_of_the_datasets(shards):
    datasets = {
        "pages": {"kind": "interleaved", "shards": shards["interleaved"], "weight": 1.0, "batch": 8},
        "pairs": {"kind": "pairs", "shards": shards["pairs"], "weight": 3.0, "batch": 8},
    }
    config = small(datasets, mix="mixed", batch=16, tokens=96)
    with Loader(config) as loader:
        steps = [next(loader)["mixed"] for _ in range(10)]
    for batch in steps:
        assert batch.names == ("pages", "pairs")
    drawn = Counter(int(batch.source[row, 0]) for batch in steps for row in range(16))
    assert drawn[1] == pytest.approx(120, abs=8)
    # And not one batch of pairs after another one of pages.
    assert all(2 <= int(batch.source[:, 0].sum()) < 16 for batch in steps)


def test_packing_wastes_less_and_keeps_samples_apart(shards):
    waste = {}
    for pack in (False, True):
        dataset = {"kind": "pairs", "shards": shards["pairs"], "batch": 8, "tokens": 256, "pack": pack}
        with Loader(small({"pairs": dataset})) as loader:
            for _ in range(8):
                next(loader)
            stats = loader.stats
        waste[pack] = stats.padding["pairs"] / (stats.padding["pairs"] + stats.tokens["pairs"])
    assert waste[False] > 0.5
    assert waste[True] < 0.12


def test_a_wrong_state_is_refused_in_one_line(everything, shards):
    with Loader(everything, 0, 2) as loader:
        next(loader)
        half = loader.state_dict()
    with Loader(everything) as loader, pytest.raises(DataError, match=r"lacks lanes \[1, 3, 5, 7\] of pages"):
        loader.load_state_dict(half)
    with Loader(replace(everything, seed=3)) as loader, pytest.raises(DataError, match="seed 0, now 3"):
        loader.load_state_dict(half)
    fewer = replace(everything.datasets["pages"], shards=shards["interleaved"][:-1])
    changed = replace(everything, datasets={**everything.datasets, "pages": fewer})
    with Loader(changed) as loader, pytest.raises(DataError, match="of other data: pages: sources"):
        loader.load_state_dict(half)
    with pytest.raises(DataError, match="not of one step"):
        merge_states([half, {**half, "step": 7}])


def test_a_world_that_lanes_cannot_be_shared_by_is_refused(everything):
    with pytest.raises(DataError, match="rank 0 of 3 cannot share 8 lanes: ranks may be 1, 2, 4, 8"):
        Loader(everything, 0, 3)


def only_odd(samples):
    """Drop every second sample, as a stage of webdataset would."""
    return (sample for sample in samples if int(sample["txt"].split(b":")[0].split()[1]) % 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stage_of_ones_own_may_drop_samples(shards, workers):
    dataset = {"kind": "pairs", "shards": shards["pairs"], "batch": 8, "tokens": 64}
    with Loader(small({"pairs": dataset}, workers=workers), stages=[only_odd]) as loader:
        for _ in range(3):
            batch = next(loader)["pairs"]
            texts = [loader.tokenizer.decode(row.tolist()) for row in batch.tokens]
            assert all(int(text.split("Picture ")[1].split(":")[0]) % 2 for text in texts)
