"""Personal data: what is masked, what only looks like it, and that shards, and nothing else, are without it."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import privacy
from pipeline.privacy import CARD, IP, MAIL, PHONE, PLACEHOLDERS, Masker, PrivacyConfig, luhn, mask
from schemas.config import ConfigError, from_tree

ALL = tuple(PLACEHOLDERS)


def found(text):
    """Tell what stands for what in a text."""
    masked, counts = mask(text, ALL)
    assert sum(counts.values()) == sum(masked.count(one) - text.count(one) for one in PLACEHOLDERS.values())
    return masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to anna.b+news@mail.example.co.uk.", "Write to <EMAIL>."),
        ("<a_b@example.org>,c@example.com;d@example.net", "<<EMAIL>>,<EMAIL>;<EMAIL>"),
        ("mailto:jörg@bücher.example", "mailto:<EMAIL>"),
        ("anna [at] example [dot] org", "<EMAIL>"),
        ("anna(at)example.org or anna@xn--bcher-kva.example", "<EMAIL> or <EMAIL>"),
        ("...anna@example.org", "...<EMAIL>"),
    ],
)
def test_mail_addresses_are_masked(text, masked):
    assert found(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "@anna on the net, and anna@ too",
        "three for 2 @ 5.99 each",
        "logo@2x.png logo@large.png",
        "git@github.com:a/b.git",
        "react@18.2.0, user@localhost",
        "meet me [at] noon. Really",
        "a@b",
    ],
)
def test_what_is_no_mail_address_stays(text):
    assert found(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4111 1111 1111 1111, thanks", "card <CARD>, thanks"),
        ("4111-1111-1111-1111", "<CARD>"),
        ("5555555555554444; 3782 822463 10005.", "<CARD>; <CARD>."),
        ("(6011111111111117)", "(<CARD>)"),
    ],
)
def test_card_numbers_are_masked(text, masked):
    assert found(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit is wrong
        "9780306406157",  # a book, whose check digit is of another kind
        "1234567812345670",  # the check digit is right, but nobody issues such cards
        "4111 1111-1111 1111",
        "https://example.org/4111111111111111",
        "a4111111111111111 4111111111111111b",
        "12 4111 1111 1111 1111",  # a row of figures
        "5555555555554444 3782 822463 10005",  # another
        "0.4111111111111111",
    ],
)
def test_what_is_no_card_number_stays(text):
    assert found(text) == text


@given(st.integers(10**12, 10**18))
def test_of_ten_check_digits_one_is_right(digits):
    assert sum(luhn(f"{digits}{last}") for last in "0123456789") == 1


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("from 81.2.69.142.", "from <IP_ADDRESS>."),
        ("81.2.69.142:8080", "<IP_ADDRESS>:8080"),
        ("DNS 8.8.8.8 and 9.9.9.9", "DNS <IP_ADDRESS> and 9.9.9.9"),
        ("[2606:4700:4700::1111]/64", "[<IP_ADDRESS>]/64"),
        ("2a00:1450:4001:0831:0000:0000:0000:200e", "<IP_ADDRESS>"),
    ],
)
def test_ip_addresses_are_masked(text, masked):
    assert found(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 192.168.1.200 10.20.30.140 0.0.0.0 255.255.255.255",  # of nobody
        "version 4.8.120.1, v4.8.120.1, Release: 4.8.120.1, § 4.8.120.1",
        "3.2.1.4 Methods",
        "81.2.69.256 81.2.69.142.7 81.2.69 1.81.2.69.142",
        "81.2.69.142abc",
        "fe80::1 ::1 2001:db8::1",
        "std::vector, 12:30:45, 2021:10:20, 00:1b:44:11:3a:b7",
        "2606:4700:47001::1111",
    ],
)
def test_what_is_no_public_ip_address_stays(text):
    assert found(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+49 (0)40-30030-1000", "<PHONE>"),
        ("+41.31.322.55.11;", "<PHONE>;"),
        ("0049 30 901820", "<PHONE>"),
        ("(801) 596-1887, 801-596-1887, 801.596.1887, 1-801-596-1887", "<PHONE>, <PHONE>, <PHONE>, <PHONE>"),
        ("020 7946 0958 or 01805 – 444412", "<PHONE> or <PHONE>"),
        ("Tel.: 0228-999582-5777", "Tel.: <PHONE>"),
        ("Phone: 555 0199, fax 5550198", "Phone: <PHONE>, fax <PHONE>"),
        ("call us on 8015961887!", "call us on <PHONE>!"),
        ("06 12 34 56 78", "<PHONE>"),
        ("0937-141993", "<PHONE>"),
    ],
)
def test_phone_numbers_are_masked(text, masked):
    assert found(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "1914-1918, 2019/2020, 1900 1950 2000",
        "05.12.2021 10:30, 2021-12-05, 05/12/2021, 01-02-2003 04",
        "10:20:0022.06.2018 10:20",
        "1.437.800 Euro, $5551234567, 6 500 000 people, 0.123456789",
        "£020 7946 0958, 020 7946 0958 €",
        "ISBN 0-306-40615-2, ISBN 978-0-306-40615-7, ISSN 0028-0836, 0-306-40615-2",
        "53.369889, 7.203167; 48°51'24.0\"N 0123456789°",
        "0800-1200 0930 1230 1430",  # opening hours
        "Mo 0900 - 1230, 1400 - 1830",
        "55500002, 24055351, 73444491 1280 256",
        "https://example.org/0123456789/0123-456789 doi:10.1038/0123456789",
        "3.14.0123456789 a0123456789 0123456789abcdef",
        "801 596 1887",  # figures, unless something calls them a phone number
        "01 02 03 04 05",
        "001 002 003 004",
        "+10 000, +5 points, 1920x1080",
        "iPhone 12345678",
    ],
)
def test_what_is_no_phone_number_stays(text):
    assert found(text) == text


def test_only_what_is_asked_for_is_masked_and_counted():
    text = "a@example.org, +49 30 901820, 4111 1111 1111 1111, 81.2.69.142, a@example.org"
    assert mask(text, ALL)[1] == {MAIL: 2, PHONE: 1, CARD: 1, IP: 1}
    assert mask(text, []) == (text, {})
    for kind in ALL:
        masked, counts = mask(text, [kind])
        assert list(counts) == [kind]
        assert len(re.findall("<[A-Z_]+>", masked)) == counts[kind]


@given(st.text(alphabet="a1 .@-+()/:[]0", max_size=60))
@settings(max_examples=300)
def test_masking_again_finds_nothing_more_of_what_is_sure(text):
    masked, _ = mask(text, [MAIL, CARD, IP])
    assert mask(masked, [MAIL, CARD, IP])[0] == masked


UNITS = ["1", "1 ", "(", "+1", "01 ", "@", "a@", "a.", "a@a.a", "[ at ]", "1.", "255.255.", "2abc::", "2000:", "a",
         "tel 12 34 5", "tel us ", "0123 ", "(0)1", "4111 1111 1111 1111 ", "1    "]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_work_grows_with_the_text_and_not_faster(unit, monkeypatch):
    """What Python does is counted in calls; what the patterns do is bounded by their form (see below)."""

    def calls(text):
        count = 0

        def step(frame, event, arg):
            nonlocal count
            count += 1

        sys.setprofile(step)
        try:
            mask(text, ALL)
        finally:
            sys.setprofile(None)
        return count

    size = 4_000
    once, twice = calls(unit * (size // len(unit))), calls(unit * (2 * size // len(unit)))
    assert twice <= 2.2 * once + 100


@pytest.mark.parametrize("unit", UNITS)
def test_a_long_text_of_anything_is_masked(unit):
    """A step for each pair of characters would be a thousand million of them."""
    text = unit * (30_000 // len(unit))
    masked, counts = mask(text, ALL)
    assert (masked == text) == (not counts)


def test_no_pattern_repeats_without_a_bound():
    patterns = {name: one.pattern for name, one in vars(privacy).items() if isinstance(one, re.Pattern)}
    assert len(patterns) > 10
    # A year after a year may repeat, on a number of at most 15 digits.
    unbounded = {name for name, one in patterns.items() if re.search(r"(?<!\\)(?:[*+]|,\})(?![^[]*\])", one)}
    assert unbounded <= {"YEARS", "INTERNATIONAL", "NORTH_AMERICAN"}


def test_unknown_kinds_are_refused():
    message = "test: settings: mask is of mail, phone, card, ip, not 'name'"
    with pytest.raises(ConfigError, match=message):
        from_tree(PrivacyConfig, {"mask": ["mail", "name"]}, "test")


def test_a_masker_adds_up_and_tells_no_more_than_numbers():
    masker = Masker(PrivacyConfig(("mail",)))
    assert masker("a@example.org") == "<EMAIL>"
    plain = "of b@example.org, 81.2.69.142"
    assert masker.each([plain, "x", plain]) == {plain: "of <EMAIL>, 81.2.69.142", "x": "x"}
    counts = {("mask", "mail address", "masked"): 1}
    masker.tell("mask", counts)
    assert counts == {("mask", "mail address", "masked"): 3}
    assert not masker.counts
