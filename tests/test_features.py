"""What each feature says, on pages small enough to see why."""

import numpy as np
import pytest

from pipeline.dom import parse_html
from pipeline.features import FEATURES, measure
from pipeline.names import (
    NAMES,
    is_credit,
    starts_credit,
)
from pipeline.picture_features import PICTURE_FEATURES, Candidate, measure_pictures, stem_of
from pipeline.reading import read_page
from schemas.document import ImageRef

FOREVER = float("inf")
PROSE = "The ferry leaves in the morning, and it returns in the evening with the mail and a few visitors."
LONG = " ".join([PROSE] * 5)


def measured(html, title=""):
    tree = parse_html(html, 100_000, 10_000, FOREVER)
    reading = read_page(tree, FOREVER)
    return reading, measure(tree, reading, title)


def columns(html, *names, title=""):
    """Look up features of the pieces of a page: a list of values a piece, one value where one feature is asked for."""
    _, result = measured(html, title)
    rows = result.matrix[:, [FEATURES.index(name) for name in names]].tolist()
    return [row[0] for row in rows] if len(names) == 1 else rows


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("text_ends", "So it goes.", "So it goes"),
        ("text_ends", "“So it goes!”", "So. it goes"),
        ("text_copyright", "© 2021 The Daily", "2021 The Daily"),
        ("text_separators", "Home | News", "Home, News"),
        ("text_dots", "And then it [...] was gone…", "And then… it was gone"),
        ("text_dated", "3 May 2021", "Room 20213"),
        ("text_dated", "May 1999", "3 May 2021 " + PROSE),
        ("text_timed", "at 7:30", "1:234"),
        ("text_service", "We use cookies", "We bake pancookies"),
        ("text_service", "Subscribe to us", PROSE),
        ("text_announces", "Read on:", "Read: on"),
        ("chars_10_24", "Ten chars.", "Nine char"),
        ("chars_50_99", "x" * 50, "x" * 49),
        ("chars_400", "x" * 400, "x" * 399),
    ],
)
def test_features_of_a_text(name, yes, no):
    assert columns(f"<p>{yes}</p><p>{no}</p>", name) == [1.0, 0.0]


def test_features_of_links():
    html = "<p>ab</p><p><a href=x>ab</a></p><p>ab <a href=x>cd</a></p><img src=i.jpg>"
    assert columns(html, "unlinked", "linked") == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert columns(html, "block_link_share") == pytest.approx([0, 1, 2 / 5, 4 / 9])


def test_commas_are_counted_up_to_a_bound():
    few, many, most = columns(f"<p>a, b</p><p>{'a, ' * 10}b</p><p>{'a，' * 9_999}b</p>", "commas")
    assert 0 < few < many < most == 3.0


def test_tags():
    html = "<p>a</p><ul><li>b</ul><h2>c</h2><h3>d</h3><table><tr><td>e</table><div>f</div><pre>g</pre>"
    names = ["tag_p", "tag_li", "tag_h2", "tag_h3", "tag_td", "tag_div"]
    assert columns(html, *names) == [*np.eye(6).tolist(), [0.0] * 6]


def test_where_a_piece_stands_among_the_prose():
    html = f"<p>before</p><p>{PROSE}</p><p>{PROSE}</p><p>after</p>"
    assert columns(html, "before") == [0.0, 0.0, 0.5, 1.0]
    assert columns(html, "little_before") == [1, 1, 0, 0]
    assert columns(html, "little_after", "nothing_after") == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_short_or_linked_or_broken_texts_are_no_prose():
    html = (
        f"<p>{PROSE}</p><div>Too short.</div><p>A paragraph may be shorter.</p><p>{'word ' * 40}</p><p><a>{PROSE}</a>"
    )
    assert columns(html, "prose_1_before") == [0, 1, 0, 1, 0]
    assert columns(html, "last_prose") == [0, 1, 0, 1, 0]


def test_chinese_sentences_are_prose():
    text = "轮船早上离开港口，晚上带着邮件和几位游客回来。" * 4
    assert columns(f"<p>{text}</p><p>a</p>", "last_prose") == [0, 1]


def test_the_title_of_a_page_and_what_comes_before_it():
    html = f"<p>a</p><h2>News of today</h2><h1>The ferry</h1><p>{PROSE}</p><p>b</p><p>c</p><p>d</p><p>{PROSE}</p>"
    assert columns(html, "before_h1", "after_h1") == [[1, 0], [1, 0], [0, 0], *[[0, 1]] * 4, [0, 0]]
    assert columns(html, "before_title") == [1, 1, 0, 0, 0, 0, 0, 0]
    assert columns(html, "before_title", title="News of TODAY - The Daily") == [1, 0, 0, 0, 0, 0, 0, 0]
    assert columns(html.replace("<h1>", "<h3>"), "before_h1", "after_h1") == [[0, 0]] * 8


def test_a_late_h1_is_not_the_title():
    html = f"<p>{PROSE}</p>" * 5 + "<h1>Comments</h1><p>a</p>"
    assert not any(columns(html, "before_h1"))


def test_the_center_is_where_most_prose_stands():
    html = f"<div><p>a</p></div><div><p>{LONG}</p><p>{LONG}</p></div><div><p>{PROSE}</p></div>"
    assert columns(html, "before_center", "after_center") == [[1, 0], [0, 0], [0, 0], [0, 1]]
    weights = columns(html, "weight")
    assert weights[1] == weights[2] == 1.0
    assert 0.0 == weights[0] < weights[3] < 0.5


def test_shares_of_the_page_prose():
    html = f"<div><div><div><div><div><p>{PROSE}</p></div></div></div></div></div><p>{PROSE}</p><p>{PROSE}</p>"
    assert columns(html, "share_up5")[0] == pytest.approx(1 / 3)
    assert columns(html, "share_up5")[1:] == [1.0, 1.0]
    assert columns(html, "branch_share") == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_pieces_that_stand_alike_share_their_prose():
    html = f"<div><p class=a>{PROSE}</p><p class=a>{PROSE}</p><p class=b>c</p></div><ul><li>d</ul>"
    assert columns(html, "like_share") == [1.0, 1.0, 0.0, 0.0]


def test_neighbours():
    html = f"<h2>a</h2><p><a href=x>b</a></p><img src=i.jpg><p>{PROSE}</p><h2>c</h2>"
    assert columns(html, "last_heading", "last_linked", "last_media", "last_prose") == [
        [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    assert columns(html, "last2_linked", "last2_media") == [[0, 0], [0, 0], [0, 0], [1, 0], [0, 1]]
    assert columns(html, "next_heading", "next2_media", "next2_prose") == [
        [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    assert columns(html, "next_link")[0] == 1


def test_the_next_link_is_looked_for_in_the_same_container():
    inside = "<div><p>a</p><img src=i.jpg><p><a href=x>b</a></p></div>"
    outside = "<div><p>a</p></div><div><p><a href=x>b</a></p></div>"
    assert columns(inside, "next_link") == [1, 1, 0]
    assert columns(outside, "next_link") == [0, 0]


def test_prose_within_eight_pieces():
    short = "<p>a</p>" * 9
    before = columns(f"<p>{PROSE}</p>{short}", "prose_8_before")
    assert before == [0] + [1] * 8 + [0]
    assert columns(f"{short}<p>{PROSE}</p>", "prose_8_after") == [0] + [1] * 8 + [0]


def item(head):
    return f"<div class=item><h3>{head}</h3><p>a</p></div>"


def test_items_of_a_list_and_teasers():
    linked, plain = "<a href=x>Ten things to do in the south</a>", "Ten things to do in the south"
    page = f"<main><p>{LONG}</p><p>{LONG}</p></main>"
    assert columns(page + item(linked) * 3, "repeated", "teaser") == [[0, 0]] * 2 + [[1, 1]] * 6
    assert columns(page + item(linked) * 2, "repeated", "teaser") == [[0, 0]] * 6
    assert columns(page + item(plain) * 3, "repeated", "teaser") == [[0, 0]] * 2 + [[1, 0]] * 6
    assert columns(page + item(linked) * 3 + item(plain) * 3, "teaser") == [0] * 14


def test_an_article_that_is_not_the_page():
    page = f"<main><p>{LONG}</p></main><article><p>a</p></article>"
    assert columns(page, "minor_article") == [0, 1]
    assert columns(f"<article><p>{LONG}</p></article>", "minor_article") == [0]


# --- names -----------------------------------------------------------------------------------------------------------


def named(near_or_far, html):
    """List the names of the first short text of a page that has prose elsewhere."""
    names = [f"{near_or_far}_{name}" for name in NAMES]
    row = columns(f"{html}<p>{LONG}</p>", *names)[0]
    return {name for name, value in zip(NAMES, row, strict=True) if value}


@pytest.mark.parametrize(
    ("html", "near", "far"),
    [
        ("<div id=nav>x</div>", {"nav"}, set()),
        ("<div role=navigation>x</div>", {"nav"}, set()),
        ("<div id=cookieBanner>x</div>", {"subscribe", "ad"}, set()),
        ("<div class='related-posts'><p>x</p></div>", {"related"}, set()),
        ("<div class=sidebar><div><div><p>x</p></div></div></div>", set(), {"sidebar"}),
        ("<div class=sidebar><div><p>x</p></div></div>", set(), {"sidebar"}),
        ("<p itemprop=author>x</p>", {"meta"}, set()),
        ("<div class='no-sidebar has-comments with_menu'><p>x</p></div>", set(), set()),
        ("<div class=sharepoint><p>x</p></div>", set(), set()),
        ("<figure><figcaption>x</figcaption></figure>", {"figure"}, set()),
    ],
)
def test_names_near_and_far(html, near, far):
    assert named("near", html) == near
    assert named("far", html) == far


def test_the_name_of_what_holds_the_page_means_nothing():
    page = f"<div class=sidebar><div><div><p>{LONG}</p></div></div></div>"
    assert columns(page, "near_sidebar", "far_sidebar") == [[0, 0]]
    page = f"<footer><div><div><p>{LONG}</p></div></div></footer>"
    assert columns(page, "far_footer") == [1]


def test_names_of_html_and_body_mean_nothing():
    assert columns(f"<body class='sidebar nav'><p>x</p><div><p>{LONG}</p></div>", "near_nav", "far_nav") == [[0, 0]] * 2


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("relatedPosts", {"related"}),
        ("share-bar_nav2", {"share", "nav"}),
        ("HTMLMenu", {"nav"}),
        ("COMMENTS", {"comment"}),
        ("123 - _ é", set()),
        ("x" * 8_192 + " nav", set()),
        ("x" * 20_000 + " nav", set()),
    ],
)
def test_words_of_names(names, found):
    assert named("near", f"<div class='{names}'>x</div>") == found
    assert named("near", f"<div id='{names}'>x</div>") == found


@pytest.mark.parametrize(
    "text", ["Photo: Ann", "© AP", "Foto von Ann", "(Image by Ann)", "Source: AP", "Bildquelle: dpa"]
)
def test_credits(text):
    assert starts_credit(text)
    assert is_credit(text)


@pytest.mark.parametrize("text", ["", "Photographs of the town", "The cat. Photo: Ann", "Source code is free", "x©"])
def test_what_is_no_credit(text):
    assert not is_credit(text)


def test_a_text_that_only_begins_with_a_credit_is_none():
    text = "Photo: Ann. The ferry left. It came back."
    assert starts_credit(text)
    assert not is_credit(text)
    assert not is_credit("Photo: " + "x" * 100)


# --- the matrix ------------------------------------------------------------------------------------------------------

PAGES = {
    "one text": "x",
    "one picture": "<img src=i.jpg>",
    "two pieces": "<p>x<img src=i.jpg>",
    "no prose": "<p>a</p><p>b</p><ul><li>c<li>d</ul>",
    "all linked": f"<a href=x><p>{PROSE}</p></a>",
    "all in a footer": f"<footer><p>{PROSE}</p></footer>",
    "a table": "<table><caption>t</caption><tr><td>a<td>b<tr><td>c<td>d</table>",
    "figures": "<table><tr><td><img src=a><td>x<tr><td class=caption>c</table>" * 3,
    "an article": f"<h1>t</h1><p>{LONG}</p><figure><img src=i.jpg><figcaption>c</figcaption></figure><p>{LONG}</p>",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_row_a_piece_and_every_value_in_its_range(name):
    reading, result = measured(PAGES[name])
    assert result.matrix.shape == (len(reading.pieces), len(FEATURES))
    assert np.isfinite(result.matrix).all()
    wide = {"commas", "block_chars", "pieces_up1"}
    for position, feature in enumerate(FEATURES):
        values = result.matrix[:, position]
        assert values.min() >= -1e-9, feature
        assert feature in wide or values.max() <= 1 + 1e-9, feature


def test_feature_names_are_told_apart():
    assert len(set(FEATURES)) == len(FEATURES)
    assert len(set(PICTURE_FEATURES)) == len(PICTURE_FEATURES)


@pytest.mark.parametrize("name", PAGES)
def test_the_same_page_has_the_same_features(name):
    assert np.array_equal(measured(PAGES[name])[1].matrix, measured(PAGES[name])[1].matrix)


# --- pictures --------------------------------------------------------------------------------------------------------


def picture(attributes="", url="https://h.example/dir/ferry.jpg", around="{}", announced=(), **sizes):
    """Measure the one picture of a page, between two texts that are kept; returns its features by name."""
    tree = parse_html(f"<p>{LONG}</p>{around.format(f'<img {attributes}>')}<p>{LONG}</p>", 1_000, 1_000, FOREVER)
    reading = read_page(tree, FOREVER)
    position = next(i for i, piece in enumerate(reading.pieces) if not piece.text)
    image = ImageRef(url, tree.attributes[reading.pieces[position].node].get("alt") or "", "", **sizes)
    chances = np.array([0.0 if not piece.text else 0.9 for piece in reading.pieces])
    candidates = [Candidate(position, image)]
    matrix = measure_pictures(tree, reading, measure(tree, reading, ""), chances, candidates, frozenset(announced))
    assert matrix.shape == (1, len(PICTURE_FEATURES))
    return dict(zip(PICTURE_FEATURES, matrix[0].tolist(), strict=True))


def test_a_plain_picture_among_prose():
    found = picture()
    assert {name for name, value in found.items() if value} == {
        "chance_before", "chance_after", "chance_best", "chance_mean", "inside", "container_kept",
    }  # fmt: skip
    assert found["chance_before"] == found["chance_after"] == found["chance_best"] == 0.9
    assert found["chance_mean"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("in_link", {"around": "<a href=story.html>{}</a>"}),
        ("opens_picture", {"around": "<a href=big.JPG?x=1>{}</a>"}),
        ("width_to_80", {"width_px": 80}), ("width_to_250", {"width_px": 250}), ("width_400", {"width_px": 400}),
        ("height_to_60", {"height_px": 60}), ("tiny", {"width_px": 3}), ("tiny", {"height_px": 0}),
        ("elongated", {"width_px": 400, "height_px": 100}), ("svg", {"url": "https://h.example/a.svg?x"}),
        ("gif", {"url": "https://h.example/a.GIF"}), ("named_in_url", {"url": "https://logo.example/site-logo.png"}),
        ("named_in_url", {"url": "https://h.example/icons/2021/ferry.jpg"}),
        ("named_in_class", {"attributes": "class=avatar"}), ("named_in_class", {"attributes": "id=userIcon"}),
        ("named_in_alt", {"attributes": "alt='Facebook icon'"}), ("described", {"attributes": "alt=cat"}),
        ("long_alt", {"attributes": "alt='The ferry in the harbour of the island'"}),
        ("announced", {"announced": ["ferry"]}), ("large_in_url", {"url": "https://h.example/1024x768/a.jpg"}),
        ("small_in_url", {"url": "https://h.example/a-150x150.jpg"}),
        ("content_class", {"attributes": "class=wp-image-3"}),
        ("thumb_class", {"attributes": "class=thumb"}), ("nav", {"around": "<div class=nav>{}</div>"}),
        ("related", {"around": "<div class=related><p>{}</p></div>"}), ("figure", {"around": "<figure>{}</figure>"}),
    ],
)  # fmt: skip
def test_features_of_a_picture(name, given):
    assert picture(**given)[name] == 1.0
    assert picture()[name] == 0.0


def test_the_host_of_a_picture_says_nothing():
    assert picture(url="https://logo.banner.example/ferry.jpg")["named_in_url"] == 0.0


@pytest.mark.parametrize(
    ("url", "stem"),
    [
        ("https://h.example/a/Ferry-1024x768.jpg?w=3", "ferry"),
        ("https://h.example/ferry_large.webp", "ferry"),
        ("https://h.example/ferry.jpg/", "ferry"),
        ("ferry", "ferry"),
        ("", ""),
        ("https://h.example/", "h.example"),
    ],
)
def test_stems_of_addresses(url, stem):
    assert stem_of(url) == stem
