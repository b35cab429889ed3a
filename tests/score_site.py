"""A site of one page with four pictures, two of them equal, that tells addresses; and what is built from it."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from any_text import ANY_TEXT
from damage import http, member, page, record
from PIL import Image
from web_dataset import WORDS

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.folder import Folder
from pipeline.stage import Job, gather, run_unit
from schemas.config import from_tree, with_overrides

HOST = "https://site.example"
SEEN = {"dark.jpg": 1, "copy.jpg": 1, "light.jpg": 2, "odd.jpg": 3}
"""Seeds of the pictures."""
SETTINGS = [*ANY_TEXT, "filters.pages.same_image_bits=-1"]
PLAIN = "plain"


def jpeg(name):
    """Draw a picture: dark, light, or wider than the others."""
    seed = SEEN[name]
    patches = np.random.default_rng(seed).integers((0, 0, 100, 0)[seed], (0, 150, 256, 256)[seed], (9, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(patches).resize((300 if seed == 3 else 240, 180)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_site(folder):
    """Write the site, and build its dataset without models and masks once: `build` begins with a copy of it."""
    with (folder / "site.warc.gz").open("wb") as stream:
        figures = "".join(
            f"<figure><img src='{name}' alt='The {name} by me@example.org'>"
            f"<figcaption>A view of the {name[:-4]} at dawn, call +49 30 901820</figcaption></figure>"
            for name in SEEN
        )
        body = f"<article><h1>A walk</h1><p>Write to me@example.org, please.</p>{WORDS}{figures}</article>"
        stream.write(member(record(http(page("A walk with me@example.org", body)), url=f"{HOST}/a.html")))
        for name in SEEN:
            stream.write(member(record(http(jpeg(name), "image/jpeg"), url=f"{HOST}/{name}")))
    build(folder, out=PLAIN)


def build(folder, backwards=False, out="out", **tables):
    """Build the site's dataset in this process; gives its folder and the stages that were run."""
    if out != PLAIN and not (folder / out).exists():
        shutil.copytree(folder / PLAIN, folder / out)
    tree = {"source": {"paths": [str(folder / "site.warc.gz")]}, "pairs": {"preset": "ltip"}, **tables}
    job = Job(Folder(str(folder / out)), with_overrides(from_tree(BuildConfig, tree, "test"), SETTINGS))
    ran = []

    def execute(stage, units, done):
        ran.append(stage.name)
        for unit in units[:: -1 if backwards else 1]:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return folder / out, ran


def digests(out):
    """Hash the shards and indexes."""
    files = [file for kind in ("interleaved", "pairs") for file in sorted(Path(out, kind).rglob("*"))]
    return {
        str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in files
        if f.suffix in (".tar", ".parquet")
    }


def scores_in(out):
    """Give the scores in both indexes, by picture."""
    pages = pq.read_table(out / "interleaved/index.parquet").to_pylist()
    pairs = pq.read_table(out / "pairs/index.parquet").to_pylist()
    shown = {part["url"].rpartition("/")[2]: part["scores"] for row in pages for part in row["parts"]}
    return shown, {row["url"].rpartition("/")[2]: row["scores"] for row in pairs}
