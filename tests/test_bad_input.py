"""Bad input through the real command: what is unfit is named, what is sound gets through, and nothing is lost.

One archive holds every bad page, picture and record at once; the other tables hold what stops a build with one line.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_text import ANY_PAGES, options
from click.testing import CliRunner
from damage import flip, http, member, page, picture, png_bomb, record, zeros_member

from pipeline.cli import main
from pipeline.folder import Folder, sole_writer
from schemas import SCHEMA_VERSION
from schemas.shard import manifest_from_json

FLAMINGO = [sys.executable, "-m", "pipeline.cli"]
SETTINGS = options([*ANY_PAGES, "filters.texts.quality.min_words=50"])
WORDS = "".join(
    f"<p>The quick brown fox number {number} and the lazy dog went over the river.</p>" for number in range(12)
)
JPEG = picture(200, 150)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='300' height='300'><rect width='300' height='300'/></svg>"
CYRILLIC = "Быстрая лиса прыгает через ленивую собаку, и собака не возражает. " * 5


def article(image, more=""):
    """Write a page of plain words that shows `image` and a good picture."""
    pictures = f"<p><img src='{image}' alt='one'></p>{WORDS}<p><img src='good.jpg' alt='two'></p>"
    return page("An article", f"<article><h1>An article</h1>{WORDS}{pictures}{more}</article>")


def capture(url, data, content_type, **more):
    return member(record(http(data, content_type, **more), url=url))


# Pages that are kept although something about them is odd: name → (HTTP content type, bytes, text that is found again).
ODD_PAGES = {
    "plain": ("text/html", article("good.jpg"), "quick brown fox"),
    "lying-charset": (
        "text/html; charset=utf-8",
        article("good.jpg", CYRILLIC).decode().encode("cp1251"),
        CYRILLIC.strip(),
    ),
    "lying-latin": ("text/html; charset=iso-8859-1", article("good.jpg", CYRILLIC), CYRILLIC.strip()),
    "no-charset": ("text/html; charset=nonsense", article("good.jpg", CYRILLIC), CYRILLIC.strip()),
    "huge-sizes": ("text/html", article("good.jpg' width='99999999999999999999' height='-7"), "quick brown fox"),
    "controls": ("text/html", article("good.jpg", "<p>nul \0 and \x1b bidi \u202e</p>"), "quick brown fox"),
    "no-type": ("", article("good.jpg"), "quick brown fox"),
    "cut": ("text/html", article("good.jpg")[:-40], "quick brown fox"),
}
# Pages that are refused: name → (HTTP content type, bytes, stage, reason).
BAD_PAGES = {
    "nested": ("text/html", b"<div>" * 100_000, "extract", "too_deep"),
    "attributes": ("text/html", b"<p " + b"a " * 100_000 + b">" + WORDS.encode(), "extract", "too_many_attributes"),
    "garbage": ("text/html", hashlib.shake_256(b"seed").digest(20_000), "extract", "not_html"),
    "pdf": ("text/html", b"%PDF-1.4 " + b"x" * 500, "extract", "not_html"),
    "nothing": ("text/html", b"", "extract", "empty"),
    "no-picture": ("text/html", page("t", f"<article>{WORDS}</article>"), "select", "no_image"),
    "few-words": (
        "text/html",
        page("t", "<article><p>Too few.</p><img src=good.jpg></article>"),
        "select",
        "too_few_words",
    ),
}
# Pictures that are refused: name → (bytes, stage, reason); each stands on a page of its own, beside a good one.
BAD_IMAGES = {
    "bomb.png": (png_bomb(50_000, 64), "normalise", "too_many_pixels"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "normalise", "truncated"),
    "page.jpg": (page("not a picture", "x"), "normalise", "not_an_image"),
    "drawing.svg": (SVG, "normalise", "unsupported_format"),
    "nothing.jpg": (b"", "normalise", "empty"),
    "noise.jpg": (b"\xff\xd8\xff" + bytes(400), "normalise", "truncated"),
    "flipped.png": (flip(picture(100, 100, "PNG"), 30), "normalise", "corrupt"),
    "missing.jpg": (None, "locate", "not_in_sources"),
    "gone.jpg": (404, "locate", "http_404"),
    "small.jpg": (picture(20, 20), "filter_images", "too_small"),
    "banner.jpg": (picture(400, 70), "filter_images", "bad_aspect"),
}
SITE = "http://bad.example"
SAVED = "file://saved/deep%20er/page.html"
GOOD = [SAVED, *(f"{SITE}/{name}" for name in ("table", *ODD_PAGES, *(f"with/{name}" for name in BAD_IMAGES)))]


def of_length(length):
    return member(record(http(article("good.jpg")), url=f"{SITE}/length", length=length))


def damaged_records():
    """Give the records that cannot be read, each with the reason and the URL that its rejection names."""
    whole = member(record(http(article("good.jpg")), url=f"{SITE}/flipped"))
    large = record(b"", url=f"{SITE}/100-MB", length=100 << 20)[:-4]
    return [
        (
            member(record(http(article("good.jpg")), url=f"{SITE}/cut-member"))[:-60],
            "corrupt_record",
            f"{SITE}/cut-member",
        ),
        (flip(whole, -6), "corrupt_record", f"{SITE}/flipped"),
        (of_length(77), "bad_record_length", f"{SITE}/length"),
        (zeros_member(large, 100), "record_too_large", f"{SITE}/100-MB"),
        (capture(f"{SITE}/404", page("gone", "x"), "text/html", status="404 Not Found"), "http_status", f"{SITE}/404"),
        (member(record(b"no http", url=f"{SITE}/no-http")), "not_http", f"{SITE}/no-http"),
        (member(record(http(article("good.jpg")), url="")), "no_url", ""),
        (b"garbage" * 300, "corrupt_record", ""),
    ]


def bad_archive():
    """Write the archive that holds it all; its last member is cut off."""
    parts = [capture(f"{SITE}/{name}", data, kind) for name, (kind, data, _) in ODD_PAGES.items()]
    for index, (name, (kind, data, _, _)) in enumerate(BAD_PAGES.items()):
        parts.append(capture(f"{SITE}/{name}", data, kind))
        parts += [data for data, _, _ in damaged_records()[index : index + 1]]
    parts += [data for data, _, _ in damaged_records()[len(BAD_PAGES) :]]
    parts += [capture(f"{SITE}/{folder}good.jpg", JPEG, "image/jpeg") for folder in ("", "with/")]
    for name, (data, _, _) in BAD_IMAGES.items():
        parts.append(capture(f"{SITE}/with/{name}", article(f"{name}.bad"), "text/html"))
        if isinstance(data, int):
            parts.append(capture(f"{SITE}/with/{name}.bad", page("gone", "x"), "text/html", status=f"{data} Gone"))
        elif data is not None:
            parts.append(capture(f"{SITE}/with/{name}.bad", data, "image/jpeg"))
    return b"".join([*parts, capture(f"{SITE}/end", article("good.jpg"), "text/html")[:-30]])


# Whole files that are bad, read beside the others: name → (bytes, reason).
BAD_FILES = {
    "empty.warc.gz": (b"", "empty_file"),
    "empty.warc": (b"", "empty_file"),
    "document.warc.gz": (b"%PDF-1.4 " * 99, "not_a_warc"),
    "page.warc": (page("t", WORDS), "not_a_warc"),
    "gzip.warc.gz": (member(page("t", WORDS)), "not_a_warc"),
    "whole.warc.gz": (
        member(b"".join(record(http(article("good.jpg")), url=f"{SITE}/whole/{n}") for n in range(3))),
        "not_compressed_by_record",
    ),
    "one-cut.warc.gz": (member(record(http(article("good.jpg")), url=f"{SITE}/one"))[:-5], "truncated_record"),
}


def save_site(root):
    """Save a site whose page asks for files outside of it, for what is no file, and for good pictures."""
    (root / "deep er").mkdir(parents=True)
    (root.parent / "secret.jpg").write_bytes(JPEG)
    (root / "deep er" / "ü 100%.jpg").write_bytes(JPEG)
    (root / "link.jpg").symlink_to("../secret.jpg")
    (root / "dangling.jpg").symlink_to("nowhere")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    shown = ["ü 100%25.jpg", "../link.jpg", "../dangling.jpg", "../folder.jpg", "../pipe.jpg", "../../../secret.jpg"]
    pictures = "".join(
        f"<p><img src='{name}' alt='x'></p>{WORDS}" for name in [*shown, "/etc/passwd", "file:///etc/passwd"]
    )
    (root / "deep er" / "page.html").write_bytes(page("Saved", f"<article>{pictures}</article>"))


def save_table(path):
    """Save a table with a good page, a row without a page and a row without a URL."""
    good = article("good.jpg").decode()
    rows = {"url": [f"{SITE}/table", f"{SITE}/table/none", None], "html": [good, None, good]}
    pq.write_table(pa.table(rows), path)


def flamingo(*arguments):
    """Run the real command; returns its exit status and what it said on stderr."""
    done = subprocess.run([*FLAMINGO, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


class Dataset:
    """What a build left, as rows."""

    def __init__(self, root):
        self.root = Path(root)
        self.manifest = manifest_from_json((self.root / "interleaved/manifest.json").read_text())
        self.funnel = {(row.stage, row.kind): row for row in self.manifest.funnel}
        self.rejected = self.rows("rejected")
        self.documents = self.rows("documents")
        self.media = self.rows("media")
        self.captures = self.rows("work/captures")
        self.index = pq.read_table(self.root / "interleaved/index.parquet").to_pylist()
        self.samples = {one["url"]: one for one in self.read_shards()}

    def rows(self, directory):
        parts = sorted((self.root / directory).glob("*.parquet"))
        return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]

    def read_shards(self):
        for path in sorted((self.root / "interleaved").glob("*.tar")):
            with tarfile.open(path) as tar:
                for info in tar:
                    if info.name.endswith(".json"):
                        yield json.loads(tar.extractfile(info).read())

    def of_file(self, name):
        return [row for row in self.rejected if row["origin"] and row["origin"]["file"].endswith(f"/{name}")]

    def reasons(self, url):
        return sorted((row["stage"], row["reason"]) for row in self.rejected if row["url"] == url)


def assert_nothing_is_lost(built):
    """Follow every record, page and picture from the archive to a shard or to a rejection."""
    funnel = built.funnel
    for (stage, kind), row in funnel.items():
        rejected = Counter(one["reason"] for one in built.rejected if (one["stage"], one["kind"]) == (stage, kind))
        assert row.rejected == rejected, (stage, kind)
        assert row.seen == row.kept + sum(rejected.values()), (stage, kind)
    counted = {(row.stage, row.kind) for row in built.manifest.funnel}
    assert {(row["stage"], row["kind"]) for row in built.rejected} <= counted
    assert funnel["read", "record"].kept == len(built.captures)
    assert funnel["extract", "page"].kept == len(built.documents)
    assert funnel["select", "page"].seen == len(built.documents)
    assert funnel["shard", "page"].kept == funnel["select", "page"].kept == len(built.index) == len(built.samples)
    assert sum(shard.samples for shard in built.manifest.shards) == len(built.index)
    shown = [
        (page["url"], item["url"]) for page in built.documents for item in page["items"] if item["kind"] == "image"
    ]
    urls = {url for _, url in shown}
    assert (
        funnel["locate", "image url"].seen == len(urls) == len(built.media) == len({row["url"] for row in built.media})
    )
    assert funnel["normalise", "image url"].seen == funnel["locate", "image url"].kept
    assert funnel["filter_images", "image"].seen == len(shown)
    ended = Counter((row["page_url"], row["url"]) for row in built.rejected if row["kind"] == "image")
    for sample in built.samples.values():
        url_of = {part["name"]: part["url"] for part in sample["parts"]}
        ended.update((sample["url"], url_of[name]) for name in sample["images"] if name is not None)
    assert ended == Counter(shown)
    for shard in built.manifest.shards:
        data = (built.root / "interleaved" / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build a dataset from the bad archive and the bad files."""
    folder = tmp_path_factory.mktemp("bad")
    for name, data in {"bad.warc.gz": bad_archive(), **{name: data for name, (data, _) in BAD_FILES.items()}}.items():
        (folder / name).write_bytes(data)
    assert (folder / "bad.warc.gz").stat().st_size < 2_000_000
    save_site(folder / "saved")
    save_table(folder / "pages.parquet")
    sources = [word for name in ("*.warc*", "saved", "pages.parquet") for word in ("--source", folder / name)]
    status, said = flamingo("build", *sources, "--out", folder / "out", "--workers", 2, *SETTINGS)
    assert status == 0, said
    return Dataset(folder / "out")


def test_nothing_is_lost(built):
    assert_nothing_is_lost(built)


def test_good_neighbours_are_in_the_shards(built):
    assert sorted(built.samples) == sorted(GOOD)
    for url in GOOD:
        good = ("/good.jpg", "/%C3%BC%20100%25.jpg")
        assert any(part["url"].endswith(good) for part in built.samples[url]["parts"]), url


@pytest.mark.parametrize("name", ODD_PAGES)
def test_an_odd_page_is_kept(built, name):
    text = "\n".join(filter(None, built.samples[f"{SITE}/{name}"]["texts"]))
    assert ODD_PAGES[name][2] in text
    assert "\0" not in text
    assert built.reasons(f"{SITE}/{name}") == []


@pytest.mark.parametrize("name", BAD_PAGES)
def test_a_bad_page_is_named(built, name):
    assert built.reasons(f"{SITE}/{name}") == [BAD_PAGES[name][2:]]
    assert f"{SITE}/{name}" not in built.samples


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_picture_is_named_and_its_page_kept(built, name):
    url, (_, stage, reason) = f"{SITE}/with/{name}.bad", BAD_IMAGES[name]
    at_page = [row for row in built.rejected if row["url"] == url and row["kind"] == "image"]
    assert [(row["stage"], row["reason"], row["page_url"]) for row in at_page] == [
        ("filter_images", reason, f"{SITE}/with/{name}")
    ]
    of_url = [
        (row["stage"], row["reason"]) for row in built.rejected if row["url"] == url and row["kind"] == "image url"
    ]
    assert of_url == ([] if stage == "filter_images" else [(stage, reason)])
    assert [part["url"] for part in built.samples[f"{SITE}/with/{name}"]["parts"]] == [f"{SITE}/with/good.jpg"]


def test_damaged_records_are_named(built):
    expected = Counter((reason, url) for _, reason, url in damaged_records())
    expected["truncated_record", f"{SITE}/end"] += 1
    expected["http_status", f"{SITE}/with/gone.jpg.bad"] += 1
    archive = [row for row in built.of_file("bad.warc.gz") if row["stage"] == "read"]
    assert Counter((row["reason"], row["url"]) for row in archive) == expected
    assert {row["kind"] for row in archive} == {"record", "page"}
    assert len({row["origin"]["offset"] for row in archive}) == len(archive)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(built, name):
    rows = built.of_file(name)
    assert [(row["stage"], row["reason"], row["kind"]) for row in rows] == [("read", BAD_FILES[name][1], "record")]


def test_a_saved_page_shows_nothing_from_outside_its_folder(built):
    assert [part["url"] for part in built.samples[SAVED]["parts"]] == ["file://saved/deep%20er/%C3%BC%20100%25.jpg"]
    missing = {row["url"] for row in built.rejected if row["page_url"] == SAVED and row["reason"] == "not_in_sources"}
    names = ["link.jpg", "dangling.jpg", "folder.jpg", "pipe.jpg", "secret.jpg", "etc/passwd"]
    assert {f"file://saved/{name}" for name in names} <= missing
    unread = {row["url"]: row["reason"] for row in built.rejected if row["url"] in missing and row["kind"] == "record"}
    assert unread == {
        "file://saved/link.jpg": "outside_folder",
        "file://saved/dangling.jpg": "not_a_file",
        "file://saved/pipe.jpg": "not_a_file",
    }


def test_rows_of_a_table_that_lack_something_are_named(built):
    rows = built.of_file("pages.parquet")
    assert [(row["reason"], row["detail"]) for row in rows] == [
        ("no_url", "row 1 lacks its URL or page"),
        ("no_url", "row 2 lacks its URL or page"),
    ]


def test_a_build_that_keeps_nothing_says_so(tmp_path):
    (tmp_path / "empty.warc.gz").write_bytes(b"")
    status, said = flamingo("build", "--source", tmp_path / "empty.warc.gz", "--out", tmp_path / "out", "--workers", 1)
    assert status == 1
    assert f"flamingo: {tmp_path}/out: no page was kept" in said.splitlines()[-1]
    found = Folder(str(tmp_path / "out")).read_json("interleaved/manifest.json")
    assert found["shards"] == []
    assert found["funnel"] == [
        {"stage": "read", "kind": "record", "seen": 1, "kept": 0, "rejected": {"empty_file": 1}, "sizes": {}}
    ]


# --- what stops a build before it begins -----------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Stand in a folder with a sound archive, and folders that cannot take a dataset."""
    monkeypatch.chdir(tmp_path)
    Path("good.warc.gz").write_bytes(capture(f"{SITE}/", article("good.jpg"), "text/html"))
    Path("notes.doc").write_text("x")
    Path("wrong.toml").write_text("[media]\nbites = 1\n")
    Path("broken.toml").write_text("[media\n")
    Path("table.parquet").write_bytes(b"PAR1")
    Path("strange").mkdir()
    Path("strange/thesis.txt").write_text("mine")
    Path("other").mkdir()
    Path("other/config.toml").write_text(f"schema = {SCHEMA_VERSION}\n[source]\npaths = ['elsewhere.warc.gz']\n")
    Path("older").mkdir()
    Path("older/config.toml").write_text("schema = 0\n[source]\npaths = ['good.warc.gz']\n")
    Path("garbled").mkdir()
    Path("garbled/config.toml").write_text("= = =")
    return tmp_path


def run_here(arguments):
    """Run the command in this process; it must end with status 2, nothing on stdout and one line on stderr."""
    result = CliRunner().invoke(main, shlex.split(arguments))
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    line, end, rest = result.stderr.partition("\n")
    assert (end, rest) == ("\n", ""), result.stderr
    return line


KINDS = "known are .warc, .warc.gz, .parquet, .txt and folders of saved pages"
AGAIN = "rebuild into another --out, or delete this dataset"
OLDER = f"settings: schema 0; this version of flamingo reads and writes schema {SCHEMA_VERSION}; {AGAIN}"
STRANGE = "holds thesis.txt and no dataset; give an empty or new folder as --out"
OTHER = "holds a dataset built from .*elsewhere.warc.gz; give another --out or the same --source"
# What is written after `flamingo build` → the one line on stderr, as a pattern; {here} is the folder stood in.
STOPS = {
    "-o out": "no source: give --source with WARC files, Parquet files, saved pages or a list of URLs",
    "-o out -s none.warc.gz": "none.warc.gz: no such file or folder",
    "-o out -s none/*.warc.gz": r"none/\*.warc.gz: no file matches",
    "-o out -s notes.doc": f"notes.doc: not a source; {KINDS}",
    "-o out -s strange": "strange: holds neither .html pages nor .warc files; give the files, or a glob",
    "-o out -s table.parquet": r"table.parquet: not a Parquet file \(.*\)",
    "-o out -s nosuch://a/b.warc": "nosuch://a/b.warc: .*",
    "-o strange -s good.warc.gz": "{here}/strange: " + STRANGE,
    "-o other -s good.warc.gz": "{here}/other: " + OTHER,
    "-o older -s good.warc.gz": "{here}/older/config.toml: " + OLDER,
    "-o garbled -s good.warc.gz": "{here}/garbled/config.toml: not TOML: .*; " + AGAIN,
    "-o good.warc.gz -s good.warc.gz": "{here}/good.warc.gz: is or lies in a file; give a folder",
    "-o notes.doc/out -s good.warc.gz": "{here}/notes.doc/out: is or lies in a file; give a folder",
    "-o out -s good.warc.gz -- --nosuch=1": "Beam options: --nosuch=1 is none that Beam .* knows",
    "-o out -s good.warc.gz -- --runer=x": "Beam options: --runer=x is none that Beam .* knows",
    "-o out -s good.warc.gz -- --runner=Nonsense": ".*Nonsense.*",
    "-o out -s good.warc.gz --set media.bites=1": r"--set: unknown setting 'media.bites' \(known: .*\)",
    "-o out -s good.warc.gz --set media.max_bytes=many": "--set: 'media.max_bytes' takes int, not 'many'",
    "-o out -s good.warc.gz --set media.jpeg_quality=0": "--set: media: .*jpeg_quality .*1..100.*",
    "-o out -s good.warc.gz --set media": "--set media: write it as name.of.setting=value",
    "-o out -s good.warc.gz --config wrong.toml": r"wrong.toml: unknown setting 'media.bites' \(known: .*\)",
    "-o out -s good.warc.gz --config broken.toml": "broken.toml: not TOML: .*",
}


@pytest.mark.parametrize("arguments", STOPS)
def test_what_a_person_can_mend_is_one_line(place, arguments):
    # The folder may be named as it was given or in full.
    expected = STOPS[arguments].replace("{here}/", f"(?:{re.escape(str(place))}/)?")
    assert re.fullmatch(f"flamingo: {expected}", run_here(f"build {arguments}"))
    assert not Path("out").exists() or not Path("out/config.toml").exists()


def test_a_folder_in_use_is_refused(place):
    with sole_writer(Folder(str(place / "out"))):
        line = run_here("build -o out -s good.warc.gz")
    assert line.endswith(f"/out: in use by process {os.getpid()}; wait for it or give another --out")


# --- a disk that is full ---------------------------------------------------------------------------------------------

FULL_DISK = """
set -e
mount -t tmpfs -o size=$SIZE tmpfs "$DISK"
set +e
"$@" 2> "$LOGS/first"; echo $? > "$LOGS/first.status"
ls "$DISK/out/interleaved" > "$LOGS/between"
set -e
mount -o remount,size=64m "$DISK"
set +e
"$@" 2> "$LOGS/second"; echo $? > "$LOGS/second.status"
cp -r "$DISK/out" "$LOGS/out"
"""


def with_a_small_disk():
    """Give the command that may mount a file system of its own, `None` where none may."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", "sh", "-c"]
    try:
        done = subprocess.run([*command, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return command if done.returncode == 0 else None


@pytest.mark.parametrize("size", ["32k", "250k"])
def test_a_full_disk_stops_the_build_and_the_next_start_completes_it(tmp_path, size):
    command = with_a_small_disk()
    if command is None:
        pytest.skip("mounting a small file system is not allowed here")
    disk, logs, source = tmp_path / "disk", tmp_path / "logs", tmp_path / "good.warc.gz"
    disk.mkdir()
    logs.mkdir()
    pictures = [picture(450, 350, seed=number) for number in range(12)]
    parts = [capture(f"{SITE}/{n}/", article("own.jpg"), "text/html") for n in range(12)]
    parts += [capture(f"{SITE}/{n}/own.jpg", data, "image/jpeg") for n, data in enumerate(pictures)]
    source.write_bytes(b"".join(parts))
    build = [*FLAMINGO, "build", "--source", str(source), "--out", str(disk / "out"), "--workers", "1", *SETTINGS]
    environment = os.environ | {"DISK": str(disk), "LOGS": str(logs), "SIZE": size}
    subprocess.run([*command, FULL_DISK, "sh", *build], env=environment, stdout=subprocess.DEVNULL, check=True)
    first, second = (logs / "first").read_text(), (logs / "second").read_text()
    assert (logs / "first.status").read_text() == "2\n", first
    assert re.fullmatch(rf"flamingo: {disk}/out\S*: No space left on device.*", first.splitlines()[-1])
    assert "Traceback" not in first + second
    assert "manifest.json" not in (logs / "between").read_text()
    assert (logs / "second.status").read_text() == "0\n", second
    built = Dataset(logs / "out")
    assert len(built.samples) == 12
    assert_nothing_is_lost(built)
    assert [path for path in (logs / "out").rglob("*") if path.name.endswith(".tmp")] == []
