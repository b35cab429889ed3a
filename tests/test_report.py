"""What a person is told of a dataset, and text of the web made safe to show."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_text import ANY_TEXT
from captioned_dataset import add_captioned
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from rich.console import Console

from pipeline import report
from pipeline.build import ASSEMBLE, DEDUPLICATE, BuildConfig
from pipeline.documents import write_document
from pipeline.fetch import write_media
from pipeline.folder import CONFIG_FILE, Folder, UserError
from pipeline.manifest import write_manifest
from pipeline.media import MediaConfig, normalise_image
from pipeline.plan import Totals, add_totals
from pipeline.stage import Job, Output, Unit, gather, run_unit
from pipeline.store import MediaStore
from pipeline.tables import key_ranges
from schemas import SCHEMA_VERSION
from schemas.config import with_overrides
from schemas.document import Document
from schemas.media import MISSING, STORED, Media
from schemas.page import Origin
from schemas.shard import INDEX_SCHEMA, FunnelRow, Manifest, Shard, manifest_to_json

ANY_PICTURE = ["filters.pages.max_pages=0", "filters.pages.same_image_bits=-1"]
CONFIG = with_overrides(BuildConfig(), [*ANY_TEXT, *ANY_PICTURE, "filters.texts.quality.min_words=3"])


def page(url, *items, title="", offset=0, day=1):
    return Document(url, title, "en", items, Origin("a.warc", offset, 10), datetime(2024, 5, day, tzinfo=UTC))


def png(width_px=80, height_px=64, colour="red"):
    """Draw a picture of two colours."""
    image = Image.new("RGB", (width_px, height_px), colour)
    ImageDraw.Draw(image).rectangle([0, 0, width_px // 2, height_px], fill="blue")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def fill(root, documents, images):
    """Write the tables that the extract and fetch jobs write; an image is its bytes, or why it is missing."""
    folder = Folder(str(root))
    folder.write_text(CONFIG_FILE, "")
    output = Output(Job(folder, CONFIG), Unit("extract", "u", None), {})
    for document in documents:
        write_document(document, output)
    with MediaStore(folder, "normalise-u") as store:
        for url, data in images.items():
            source = Origin("a.warc", 1000 + len(url), 7)
            media, jpeg = (
                (Media(url, MISSING, data), b"") if isinstance(data, str) else normalise_image(url, data, MediaConfig())
            )
            location = store.add(media, jpeg, None) if media.status == STORED else None
            stage = "locate" if media.status == MISSING else "normalise"
            write_media(replace(media, source=source, location=location), stage, output)
    output.commit()
    return folder


def make_dataset(root, documents, images):
    """Build a dataset from documents and images, by the stage that says what stays and those of the assemble job."""
    folder = fill(root, documents, images)
    job, totals = Job(folder, CONFIG), Totals()
    steps = [step for step in (DEDUPLICATE[-1], *ASSEMBLE) if step.wanted(CONFIG)]
    for step in steps:
        unit = Unit(step.stage.name, "u", key_ranges(1)[0])
        run_unit(step.stage, job, unit, gather(step.stage, folder, unit))
        add_totals(folder, step.stage, [unit], totals)
    for step in steps:
        if step.shards:
            write_manifest(job, totals, step.stage.name, step.shards)
    return folder


def shown(show, width=80, **options):
    """Print to a console without colours; gives its lines without the blanks at their ends."""
    console = Console(file=io.StringIO(), width=width, **options)
    show(console)
    return [line.rstrip() for line in console.file.getvalue().split("\n")]


FUNNEL = (
    FunnelRow("extract", "page", 4, 4, {}),
    FunnelRow("filter_images", "image", 810, 489, {"bad_aspect": 49, "too_small": 272, "also": 0}),
    FunnelRow("select", "image", 10_000, 9_999, {"page_rejected": 1}),
    FunnelRow("select", "page", 3, 0, {"b": 1, "a": 1, "\x1b[31m": 1}),
)
MANIFEST = Manifest("interleaved", (Shard("shard-000000.tar", 3, 1_500_000, "00"),), FUNNEL, {}, "0.1.0")


def write_index(folder, rows, row_group_size=None):
    with folder.create(report.INDEX_FILE) as stream:
        pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), stream, row_group_size=row_group_size)


def index_row(number):
    parts = [{"name": f"m{n:03d}.jpg", "bytes": 100} for n in range(number)]
    return {"key": f"{number:024x}", "chars": 1000 * number, "words": 10 * number, "parts": parts}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A title\x1b]0;owned\x07", "A title␛]0;owned␇"),
        ("\x1b[31mred", "␛[31mred"),
        ("\x9b31m\x7f\x00", "\ufffd31m␡␀"),
        ("a\tb\nc\rd", "a b c␍d"),
        ("evil\u202egnp.exe \u2066x\u2028y\ud800", "evil\ufffdgnp.exe \ufffdx\ufffdy\ufffd"),
        ("Ünïcødé 漢字 👩‍👩‍👧 ‏עברית", "Ünïcødé 漢字 👩‍👩‍👧 ‏עברית"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_a_sign(text, expected):
    assert report.printable(text) == expected


def test_lines_are_kept_where_they_are_wanted():
    assert report.printable("a\tb\nc\x0b", one_line=False) == "a\tb\nc␋"


@given(st.text(st.characters(), max_size=40))
def test_json_reads_back_and_holds_no_control_character(text):
    line = report.json_line({"text": text})
    assert json.loads(line) == {"text": text}
    assert not any(ord(char) in report.SHOWN or char in "\n\t" for char in line)


def test_an_error_that_names_a_thing_of_the_web_is_inert():
    assert str(report.refused("no \x1b[2J")) == "no ␛[2J"


def test_text_stays_inside_its_encoding():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.say(Console(file=stream), "café [bold]x[/bold]")
    stream.flush()
    assert stream.buffer.getvalue() == b"caf\\xe9 [bold]x[/bold]\n"


def test_a_pipe_gets_long_lines_whole_and_a_terminal_its_width():
    text = "word " * 40
    assert shown(lambda console: report.say(console, text)) == [text.rstrip(), ""]
    wrapped = shown(lambda console: report.say(console, text), force_terminal=True, color_system=None)
    assert max(map(len, wrapped)) <= 80
    assert len(wrapped) == 4
    cut = shown(lambda console: report.say(console, text, one_line=True), force_terminal=True, color_system=None)
    assert len(cut) == 2
    assert len(cut[0]) == 80
    assert cut[0].endswith("…")


def test_the_funnel_as_a_table():
    assert shown(lambda console: console.print(report.funnel_table(FUNNEL))) == [
        "",
        " stage          kind     seen   kept     %  dropped, by reason",
        " ─────────────────────────────────────────────────────────────",
        " extract        page        4      4   100",
        " filter_images  image     810    489  60.4  272 too_small",
        "                                             49 bad_aspect",
        "                                              0 also",
        " select         image  10,000  9,999  99.9  1 page_rejected",
        "                page        3      0     0  1 ␛[31m",
        "                                            1 a",
        "                                            1 b",
        "",
        "",
    ]


def test_the_funnel_of_a_large_crawl_fits_80_columns():
    row = FunnelRow("filter_images", "image url", 2_000_000_000, 1_850_000_000, {"http_404": 150_000_000})
    lines = shown(lambda console: console.print(report.funnel_table([row])))
    assert lines[4:6] == [
        " filter_images  image url  2,000,000,000  1,850,000,000  92.5  150,000,000",
        "                                                               http_404",
    ]


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 0, "-"), (0, 5, "0"), (5, 5, "100"), (1, 3, "33.3"), (1, 10**6, "0.1"), (10**6 - 1, 10**6, "99.9")],
)
def test_only_the_whole_is_a_hundred_per_cent(part, whole, expected):
    assert report.percent(part, whole) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (999_949, "999.9 KB"),
        (999_950, "1.0 MB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_bytes_for_people(count, expected):
    assert report.human_bytes(count) == expected


def test_numbers_of_things():
    assert [report.counted(n, "page") for n in (0, 1, 2000)] == ["0 pages", "1 page", "2,000 pages"]


def test_the_index_is_added_up_group_by_group(tmp_path):
    folder = Folder(str(tmp_path))
    write_index(folder, [index_row(number) for number in range(5)], row_group_size=2)
    assert report.add_up(folder) == report.Totals(5, 10, 1000, 10_000, 100)
    write_index(folder, [])
    assert report.add_up(folder) == report.Totals()


def test_the_size_of_a_dataset_beside_m3w(tmp_path):
    folder = Folder(str(tmp_path))
    write_index(folder, [index_row(number) for number in range(5)])
    lines = shown(lambda console: report.print_summary(console, MANIFEST, folder))
    assert [" ".join(line.split()) for line in lines[15:-2]] == [
        "shards 1",
        "bytes 1.5 MB",
        "pages 5 43.3 M",
        "images 10 (1.0 KB) 185 M",
        "images a page 2.0 4.3",
        "words a page 20.0",
        "text a page 2,000 characters 4.4 KB",
    ]


def test_a_dataset_of_nothing_has_no_averages(tmp_path):
    write_index(Folder(str(tmp_path)), [])
    lines = shown(lambda console: report.print_summary(console, MANIFEST, Folder(str(tmp_path))))
    assert " ".join(lines[-4].split()) == "words a page -"


def facts(lines):
    return [" ".join(line.split()) for line in lines if line.strip() and "─" not in line]


def test_pairs_and_clips_are_added_up_beside_the_papers(tmp_path):
    folder = add_captioned(tmp_path, pairs=3)
    write_index(folder, [index_row(2)])
    assert report.add_up(folder, "pairs")[:2] == (3, 3)
    assert report.add_up(folder, "videos")[:2] + report.add_up(folder, "videos")[5:] == (3, 6, 30.5)
    lines = facts(shown(lambda console: report.print_summary(console, MANIFEST, folder)))
    first = lines.index("pairs here LTIP")
    assert lines[first + 1] == "shards 1"
    assert lines[first + 3].startswith("pairs 3 (")
    assert lines[first + 3].endswith(" KB) 312 M")
    assert lines[first + 4 : first + 7] == ["words a text 7.7 20.5 tokens", "videos here VTP", "shards 1"]
    assert lines[first + 8] == "clips 3 27 M"
    assert lines[first + 9].startswith("frames or MP4 6 (")
    assert lines[first + 10 :] == ["seconds a clip 10.2 22", "words a text 3.0"]


def test_funnels_are_joined():
    other = replace(MANIFEST, funnel=(FUNNEL[0], FunnelRow("pair", "image", 5, 4, {"no_text": 1})))
    assert report.join_funnels([MANIFEST, other]) == [*FUNNEL, other.funnel[1]]


def test_a_manifest_of_another_kind_is_refused(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write_text("pairs/manifest.json", manifest_to_json(MANIFEST))
    with pytest.raises(UserError, match=r"pairs/manifest\.json: manifest of interleaved, not of pairs"):
        report.read_manifests(folder)


def test_a_manifest_in_json():
    assert json.loads(report.manifest_summary_json(MANIFEST)) == {
        "kind": "interleaved",
        "schema": SCHEMA_VERSION,
        "version": "0.1.0",
        "shards": 1,
        "samples": 3,
        "bytes": 1_500_000,
        "funnel": [
            {
                "stage": row.stage,
                "kind": row.kind,
                "seen": row.seen,
                "kept": row.kept,
                "rejected": row.rejected,
                "sizes": {},
            }
            for row in FUNNEL
        ],
    }


def test_a_manifest_reads_back_and_others_are_refused(tmp_path):
    folder = Folder(str(tmp_path))
    with pytest.raises(UserError, match="no dataset"):
        report.read_manifests(folder)
    folder.write_text(CONFIG_FILE, "")
    with pytest.raises(UserError, match="not complete; `flamingo build --out"):
        report.read_manifests(folder)
    folder.write_text(report.MANIFEST_FILE, manifest_to_json(MANIFEST))
    assert report.read_manifests(folder) == {"interleaved": MANIFEST}
    folder.write_text(report.MANIFEST_FILE, manifest_to_json(replace(MANIFEST, schema=7)))
    with pytest.raises(UserError, match=f"manifest schema 7, this version of flamingo reads {SCHEMA_VERSION}"):
        report.read_manifests(folder)
    whole = {"schema": SCHEMA_VERSION, "kind": "x", "shards": 3}
    for damaged in ("{", "[]", json.dumps({"schema": SCHEMA_VERSION}), json.dumps(whole)):
        folder.write_text(report.MANIFEST_FILE, damaged)
        with pytest.raises(UserError, match=r"manifest\.json: "):
            report.read_manifests(folder)


def test_an_index_that_is_missing_or_damaged_is_told_in_a_line(tmp_path):
    folder = Folder(str(tmp_path))
    with pytest.raises(UserError, match=r"no interleaved/index\.parquet"):
        report.add_up(folder)
    folder.write_text(report.INDEX_FILE, "PAR1 and no more of it")
    for read in (report.add_up, lambda folder: report.index_rows(folder, "a", 1)):
        with pytest.raises(UserError, match=r"index\.parquet: damaged: "):
            read(folder)


def test_rows_of_the_index_by_the_beginning_of_their_key(tmp_path):
    folder = Folder(str(tmp_path))
    write_index(folder, [index_row(number) for number in range(40)], row_group_size=7)
    start = "0" * 22 + "1"
    assert [row["words"] for row in report.index_rows(folder, start, 99)] == [10 * n for n in range(16, 32)]
    assert [row["words"] for row in report.index_rows(folder, start, 2)] == [160, 170]
    assert report.index_rows(folder, "f", 2) == []
