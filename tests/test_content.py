"""The choice: weights, pages of few words, what belongs to chosen texts, captions, pictures, videos."""

import numpy as np
import pytest

from pipeline.captions import attach_captions
from pipeline.content import FEW_CHARS, Wanted, Weights, choose, find_candidates, load_weights, read_weights
from pipeline.dom import parse_html
from pipeline.features import FEATURES
from pipeline.picture_features import PICTURE_FEATURES
from pipeline.reading import read_page
from schemas.document import ImageRef, Text

FOREVER = float("inf")
AT = "https://h.example/dir/"
WANTED = Wanted(AT, 1_024)
SENTENCE = "The ferry leaves in the morning, and it returns in the evening with the mail and a few visitors. "
PROSE = (SENTENCE * (FEW_CHARS // len(SENTENCE) + 1)).strip()


def weights_of(names, bias, **weights):
    """Make weights that are zero but for those given."""
    assert weights.keys() <= set(names)
    return Weights(np.array([weights.get(name, 0.0) for name in names]), bias, 0.5)


PARAGRAPHS = weights_of(FEATURES, -5.0, tag_p=10.0, tag_div=4.2)
"""Weights by which a text in a `p` is content, one in a `div` is likely to be, and nothing else is."""
ALL_PICTURES = weights_of(PICTURE_FEATURES, 5.0)
NO_PICTURES = weights_of(PICTURE_FEATURES, -5.0)
NO_ICONS = weights_of(PICTURE_FEATURES, 5.0, named_in_url=-10.0)


def chosen(html, pictures=ALL_PICTURES, texts=PARAGRAPHS):
    tree = parse_html(html, 100_000, 10_000, FOREVER)
    return choose(tree, read_page(tree, FOREVER), WANTED, (texts, pictures))


def written(pieces):
    """Write items as strings: texts, and pictures and videos as the files they name."""
    items = [getattr(piece, "item", piece) for piece in pieces]
    return [item.text if isinstance(item, Text) else "@" + item.url.removeprefix(AT) for item in items]


def choice(html, pictures=ALL_PICTURES, texts=PARAGRAPHS):
    """Write what is chosen of a page between two paragraphs of prose, these left out."""
    found = written(chosen(f"<p>{PROSE}</p>{html}<p>{PROSE}</p>", pictures, texts))
    assert found[0] == found[-1] == PROSE
    return found[1:-1]


# --- weights ---------------------------------------------------------------------------------------------------------


def test_the_weights_are_those_of_the_features():
    texts, pictures = load_weights()
    assert (len(texts.features), len(pictures.features)) == (len(FEATURES), len(PICTURE_FEATURES))
    for weights in (texts, pictures):
        assert np.isfinite(weights.features).all()
        assert 0 < weights.threshold < 1


@pytest.mark.parametrize("table", [{}, {"a": 1.0, "bias": 0.0}, {"a": 1.0, "b": 2.0, "bias": 0.0, "threshold": 0.5}])
def test_a_table_of_other_features_is_refused(table):
    with pytest.raises(AssertionError, match=r"weights\.toml and the features differ"):
        read_weights(table, ("a",))


def test_chances_are_the_logistic_function_of_the_weighted_sum():
    weights = read_weights({"b": 2.0, "a": -1.0, "bias": 1.0, "threshold": 0.5}, ("a", "b"))
    chances = weights.chances(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1e9, 0.0], [0.0, 1e9]]))
    assert chances == pytest.approx([1 / (1 + np.exp(-1)), 0.5, 1 / (1 + np.exp(-3)), 0.0, 1.0])


def test_nothing_comes_of_nothing():
    assert chosen("") == []
    assert chosen("<p hidden>x") == []


# --- texts -----------------------------------------------------------------------------------------------------------


def test_texts_are_chosen_by_their_weights():
    assert choice("<p>a</p>") == ["a"]
    assert written(chosen(f"<div>a</div><p>{PROSE}</p><div>b</div>")) == [PROSE]


def test_a_heading_is_kept_with_what_it_stands_over():
    assert choice("<h2>a</h2>") == ["a"]
    assert choice("<h2>a</h2><h3>b</h3>") == ["a", "b"]
    assert choice("<h2 class=newsletter>a</h2>") == []
    assert written(chosen(f"<p>{PROSE}</p><h2>a</h2><div>b</div>")) == [PROSE]
    assert written(chosen(f"<div><h2>a</h2></div><p>{PROSE}</p>")) == [PROSE]


def test_likely_texts_between_two_that_are_content_are_kept():
    assert choice("<div>a</div>") == ["a"]
    assert choice("<div>a</div><div>b</div>") == ["a", "b"]
    assert choice("<div>a</div>" * 9) == []
    assert choice("<ul><li>a</ul>") == []
    assert choice("<div><a href=x>a</a></div>") == []
    assert choice("<div class=newsletter>a</div>") == []
    apart = f"<section><section><p>{PROSE}</p></section></section><div>a</div>"
    assert written(chosen(f"{apart}<section><section><p>{PROSE}</p></section></section>")) == [PROSE, PROSE]


def test_likely_texts_beside_siblings_of_their_kind_are_kept():
    likely = weights_of(FEATURES, -5.0, tag_p=4.2, chars_400=10.0)
    assert choice("<p>a</p>" * 9, texts=likely) == ["a"] * 9
    assert choice("<div>" + "<p>a</p>" * 9 + "</div>", texts=likely) == []


def test_links_that_are_no_text_to_read_are_left_out():
    assert choice("<p><a href=x>abcd</a></p>") == ["abcd"]
    assert choice("<p><a href=x>abc</a></p>") == []
    assert choice("<p><a href=x>abcd</a><br><a href=y>efgh</a></p>") == []


def test_on_a_page_of_few_words_names_and_links_count_as_much():
    few = "<div class=nav>n</div><div>a</div><p>b <a href=x>c</a> def</p><div><a href=x>g</a></div><footer>h</footer>"
    assert written(chosen(few)) == ["a", "b c def"]
    likely = weights_of(FEATURES, 0.5)
    assert written(chosen(few + f"<p>{PROSE}</p>", texts=likely)) == ["n", "a", "b c def", "h", PROSE]


# --- captions --------------------------------------------------------------------------------------------------------

FIGURE = "<figure><img src={}.jpg><figcaption>The cat</figcaption></figure>"


@pytest.mark.parametrize(
    ("html", "left"),
    [
        (FIGURE.format("i"), []),
        ("<figure><img src=i.jpg><section>The cat</section></figure>", []),
        ("<div class=wp-caption><img src=i.jpg><section>The cat</section></div>", []),
        ("<div><img src=i.jpg></div><div class=caption>The cat</div>", ["The cat"]),  # of no figure: judged as a text
    ],
)
def test_a_caption_is_kept_with_its_picture(html, left):
    assert choice(html) == ["@i.jpg", "The cat"]
    assert choice(html, NO_PICTURES) == left


def test_a_chosen_caption_goes_with_its_picture():
    assert choice("<figure><img src=i.jpg><figcaption><p>The cat</p></figcaption></figure>", NO_PICTURES) == []
    assert choice("<figure><figcaption><p>The cat</p></figcaption></figure>", NO_PICTURES) == ["The cat"]


def test_a_long_text_of_a_figure_is_judged_by_itself():
    long = "word " * 200
    assert choice(f"<figure><img src=i.jpg><section>{long}</section><section>b</section></figure>") == ["@i.jpg"]
    caption = f"<figure><img src=i.jpg><figcaption>{long}</figcaption><section>b</section></figure>"
    assert choice(caption) == ["@i.jpg", long.strip()]


def test_text_in_small_print_right_after_a_picture_is_its_caption():
    def marked(html):
        return [piece.item.text for piece in chosen(f"<p>{PROSE}</p>{html}<p>{PROSE}</p>") if piece.caption]

    assert marked("<p><img src=i.jpg></p><p><i>The black</i> <small>cat</small></p>") == ["The black cat"]
    assert marked("<p><img src=i.jpg></p><p>The <i>cat</i></p>") == []
    assert marked("<p>x</p><p><i>The cat</i></p>") == []
    assert marked("<p><img src=i.jpg></p><h2><i>The cat</i></h2>") == []
    assert marked(f"<p><img src=i.jpg></p><p><i>{PROSE * 2}</i></p>") == []


def attached(html):
    """Attach the captions of a page: texts, and pictures with theirs."""
    items = attach_captions(chosen(f"<p>{PROSE}</p>{html}<p>{PROSE}</p>"))[1:-1]
    return [(item.url.removeprefix(AT), item.caption) if isinstance(item, ImageRef) else item.text for item in items]


def test_a_credit_stays_with_its_picture():
    html = "<figure><img src=i.jpg><figcaption><p>The cat</p><p class=credit>Ann</p></figcaption></figure>"
    assert attached(html) == [("i.jpg", "The cat Ann"), "The cat"]
    assert attached("<figure><img src=i.jpg><p>Photo: Ann</p></figure>") == [("i.jpg", "Photo: Ann")]
    assert attached("<p>Photo: Ann</p>") == ["Photo: Ann"]


def test_a_caption_that_a_page_prints_twice_stands_once():
    html = "<p><img src=i.jpg></p><p class=caption>The cat</p><p class=caption>The cat</p>"
    assert attached(html) == [("i.jpg", "The cat"), "The cat"]


# --- pictures and videos ---------------------------------------------------------------------------------------------


def test_pictures_are_chosen_by_their_weights():
    assert choice("<p><img src=i.jpg><img src=icon.png>", NO_ICONS) == ["@i.jpg"]
    assert choice("<p><img alt=x><img src=spacer.gif><noscript></noscript>") == []


@pytest.mark.parametrize(
    "html",
    [
        "<img class=lazy data-src=a.jpg><noscript><img src=a.jpg></noscript>",
        "<img src=data:image/gif;base64,R0><noscript><img src=a.jpg></noscript>",
        "<img src=blank.gif>\n<noscript><img src=a.jpg></noscript>",
        "<noscript><img src=a.jpg></noscript><img class=lazy data-src=a.jpg>",
        "<picture><img data-src=a.jpg></picture><noscript><img src=a.jpg></noscript>",
        "<noscript><img src=a.jpg></noscript>",
    ],
)
def test_the_twin_in_noscript_counts_once(html):
    for times in (1, 2, 3):
        tree = parse_html(f"<div>{html * times}</div>", 1_000, 1_000, FOREVER)
        found = find_candidates(tree, read_page(tree, FOREVER), WANTED)
        assert [candidate.image.url for candidate in found] == [AT + "a.jpg"] * times


def test_a_video_is_kept_beside_content():
    assert choice("<video src=v.mp4></video>") == ["@v.mp4"]
    assert choice("<div><video></video></div>") == []
    assert choice("<ul><li>a</li><video src=v.mp4></video><li>b</ul>") == []
    figure = "<figure><video src={}.mp4></video><figcaption>x</figcaption></figure>"
    assert choice(figure.format("v") + figure.format("w")) == ["@v.mp4", "@w.mp4"]
    assert choice("<ul><li>a</ul>" + figure.format("v") + "<ul><li>b</ul>") == []
    assert written(chosen("<video src=v.mp4></video>")) == ["@v.mp4"]


def test_items_come_in_reading_order():
    html = "<p>a</p><img src=b.jpg><p>c</p><video src=d.mp4></video><p>e</p>" + FIGURE.format("f")
    assert choice(html) == ["a", "@b.jpg", "c", "@d.mp4", "e", "@f.jpg", "The cat"]


def test_each_item_names_its_block_and_figure():
    pieces = chosen(f"<p>{PROSE}</p>{FIGURE.format('i')}")
    text, image, caption = pieces
    assert text.figure == 0
    assert image.figure == caption.figure > 0
    assert len({text.block, image.block, caption.block}) == 3
    assert [piece.caption for piece in pieces] == [False, False, True]
