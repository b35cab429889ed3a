"""What became of pages and pictures, told from the tables alone."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from test_report import fill, make_dataset, page, png, shown

from pipeline import why
from pipeline.folder import UserError
from pipeline.report import MANIFEST_FILE
from pipeline.stage import Job, Output, Unit
from pipeline.tables import MEDIA, PartWriter
from schemas.document import ImageRef, Text, VideoRef
from schemas.media import Media, media_to_row
from schemas.page import Origin, Rejected, key_of

HOST = "https://h.example"
HERON, DOT, GONE = f"{HOST}/img/heron.png", f"{HOST}/img/dot.png", f"{HOST}/img/gone.png"
FENS, SHORT, SPAM = f"{HOST}/fens", f"{HOST}/short", f"{HOST}/spam"
DOCUMENTS = [
    page(
        FENS, Text("The fens lie low."), ImageRef(HERON), ImageRef(DOT), ImageRef(GONE), title="New", day=2, offset=50
    ),
    page(FENS, Text("The fens were low."), ImageRef(HERON), title="Old", day=1),
    page(SHORT, Text("Too short"), ImageRef(HERON), VideoRef(f"{HOST}/clip.mp4")),
]
IMAGES = {HERON: png(), DOT: png(8, 8), GONE: "not_in_sources"}


def reject_page(folder):
    """Add what the jobs say of a page that is not extracted, and of a video."""
    output = Output(Job(folder, None), Unit("extract", "v", None), {})
    output.reject(Rejected("extract", "no_text", "page", SPAM, detail="\x1b[31m0 texts", origin=Origin("a.warc", 7, 9)))
    output.reject(Rejected("locate_videos", "not_wanted", "video", f"{HOST}/clip.mp4", SHORT))
    output.commit()
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return reject_page(make_dataset(tmp_path_factory.mktemp("dataset"), DOCUMENTS, IMAGES))


def fates(told):
    return [(use.page_url, use.image_url, use.position, use.part, use.stage, use.reason, use.detail) for use in told]


def print_lines(story, as_json=False, **options):
    return shown(lambda console: why.print_story(story, as_json, console), **options)


def test_a_page_that_became_a_sample(dataset):
    story = why.why(FENS, dataset)
    assert (story.url, story.key, story.complete, story.media) == (FENS, key_of(FENS), True, None)
    assert [(capture.title, capture.images, capture.origin.offset) for capture in story.captures] == [
        ("New", 3, 50),
        ("Old", 1, 0),
    ]
    assert (story.place.shard, story.place.offset, story.place.images, story.place.words) == (
        "shard-000000.tar",
        0,
        1,
        4,
    )
    assert fates(story.images) == [
        (FENS, HERON, 1, "m000.jpg", "", "", ""),
        (FENS, DOT, 2, "", "filter_images", "too_small", "8x8 px, at least 64 a side"),
        (FENS, GONE, 3, "", "filter_images", "not_in_sources", ""),
    ]
    assert [(found.reason, found.origin.offset) for found in story.rejections] == [("duplicate_url", 0)]


def test_a_page_that_was_dropped_by_a_rule(dataset):
    story = why.why(SHORT, dataset)
    assert story.place is None
    assert [(found.stage, found.reason, found.detail) for found in story.rejections] == [
        ("select", "too_few_words", "2 words, at least 3")
    ]
    assert fates(story.images) == [(SHORT, HERON, 1, "", "select", "page_rejected", "too_few_words")]


def test_a_page_that_was_never_extracted(dataset):
    story = why.why(SPAM, dataset)
    assert (story.captures, story.place, story.images, story.media) == ((), None, (), None)
    assert story.counts == (("extract", "page", "no_text", 1),)
    assert print_lines(story) == [SPAM, f"key {key_of(SPAM)}", "✗ extract: page no_text: ␛[31m0 texts", ""]


def test_a_picture_on_several_pages(dataset):
    story = why.why(HERON, dataset)
    assert (story.media.status, story.media.width_px, story.media.height_px) == ("stored", 80, 64)
    assert story.references == 3
    assert sorted(fates(story.pages)) == [
        (FENS, HERON, 1, "", "refer", "page_rejected", "duplicate_url"),
        (FENS, HERON, 1, "m000.jpg", "", "", ""),
        (SHORT, HERON, 1, "", "select", "page_rejected", "too_few_words"),
    ]
    assert story.pages[0].part == "m000.jpg"
    assert story.counts == (("refer", "image", "page_rejected", 1), ("select", "image", "page_rejected", 1))


def test_a_picture_that_was_dropped_by_a_rule(dataset):
    story = why.why(DOT, dataset)
    assert story.media.status == "stored"
    assert story.rejections == ()
    assert story.counts == (("filter_images", "image", "too_small", 1),)
    assert [(use.page_url, use.reason) for use in story.pages] == [(FENS, "too_small")]


def test_a_picture_that_was_nowhere(dataset):
    story = why.why(GONE, dataset)
    assert (story.media.status, story.media.reason) == ("missing", "not_in_sources")
    assert [(found.stage, found.kind, found.reason) for found in story.rejections] == [
        ("locate", "image url", "not_in_sources")
    ]
    assert [use.reason for use in story.pages] == ["not_in_sources"]


def test_a_video_and_the_page_that_refers_to_it(dataset):
    story = why.why(f"{HOST}/clip.mp4", dataset)
    assert [(found.kind, found.reason, found.page_url) for found in story.rejections] == [
        ("video", "not_wanted", SHORT)
    ]
    assert print_lines(story)[2] == f"✗ locate_videos: video not_wanted (on {SHORT})"


@pytest.mark.parametrize("url", ["h.example/fens", "HTTPS://H.EXAMPLE:443/a/../fens#part", key_of(FENS)])
def test_a_url_in_any_spelling_or_a_key(dataset, url):
    assert why.why(url, dataset) == why.why(FENS, dataset)


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("https://cdn.example/small/heron.png?w=3", HERON),
        (f"{HOST}/img/heron.jpg", f"{HERON} {GONE} {DOT}"),
        ("https://elsewhere.example/x", None),
        ("https://elsewhere.example/", None),
        ("\x1b[2J", None),
        ("0" * 24, None),
    ],
)
def test_a_url_that_was_never_seen(dataset, url, near):
    with pytest.raises(UserError) as error:
        why.why(url, dataset)
    shown_url = url.replace("\x1b", "␛")
    assert str(error.value) == f"{shown_url}: never seen by {dataset.root}" + (f"; near it: {near}" if near else "")


def test_a_folder_without_a_dataset(tmp_path):
    with pytest.raises(UserError, match=r"no dataset \(no config\.toml in it\)"):
        why.why(FENS, why.Folder(str(tmp_path)))


def test_a_dataset_that_is_not_assembled_yet(tmp_path):
    folder = fill(tmp_path, DOCUMENTS, IMAGES)
    story = why.why(FENS, folder)
    assert (story.complete, story.place) == (False, None)
    assert [(use.part, use.reason) for use in story.images] == [("", ""), ("", ""), ("", "")]
    lines = print_lines(story)
    assert "? the dataset is not complete: `flamingo build` goes on" in lines
    assert "  item    1  ? not decided yet" in lines


def test_the_index_of_an_earlier_build_tells_nothing(tmp_path):
    folder = make_dataset(tmp_path, DOCUMENTS, IMAGES)
    folder.remove(MANIFEST_FILE)
    assert why.why(FENS, folder).place is None
    assert {use.part for use in why.why(HERON, folder).pages} == {""}


def test_a_picture_on_very_many_pages_is_counted_and_some_are_listed(tmp_path):
    documents = [page(f"{HOST}/{number}", Text("One two"), ImageRef(HERON)) for number in range(300)]
    kept = page(f"{HOST}/kept", Text("One two three"), ImageRef(HERON), ImageRef(HERON))
    folder = make_dataset(tmp_path, [kept, *documents], IMAGES)
    story = why.why(HERON, folder)
    assert story.references == 302
    assert story.counts == (("select", "image", "page_rejected", 300),)
    assert len(story.pages) == why.MAX_LISTED
    assert fates(story.pages[:2]) == [
        (f"{HOST}/kept", HERON, 1, "m000.jpg", "", "", ""),
        (f"{HOST}/kept", HERON, 2, "m000.jpg", "", "", ""),
    ]
    lines = print_lines(story)
    assert "✗ select: image page_rejected × 300" in lines
    assert "Pages that refer to it (302)" in lines
    assert lines[-2] == "  and 282 more"


def test_a_story_for_a_person(dataset):
    lines = print_lines(why.why(FENS, dataset))
    place = "  in interleaved/shard-000000.tar at byte 0; flamingo inspect shows it"
    assert lines == [
        FENS,
        f"key {key_of(FENS)}",
        "✓ extract: 1 text, 3 images, 0 videos, en - New",
        "  from a.warc at byte 50",
        "✓ extract: 1 text, 1 image, 0 videos, en - Old",
        "  from a.warc at byte 0",
        "✗ refer: page duplicate_url: a newer capture of this page is kept",
        "✓ sample of 1 image and 4 words",
        place,
        "",
        "Images of the page, in reading order (3)",
        "  item    1  ✓ m000.jpg",
        f"             {HERON}",
        "  item    2  ✗ filter_images: too_small (8x8 px, at least 64 a side)",
        f"             {DOT}",
        "  item    3  ✗ filter_images: not_in_sources",
        f"             {GONE}",
        "",
    ]


def test_what_a_page_says_of_itself_is_told(tmp_path):
    said = {"author": "Jane Roe", "published": datetime(2024, 4, 3, tzinfo=UTC), "licence": "https://h.example/terms"}
    folder = make_dataset(tmp_path, [replace(page(FENS, Text("One two three"), title="A walk"), **said)], IMAGES)
    story = why.why(FENS, folder)
    line = "✓ extract: 1 text, 0 images, 0 videos, en, Jane Roe, published 2024-04-03, https://h.example/terms - A walk"
    assert line in print_lines(story)
    assert json.loads(print_lines(story, as_json=True)[0])["captures"][0]["published"] == "2024-04-03 00:00:00+00:00"


def test_a_story_in_json(dataset):
    (line, _) = print_lines(why.why(HERON, dataset), as_json=True)
    value = json.loads(line)
    assert (value["url"], value["references"], value["media"]["status"]) == (HERON, 3, "stored")
    assert value["pages"][0]["part"] == "m000.jpg"


def test_a_story_cannot_steer_the_terminal(tmp_path):
    nasty = page(f"{HOST}/\x1b[2J", Text("One two three"), ImageRef(HERON), title="\x1b]0;owned\x07")
    story = why.why(key_of(nasty.url), make_dataset(tmp_path, [nasty], IMAGES))
    for lines in (
        print_lines(story),
        print_lines(story, force_terminal=True, color_system=None),
        print_lines(story, True),
    ):
        assert "\x1b" not in "\n".join(lines)
        assert "\x07" not in "\n".join(lines)


def test_only_row_groups_that_can_hold_a_key_are_read(tmp_path, monkeypatch):
    folder = why.Folder(str(tmp_path))
    for part in range(2):
        writer = PartWriter(folder, MEDIA, f"p{part}")
        urls = [f"{HOST}/{part}/{number}" for number in range(1000)]
        for url in urls:
            # Details that do not compress, so that the part has several row groups of 1 MiB.
            writer.add(media_to_row(Media(url, "missing", detail="".join(key_of(url + str(n)) for n in range(200)))), 1)
        writer.flush()
    groups = [pq.ParquetFile(tmp_path / "media" / f"p{part}-000.parquet").num_row_groups for part in range(2)]
    assert min(groups) > 3
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, group, **names: read.append(group) or whole(self, group, **names)
    )
    wanted = {key_of(f"{HOST}/0/5"), key_of(f"{HOST}/1/7"), key_of("elsewhere")}
    rows = list(why.rows_of(folder, MEDIA, wanted))
    assert {row["url"] for row in rows} == {f"{HOST}/0/5", f"{HOST}/1/7"}
    assert len(read) <= 2 * len(wanted) < sum(groups)
    read.clear()
    assert list(why.rows_of(folder, MEDIA, [])) == []
    assert read == []


def test_a_damaged_table_is_told(tmp_path):
    folder = why.Folder(str(tmp_path))
    folder.write_text("config.toml", "")
    folder.write_text("media/x.parquet", "PAR1 and no more")
    with pytest.raises(UserError, match=r"media/x\.parquet: damaged: "):
        why.why(FENS, folder)
