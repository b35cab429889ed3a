"""Learn the demo's world from nothing, on two cores in a quarter of an hour: text, pictures, what pictures show.

    python bench/learn.py                    site → shards → language model → vision encoder → Flamingo → captions
    python bench/learn.py --pages 300 --minutes 2

Each stage is a command of `flamingo`, printed as it runs, and is not repeated where its result is there. At the end
the model says what pictures of another site show, which it has never seen, and the same with the pictures exchanged:
what it gets right then, it gets right without looking.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli_w

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"]
SHAPES = ["circle", "square", "triangle", "star", "hexagon", "ring", "cross", "heart", "diamond"]
THINGS = [*SHAPES, "house", "boat", "car", "vase", "clock", "face", "tree", "flag", "train", "die"]
HELD_OUT_SEED = 1
SHARE = {"lm": 0.2, "contrastive": 0.25, "flamingo": 0.55}
"""Of the minutes, by objective."""
IMAGE_PX = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/learn"))
    parser.add_argument("--pages", type=int, default=1500, help="pages of the site that is learnt from")
    parser.add_argument("--minutes", type=float, default=11.0, help="of training, in all")
    parser.add_argument("--pictures", type=int, default=300, help="held-out pictures that are told")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seen = make_world(given.out, given.pages, 0)
    unseen = make_world(given.out, max(40, given.pictures // 2), HELD_OUT_SEED)
    last = train(given.out, seen, unseen, given.minutes)
    show(judge(last, unseen, given.pictures))


def make_world(out: Path, pages: int, seed: int) -> Path:
    """Draw a site and build its dataset, as `flamingo demo` does."""
    dataset = out / f"dataset-{pages}-{seed}"
    if not (dataset / "pairs" / "index.parquet").exists():
        flamingo("demo", "--pages", str(pages), "--seed", str(seed), "--out", str(out), quiet=True)
    return dataset


def train(out: Path, seen: Path, unseen: Path, minutes: float) -> Path:
    """Train the three models, each on what the last one gave; gives the last checkpoint."""
    for objective, run in recipe(out, seen, unseen).items():
        config = out / f"{objective}.toml"
        run["train"] |= {"out": str(out / objective), "max_minutes": SHARE[objective] * minutes}
        config.write_text(tomli_w.dumps(run))
        if not list((out / objective).glob("step-*")):
            flamingo("train", str(config), "--objective", objective)
    return max((out / "flamingo").glob("step-*"))


def recipe(out: Path, seen: Path, unseen: Path) -> dict[str, dict]:
    """Give the settings of the three runs."""
    pages = {"kind": "interleaved", "shards": [str(seen)], "batch": 16, "tokens": 128}
    pairs = {"kind": "pairs", "shards": [str(seen)], "batch": 32, "tokens": 48, "weight": 0.5}
    clips = {"kind": "videos", "shards": [str(seen)], "batch": 4, "tokens": 64, "frames": 4, "weight": 0.1}
    data = {"image_px": IMAGE_PX, "mean": "imagenet", "fit": "pad", "threads": 1}
    tokenizer = str(out / "lm" / "tokenizer")
    model = {"preset": "tiny", "vision": {"image_px": IMAGE_PX}}
    learnt = {
        "lm": {"weights": str(out / "lm" / "lm")},
        "vision": {"weights": str(out / "contrastive" / "vision.safetensors")},
    }
    held_out = {"datasets": {"pairs": {**pairs, "shards": [str(unseen)]}}, "once": True}
    common = {"dtype": "fp32", "log_every": 50, "save_every": 100_000, "steps": 20_000, "val_every": 500}
    return {
        "lm": {
            "model": model,
            "data": {**data, "datasets": {"pages": pages, "pairs": pairs}},
            "train": {**common, "train_tokenizer": 2048},
        },
        "contrastive": {
            "model": model,
            "data": {**data, "tokenizer": tokenizer, "jitter": 0.1, "datasets": {"pairs": {**pairs, "batch": 128}}},
            "train": {**common, "lr": 2e-3, "warmup_steps": 50},
        },
        "flamingo": {
            "model": {**model, **{name: {**model.get(name, {}), **table} for name, table in learnt.items()}},
            "data": {**data, "tokenizer": tokenizer, "datasets": {"pages": pages, "pairs": pairs, "clips": clips}},
            "val": {**data, "tokenizer": tokenizer, **held_out},
            "train": {**common, "lr": 1e-3, "warmup_steps": 100},
        },
    }


def flamingo(*words: str, quiet: bool = False) -> None:
    """Run a command of `flamingo`."""
    print("$ flamingo", " ".join(words), flush=True)
    command = [str(Path(sys.executable).with_name("flamingo")), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


@dataclass(frozen=True)
class Told:
    """What the model says of a picture, or would say of another one, and the words that its page has for it."""

    said: str
    words: frozenset[str]

    def right(self, of: list[str]) -> bool:
        """Tell whether words of a kind are named, and only those that the page has."""
        named = words_of(self.said) & set(of)
        return bool(named) and named <= self.words


def judge(checkpoint: Path, unseen: Path, pictures: int) -> dict[str, list[Told]]:
    """Let the model caption held-out pictures, and then each the picture of another."""
    from flamingo_model.chat import open_talker
    from flamingo_model.generate import Decoding, generate
    from flamingo_model.prompt import read_medium

    talker = open_talker(str(checkpoint))
    shown, words = zip(*held_out(unseen, pictures), strict=True)
    media = [read_medium(medium, talker.looks) for medium in shown]
    far = len(media) // 2
    found = {}
    for name, seen in (("its own picture", media), ("another picture", media[far:] + media[:far])):
        said = []
        for start in range(0, len(seen), 32):
            prompts = [[medium] for medium in seen[start : start + 32]]
            answers = generate(talker.model, talker.tokenizer, prompts, Decoding(tokens=24))
            said += [answer.text for answer in answers]
        found[name] = [Told(text, true) for text, true in zip(said, words, strict=True)]
    return found


def held_out(dataset: Path, pictures: int) -> Iterator[tuple]:
    """Give pictures of which a colour and a thing are told, with all the words that their pages have for them."""
    from flamingo_model.index import open_index
    from flamingo_model.samples import read_sample
    from flamingo_model.storage import Storage
    from flamingo_model.tar import sample_parts

    index = open_index([str(dataset)], "pairs")
    given = 0
    with Storage(index.urls, index.sizes) as storage:
        for number in range(len(index)):
            key, parts = sample_parts(storage.read(*index.locate(number)))
            words = words_of(" ".join(text["text"] for text in json.loads(parts["json"])["texts"]))
            if given < pictures and words & set(COLOURS) and words & set(THINGS):
                given += 1
                yield read_sample(parts, key, "pair").media[0], frozenset(words)


def words_of(text: str) -> set[str]:
    """Split a text into words, without the s of plurals."""
    words = re.findall(r"[a-z]+", text.lower())
    return {*words, *(word.removesuffix("s") for word in words)}


def show(found: dict[str, list[Told]]) -> None:
    """Print how many are right."""
    print(f"\n{'captions of held-out pictures':32} {'colour right':>14} {'thing right':>14} {'both':>8}")
    for name, told in found.items():
        shares = [
            sum(one.right(COLOURS) for one in told) / len(told),
            sum(one.right(THINGS) for one in told) / len(told),
            sum(one.right(COLOURS) and one.right(THINGS) for one in told) / len(told),
        ]
        print(f"{name:32} {shares[0]:14.0%} {shares[1]:14.0%} {shares[2]:8.0%}")
    for one in found["its own picture"][:5]:
        print(f"  {one.said!r}   of {', '.join(sorted(one.words & {*COLOURS, *THINGS}))}")


if __name__ == "__main__":
    main()
