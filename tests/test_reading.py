"""The walk: what a page shows, block by block, in the frames it stands in."""

import pytest

from pipeline.dom import parse_html
from pipeline.reading import OutOfTimeError, read_page

FOREVER = float("inf")


def reading_of(html):
    tree = parse_html(html, 100_000, 10_000, FOREVER)
    return tree, read_page(tree, FOREVER)


def read(html):
    """Read the pieces of a page: texts as strings, media as the files they name."""
    tree, reading = reading_of(html)
    return [piece.text or "@" + (tree.attributes[piece.node].get("src") or "") for piece in reading.pieces]


def assert_consistent(reading):
    """Frames nest, their ranges of pieces too, and each piece stands in its frame."""
    pieces, frames = reading.pieces, reading.frames
    assert (frames[0].first, frames[0].stop, frames[0].outer) == (0, len(pieces), -1)
    for number, frame in enumerate(frames[1:], 1):
        outer = frames[frame.outer]
        assert frame.outer < number
        assert outer.first <= frame.first <= frame.stop <= outer.stop
    for piece in pieces:
        assert 0 <= piece.linked <= max(len(piece.text), 0)
        assert 0 <= piece.set_off <= len(piece.text)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a <b>bold</b>\n\n word</p><p>b", ["a bold word", "b"]),
        ("<div>a<div>b</div>c</div>", ["a", "b", "c"]),
        ("un<i>believ</i>able", ["unbelievable"]),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>", ["a", "b", "c"]),
        ("<h1>t</h1>text<h2>u</h2>", ["t", "text", "u"]),
        ("<p>a<img src=i.jpg>b", ["a", "@i.jpg", "b"]),
        ("<p>a<video src=v.mp4>no</video>b", ["a", "@v.mp4", "b"]),
        ("<dl><dt>a<dd>b</dl>", ["a", "b"]),
        ("<amp-img src=t.jpg></amp-img>", ["@t.jpg"]),
        ("<a href=big.jpg><img src=t.jpg></a>", ["@t.jpg"]),
        ("&lt;b&gt;&nbsp;x", ["<b> x"]),
        ("<p> \n\t&nbsp; <p>", []),
        ("<p>a<span class='photo-credit'>b</span>c", ["a", "b", "c"]),
        ("<details><summary>s</summary>d</details>", ["s", "d"]),
    ],
)
def test_blocks_in_reading_order(html, expected):
    assert read(html) == expected
    assert_consistent(reading_of(html)[1])


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a<br>b <br/> c", ["a\nb\nc"]),
        ("<div>a<br><br>b<br> \n <br><br>c<br>d</div>", ["a", "b", "c\nd"]),
        ("<p><br>a<br></p>", ["a"]),
        ("<p><br><br></p>", []),
        ("<p>a\nb<br>c", ["a b\nc"]),
        ("<pre>a\n   b  \n\n c</pre>", ["a\n   b\n\n c"]),
        ("<pre>\n\n  a<br><br>b\n</pre>", ["  a\n\nb"]),
        ("<pre> \n </pre>", []),
        ("<pre><p>a\n b</p></pre>", ["a\n b"]),
    ],
)
def test_line_breaks(html, expected):
    assert read(html) == expected


@pytest.mark.parametrize(
    "html",
    [
        "<p hidden>x", "<p hidden=until-found>x", "<p style='color:red; DISPLAY : none'>x", "<p style='display:none'>x",
        "<p style=visibility:hidden>x", "<p class=sr-only>x", "<p class='a visually-hidden b'>x",
        "<span aria-hidden=true>x</span>", "<script>x</script>", "<style>x</style>", "<template>x</template>",
        "<head><title>x</title></head>", "<noscript>x</noscript>", "<button>x</button>", "<select><option>x</select>",
        "<textarea>x</textarea>", "<!-- x -->", "<svg><text>x</text></svg>", "<iframe>x</iframe>", "<dialog>x</dialog>",
        "<object>x<img src=i.jpg></object>", "<audio>x</audio>", "<p hidden><img src=i.jpg>", "<amp-ad>x</amp-ad>",
        "<table><tr hidden><td>x<td>x<tr style=display:none><td>x<td>x</table>",
        "<math><annotation>x</annotation></math>",
        "<nav>x</nav>", "<nav><ul><li><a href=x>x</a><img src=i.jpg></ul></nav>",
    ],
)  # fmt: skip
def test_what_a_browser_does_not_show(html):
    assert read(f"<p>start</p>{html}<p>end") == ["start", "end"]


@pytest.mark.parametrize(
    "html",
    [
        "<body hidden>x", "<html style=display:none><body class=sr-only>x", "<p hidden>y</p>x",
        "<p aria-hidden=false>x", "<p style=display:block>x", "<p style='--x-display:none-such;color:red'>x",
        "<p class=sr-only-not>x",
        "<div class=nav>x</div>", "<div class=cookie-banner>x</div>",
    ],
)  # fmt: skip
def test_what_a_browser_shows(html):
    assert read(html) == ["x"]


@pytest.mark.parametrize("tag", ["noscript", "button"])
def test_pictures_are_read_where_texts_are_not(tag):
    assert read(f"<div>a <{tag}>b <img src=i.jpg> <p>c</p></{tag}> d</div>") == ["a", "@i.jpg", "d"]
    assert read("<div>a <p aria-hidden=true>b <img src=i.jpg></p> d</div>") == ["a", "@i.jpg", "d"]


def test_an_icon_does_not_part_a_sentence():
    assert read("<p>a <img src=i.gif width=16 height=16> b") == ["a b"]
    assert read("<p>a <img src=i.gif width=1> b") == ["a b"]
    assert read("<p>a <img src=i.gif height=0> b") == ["a b"]
    assert read("<p>a <img src=i.jpg width=16> b") == ["a", "@i.jpg", "b"]
    assert read("<p>a <img src=i.jpg width=16 height=25> b") == ["a", "@i.jpg", "b"]
    assert read("<p>a <img src=i.jpg width=100% height=100%> b") == ["a", "@i.jpg", "b"]


def test_links_that_copy_the_address_of_a_heading_are_no_text():
    assert read("<h2>Title <a href=#t>¶</a></h2>") == ["Title"]
    assert read("<h2><a href=#t><span> # </span></a>Title</h2>") == ["Title"]
    assert read("<h2><a href=#t>Title</a></h2><p>see <a href=#t>¶</a>") == ["Title", "see ¶"]


def test_a_link_that_only_opens_a_picture_is_no_text():
    assert read("<p>a</p><p><a href=big.JPG>Enlarge</a></p>") == ["a"]
    assert read("<p><a href=big.jpg>Enlarge</a> this") == ["Enlarge this"]
    assert read("<figure><figcaption><a href=big.jpg>The cat</a></figcaption></figure>") == ["The cat"]
    assert read("<p><a href=big.html>More</a>") == ["More"]


def test_linked_and_set_off_characters_are_counted():
    _, reading = reading_of("<p>ab <a href=x>cd <i>ef</i></a> <em>gh</em> <small>ij</small></p><p>kl</p>")
    assert [(piece.text, piece.linked, piece.set_off) for piece in reading.pieces] == [
        ("ab cd ef gh ij", 4, 6),
        ("kl", 0, 0),
    ]
    _, reading = reading_of("<a href=x><p>ab</p><p>cd</p></a><p>ef")
    assert [piece.linked for piece in reading.pieces] == [2, 2, 0]


def test_a_link_count_never_passes_the_text():
    _, reading = reading_of("<p><a href=x>a    b</a><br><br><a href=x>c</a>")
    assert [piece.text for piece in reading.pieces] == ["a b", "c"]
    assert_consistent(reading)


def test_frames_are_the_blocks_around_a_piece():
    _, reading = reading_of("<div><p>a <b>b</b></p><img src=i.jpg></div>")
    assert [frame.tag for frame in reading.frames] == ["html", "html", "body", "div", "p"]
    assert [reading.frames[piece.frame].tag for piece in reading.pieces] == ["p", "div"]
    assert [(frame.first, frame.stop, frame.media) for frame in reading.frames[3:]] == [(0, 2, 1), (0, 1, 0)]
    assert_consistent(reading)


# --- captions and figures --------------------------------------------------------------------------------------------


def captions(html):
    """List the texts that stand in a caption."""
    _, reading = reading_of(html)
    return [piece.text for piece in reading.pieces if reading.frames[piece.frame].caption]


@pytest.mark.parametrize(
    "html",
    [
        "<figure><img src=i.jpg><figcaption>c</figcaption></figure>",
        "<figure><img src=i.jpg><figcaption><p>c</p></figcaption></figure>",
        "<img src=i.jpg><p class=caption>c</p>", "<img src=i.jpg><p class='wp-caption-text x'>c</p>",
        "<img src=i.jpg><span class=imageCaption>c</span>", "<img src=i.jpg><div class=photo-credit>c</div>",
        "<img src=i.jpg><div class=image-description>c</div>", "<img src=i.jpg><div class=Bildunterschrift>c</div>",
    ],
)  # fmt: skip
def test_captions_by_tag_and_by_class(html):
    assert captions(f"<p>a</p>{html}<p>b</p>") == ["c"]


@pytest.mark.parametrize(
    "html",
    [
        "<div class='wp-caption'><img src=i.jpg><p>c</p></div>",  # holds the picture
        "<p class=description>c</p>", "<p class=captionless>c</p>", "<table><caption>c</caption><tr><td>d</table>",
    ],
)  # fmt: skip
def test_what_is_no_caption(html):
    assert captions(html) == []


def figures(html):
    """List what is grouped into a figure, figure by figure."""
    tree, reading = reading_of(html)
    found = {}
    for piece in reading.pieces:
        if figure := piece.figure or reading.frames[piece.frame].figure:
            found.setdefault(figure, []).append(piece.text or "@" + (tree.attributes[piece.node].get("src") or ""))
    return list(found.values())


LONG = "This sentence is one of many of a page that is long enough to have figures by their shape. " * 9


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<figure><img src=a><p>b</p></figure>", [["@a", "b"]]),
        ("<figure><figure><img src=a>b</figure><img src=c>d</figure>", [["@a", "b"], ["@c", "d"]]),
        ("<div class='wp-caption aligncenter'><img src=a><p>b</p></div>", [["@a", "b"]]),
        ("<div class=figure><div class=image><img src=a></div><p>b</p></div>", [["@a", "b"]]),
        ("<div class=figure><p>b</p></div>", []),
        (f"<div class=photo><img src=a><p>{LONG}{LONG}</p></div>", []),
        ("<article class=photo><img src=a><p>b</p></article>", []),
        ("<div><img src=a><p>b</p></div>", [["@a", "b"]]),
        ("<div><a href=x><img src=a></a><p>b</p><p>c</p></div>", [["@a", "b", "c"]]),
        ("<div><p>b</p><img src=a></div>", []),
        ("<div><img src=a><img src=b><p>c</p></div>", []),
        ("<div><img src=a><p>" + "b " * 300 + "</p></div>", []),
        ("<div><img src=a><h1>b</h1></div>", []),
        ("<div><img src=a><p><a href=x>A teaser of another page</a></p></div>", []),
        ("<div><img src=a><p><a href=x>Photo: Ann</a></p></div>", [["@a", "Photo: Ann"]]),
        ("<div><img src=a>" + "<p>b</p>" * 5 + "</div>", []),
        ("<ul><li><img src=a>b</ul>", []),
        ("<ul><li><img src=a><p>b</p></ul>", [["@a", "b"]]),
        ("<p><img src=a>b</p>", []),
    ],
)
def test_figures_by_tag_by_class_and_by_shape(html, expected):
    assert figures(f"<p>{LONG}</p>{html}<p>{LONG}</p>") == expected


def test_what_holds_much_of_a_page_is_no_figure_by_its_shape():
    assert figures("<p>Short.</p><div><img src=a><p>b c d e f</p></div>") == []


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<table><tr><th>a<th>b<tr><td>1<br>2<td><b>3</b></table>", ["a\tb\n1 2\t3"]),
        ("<table><caption>c</caption><tr><td>a<td>b<tr><td>c<td></table>", ["c", "a\tb\nc"]),
        ("<table><tr><td><p>a</p><p>b</p><td>c<tr><td>d<td>e</table>", ["a b\tc\nd\te"]),
        ("<table><thead><tr><th>a<th>b<tbody><tr><td>c<td>d</table><p>x", ["a\tb\nc\td", "x"]),
        ("<table><tr><td>a<td>b</table>", ["a", "b"]),
        ("<table><tr><td>a<tr><td>b</table>", ["a", "b"]),
        (f"<table><tr><td>a<td>b<tr><td>c<td>{LONG}</table>", ["a", "b", "c", LONG.strip()]),
        ("<table><tr><td>a<img src=i.jpg><td>b<tr><td>c<td>d</table>", ["a", "@i.jpg", "b", "c", "d"]),
        (
            "<table><tr><td>a<td><table><tr><td>b<td>c<tr><td>d<td>e</table><tr><td>f<td>g</table>",
            ["a", "b\tc\nd\te", "f", "g"],
        ),
        ("<table></table>", []),
        ("<table><tr><tr></table>", []),
        ("<table><tr><td><td><tr><td><td></table>", []),
        ("<table><caption>c</caption><tr><td><td><tr><td><td></table>", ["c"]),
    ],
)
def test_tables(html, expected):
    assert read(html) == expected
    assert_consistent(reading_of(html)[1])


def test_a_table_of_data_is_one_piece_with_its_links():
    _, reading = reading_of("<table><tr><td><a href=x>ab</a><td>c<tr><td>d<td>e</table>")
    assert [(piece.text, piece.linked) for piece in reading.pieces] == [("ab\tc\nd\te", 2)]
    assert reading.frames[reading.pieces[0].frame].tag == "table"


PICTURE_CELLS = "<td><img src=a><td><img src=b>"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([PICTURE_CELLS, "<td class=caption>A<td class=caption>B"], [["@a", "A"], ["@b", "B"]]),
        ([PICTURE_CELLS, "<td class=caption colspan=2>Both"], [["@a", "@b", "Both"]]),
        ([PICTURE_CELLS, "<td><td><p class=caption>B"], [["@b", "B"]]),
        (
            [
                "<td rowspan=3><img src=a><td><img src=b>",
                "<td class=caption>B",
                "<td><img src=c>",
                "<td class=caption>A<td class=caption>C",
            ],
            [["@b", "B"], ["@a", "A"], ["@c", "C"]],
        ),
        (["<td><img src=a>", "<td class=caption colspan=99999999999>A"], [["@a", "A"]]),
        (["<td rowspan=0 colspan=-1><img src=a>", "<td class=caption colspan=x>A"], [["@a", "A"]]),
        ([PICTURE_CELLS], []),
        (["<td>", "<caption>Over both", "<td><img src=a><td class=caption>A"], [["@a", "A"]]),
    ],
)
def test_captions_below_pictures_in_a_table(rows, expected):
    html = "<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>"
    assert figures(html) == expected
    assert sorted(read(html)) == sorted(read(html.replace("class=caption", "")))


def test_the_walk_looks_at_the_clock():
    tree = parse_html("<p>x" * 1_000, 100_000, 10_000, FOREVER)
    with pytest.raises(OutOfTimeError):
        read_page(tree, 0.0)
