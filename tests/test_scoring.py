"""The scorer of extraction, on cases small enough to count by hand, and the bench around it."""

import gzip
import json
import subprocess

import extraction
import pytest
import scoring
from hypothesis import given
from hypothesis import strategies as st
from scoring import (
    Counts,
    Extracted,
    LabelledPage,
    LabelledPicture,
    Picture,
    PictureLabels,
    Scores,
    host_of,
    picture_key,
    read_articles,
    read_dev,
    score,
    score_extracted,
    split_folds,
)

from pipeline.warc import format_record
from schemas.document import Document, ImageRef, Said, Text, VideoRef
from schemas.page import Origin, Page, Rejected

URL = "https://h.example/dir/page"
WORDS = st.lists(st.sampled_from(["a", "b"]), max_size=12).map(" ".join)


def page(url=URL, html=b"<p>text"):
    return Page(url, html, None, None, Origin("f", 0))


def pictures(*content, unsure=(), other=()):
    """Label pictures, each a URL or a tuple of URLs and a caption."""
    found = []
    for one in content:
        *urls, caption = one if isinstance(one, tuple) else (one, "")
        found.append(LabelledPicture(scoring.to_keys(urls), caption))
    return PictureLabels(tuple(found), scoring.to_keys(unsure), scoring.to_keys(other))


# --- text ------------------------------------------------------------------------------------------------------------


def test_figures_of_counts():
    counts = Counts(3, 1, 2) + Counts(3, 1, 4)
    assert counts == Counts(6, 2, 6)
    assert (counts.precision, counts.recall, counts.f1) == (0.75, 0.5, 0.6)
    assert (Counts().precision, Counts().recall, Counts().f1) == (0, 0, 0)
    assert (Counts(0, 1, 1).precision, Counts(0, 1, 1).recall, Counts(0, 1, 1).f1) == (0, 0, 0)


@pytest.mark.parametrize(
    ("segment", "text", "occurs"),
    [
        ("two words", "some two\n\t words.", True),
        ("two\u00a0words ", "two words", True),
        ("words", "keywords", True),
        ("Two words", "two words", False),
        ("two words", "twowords", False),
        ("cafe\u0301", "caf\u00e9", False),
        ("so\u00adft", "soft", False),
    ],
)
def test_a_segment_occurs_with_white_space_folded_and_nothing_else(segment, text, occurs):
    assert scoring.compare_segments([segment], [], text) == Counts(occurs, 0, not occurs)
    assert scoring.compare_segments([], [segment], text) == Counts(0, occurs, 0)


def test_shingles_are_counted_as_often_as_they_occur():
    third = 1 / 3
    assert scoring.compare_shingles("a b c d e", "a b, c d x") == Counts(third, third, third)
    assert scoring.compare_shingles("a b c d a b c d", "a b c d") == Counts(0.2, 0, 0.8)
    assert scoring.compare_shingles("a b c d", "A b c d") == Counts(0, 0.5, 0.5)


def test_a_text_of_fewer_than_four_words_is_one_shingle():
    assert scoring.compare_shingles("a b", "a b") == Counts(1, 0, 0)
    assert scoring.compare_shingles("a b", "a") == Counts(0, 0.5, 0.5)
    assert scoring.compare_shingles("a b", "") == Counts(0, 0, 1)
    assert scoring.compare_shingles("", "a b") == Counts(0, 1, 0)
    assert scoring.compare_shingles("", " ,") == Counts()


@given(WORDS, WORDS)
def test_every_page_weighs_the_same(expected, text):
    counts, back = scoring.compare_shingles(expected, text), scoring.compare_shingles(text, expected)
    assert (counts.found, counts.wrong, counts.missed) == (back.found, back.missed, back.wrong)
    assert counts.found + counts.wrong + counts.missed == pytest.approx(1 if expected or text else 0)
    assert (counts.f1 == 1) == (expected == text != "") or scoring.shingles(expected) == scoring.shingles(text)


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://i.example/a.jpg#x", "//i.example/a.jpg"),
        ("HTTPS://i.example/a.jpg?b=http://c#", "//i.example/a.jpg?b=http://c"),
        ("//i.example/a.jpg", "//i.example/a.jpg"),
        ("http://I.example/a%20b.jpg", "//I.example/a%20b.jpg"),
        ("/x/http://i.example/a.jpg", "/x/http://i.example/a.jpg"),
        ("./a b.jpg", "./a b.jpg"),
        ("data:image/gif;base64,R0//", "data:image/gif;base64,R0//"),
    ],
)
def test_scheme_and_fragment_are_not_compared(url, key):
    assert picture_key(url) == key


def test_pictures_are_counted_by_picture_and_errors_by_url():
    labels = pictures(("a.jpg", "a-2x.jpg", ""), "b.jpg", "c.jpg", unsure=["u.jpg"], other=["logo.svg"])
    found = ["a.jpg#1", "a-2x.jpg", "b.jpg", "u.jpg", "logo.svg", "logo.svg#1", "x.jpg"]
    extracted = Extracted(pictures=tuple(map(Picture, found)))
    scores = scoring.score_page(LabelledPage(page(), pictures=labels), extracted)
    assert scores == Scores(pictures=Counts(2, 2, 1), unlisted=1)
    assert scores.figures()["pictures recall"] == pytest.approx(2 / 3)
    assert scores.figures()["pictures precision"] == 0.5


def test_a_picture_of_a_page_without_labels_counts_nowhere():
    assert scoring.score_page(LabelledPage(page()), Extracted("text", (Picture("a.jpg"),))) == Scores()


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("The cat\n on the mat", True),
        ("Photo: The cat on the mat, asleep", True),
        ("The cat on the move", True),
        ("The cat", False),
        ("the cat on the mat", False),
        ("", False),
    ],
)
def test_captions(caption, right):
    labels = pictures(("a.jpg", "a-2x.jpg", "The cat on the m"), ("b.jpg", "A dog"), "c.jpg")
    found = [Picture("a-2x.jpg", caption), Picture("a.jpg"), Picture("c.jpg", "A dog")]
    assert scoring.compare_captions(labels, found) == Counts(right, 0, 2 - right)


# --- extractors ------------------------------------------------------------------------------------------------------


def document(*items):
    return Document(url=URL, title="", language="", items=items, origin=Origin("f", 0))


def test_a_document_is_its_texts_and_images():
    items = [Text("one"), ImageRef("i", alt="alt", caption="c"), VideoRef("v", (Said("title", "video"),)), Text("two")]
    assert scoring.simplify(document(*items)) == Extracted("one\ntwo", (Picture("i", "c"),))
    assert scoring.simplify(Rejected("extract", "empty", "page", URL)) == Extracted()


def test_scores_of_an_extractor_add_up():
    pages = [
        LabelledPage(page(html=b"a b c d e"), ("a b", "x"), ("c", "y"), pictures(("//i.example/a.jpg", "b"))),
        LabelledPage(
            page(html=b"a b c d x"), text="a b c d e", article_pictures=pictures("http://i.example/a.jpg", "b.jpg")
        ),
        LabelledPage(page(html=b""), ("lost",), ("junk",), text="a"),
    ]

    def extract(one):
        if not one.html:
            return Rejected("extract", "empty", "page", one.url)
        return document(Text(one.html.decode()), ImageRef("https://i.example/a.jpg", caption="a b c"))

    scores = score(pages, extract)
    assert (scores.segments, scores.captions) == (Counts(1, 1, 2), Counts(1, 0, 0))
    assert (scores.pictures, scores.article_pictures) == (Counts(1, 0, 0), Counts(1, 0, 1))
    assert scores.shingles == Counts(1 / 3, 1 / 3, 1 + 1 / 3)
    assert score(pages[:1], extract) + score(pages[1:], extract) == scores
    assert sum((score([one], extract) for one in pages), Scores()) == scores


def test_every_page_needs_an_answer():
    with pytest.raises(ValueError):
        score_extracted([LabelledPage(page())], [])


# --- folds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("https://www.spiegel.de/politik/x.html", "spiegel"),
        ("http://blog.spiegel.de", "spiegel"),
        ("https://www.bbc.co.uk/news", "bbc"),
        ("https://sz.de/1", "sz"),
        ("https://www.sz.de/1", "sz"),
        ("https://a.b.elpais.com.uy:8080/x", "elpais"),
        ("hard::dw.com.colonial.html", "dw"),
        ("hard::breakingbelizenews.com-paho.html", "breakingbelizenews"),
        ("http://fakehost/test/medium-1.html", "medium"),
        ("http://fakehost/test/lifehacker-post-comment-load.html", "lifehacker"),
        ("https://web.archive.org/web/2012/http://www.stol.it/Artikel", "stol"),
        ("https://web.archive.org/web/2013/the-pain.net/2008", "the-pain"),
        ("http://localhost/x", "localhost"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)
def test_the_site_of_a_page(key, host):
    assert host_of(key) == host


def test_folds_keep_sites_together_and_lose_no_page():
    urls = [f"https://{part}site{number}.example/" for number in range(40) for part in ("", "www.", "blog.")]
    folds = split_folds([LabelledPage(page(url)) for url in urls], 5)
    assert sorted(one.page.url for fold in folds for one in fold) == sorted(urls)
    sites = [{host_of(one.page.url) for one in fold} for fold in folds]
    assert sum(map(len, sites)) == len(set().union(*sites)) == 40
    assert min(map(len, sites)) >= 4
    again = split_folds([LabelledPage(page(url)) for url in reversed(urls)], 5)
    assert [sorted(one.page.url for one in fold) for fold in folds] == [
        sorted(one.page.url for one in fold) for fold in again
    ]


# --- the corpus ------------------------------------------------------------------------------------------------------


def write_archive(path, urls):
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>x"
    kind = "application/http; msgtype=response"
    path.write_bytes(
        b"".join(gzip.compress(format_record(url, "response", kind, "2026-01-01T00:00:00Z", http)) for url in urls)
    )


@pytest.fixture
def corpus(tmp_path):
    """Write a corpus in the form of the real one, keys with white space and fragments included."""
    hard = "hard::h.example-page.html"
    segments = {hard: {"with": ["a"], "without": []}, f"{URL}#top ": {"with": [], "without": ["b", "c"]}}
    judged = {
        hard: {
            "content": [{"urls": ["i.jpg", "//i.example/i.jpg"], "caption": None}],
            "unsure": [["u.jpg"]],
            "other": [["o.jpg", "p.jpg"], ["q.jpg"]],
        }
    }
    srcset = "https://i.example/a,1.jpg 80w, https://i.example/a,2.jpg 1.5x"
    articles = {URL: {"text": "t", "images": [srcset, "https://i.example/b c.jpg", "https://i.example/b c.jpg"]}}
    write_archive(tmp_path / "extraction-dev.warc.gz", [hard, URL])
    write_archive(tmp_path / "articles.warc.gz", [URL])
    for name, labels in (("extraction-dev", segments), ("extraction-dev-images", judged), ("articles", articles)):
        (tmp_path / f"{name}.json").write_text(json.dumps(labels))
    return tmp_path


def test_reading_the_corpus(corpus):
    first, second = read_dev(corpus)
    assert (first.wanted, second.wanted, first.unwanted, second.unwanted) == (("a",), (), (), ("b", "c"))
    assert first.pictures == PictureLabels(
        (LabelledPicture(frozenset({"i.jpg", "//i.example/i.jpg"})),),
        frozenset({"u.jpg"}),
        frozenset({"o.jpg", "p.jpg", "q.jpg"}),
    )
    assert (second.pictures, first.text, first.article_pictures) == (None, None, None)
    assert (first.page.html, second.page.url) == (b"<p>x", URL)
    (article,) = read_articles(corpus)
    assert article.text == "t"
    assert article.article_pictures == PictureLabels(
        (
            LabelledPicture(frozenset({"//i.example/a,1.jpg", "//i.example/a,2.jpg"})),
            LabelledPicture(frozenset({"//i.example/b c.jpg"})),
        )
    )


def test_labels_of_other_pages_are_refused(corpus):
    write_archive(corpus / "extraction-dev.warc.gz", [URL])
    with pytest.raises(AssertionError, match="other pages than its labels"):
        read_dev(corpus)


def test_the_hash_depends_on_every_file(corpus):
    digests = {scoring.corpus_sha256(corpus)}
    for name in scoring.FILES:
        (corpus / name).write_bytes(b"x" + (corpus / name).read_bytes())
        digests.add(scoring.corpus_sha256(corpus))
    assert len(digests) == len(scoring.FILES) + 1


# --- the bench -------------------------------------------------------------------------------------------------------


def test_the_bench_of_ours_prints_every_figure(corpus, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["extraction.py", "--corpus", str(corpus), "--fast", "--json"])
    extraction.main()
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["name"] == "ours"
    assert row["counts"]["segments"] == {"found": 0, "wrong": 0, "missed": 1}
    assert list(row["figures"]) == [*Scores().figures(), "extraction-dev pages/s", "articles pages/s"]
    assert len(row["figures"]) == len(extraction.HEADS)
    assert row["figures"]["articles pages/s"] > 0


def test_a_peer_runs_in_a_process_of_its_own(corpus, monkeypatch):
    monkeypatch.setattr(extraction, "PEERS", ("resiliparse",))
    (row,) = extraction.measure_peers({"extraction-dev": read_dev(corpus)}, 1)
    assert (row.scores, row.failed) == (Scores(segments=Counts(0, 0, 1), pictures=Counts(0, 0, 1)), 0)
    assert (row.figures()["pictures recall"], row.figures()["captions"]) == (None, None)


def test_a_peer_that_cannot_run_leaves_its_row_empty(corpus, monkeypatch, capsys):
    def refuse():
        raise subprocess.CalledProcessError(1, "pip", stderr="looking\nno network\n")

    monkeypatch.setattr(extraction, "PEERS", ("trafilatura",))
    monkeypatch.setattr(extraction, "peer_python", refuse)
    rows = extraction.measure_peers({"extraction-dev": read_dev(corpus)}, 1)
    assert set(rows[0].figures().values()) == {None}
    assert capsys.readouterr().err == "trafilatura: did not run (no network)\n"
    extraction.print_table(rows, 0.0)
    assert "trafilatura" in capsys.readouterr().out


def test_a_corpus_that_is_not_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["extraction.py", "--corpus", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no articles\.json, .*--corpus"):
        extraction.main()
