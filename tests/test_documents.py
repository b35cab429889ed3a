"""What sites and people do not allow is left out of archives too, each refusal under its own reason."""

import json

import pytest
from any_text import ANY_PAGES
from damage import http, member, page, picture, record
from web_dataset import WORDS

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.folder import Folder
from pipeline.stage import Job, gather, run_unit
from pipeline.tables import DOCUMENTS, REJECTED, KeyRange, stream_range
from schemas.config import from_tree, with_overrides

HOST = "http://site.example"
EVERYTHING = KeyRange("", "")


def article(name, head=""):
    """Write a page with a picture of its own and one that all pages share."""
    shown = f"<figure><img src='{name}.jpg' width=300 height=200></figure><figure><img src='all.jpg'></figure>"
    return page("An article", f"<article><h1>An article</h1>{WORDS}{shown}{WORDS}</article>", head)


# name → (HTTP header fields, head, reason for which the page is refused, or its pictures, detail)
PAGES = {
    "plain": (b"", "", "", "", ""),
    "header": (b"X-Robots-Tag: max-snippet:-1, noai\r\n", "", "x_robots_tag", "", "noai"),
    "other-robot": (b"X-Robots-Tag: otherbot: noindex\r\n", "", "", "", ""),
    "meta": (b"", "<meta name=ROBOTS content='noarchive, NOINDEX'>", "meta_robots", "", "noindex"),
    "by-name": (b"", "<meta name=flamingo content=none>", "meta_robots", "", "none"),
    "images": (b"", "<meta name=robots content=noimageai>", "", "meta_robots", "noimageai"),
    "images-header": (b"X-Robots-Tag: noimageindex\r\n", "", "", "x_robots_tag", "noimageindex"),
    "tdm": (b"tdm-reservation: 1\r\n", "", "tdm_reservation", "", "header"),
    "usage": (b"Content-Usage: train-ai=n\r\n", "", "content_usage", "", "header"),
    "signal": (b"Content-Signal: ai-train=no\r\n", "", "content_signal", "", "header"),
    "listed": (b"", "", "opted_out", "", "site.example/listed.html"),
}
# name of a picture → (HTTP header fields, reason)
PICTURES = {
    "plain.jpg": (b"", ""),
    "other-robot.jpg": (b"X-Robots-Tag: noimageai\r\n", "x_robots_tag"),
    "all.jpg": (b"", ""),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rights")
    records = [
        member(record(http(article(name, head), fields=fields), url=f"{HOST}/{name}.html"))
        for name, (fields, head, *_) in PAGES.items()
    ]
    for number, name in enumerate(sorted({*PICTURES, *(f"{shown}.jpg" for shown in PAGES)})):
        fields = PICTURES.get(name, (b"",))[0]
        records.append(
            member(record(http(picture(300, 200, seed=number), "image/jpeg", fields=fields), url=f"{HOST}/{name}"))
        )
    (folder / "a.warc.gz").write_bytes(b"".join(records))
    (folder / "list.txt").write_text("# what somebody asked us to leave out\nhttps://site.example/listed.html\n")
    return folder


def build(archive, out, **rights):
    """Build the archive in this process; returns the rejected rows, and the documents by URL."""
    tree = {"source": {"paths": [str(archive / "a.warc.gz")]}, "rights": rights}
    job = Job(Folder(str(out)), with_overrides(from_tree(BuildConfig, tree, "test"), ANY_PAGES))
    run_steps(
        job, BUILD, lambda stage, units, done: [run_unit(stage, job, u, gather(stage, job.folder, u)) for u in units]
    )
    rejected = list(stream_range(job.folder, REJECTED, EVERYTHING))
    documents = {row["url"]: row for row in stream_range(job.folder, DOCUMENTS, EVERYTHING)}
    return rejected, documents


def test_pages_and_pictures_are_refused_for_what_they_say(archive, tmp_path):
    rejected, documents = build(archive, tmp_path, opt_out=[str(archive / "list.txt")])
    pages = {row["url"]: (row["reason"], row["detail"]) for row in rejected if row["stage"] == "extract"}
    for name, (_, _, reason, images_reason, detail) in PAGES.items():
        url = f"{HOST}/{name}.html"
        shown = [item for item in documents.get(url, {"items": []})["items"] if item["kind"] == "image"]
        if reason:
            assert pages[url] == (reason, detail), name
            assert url not in documents
        else:
            assert url in documents, name
            assert len(shown) == (0 if images_reason else 2)
        refused = [row for row in rejected if row["page_url"] == url and row["stage"] == "extract"]
        assert [(row["kind"], row["reason"], row["detail"]) for row in refused] == [
            ("image", images_reason, detail)
        ] * (2 if images_reason else 0), name


def test_a_picture_is_refused_for_what_its_own_header_says(archive, tmp_path):
    rejected, _ = build(archive, tmp_path)
    lost = {row["url"]: (row["stage"], row["reason"]) for row in rejected if row["kind"] == "image url"}
    assert lost == {f"{HOST}/other-robot.jpg": ("locate", "x_robots_tag")}


def test_rules_can_be_switched_off_one_by_one(archive, tmp_path):
    rejected, documents = build(archive, tmp_path, tags=False, tdm=False)
    reasons = {row["reason"] for row in rejected if row["stage"] in ("extract", "locate")}
    assert reasons == {"content_usage", "content_signal"}
    assert documents[f"{HOST}/meta.html"]["restrictions"] == ["robots: noarchive, NOINDEX"]


def test_another_list_changes_only_what_it_names(archive, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("site.example/all.jpg\n")
    before, _ = build(archive, tmp_path / "out", opt_out=[str(listed)])
    listed.write_text("# nobody\n")
    after, _ = build(archive, tmp_path / "out", opt_out=[str(listed)])
    assert {row["url"] for row in before if row["reason"] == "opted_out"} == {f"{HOST}/all.jpg"}
    assert not [row for row in after if row["reason"] == "opted_out"]
    assert len(json.loads((tmp_path / "out/interleaved/manifest.json").read_text())["shards"]) == 1
