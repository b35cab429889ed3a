"""Files of timed text, sound and broken ones, and what is said in a stretch of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import webvtt
from pipeline.webvtt import MAX_SAID_CHARS, Cue, parse_cues, text_between

WEBVTT = """\ufeffWEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

REGION
id:left

NOTE 00:01 is not
a cue

1
00:01.000 --> 00:02.500 line:0 position:20% align:start
<v.loud Mary Ann>First <i>words</i></v>
and <c.yellow.bg_blue>more</c> of<00:00:01.900> them

01:00:03.000-->01:00:04.000
- Fish &amp; chips&nbsp;&lt;here&gt;
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_webvtt(end):
    assert parse_cues(WEBVTT.replace("\n", end).encode()) == [
        Cue(1.0, 2.5, "First words\nand more of them"),
        Cue(3603.0, 3604.0, "- Fish & chips <here>"),
    ]


def test_subrip():
    first = "1\r\n0:00:01,000 --> 0:00:02,000\r\n{\\an8}<font color=red>Caf\u00e9</font>\r\n\r\n"
    data = first + "2\r\n00:00:02,000 --> 00:00:03,000\r\ntwo\r\n"
    expected = [Cue(1.0, 2.0, "Caf\u00e9"), Cue(2.0, 3.0, "two")]
    for encoding in ("utf-8", "utf-8-sig", "windows-1252", "utf-16"):
        assert parse_cues(data.encode(encoding)) == expected


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("00:01.000 --> 00:01.000\nno time\n\n00:02.000 --> 00:01.000\nbackwards", []),
        ("00:01.000 --> 00:02.000\n\nnot its text", []),
        ("00:01.000 --> 00:02.000\n \u200b<b></b>\n", ["\u200b"]),
        ("00:01.000 --> 00:02.000\none\n00:02.000 --> 00:03.000\ntwo", ["one", "two"]),
        ("00:01.000 --> 00:02.000\none\n00:02 --> soon\ntwo", ["one"]),
        ("00:61.000 --> 00:62.000\nno minute", []),
        ("00:01.0000 --> 00:02.0000\ndigits", []),
        ("00000:00:01.000 --> 00:02.000\nhours", []),
        ("\u0661\u0661:01.000 --> 12:02.000\nother digits", []),
        ("00:01.000 --> 00:02.000\n1 < 2 and <b", ["1 < 2 and <b"]),
        ("00:01.000 --> 00:02.000\na\0b", ["a\ufffdb"]),
        ("<html><p>no captions --> here", []),
        ("", []),
    ],
)
def test_what_is_no_cue(body, texts):
    assert [cue.text for cue in parse_cues(b"WEBVTT\n\n" + body.encode())] == texts


def test_wrong_bytes_of_webvtt_are_replaced():
    assert parse_cues(b"WEBVTT\n\n00:01.000 --> 00:02.000\nCaf\xe9")[0].text == "Caf\ufffd"


def test_limits():
    cue = b"00:01.000 --> 00:02.000\n%s\n\n"
    assert len(parse_cues(cue % b"x" * (webvtt.MAX_CUES + 9))) == webvtt.MAX_CUES
    assert len(parse_cues(cue % (b"x" * 9_999))[0].text) == webvtt.MAX_CUE_CHARS
    long = b"WEBVTT\n\n" + cue % b"first" + b"NOTE" * webvtt.MAX_BYTES + b"\n\n" + cue % b"last"
    assert [cue.text for cue in parse_cues(long)] == ["first"]
    for hostile in (b"<" * 99_999, b"{\\" * 50_000, b"&#" * 50_000, b"00:" * 33_000, b"-->" * 33_000):
        assert len(parse_cues(cue % hostile)) <= 1


@given(st.binary(max_size=200))
def test_nothing_is_raised(data):
    for cue in parse_cues(b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + data):
        assert cue.text
        assert cue.start_s < cue.end_s


def test_texts_of_a_clip():
    cues = [Cue(0, 4, "before"), Cue(9, 11, "half in"), Cue(12, 14, "b"), Cue(11, 12, "a"), Cue(18, 23, "mostly after")]
    assert text_between(cues, 10, 20) == "half in a b"
    assert text_between(cues, 0, 9) == "before"
    assert text_between(cues, 4, 9) == ""
    assert text_between([Cue(0, 100, "all along")], 40, 60) == "all along"
    assert text_between([Cue(0, 9, "x")], 9, 9) == ""


def test_what_is_said_in_a_stretch_is_bounded():
    cues = [Cue(0, 24, "\n".join(f"{number} {line}" for line in range(400))) for number in range(50)]
    said = text_between(cues, 0, 24)
    assert said.startswith("0 0 0 1")
    assert MAX_SAID_CHARS / 2 < len(said) <= MAX_SAID_CHARS


def test_captions_that_roll_up_are_said_once():
    rolled = ["one", "one\ntwo", "two", "two\nthree", "one\ntwo\nfour"]
    cues = [Cue(number, number + 1, text) for number, text in enumerate(rolled)]
    assert text_between(cues, 0, 9) == "one two three one two four"
