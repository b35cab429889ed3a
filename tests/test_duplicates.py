"""Duplicates but for the text: addresses, sets of pictures and the paragraphs of a host."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates import (
    DuplicateConfig,
    image_set_key,
    own_address,
    paragraph_key,
    repeated_paragraphs,
    settle_groups,
    time_rank,
)
from schemas.document import Document, ImageRef, Text
from schemas.page import Origin, key_of

PAGE = "https://site.example/a/story"


@pytest.mark.parametrize(
    ("url", "canonical", "address"),
    [
        (PAGE, "", "site.example/a/story"),
        ("http://www.site.example/a/story", "", "site.example/a/story"),
        (f"{PAGE}?utm_source=x&UTM_Medium=y&fbclid=1", "", "site.example/a/story"),
        (f"{PAGE}?id=7&utm_source=x&page=2", "", "site.example/a/story?id=7&page=2"),
        (f"{PAGE}?", "", "site.example/a/story"),
        (f"{PAGE}?b=1&a=2", "", "site.example/a/story?b=1&a=2"),
        (f"{PAGE}?utm%5Fsource=x&u=%zz", "", "site.example/a/story?u=%zz"),
        (f"{PAGE}?utmost=1&refresh=1", "", "site.example/a/story?utmost=1&refresh=1"),
        ("https://site.example:8443/a", "", "site.example:8443/a"),
        (f"{PAGE}?print=1", PAGE, "site.example/a/story"),
        (f"{PAGE}?print=1", f"{PAGE}?utm_source=x#part", "site.example/a/story"),
        ("https://m.site.example/s", PAGE, "site.example/a/story"),
        (PAGE, "https://amp.site.example/s", "amp.site.example/s"),
        (PAGE, "https://other.example/a/story", "site.example/a/story"),
        (PAGE, "https://notsite.example/a", "site.example/a/story"),
        ("https://notsite.example/a", PAGE, "notsite.example/a"),
        (PAGE, "not a URL", "site.example/a/story"),
        (PAGE, "javascript:1", "site.example/a/story"),
        ("file://saved/a.html", PAGE, "file://saved/a.html"),
        ("file://saved/a.html", "", "file://saved/a.html"),
    ],
)
def test_the_address_of_a_page(url, canonical, address):
    assert own_address(url, canonical) == address


@settings(deadline=None)
@given(st.text("abc&=?%_utm+;", max_size=40))
def test_an_address_is_the_address_of_itself(query):
    address = own_address(f"https://site.example/?{query}")
    assert own_address(f"https://{address}") == address


def test_the_newest_capture_sorts_first_and_one_without_a_date_last():
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    times = [datetime(2999, 1, 1, tzinfo=UTC), noon, noon - timedelta(microseconds=1), datetime(1960, 1, 1, tzinfo=UTC)]
    ranks = [time_rank(time) for time in [*times, None]]
    assert ranks == sorted(set(ranks))
    assert {len(rank) for rank in ranks} == {16}
    assert time_rank(noon.astimezone(timezone(timedelta(hours=9)))) == time_rank(noon)


def rows(*groups):
    """Write groups of names as rows whose keys end in a rank."""
    keys = [key_of(group) + f"{rank:02d}" + key_of(name) for group, names in groups for rank, name in enumerate(names)]
    return [{"key": key} for key in sorted(keys)]


def test_all_of_a_group_but_the_first_are_dropped():
    dropped = list(settle_groups(rows(("g", ["best", "b", "c"]), ("alone", ["d"])), "same"))
    assert dropped == [{"key": key_of(name), "reason": "same", "kept": key_of("best")} for name in ("b", "c")]


def test_a_page_is_not_dropped_for_another_capture_of_itself():
    assert list(settle_groups(rows(("g", ["a", "a"])), "same")) == []


def document(*names):
    return Document(
        PAGE, "", "", (Text("x"), *(ImageRef(f"https://i.example/{name}") for name in names)), Origin("", 0)
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("ab", "ba", True), ("ab", "aab", True), ("ab", "abc", False), ("a", "b", False), ("a", "a", True)],
)
def test_pages_have_the_same_set_of_pictures(one, other, same):
    keys = [image_set_key(document(*names), DuplicateConfig(min_images=1)) for names in (one, other)]
    assert None not in keys
    assert (keys[0] == keys[1]) == same


@pytest.mark.parametrize(
    ("names", "min_images", "named"),
    [("", 1, False), ("a", 1, True), ("a", 2, False), ("aa", 2, False), ("ab", 2, True), ("ab", 0, False)],
)
def test_a_set_of_too_few_pictures_has_no_name(names, min_images, named):
    assert (image_set_key(document(*names), DuplicateConfig(min_images=min_images)) is not None) == named


@pytest.mark.parametrize(
    ("host", "text", "same"),
    [
        ("a.example", "Follow us  on\nall channels", True),
        ("www.a.example", "FOLLOW US on all channels", True),
        ("b.example", "Follow us on all channels", False),
        ("a.example", "Follow us on all channels.", False),
    ],
)
def test_a_paragraph_of_a_host(host, text, same):
    assert (paragraph_key(host, text) == paragraph_key("a.example", "Follow us on all channels")) == same


@pytest.mark.parametrize(("pages", "min_pages", "found"), [(2, 3, 0), (3, 3, 3), (9, 3, 9), (1, 2, 0), (2, 2, 2)])
def test_a_paragraph_on_three_pages_is_boilerplate(pages, min_pages, found):
    names = sorted(key_of(str(number)) for number in range(pages))
    keys = [{"key": key_of("p") + name} for name in names for _ in range(2)]  # a page that has it twice counts once
    expected = [{"key": name, "paragraph": key_of("p")} for name in names[:found]]
    assert list(repeated_paragraphs([*keys, {"key": "f" * 48}], min_pages)) == expected


@pytest.mark.parametrize("wrong", [{"min_images": -1}, {"min_pages": -1}, {"min_pages": 1}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="0 or more"):
        DuplicateConfig(**wrong)
