"""A small site and its dataset, built in this process: pages that are kept, one with few words, a picture too small."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from any_text import ANY_TEXT
from damage import http, member, page, record
from PIL import Image
from web_dataset import WORDS

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.evaluation import EVALUATION_SCHEMA
from pipeline.folder import Folder
from pipeline.perceptual import HASH_BYTES, hash_picture
from pipeline.stage import Job, gather, run_unit
from schemas.config import from_tree, with_overrides

HOST = "https://site.example"
PAGES = {"a.html": ["one.jpg", "two.jpg"], "b.html": ["three.jpg", "small.jpg"], "few.html": ["four.jpg"]}
SEEDS = {"one.jpg": 1, "two.jpg": 2, "three.jpg": 3, "four.jpg": 4}
EVIL = "<script>alert(1)</script>\u202e\x1b[31m"


def picture(seed):
    patches = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((240, 180), Image.Resampling.BICUBIC)


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_site(folder):
    """Write the site as an archive; returns its path."""
    with (folder / "site.warc.gz").open("wb") as stream:
        for name, shown in PAGES.items():
            words = WORDS.replace("fox", f"fox of {name}").replace("lazy dog", f"dog that {name} has")
            text = "<p>Too few words of &lt;script&gt;alert(2)&lt;/script&gt;.</p>" if name == "few.html" else words
            alt = "&lt;script&gt;alert(1)&lt;/script&gt;&#x202e;"
            figures = "".join(f"<figure><img src='{one}' alt='{alt}' width=240 height=180></figure>" for one in shown)
            body = page("A walk", f"<article><h1>A walk</h1>{text}{figures}</article>")
            stream.write(member(record(http(body), url=f"{HOST}/{name}")))
        for name, seed in SEEDS.items():
            stream.write(member(record(http(jpeg(picture(seed)), "image/jpeg"), url=f"{HOST}/{name}")))
        small = jpeg(picture(5).resize((30, 30)))
        stream.write(member(record(http(small, "image/jpeg"), url=f"{HOST}/small.jpg")))
    return folder / "site.warc.gz"


def build(archive, out, *assignments, backwards=False):
    """Build the site's dataset; returns its folder."""
    config = from_tree(BuildConfig, {"source": {"paths": [str(archive)]}, "pairs": {"preset": "align"}}, "test")
    config = with_overrides(config, [*ANY_TEXT, "filters.texts.quality.min_words=30", *assignments])
    job = Job(Folder(str(out)), config)

    def execute(stage, units, done):
        for unit in units[:: -1 if backwards else 1]:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return job.folder


def write_set(folder, media):
    """Write a set with a near copy of one.jpg (10 bits apart) and a near miss of two.jpg (50 bits apart)."""
    looks = {row["url"]: bytes.fromhex(row["phash"]) for row in media}
    rows = []
    for name, bits in (("one.jpg", 10), ("two.jpg", 50)):
        number = int.from_bytes(looks[f"{HOST}/{name}"], "big") ^ ((1 << bits) - 1)
        look, sha256 = number.to_bytes(HASH_BYTES, "big"), hashlib.sha256(name.encode()).hexdigest()
        rows.append({"name": f"val: {name}", "sha256": sha256, "look": look, "thumbnail": jpeg(picture(9))})
    assert hash_picture(picture(1)) != hash_picture(picture(2))
    pq.write_table(pa.Table.from_pylist(rows, EVALUATION_SCHEMA), folder / "val.parquet")
    return folder / "val.parquet"
