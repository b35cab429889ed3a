"""The whole recipe, small: from nothing to captions that name the colour and shape of pictures never seen."""

import io
import random
import tarfile

import pytest
from PIL import Image, ImageDraw
from small_runs import TINY, run

from flamingo_model.chat import captions

COLOURS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220)}
SHAPES = ("circle", "square", "triangle")
SIDE_PX = 32


def draw(colour, shape, dice):
    """Draw one shape at any place, of any size, in any shade, on paper of any lightness."""
    paper = dice.randrange(200, 256)
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), (paper, paper, paper))
    radius = dice.uniform(7, 11)
    x, y = (dice.uniform(radius, SIDE_PX - radius) for _ in range(2))
    shade = tuple(min(255, max(0, level + dice.randrange(-30, 31))) for level in COLOURS[colour])
    pen, box = ImageDraw.Draw(image), (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=shade)
    elif shape == "square":
        pen.rectangle(box, fill=shade)
    else:
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=shade)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pictures(count, seed):
    """Draw pictures with their captions, as many of each colour and shape."""
    dice = random.Random(seed)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    return [(draw(*kinds[number % len(kinds)], dice), "a {} {}".format(*kinds[number % 9])) for number in range(count)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Train the three stages; gives the folder of the last one."""
    folder = tmp_path_factory.mktemp("learning")
    with tarfile.open(folder / "pairs.tar", "w") as tar:
        for number, (data, caption) in enumerate(pictures(450, seed=0)):
            for name, member in (("png", data), ("txt", caption.encode())):
                info = tarfile.TarInfo(f"{number:06d}.{name}")
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    pairs = {"kind": "pairs", "shards": [str(folder / "pairs.tar")], "batch": 32, "tokens": 24, "p_space": 0.0}
    data = {"image_px": SIDE_PX, "mean": "imagenet", "threads": 1, "datasets": {"pairs": pairs}}
    train = {"device": "cpu", "dtype": "fp32", "schedule": "cosine", "blind_every": 0, "val_every": 0}

    def stage(objective, steps, lr, **model):
        settings = {
            "model": {**TINY, **model},
            "data": data,
            "train": {**train, "out": str(folder / objective), "steps": steps, "lr": lr, "warmup_steps": 10},
        }
        run(settings, objective)
        return folder / objective

    lm = {**TINY["lm"], "weights": str(stage("lm", 60, 0.01) / "lm")}
    vision = {**TINY["vision"], "weights": str(stage("contrastive", 120, 0.003) / "vision.safetensors")}
    return stage("flamingo", 200, 0.003, lm=lm, vision=vision)


def test_captions_name_what_pictures_show_that_were_never_seen(learnt):
    shown = pictures(90, seed=1)
    images, true = [image for image, _ in shown], [caption for _, caption in shown]
    # Those in between are of another colour and another shape.
    others = [images[(number + 4) % len(images)] for number in range(len(images))]
    said = captions(str(learnt), images + others, tokens=20)
    right = sum(a == b for a, b in zip(said, true, strict=False)) / len(true)
    right_of_others = sum(a == b for a, b in zip(said[len(true) :], true, strict=True)) / len(true)
    told = f"captions right: {right:.0%}; with the pictures exchanged: {right_of_others:.0%}"
    assert all(caption in set(true) for caption in said)
    assert right >= 0.7, told
    assert right_of_others <= 0.2, told
