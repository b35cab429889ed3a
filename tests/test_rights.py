"""What a site allows: each way of saying no is heard, and nothing that a site sends is slow, large or fatal."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protego import Protego

from pipeline.rights import (
    CONTENT_SIGNAL,
    CONTENT_USAGE,
    FIELDS,
    MAX_CRAWL_DELAY_S,
    MAX_FILE_BYTES,
    MAX_LOCATIONS,
    MAX_PATTERN_WORK,
    MAX_RULES,
    MAX_WILDCARD_RULES,
    META_ROBOTS,
    RESERVED,
    ROBOTS_DISALLOWED,
    ROBOTS_UNAVAILABLE,
    TDM_RESERVATION,
    X_ROBOTS_TAG,
    RightsConfig,
    Robots,
    Tdmrep,
    parse_robots,
    parse_tdmrep,
    refuse_headers,
    refuse_meta,
)
from pipeline.urls import MAX_URL_CHARS, clean_url
from schemas.page import Refusal

ALL = RightsConfig()
NONE = RightsConfig(robots=False, preferences=False, tags=False, tdm=False)
DISALLOWED = Refusal(ROBOTS_DISALLOWED)
SIGNAL = Refusal(CONTENT_SIGNAL, "robots.txt")
USAGE = Refusal(CONTENT_USAGE, "robots.txt")
RESERVED_BY_FILE = Refusal(TDM_RESERVATION, "tdmrep.json")


def robots(text, status=200):
    return parse_robots(status, text.encode() if isinstance(text, str) else text)


def judge(text, path):
    return robots(text).refuse(f"https://h.example{path}", ALL)


def everyone(*lines):
    return "\n".join(["User-agent: *", *lines])


# Statuses


@pytest.mark.parametrize(
    ("status", "reason", "refusal"),
    [
        (200, "", DISALLOWED),
        (206, "", DISALLOWED),
        (400, "", None),
        (401, "", None),
        (403, "", None),
        (404, "", None),
        (410, "", None),
        (404, "timeout", None),
        (429, "", Refusal(ROBOTS_UNAVAILABLE, "status_429")),
        (500, "", Refusal(ROBOTS_UNAVAILABLE, "status_500")),
        (503, "", Refusal(ROBOTS_UNAVAILABLE, "status_503")),
        (599, "", Refusal(ROBOTS_UNAVAILABLE, "status_599")),
        (302, "", Refusal(ROBOTS_UNAVAILABLE, "status_302")),
        (304, "", Refusal(ROBOTS_UNAVAILABLE, "status_304")),
        (302, "too_many_redirects", Refusal(ROBOTS_UNAVAILABLE, "too_many_redirects")),
        (0, "dns_failed", Refusal(ROBOTS_UNAVAILABLE, "dns_failed")),
        (200, "too_slow", Refusal(ROBOTS_UNAVAILABLE, "too_slow")),
    ],
)
def test_the_status_says_whether_there_are_rules(status, reason, refusal):
    found = parse_robots(status, everyone("Disallow: /").encode(), reason)
    assert found.status == status
    assert found.refuse("http://h.example/a.jpg", ALL) == refusal


@pytest.mark.parametrize("status", [200, 404, 503])
def test_robots_txt_is_not_honoured_where_it_is_switched_off(status):
    text = everyone("Disallow: /", "Content-Signal: ai-train=no", "Content-Usage: train-ai=n")
    assert robots(text, status).refuse("http://h.example/a", NONE) is None


# Groups


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("User-agent: *\nDisallow: /", True),
        ("User-agent: flamingo\nDisallow: /", True),
        ("user-AGENT : Flamingo\ndisALLOW : /", True),
        ("User-agent: flamingo/1.0 (+https://contact.example)\nDisallow: /", True),
        ("User-agent: Flamingo*\nDisallow: /", True),
        ("User-agent: flam\nDisallow: /", False),
        ("User-agent: flamingo-news\nDisallow: /", False),
        ("User-agent: myflamingo\nDisallow: /", False),
        ("User-agent: otherbot\nDisallow: /", False),
        # Its own group alone counts, wherever it stands and even where it is empty.
        ("User-agent: *\nDisallow: /\n\nUser-agent: flamingo\nDisallow: /b", False),
        ("User-agent: flamingo\nDisallow:\n\nUser-agent: *\nDisallow: /", False),
        ("User-agent: flamingo\nUser-agent: otherbot\n\nUser-agent: *\nDisallow: /", True),
        ("User-agent: flamingo\nDisallow: /b\n\nUser-agent: *\nDisallow: /b", False),
        # Several names head one group; groups of one name are one group.
        ("User-agent: otherbot\nUser-agent: flamingo\nDisallow: /", True),
        ("User-agent: flamingo\nUser-agent: otherbot\nDisallow: /", True),
        ("User-agent: flamingo\nAllow: /b\nUser-agent: otherbot\nDisallow: /", False),
        ("User-agent: flamingo\nDisallow: /b\nUser-agent: x\nDisallow: /\nUser-agent: FLAMINGO\nDisallow: /a", True),
        # Lines that are no rules do not end a heading; rules before any heading are nobody's.
        ("User-agent: flamingo\nSitemap: http://h.example/s.xml\nLicense: /l\nUser-agent: x\nDisallow: /", True),
        ("Disallow: /\nUser-agent: *\nDisallow: /b", False),
        ("User-agent:\nDisallow: /", False),
        # Spellings, comments, line ends and encodings in use.
        ("User-agent *\nDisallow /a # of all", True),
        ("useragent: *\nDisalow: /a", True),
        ("User agent: *\nDisallow:\t/a", True),
        ("User-agent: * # all\nDisallow: /#a", True),
        ("# User-agent: *\n# Disallow: /", False),
        ("\ufeffUser-agent: *\r\nDisallow: /\r\n", True),
        ("User-agent: *\rDisallow: /\r", True),
        (b"User-agent: *\0\nDis\0allow: /\0", True),
        ("User-agent: *\nDisallow: /".encode("utf-16"), True),
        ("<!doctype html>\n<p>User-agent: *</p>\n<p>Disallow: /</p>", False),
        ("", False),
    ],
)
def test_the_group_that_counts(text, refused):
    assert judge(text, "/a.jpg") == (DISALLOWED if refused else None)


RULES = everyone("Allow: /p", "Disallow: /", "Disallow: /page", "Allow: /*.htm", "Allow: /$", "Disallow: /q?a=")


@pytest.mark.parametrize(
    ("lines", "path", "refused"),
    [
        (["Disallow: /fish"], "/fish", True),
        (["Disallow: /fish"], "/fishheads/yummy.html", True),
        (["Disallow: /fish"], "/Fish.asp", False),
        (["Disallow: /fish"], "/catfish", False),
        (["Disallow: /fish/"], "/fish", False),
        (["Disallow: /*.php"], "/folder/any.php.file.html?parameters", True),
        (["Disallow: /*.php$"], "/filename.php", True),
        (["Disallow: /*.php$"], "/filename.php?parameters", False),
        (["Disallow: /fish*.php"], "/fishheads/catfish.php?id", True),
        (["Disallow: /*/private/*.jpg$"], "/u/private/a/b.jpg", True),
        (["Disallow: /*/private/*.jpg$"], "/u/private/a/b.jpg.png", False),
        (["Disallow: *"], "/a", True),
        (["Disallow: /a?b="], "/a?b=1", True),
        (["Disallow: /a?b="], "/a?c=1&b=1", False),
        (["Disallow: /caf%C3%A9"], "/caf%c3%a9/x", True),
        (["Disallow: /café"], "/caf%C3%A9/x", True),
        (["Disallow: /a%2Fb"], "/a/b", False),
        (["Disallow: /%7Ejoe/"], "/~joe/a", True),
        (["Disallow: a"], "/a", False),
        # The longest rule wins, and Allow between rules of one path.
        (["Allow: /p", "Disallow: /"], "/page", False),
        (["Allow: /folder", "Disallow: /folder"], "/folder/page", False),
        (["Disallow: /folder", "Allow: /folder"], "/folder/page", False),
        (["Allow: /page", "Disallow: /*.htm"], "/page.htm", True),
        (["Allow: /$", "Disallow: /"], "/", False),
        (["Allow: /$", "Disallow: /"], "/page.htm", True),
        (["Disallow: /", "Allow: /ok/"], "/ok/a", False),
        (["Disallow:"], "/a", False),
        (["Disallow: /"], "/robots.txt", False),
    ],
)
def test_paths(lines, path, refused):
    url = clean_url(f"http://h.example{path}")
    assert robots(everyone(*lines)).refuse(url, ALL) == (DISALLOWED if refused else None)


def test_one_file_serves_both_schemes_and_every_form_of_url():
    found = robots(everyone("Disallow: //x", "Disallow: /a"))
    for url in ("http://h.example/a", "https://h.example/a", "https://h.example:8443/a", "https://h.example//x/b"):
        assert found.refuse(url, ALL) == DISALLOWED
    assert found.refuse("https://h.example/", ALL) is None


NAMES = st.sampled_from(["*", "flamingo", "Flamingo", "otherbot"])
PATHS = st.text("ab/*", max_size=4).map(lambda text: "/" + text)
LINES = st.tuples(st.sampled_from(["Allow", "Disallow"]), PATHS).map(": ".join)
GROUPS = st.tuples(st.lists(NAMES, min_size=1, max_size=2), st.lists(LINES, min_size=1, max_size=4))


@settings(deadline=None)
@given(st.lists(GROUPS, max_size=4), st.lists(st.text("ab/", max_size=5), min_size=1, max_size=5))
def test_the_rules_kept_say_what_the_whole_file_says(groups, paths):
    lines = [line for names, rules in groups for line in [*(f"User-agent: {name}" for name in names), *rules]]
    whole = Protego.parse("\n".join(lines))
    kept = robots("\n".join(lines))
    for url in (f"http://h.example/{path}" for path in paths):
        assert (kept.refuse(url, ALL) is None) == whole.can_fetch(url, "flamingo")


def test_only_what_is_needed_is_kept():
    groups = "".join(f"User-agent: bot{n}\nDisallow: /{n}\n" for n in range(1000))
    found = robots(f"{groups}User-agent: *\nDisallow: /x\nDisallow: /x\nSitemap: /s\nCrawl-delay: 2\n{groups}")
    assert found == Robots(200, "user-agent: access\ndisallow: /x", "", 2.0)
    assert Robots(found.status, found.text, found.unavailable, found.crawl_delay_s) == found
    assert robots(groups) == Robots(200)


# Delays


@pytest.mark.parametrize(
    ("value", "delay_s"),
    [
        ("10", 10.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e400", 0.0),
        ("ten", 0.0),
        ("", 0.0),
        ("1e300", MAX_CRAWL_DELAY_S),
    ],
)
def test_crawl_delay(value, delay_s):
    assert robots(everyone(f"Crawl-delay: {value}", "Disallow: /x")).crawl_delay_s == delay_s


def test_the_longest_delay_of_the_group_that_counts():
    text = "User-agent: flamingo\nCrawl-delay: 3\nCrawl-Delay: 5\ncrawl-delay: 4\n\nUser-agent: *\nCrawl-delay: 60"
    assert robots(text).crawl_delay_s == 5.0
    assert robots(text.replace("flamingo", "otherbot")).crawl_delay_s == 60.0
    assert robots(text, 404).crawl_delay_s == 0.0


# Preferences on training

DRAFT = ["Allow: /", "Disallow: /never/", "Content-Usage: train-ai=n", "Content-Usage: /ok/ train-ai=y"]


@pytest.mark.parametrize(
    ("lines", "path", "refusal"),
    [
        (["Content-Signal: search=yes,ai-train=no,use=reference", "Allow: /"], "/a", SIGNAL),
        (["content-signal: ai-train = NO, ai-input=yes"], "/a", SIGNAL),
        (["Content-Signal: search=yes, ai-train=yes"], "/a", None),
        (["Content-Signal: search=no, ai-input=no"], "/a", None),
        (["Content-Signal: /blog/ ai-train=no, search=yes"], "/blog/a", SIGNAL),
        (["Content-Signal: /blog/ ai-train=no, search=yes"], "/about", None),
        (["Content-Usage: train-ai=n"], "/a", USAGE),
        (["Content-Usage: train-genai=n, train-ai=y"], "/a", USAGE),
        (["Content-Usage: train-ai=n;p=1, search=y"], "/a", USAGE),
        (["Content-Usage: train-ai=y, train-ai=n"], "/a", USAGE),
        (["Content-Usage: train-ai=maybe"], "/a", None),
        (["Content-Usage: train-ai"], "/a", None),
        (["Content-Usage:"], "/a", None),
        # The draft's own example, and what it says of rules for one path.
        (DRAFT, "/test", USAGE),
        (DRAFT, "/ok/test", None),
        (DRAFT, "/never/test", DISALLOWED),
        (["Content-Usage: /a train-ai=n", "Content-Usage: /a\ttrain-ai=y"], "/a", USAGE),
        (["Content-Usage: /a train-ai=y", "Content-Usage: /a train-ai=n"], "/a", USAGE),
        (["Content-Usage: / train-ai=n", "Content-Usage: /*.jpg$ train-ai=y"], "/a.jpg", None),
        (["Content-Usage: / train-ai=n", "Content-Usage: /a search=n"], "/a", USAGE),
        # One does not lift the other.
        (["Content-Usage: train-ai=y", "Content-Signal: ai-train=no"], "/a", SIGNAL),
    ],
)
def test_preferences_in_robots_txt(lines, path, refusal):
    assert judge(everyone(*lines), path) == refusal


def test_preferences_belong_to_groups():
    own = "User-agent: *\nContent-Signal: ai-train=no\n\nUser-agent: flamingo\nAllow: /"
    assert judge(own, "/a") is None
    assert judge(own.replace("flamingo", "otherbot"), "/a") == SIGNAL
    assert judge("Content-Signal: ai-train=no\nUser-agent: *\nAllow: /", "/a") == SIGNAL
    assert judge("User-agent: otherbot\nContent-Usage: train-ai=n", "/a") is None


def test_preferences_are_switched_alone():
    found = robots(everyone("Content-Usage: train-ai=n", "Disallow: /b"))
    assert found.refuse("http://h.example/a", RightsConfig(preferences=False)) is None
    assert found.refuse("http://h.example/b", RightsConfig(preferences=False)) == DISALLOWED
    assert found.refuse("http://h.example/b", RightsConfig(robots=False)) == USAGE


# Hostile files


def test_a_long_file_is_cut_at_a_line_end():
    start = b"User-agent: *\nDisallow: /first\n"
    body = start.ljust(MAX_FILE_BYTES - 14, b"#") + b"\nDisallow: /last"
    kept = "user-agent: access\ndisallow: /first"
    assert robots(body).text == kept
    # A caller that reads no more than is asked for hands over half a line.
    assert robots(body[:MAX_FILE_BYTES]).text == kept
    assert robots(body[: MAX_FILE_BYTES + 1].replace(b"###", b"", 1)).text == kept + "\ndisallow: /las"


def test_one_endless_line_holds_no_rule():
    assert robots(b"User-agent: * Disallow: /" + b"a" * 5_000_000) == Robots(200)
    assert robots(b"User-agent: *\nDisallow: /" + b"a" * 5_000_000) == Robots(200)


@pytest.mark.parametrize(
    ("count", "rule"), [(MAX_RULES, "Disallow: /{}"), (MAX_WILDCARD_RULES, "Disallow: /{}*x")], ids=["plain", "wild"]
)
def test_too_many_rules_mean_that_nothing_is_allowed(count, rule):
    rules = [rule.format(number) for number in range(count)]
    most = robots(everyone(*rules))
    assert most.refuse("http://h.example/0yx", ALL) == DISALLOWED
    assert most.refuse("http://h.example/y", ALL) is None
    over = robots(everyone(*rules, "Allow: /y*"))
    assert over == Robots(200, unavailable="too_many_rules")
    assert over.refuse("http://h.example/y", ALL) == Refusal(ROBOTS_UNAVAILABLE, "too_many_rules")
    assert robots(everyone(*rules[:10] * count)).unavailable == ""


def test_patterns_that_would_take_long_are_not_matched():
    found = robots(everyone("Disallow: /" + "*a" * 100_000))
    work = len("disallow: /") + 200_000
    assert found.refuse("http://h.example/" + "b" * (MAX_PATTERN_WORK // work - 17), ALL) is None
    assert found.refuse("http://h.example/" + "b" * (MAX_PATTERN_WORK // work - 16), ALL) == Refusal(
        ROBOTS_DISALLOWED, "too_complex"
    )


def test_matching_never_tries_again():
    # Written as a regular expression this would run for ever; so it did before Protego 0.6.2.
    found = robots(everyone("Disallow: /" + "*a" * 200 + "$"))
    assert found.refuse("http://h.example/" + "a" * 300 + "b", ALL) is None
    assert found.refuse("http://h.example/" + "a" * 300, ALL) == DISALLOWED


ODD = st.text(st.sampled_from("ab/*$?#%: \t\r\n\0\u2028\x85é\ufeff"), max_size=60)
SOUP = st.lists(st.one_of(st.sampled_from([*FIELDS, "flamingo", "ai-train=no", ":", "/", "*", "\n"]), ODD)).map("".join)
URLS = st.text(max_size=30).map(lambda text: clean_url(f"http://h.example/{text}"))


@settings(deadline=None)
@given(st.one_of(st.binary(), SOUP.map(str.encode)), st.integers(0, 999), URLS)
def test_any_answer_is_read(body, status, url):
    found = parse_robots(status, body)
    assert found.text.encode().decode() == found.text
    assert 0 <= found.crawl_delay_s <= MAX_CRAWL_DELAY_S
    if url is not None:
        refusal = found.refuse(url, ALL)
        assert refusal is None or refusal.reason


# Headers and meta elements


DIRECTIVES = [
    # value, the directive that refuses a page, the one that refuses an image
    ("noindex", "noindex", "noindex"),
    ("NoAI", "noai", "noai"),
    ("none", "none", "none"),
    ("noml", "noml", "noml"),
    ("noimageai", "", "noimageai"),
    ("nofollow, noimageindex", "", "noimageindex"),
    ("noimageai, noai", "noai", "noimageai"),
    ("all", "", ""),
    ("index, follow", "", ""),
    ("nofollow, noarchive, nosnippet, notranslate", "", ""),
    ("noindexing, xnoai, no ai", "", ""),
    ("", "", ""),
    (",,;,", "", ""),
    ("noindex; nofollow", "noindex", "noindex"),
    ("nofollow noai", "noai", "noai"),
    # Directives with a value are no names of robots, and their values no directives.
    ("max-snippet:-1, noai", "noai", "noai"),
    ("noai, max-image-preview:large", "noai", "noai"),
    ("max-image-preview: none, max-video-preview:-1", "", ""),
    ("max-image-preview:standard, noimageai", "", "noimageai"),
    ("max-snippet: 20 noai", "noai", "noai"),
    ("unavailable_after: 25 Jun 2010 15:00:00 PST", "", ""),
    ("unavailable_after: Sat, 25 Jun 2010 15:00:00 PST, noai", "noai", "noai"),
    ("unavailable_after: Friday, 25-Jun-10 15:00:00 GMT, noindex", "noindex", "noindex"),
    ("unavailable_after: Sat, Jun 25 2010 15:00:00 PST, noai", "noai", "noai"),
    ("unavailable_after: 2010-06-25T15:00:00Z, noml", "noml", "noml"),
    ("unavailable_after: Jun 25, 2010, 15:00:00, noml", "noml", "noml"),
    # What follows a robot's name is for that robot.
    ("otherbot: noindex", "", ""),
    ("otherbot: noindex, nofollow, noai", "", ""),
    ("noai, otherbot: noindex", "noai", "noai"),
    ("otherbot: noindex, flamingo: noai", "noai", "noai"),
    ("flamingo: noindex", "noindex", "noindex"),
    ("Flamingo/1.0: noimageai", "", "noimageai"),
    ("flamingo: nofollow, otherbot: noai", "", ""),
    ("flamingo-news: noai", "", ""),
    ("*: noai", "noai", "noai"),
    ("otherbot: max-snippet:-1, noai", "", ""),
    ("flamingo: max-snippet:-1, noai", "noai", "noai"),
    ("otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "", ""),
]


@pytest.mark.parametrize(("value", "page", "picture"), DIRECTIVES)
@pytest.mark.parametrize("name", ["X-Robots-Tag", "x-robots-tag"])
def test_x_robots_tag(name, value, page, picture):
    headers = [("Content-Type", "noindex"), (name, "nofollow"), (name, value)]
    for image, directive in ((False, page), (True, picture)):
        refusal = Refusal(X_ROBOTS_TAG, directive) if directive else None
        assert refuse_headers(headers, ALL, image=image) == refusal
    assert refuse_headers(headers, NONE, image=True) is None


def test_a_name_holds_for_its_own_header_only():
    headers = [("X-Robots-Tag", "otherbot: noindex"), ("X-Robots-Tag", "noai")]
    assert refuse_headers(headers, ALL, image=False) == Refusal(X_ROBOTS_TAG, "noai")


@pytest.mark.parametrize(("content", "page", "picture"), [row for row in DIRECTIVES if "bot:" not in row[0]])
@pytest.mark.parametrize("name", ["robots", " ROBOTS ", "flamingo"])
def test_meta_robots(name, content, page, picture):
    metas = [("description", "noindex"), ("otherbot", "noai"), (name, content)]
    for image, directive in ((False, page), (True, picture)):
        refusal = Refusal(META_ROBOTS, directive) if directive else None
        assert refuse_meta(metas, ALL, image=image) == refusal
    assert refuse_meta(metas, NONE, image=True) is None


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(
    ("value", "refused"),
    [("1", True), (" 1 ", True), ("1, 1", True), ("0, 1", True), *((v, False) for v in ("", "0", "2", "11", "true"))],
)
def test_tdm_reservation(value, refused, image):
    header = refuse_headers([("TDM-Reservation", value)], ALL, image=image)
    meta = refuse_meta([("tdm-reservation", value), ("tdm-policy", "1")], ALL, image=image)
    assert header == (Refusal(TDM_RESERVATION, "header") if refused else None)
    assert meta == (Refusal(TDM_RESERVATION, "meta") if refused else None)
    assert refuse_headers([("tdm-reservation", value)], RightsConfig(tdm=False), image=image) is None
    assert refuse_meta([("tdm-reservation", value)], RightsConfig(tdm=False), image=image) is None


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Content-Usage", "train-ai=n", CONTENT_USAGE),
        ("content-usage", "search=y, train-ai=n;x=1", CONTENT_USAGE),
        ("Content-Usage", "train-ai=y, search=n", ""),
        ("Content-Signal", "ai-train=no, search=yes", CONTENT_SIGNAL),
        ("Content-Signal", "ai-train=yes, search=yes, ai-input=yes", ""),
        ("Content-Type", "ai-train=no", ""),
    ],
)
def test_preferences_in_headers(name, value, reason, image):
    assert refuse_headers([(name, value)], ALL, image=image) == (Refusal(reason, "header") if reason else None)
    assert refuse_headers([(name, value)], RightsConfig(preferences=False), image=image) is None


@settings(deadline=None)
@given(st.text(), st.booleans())
def test_any_value_is_read(value, image):
    for name in ("X-Robots-Tag", "Content-Usage", "Content-Signal", "tdm-reservation"):
        refusal = refuse_headers([(name, value)], ALL, image=image)
        assert refusal is None or refusal.reason in (X_ROBOTS_TAG, CONTENT_USAGE, CONTENT_SIGNAL, TDM_RESERVATION)
    refuse_meta([("robots", value), (value, value)], ALL, image=image)


@settings(deadline=None)
@given(st.lists(st.sampled_from([row[0] for row in DIRECTIVES]), max_size=3))
def test_what_refuses_a_page_refuses_its_pictures(values):
    headers = [("X-Robots-Tag", value) for value in values]
    if refuse_headers(headers, ALL, image=False):
        assert refuse_headers(headers, ALL, image=True)


# TDMRep


def tdmrep(*rules):
    found = [{"location": location, "tdm-reservation": value} for location, value in rules]
    return parse_tdmrep(json.dumps(found).encode())


THREE = tdmrep(("/directory-a/", 1), ("/directory-b/html/", 1), ("/directory-b/images/*.jpg", 0))


@pytest.mark.parametrize(
    ("found", "path", "reserved"),
    [
        (tdmrep(("/", 1)), "/", True),
        (tdmrep(("/", 1)), "/a/b.jpg?c", True),
        (tdmrep(("/", 0)), "/a", False),
        (THREE, "/directory-a/x.pdf", True),
        (THREE, "/directory-b/html/x.html", True),
        (THREE, "/directory-b/images/x.jpg", False),
        (THREE, "/other", False),
        # The first match counts, not the longest.
        (tdmrep(("/a/free/", 0), ("/a/", 1)), "/a/free/x", False),
        (tdmrep(("/a/", 1), ("/a/free/", 0)), "/a/free/x", True),
        (tdmrep(("/x", 1), ("/a", 0), ("/", 1)), "/a", False),
        (tdmrep(("/x", 1), ("/a", 0), ("/", 1)), "/b", True),
        # Patterns as in robots.txt.
        (tdmrep(("/a$", 1)), "/a", True),
        (tdmrep(("/a$", 1)), "/ab", False),
        (tdmrep(("/*.pdf$", 1)), "/x/y.pdf", True),
        (tdmrep(("*", 1)), "/x", True),
        (tdmrep(("/path/foo-%24", 1)), "/path/foo-$", True),
        (tdmrep(("images/", 1)), "/images/a.jpg", True),
        (tdmrep(("https://h.example/images/", 1)), "/images/a.jpg", True),
        (tdmrep(("https://h.example", 1)), "/images/a.jpg", True),
        (tdmrep(("/a\nb", 1)), "/a", False),
        (tdmrep(("/a b", 1)), "/a%20b", True),
        # Values: numbers as text are meant as numbers, all else breaks the format.
        (tdmrep(("/", "1")), "/a", True),
        (tdmrep(("/", 2)), "/a", False),
        (tdmrep(("/", "yes")), "/a", False),
        (tdmrep(("/", None), ("/", [1]), (7, 1), (None, 1), ("/b", 1)), "/a", False),
        (tdmrep(("/", None), ("/", [1]), (7, 1), (None, 1), ("/b", 1)), "/b", True),
    ],
)
def test_tdmrep(found, path, reserved):
    assert found.refuse(f"https://h.example{path}", ALL) == (RESERVED_BY_FILE if reserved else None)
    assert found.refuse(f"https://h.example{path}", RightsConfig(tdm=False)) is None
    assert Tdmrep(found.text) == found


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"<!doctype html><title>Not here</title>", ""),
        (b"\xff\xfe\x00", ""),
        (b"null", ""),
        (b'[1, "/", null, []]', ""),
        (b'{"location": "/", "tdm-reservation": 1}', "1 /"),
        (b'[{"location": "/\\ud800", "tdm-reservation": 1}]', "1 /?"),
        (b'[{"location": "/a", "tdm-reservation": 1, "tdm-policy": "https://h.example/p.json"}]', "1 /a"),
        (b'[{"location": "/a", "tdm-reservation": 1}' + b"," * 9, ""),
        (b"[" * 200_000, ""),
        (b'{"a":' * 50_000, ""),
        (b"9" * 400_000, ""),
        (b"x" * (MAX_FILE_BYTES + 1), ""),
        (b" [".ljust(MAX_FILE_BYTES - 2) + b"]", ""),
        (b" [".ljust(MAX_FILE_BYTES), "1 /"),
    ],
)
def test_what_a_tdmrep_json_may_hold(body, text):
    assert parse_tdmrep(body) == Tdmrep(text)


def test_too_many_locations_reserve_everything():
    rules = [(f"/{number}", number % 2) for number in range(MAX_LOCATIONS)]
    assert tdmrep(*rules).refuse("http://h.example/x", ALL) is None
    assert tdmrep(*rules).refuse("http://h.example/7", ALL) == RESERVED_BY_FILE
    assert tdmrep(*rules, ("/y", 0)) == RESERVED
    assert tdmrep(*rules * 2) == tdmrep(*rules)


def test_a_location_that_would_take_long_is_not_matched():
    found = tdmrep(("/" + "*a" * 100_000, 0))
    assert found.refuse("http://h.example/b", ALL) is None
    assert found.refuse("http://h.example/" + "b" * (MAX_URL_CHARS - 17), ALL) == RESERVED_BY_FILE


VALUES = st.sampled_from([0, 1, "1", 2, True, None, 1.0, float("nan"), [], {}, "/", "\ud800"]) | PATHS | ODD
FILES = st.lists(st.dictionaries(st.sampled_from(["location", "tdm-reservation", "tdm-policy"]), VALUES), max_size=4)


@settings(deadline=None)
@given(st.one_of(st.binary(), FILES.map(lambda rules: json.dumps(rules).encode())), URLS)
def test_any_tdmrep_json_is_read(body, url):
    found = parse_tdmrep(body)
    assert found.text.encode().decode() == found.text
    if url is not None:
        assert found.refuse(url, ALL) in (None, RESERVED_BY_FILE)
