"""URLs: one normal form, and None for whatever cannot be fetched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.urls import MAX_URL_CHARS, clean_url, join_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80/a/../b?q=1#part", "http://example.com/b?q=1"),
        ("https://user:secret@example.com/a", "https://example.com/a"),
        ("https://user%40mail:p@example.com:444/a@b", "https://example.com:444/a@b"),
        ("https://example.com?next=http://u:p@h/", "https://example.com/?next=http://u:p@h/"),
        (" \n http://example.com/a b \t", "http://example.com/a%20b"),
        ("http://bücher.example/ä.jpg", "http://xn--bcher-kva.example/%C3%A4.jpg"),
        ("http:\\\\example.com\\a", "http://example.com/a"),
        ("file://folder/sub/page.html#top", "file://folder/sub/page.html"),
        ("file:///sub/page.html", "file:///sub/page.html"),
        ("ftp://example.com/a", None),
        ("data:image/gif;base64,R0lGOD", None),
        ("javascript:void(0)", None),
        ("about:blank", None),
        ("/relative", None),
        ("", None),
        ("http://", None),
        ("http://[::1", None),
        ("http://exa mple.com/", None),
        ("http://a.example/\ud800", None),
    ],
)
def test_clean_url(url, expected):
    assert clean_url(url) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("img/a.jpg", "https://h.example/dir/img/a.jpg"),
        (" \n../a.jpg\t", "https://h.example/a.jpg"),
        ("/a b,c.jpg?x=1#frag", "https://h.example/a%20b,c.jpg?x=1"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("?page=2", "https://h.example/dir/page?page=2"),
        ("http://other.example", "http://other.example/"),
        ("http://u:p@other.example/a", "http://other.example/a"),
        ("#part", "https://h.example/dir/page?q"),
        ("", None),
        (" \n ", None),
        ("data:image/png;base64,AAAA", None),
        ("blob:https://h.example/1-2", None),
        ("javascript:alert(1)", None),
        ("mailto:a@h.example", None),
        ("file:///etc/passwd", None),
        ("http://[bad", None),
    ],
)
def test_join_url(reference, expected):
    assert join_url("https://me:pw@h.example/dir/page?q#f", reference) == expected


def test_saved_pages_refer_to_files_of_their_folder():
    assert join_url("file://folder/sub/page.html", "../img/a.jpg") == "file://folder/img/a.jpg"
    assert join_url("file://folder/sub/page.html", "/img/a.jpg") == "file://folder/img/a.jpg"
    assert join_url("file://folder/sub/page.html", "https://h.example/a") == "https://h.example/a"


def test_a_bad_base_gives_nothing_unless_the_reference_is_whole():
    assert join_url("no base", "a.jpg") is None


def test_length_is_bounded_before_and_after_normalising():
    assert clean_url("http://h/" + "a" * (MAX_URL_CHARS - 9)) == "http://h/" + "a" * (MAX_URL_CHARS - 9)
    assert clean_url("http://h/" + "a" * MAX_URL_CHARS) is None
    assert join_url("http://h/", "a" * (MAX_URL_CHARS + 1)) is None
    assert join_url("http://h/", "ä" * (MAX_URL_CHARS // 2)) is None


@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing(path):
    once = join_url("https://h.example/dir/", path)
    assert once is None or clean_url(once) == once
