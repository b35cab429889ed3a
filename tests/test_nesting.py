"""The guard before the parse: no markup hides how deep it nests, and honest long pages pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from pipeline.dom import depth_of, parse_html
from pipeline.nesting import (
    MAX_ATTRIBUTES,
    QUICK_CHARS,
    QUICK_TAGS,
    TOO_DEEP,
    TOO_MANY_ATTRIBUTES,
    check_markup,
    is_harmless,
    scan_markup,
    script_end,
)

FOREVER = float("inf")
DEEP = 100_000
ATTACKS = {
    "div": "<div>" * DEEP,
    "closing another": "<div></x>" * DEEP,
    "table keeps a div open": "<div><table></div></table>" * DEEP,
    "p is closed already": "<p><div></p>" * DEEP,
    "headings": "<h1><h2></h2><div></h1>" * DEEP,
    "definitions and items": "<dd><li>" * DEEP,
    "inside an attribute": '<div a="></div>">' * DEEP,
    "quotes outside values": "<div \"><div '>" * DEEP,
    "inside a comment": "<!-->" + "<div><!--</div>-->" * DEEP,
    "after an abrupt comment": "<!--><div>--><b></div>" * DEEP,
    "inside an escaped script": "<div><script><!--<script></script></div>--></script>" * DEEP,
    "title of a drawing": "<svg><title>" + "<div>" * DEEP,
    "xmp in a select": "<select><xmp></select>" + "<div>" * DEEP + "</xmp>",
    "shapes": "<svg>" + "<g>" * DEEP + "</svg>",
    "character data of a drawing": "<svg><![CDATA[ > </svg> ]]><div>" * DEEP,
    "formatting": "".join(f"<p><font color={i}>x" for i in range(2_000)),
    "flat below deep": "<div>" * 8_000 + "<p>x" * DEEP,
    "an item in a span": "<span><li></span></li>" * DEEP,
    "a formula that ends as a drawing": "<math></svg>" * DEEP,
    "a formula that ends at once": "<math/><object></x></math>" * DEEP,
    "a bogus comment": "<![CDATA[</b><b>" * DEEP,
    "a form lost in a table": "<form><table><caption><form></form></table></form>" * DEEP,
    "upper case": "<DIV>" * DEEP,
    "a letter that is k in lower case": "<lin\u212a>" * DEEP,
    "a letter that is S in upper case": "<div><style></\u017ftyle></div></style>" * DEEP,
    "inside a script in a script": "<div><script><!--<script></script></div></script>" * DEEP,
    "after a script in a script": "<script><!--<script>--></script><div>" * DEEP,
    "after an empty comment": "<div><script><!--><script></script><b></script>" * DEEP,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_would_nest_too_deep_is_refused(name):
    assert check_markup(ATTACKS[name]) == TOO_DEEP
    assert check_markup(ATTACKS[name].encode().decode("latin-1")) == TOO_DEEP  # a character a byte


def test_too_many_attributes_are_refused():
    many = " ".join(f"a{i}" for i in range(60_000))
    assert check_markup(f"<p {many}>") == TOO_MANY_ATTRIBUTES
    assert check_markup(f"<script><a x='</script><p {many}>'>") == TOO_MANY_ATTRIBUTES


@pytest.mark.parametrize("name", ["body", "HTML"])
def test_attributes_that_the_parser_gathers_on_one_element_are_counted_together(name):
    tags = "".join(f"<{name} " + " ".join(f"a{i}" for i in range(k, k + 900)) + ">" for k in range(0, 54_000, 900))
    assert scan_markup(tags) == TOO_MANY_ATTRIBUTES
    assert check_markup(tags) == TOO_MANY_ATTRIBUTES
    assert check_markup(f"<{name} class=a>" + "x" * QUICK_CHARS) is None


@pytest.mark.parametrize("unsure", ["<svg><title>", "<select><xmp>", "<math><![CDATA["])
def test_what_is_open_counts_where_the_page_can_no_longer_be_read(unsure):
    formatting = "".join(f"<b id={i}>" for i in range(1_500))
    assert scan_markup("<div>" * 8_000 + unsure + "<div>" * 10_000) is None
    assert scan_markup("<div>" * 9_000 + unsure + "<div>" * 12_000) == TOO_DEEP
    assert scan_markup(formatting + unsure + "<p>x" * 500) is None
    assert scan_markup(formatting + unsure + "<p>x" * 2_000) == TOO_DEEP


def test_ordinary_pages_are_not_scanned():
    item = '<li class="a b" id=\'c\'><a href=/d?e=f&g title="x>y">x</a> <b>y</b><img src = h alt /></li>'
    code = "<script>for(i=0;i<n;i++)if(a<b&&c<d)x('<p class=\"'+y+'\">');</script>"
    assert is_harmless((item * 5 + code) * 300 + "x" * QUICK_CHARS)
    assert is_harmless("<p><b>x" * 9_000)  # the parser re-opens no more than three
    assert not is_harmless("".join(f"<p><b id={i}>x" for i in range(2_000)))
    assert not is_harmless("<p>" * (QUICK_TAGS + 1))


def many_attributes(number, name="a"):
    return " ".join(f"{name}{i}" for i in range(number))


LONG_TAGS = {
    "plain": f"<p {many_attributes(1_100)}>",
    "one too many": f"<p {many_attributes(1_001)}>",
    "slashes": f"<p {many_attributes(1_100).replace(' ', '/')}>",
    "values": "<p " + " ".join(f"a{i}='<p>'" for i in range(1_100)) + ">",
    "values that touch": "<p " + "".join(f'a{i}="x>"' for i in range(1_100)) + ">",
    "unquoted values": "<p " + " ".join(f"a{i}=x'\"" for i in range(1_100)) + ">",
    "names of quotes": "<p " + " ".join(f"a{i}\"<'" for i in range(1_100)) + ">",
    "values left out": "<p " + " ".join(f"a{i}= " for i in range(2_300)) + ">",
    "in a value": f"<!-- <a b=' --><p {many_attributes(1_100)}> ' >",
    "after a quote": f"<a ' b=\"'><p {many_attributes(1_100)}> \" >",
    "never closed": f"<p {many_attributes(1_100)}",
    "one long value first": f"<p b='{'x' * 200_000}' {many_attributes(1_100)}>",
    "a long name": f"<p{'x' * 200_000} {many_attributes(1_100)}>",
    "gathered": "".join(f"<body {many_attributes(100, f'n{i}x')}>" for i in range(20)),
    "gathered, with quotes": "".join(f"<body '{i} {many_attributes(100, f'n{i}x')}>" for i in range(20)),
}


@pytest.mark.parametrize("name", LONG_TAGS)
def test_a_long_page_with_a_long_tag_is_scanned(name):
    assert not is_harmless(LONG_TAGS[name] + "x" * QUICK_CHARS)


QUOTING = st.lists(
    st.sampled_from([*"ab<>/='\" \n", "<p ", "='", '="', "-->", "<!--", "<script>", "'>", '">']), max_size=8
)


@given(QUOTING.map("".join), QUOTING.map("".join), st.sampled_from([" ", "='<' ", '="x>"', "=a'/", '" ', " = ' '"]))
@settings(deadline=None, max_examples=100)
def test_no_quoting_hides_a_long_tag(before, after, between):
    """What the parser reads as an element with too many attributes is never called harmless."""
    text = before + "".join(f"a{i}{between}" for i in range(MAX_ATTRIBUTES + 1)) + after + ">"
    tree = parse_html(text, 100_000, 10_000, FOREVER)
    if max(map(len, tree.attributes)) > MAX_ATTRIBUTES:
        assert not is_harmless(text + "x" * QUICK_CHARS)


@pytest.mark.parametrize("part", ["<", "<a", "<p a=", '<p a="', "<!--", "<svg>", "<svg><title>", "</p", "&amp", "<p>x"])
def test_unclosed_everything_is_scanned(part):
    scan_markup(part * DEEP)


HARMLESS = [
    "<div>" * 8_000 + "x" + "</div>" * 8_000,
    "<p>x" * DEEP,
    "<ul>" + "<li><b>x</b>" * 20_000 + "</ul>",
    "<table>" + "<tr><td>a<td>b" * 20_000 + "</table>",
    "<div><p>x</div>" * 20_000,
    '<p><svg viewBox="0 0 1 1"><title>t</title><g><path d="M0"/></g></svg>' * 10_000,
    "<p><math><mi>x</mi><mo>=</mo><mspace/></math>" * 10_000,
    "<script>" + "'<div>'+" * DEEP + "</script><p>x",
    "<!--" + "<div>" * DEEP + "-->",
    "<div><script><!-- <script></script> --></script></div>" * 20_000,
    "<script><!--<script></script>" + "<div>" * DEEP + "--></script><p>x",
]


@pytest.mark.parametrize("text", HARMLESS, ids=range(len(HARMLESS)))
def test_long_honest_pages_pass(text):
    assert scan_markup(text) is None


TAGS = ["div", "p", "table", "td", "b", "svg", "title", "select", "h1", "li", "dd", "form", "button", "a", "math", "mi"]


MARKS = ["<!--", "-->", "<script>", "</script>", "-", ">", "<script/", "</SCRIPT ", "x", "--", "</scriptx>"]


@given(st.lists(st.sampled_from(MARKS), max_size=10).map("".join))
@settings(deadline=None, max_examples=200)
def test_a_script_ends_where_the_parser_ends_it(text):
    script = LexborHTMLParser("<script>" + text).css_first("script")
    assert script.text() == text[: script_end(text, 0)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(TAGS)), max_size=12))
@settings(deadline=None, max_examples=150)
def test_no_combination_of_tags_hides_its_depth(tags):
    """What is repeated until it really nests deep must be refused."""
    text = "".join(f"</{name}>" if closing else f"<{name}>" for closing, name in tags)
    short, long = (parse_html(text * times, 100_000, 10_000, FOREVER) for times in (40, 80))
    growth = (depth_of(long.parents) - depth_of(short.parents)) / 40
    if growth >= 1:
        assert scan_markup(text * 12_000) == TOO_DEEP
