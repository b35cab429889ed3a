"""The guard before the parse: no markup hides how deep it nests, and honest long pages pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dom import depth_of, parse_html
from pipeline.nesting import TOO_DEEP, TOO_MANY_ATTRIBUTES, check_markup, scan_markup

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
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_would_nest_too_deep_is_refused(name):
    assert check_markup(ATTACKS[name]) == TOO_DEEP


def test_too_many_attributes_are_refused():
    many = " ".join(f"a{i}" for i in range(60_000))
    assert check_markup(f"<p {many}>") == TOO_MANY_ATTRIBUTES
    assert check_markup(f"<script><a x='</script><p {many}>'>") == TOO_MANY_ATTRIBUTES


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
]


@pytest.mark.parametrize("text", HARMLESS, ids=range(len(HARMLESS)))
def test_long_honest_pages_pass(text):
    assert scan_markup(text) is None


TAGS = ["div", "p", "table", "td", "b", "svg", "title", "select", "h1", "li", "dd", "form", "button", "a", "math", "mi"]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(TAGS)), max_size=12))
@settings(deadline=None, max_examples=150)
def test_no_combination_of_tags_hides_its_depth(tags):
    """What is repeated until it really nests deep must be refused."""
    text = "".join(f"</{name}>" if closing else f"<{name}>" for closing, name in tags)
    short, long = (parse_html(text * times, 100_000, 10_000, FOREVER) for times in (40, 80))
    growth = (depth_of(long.parents) - depth_of(short.parents)) / 40
    if growth >= 1:
        assert scan_markup(text * 12_000) == TOO_DEEP
