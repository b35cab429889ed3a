"""The parser's adapter: charsets that lie, and the flat tree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import dom
from pipeline.dom import TEXT, parse_html, to_utf8

FOREVER = float("inf")


def parse(text, max_nodes=100_000, max_depth=10_000, deadline=FOREVER):
    return parse_html(text, max_nodes, max_depth, deadline)


@pytest.mark.parametrize(
    ("html", "charset", "expected"),
    [
        ("é".encode(), None, "é"),
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        ("“é”".encode("cp1252"), "latin1", "“é”"),
        ("é".encode(), "iso-8859-1", "é"),  # a header that lies about UTF-8
        (b"\xef\xbb\xbf\xc3\xa9", "koi8-r", "é"),
        ("é".encode("utf-16"), "utf-8", "é"),
        ("é<p>".encode("utf-16-be"), "utf-16be", "é<p>"),
        ("<p>日本語</p>".encode("shift_jis"), "Shift_JIS", "<p>日本語</p>"),
        ("<p>①</p>".encode("cp932"), "shift_jis", "<p>①</p>"),
        ("<p>日本語</p>".encode("iso2022_jp"), "iso-2022-jp", "<p>日本語</p>"),
        ('<meta charset="windows-1251">привет'.encode("cp1251"), None, '<meta charset="windows-1251">привет'),
        ('<meta charset="windows-1251">привет'.encode("cp1251"), "no-such", '<meta charset="windows-1251">привет'),
        ('<meta charset="utf-16">é'.encode(), None, '<meta charset="utf-16">é'),
        (b"a\0b", None, "a\ufffdb"),
        ("a\0é".encode("latin-1"), "latin-1", "a\ufffdé"),
        (b"plain", "zlib", "plain"),
        (b"", None, ""),
    ],
)
def test_charset(html, charset, expected):
    assert to_utf8(html, charset).decode() == expected


def test_what_is_utf8_is_passed_on_as_it_is():
    html = "<p>é".encode()
    assert to_utf8(html, "latin-1") is html
    assert to_utf8(html + b"\0", None) == html + "\ufffd".encode()


def test_one_broken_place_does_not_change_the_charset():
    html = "é".encode() * 1_000 + b"\xff" + "ü".encode() * 1_000
    assert to_utf8(html, "utf-8").decode() == "é" * 1_000 + "\ufffd" + "ü" * 1_000


def test_a_declared_charset_that_fails_gives_way_to_detection():
    text = "<p>" + "Съешь же ещё этих мягких французских булок да выпей чаю. " * 20
    assert to_utf8(text.encode("cp1251"), "utf-8").decode() == text


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "utf-16", "gbk", "big5", "euc-kr", "rot13", "unicode"]))
@settings(deadline=None)
def test_any_bytes_become_utf8(html, charset):
    assert "\0" not in to_utf8(html, charset).decode()


def test_the_tree_is_flat_and_in_document_order():
    tree = parse("<p class=a hidden>x &amp; <b>y</b><!-- c --></p>z")
    assert tree.tags == ["html", "head", "body", "p", TEXT, "b", TEXT, TEXT]
    assert tree.parents == [-1, 0, 0, 2, 3, 3, 5, 2]
    assert tree.ends == [8, 2, 8, 7, 5, 7, 7, 8]
    assert "".join(tree.texts) == "x & yz"
    assert tree.attributes[3] == {"class": "a", "hidden": None}


def test_opaque_elements_have_no_inside():
    tree = parse("<script>var a</script><template><p>t</p></template><svg><text>s</text></svg><p>x")
    assert "".join(tree.texts) == "x"
    assert "svg" in tree.tags


def script(text, kind="application/ld+json"):
    return f"<script type='{kind}'>{text}</script>"


def test_the_text_of_json_ld_is_kept():
    tree = parse(script('{"a": "&amp;<p>"}', " Application/LD+JSON ") + script("b", "text/javascript") + "<script>c")
    scripts = [text for tag, text in zip(tree.tags, tree.texts, strict=True) if tag == "script"]
    assert scripts == ['{"a": "&amp;<p>"}', "", ""]
    assert TEXT not in tree.tags


def test_json_ld_that_does_not_fit_is_left_out_whole():
    sizes = [dom.MAX_SCRIPT_CHARS - 10, 11, 4, 7, 6, 1]
    tree = parse("".join(script("x" * size) for size in sizes))
    kept = [len(text) for tag, text in zip(tree.tags, tree.texts, strict=True) if tag == "script"]
    assert kept == [dom.MAX_SCRIPT_CHARS - 10, 0, 4, 0, 6, 0]


def test_common_elements_have_their_own_names():
    for name in dom.TAG_NAMES.values():
        assert dom.LexborHTMLParser("").create_node(name).tag == name


def test_a_page_cannot_have_the_parser_copy_its_options():
    text = "<select><button><selectedcontent></selectedcontent></button><option selected>x</select>"
    assert parse(text).texts.count("x") == 1


def test_surrogates_in_references_do_not_survive():
    "".join(parse("<p title='&#xD800;'>&#xD800;&#0;").texts).encode()


def test_limits_of_the_parse():
    assert parse("<p>x" * 100, max_nodes=50) == dom.TOO_MANY_NODES
    assert parse("<p>" + "<!-- c -->" * 100, max_nodes=50) == dom.TOO_MANY_NODES
    assert parse("<div>" * 60, max_depth=50) == dom.TOO_DEEP
    assert parse("<p>x" * 1_000, deadline=0.0) == dom.TIMEOUT


@pytest.mark.parametrize("nodes", [4, 511, 512, 513, 1_024])
def test_the_limit_of_nodes_is_exact(nodes):
    text = "<br>" * (nodes - 3)  # with html, head and body
    assert len(parse(text, max_nodes=nodes).tags) == nodes
    assert parse(text, max_nodes=nodes - 1) == dom.TOO_MANY_NODES


def test_nothing_recurses_in_a_deep_tree():
    tree = parse("<div>" * 8_000 + "x")
    assert dom.depth_of(tree.parents) == 8_003
    assert tree.ends[5] == len(tree.tags)


def test_an_empty_page_is_a_tree_of_three():
    assert parse("").tags == ["html", "head", "body"]
