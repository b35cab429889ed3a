"""The log and the ledger of the web: what was written is there, whatever happened to whoever wrote it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import web
from pipeline.folder import Folder
from pipeline.tables import ASKED, KeyRange, parts_of, stream_range
from pipeline.web import OPEN, WebLog, in_dataset, is_settled, ledger_stamp, log_files, newest, recover, resolve
from schemas.asked import FAILED, GOT, IMAGE, PAGE, PASSING, REFUSED, Asked, asked_from_row, asked_to_row
from schemas.media import STORED, Media

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
BODY = ("conversion", "image/jpeg", b"\xff\xd8 bytes of a picture \r\n\r\nWARC/1.0\r\n")
NAME = "image-0123456789abcdef"


def asked(number, outcome=GOT, **more):
    return Asked(f"https://a.example/{number}.jpg", IMAGE, outcome, host="a.example", asked=NOW, **more)


def rows(folder):
    return [asked_from_row(row) for row in stream_range(folder, ASKED, KeyRange("", ""))]


def by_url(found):
    return sorted(found, key=lambda each: each.url)


def block_at(folder, location):
    with folder.open(location.file) as stream:
        stream.seek(location.offset)
        record = next(iter(ArchiveIterator(stream, parse_http=False)))
        assert stream.tell() >= location.offset
        return record.headers["WARC-Target-URI"], record.reader.read()


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


def test_a_log_holds_its_entries_and_the_ledger_its_rows(folder):
    with WebLog(folder, NAME) as log:
        said = [log.add(asked(n), BODY) for n in range(3)] + [log.add(asked(3, FAILED, reason="http_404"))]
    assert rows(folder) == sorted(said, key=lambda each: each.key)
    assert [each.location is None for each in said] == [False, False, False, True]
    for each in said[:3]:
        assert block_at(folder, each.location) == (each.url, BODY[2])
    assert log_files(folder, IMAGE) == [f"web/{NAME}-000.warc"]
    assert log_files(folder, PAGE) == []


def test_a_log_of_nothing_leaves_nothing(folder, tmp_path):
    with WebLog(folder, NAME):
        pass
    assert list(tmp_path.rglob("*.*")) == []


def test_a_long_log_is_cut_and_a_later_one_takes_another_name(folder, monkeypatch):
    monkeypatch.setattr(web, "LOG_ENTRIES", 2)
    for start in (0, 5):
        with WebLog(folder, NAME) as log:
            for n in range(start, start + 5):
                log.add(asked(n), BODY)
    assert len(log_files(folder, IMAGE)) == 6
    assert [each.url for each in by_url(rows(folder))] == [asked(n).url for n in range(10)]
    for each in rows(folder):
        assert block_at(folder, each.location) == (each.url, BODY[2])


def test_a_log_ends_also_where_something_failed(folder):
    log = WebLog(folder, NAME)
    log.add(asked(0), BODY)
    log.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert [each.url for each in rows(folder)] == [asked(0).url]


def test_an_open_log_is_in_no_listing(folder):
    log = WebLog(folder, NAME)
    log.add(asked(0), BODY)
    assert (parts_of(folder, ASKED), log_files(folder, IMAGE)) == ([], [])
    log.end()


def leave_open(folder, tmp_path, count):
    """Write entries as a process does that is killed then; gives their rows and the path of the log."""
    log = WebLog(folder, NAME)
    said = [log.add(asked(n, *((GOT,) if n % 2 else (FAILED,))), BODY if n % 2 else None) for n in range(count)]
    log.log.stream.close()
    return said, tmp_path / "web" / f".{NAME}-000.warc{OPEN}"


def test_what_a_killed_process_wrote_is_recovered_once(folder, tmp_path):
    said, path = leave_open(folder, tmp_path, 4)
    recover(folder)
    assert by_url(rows(folder)) == said
    assert not path.exists()
    recover(folder)
    assert by_url(rows(folder)) == said
    for each in said[1::2]:
        assert block_at(folder, each.location) == (each.url, BODY[2])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_log_that_was_cut_anywhere_gives_its_whole_entries(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("cut")
    folder = Folder(str(tmp_path))
    said, path = leave_open(folder, tmp_path, 4)
    whole = path.read_bytes()
    ends = [whole.index(b"\r\n\r\n", whole.index(b'"url": "' + each.url.encode())) + 4 for each in said]
    near = st.builds(lambda end, less: end - less, st.sampled_from(ends), st.integers(0, 6))
    cut = data.draw(st.integers(0, len(whole)) | near)
    torn = data.draw(
        st.sampled_from([b"", b"\0" * 100, b"WARC/1.0\r\nContent-Length: 99999999999\r\n\r\n", b"\xff" * 7])
    )
    path.write_bytes(whole[:cut] + torn)
    recover(folder)
    assert by_url(rows(folder)) == [each for each, end in zip(said, ends, strict=True) if end <= cut]
    assert (tmp_path / "web" / f"{NAME}-000.warc").read_bytes() == whole[
        : max((e for e in ends if e <= cut), default=0)
    ]
    with WebLog(folder, NAME) as log:  # what comes next takes no name that is there
        log.add(asked(9), BODY)
    assert asked(9).url in {each.url for each in rows(folder)}
    assert len(log_files(folder, IMAGE)) == 2


def test_a_kill_between_the_rows_and_the_name_is_mended(folder, tmp_path):
    said, path = leave_open(folder, tmp_path, 3)
    kept = path.read_bytes()
    recover(folder)
    (tmp_path / "web" / f"{NAME}-000.warc").unlink()
    path.write_bytes(kept)
    recover(folder)
    assert by_url(rows(folder)) == said


def test_the_logs_of_one_unit_are_recovered_alone(folder, tmp_path):
    leave_open(folder, tmp_path, 2)
    recover(folder, "image-other")
    assert rows(folder) == []
    recover(folder, NAME)
    assert len(rows(folder)) == 2


def test_what_was_got_is_the_last_word_and_then_what_was_said_last():
    def at(day, outcome, kind=IMAGE):
        return asked_to_row(replace(asked(0, outcome, reason=str(day)), asked=NOW + timedelta(days=day), kind=kind))

    assert newest([], IMAGE) is None
    assert newest([at(1, GOT, PAGE)], IMAGE) is None
    assert newest([at(1, PASSING), at(3, FAILED), at(2, REFUSED)], IMAGE).reason == "3"
    assert newest([at(1, GOT), at(3, PASSING), at(2, GOT), at(9, GOT, PAGE)], IMAGE).reason == "2"
    assert newest([asked_to_row(Asked("u", IMAGE, PASSING)), at(-9999, FAILED)], IMAGE).outcome == FAILED


@pytest.mark.parametrize(
    ("said", "settled"),
    [
        (None, False),
        (asked(0, PASSING), False),
        (asked(0, REFUSED), True),
        (asked(0, FAILED), True),
        (asked(0, GOT), True),
        (asked(0, GOT, media=Media("u", STORED), settings="now"), True),
        (asked(0, GOT, media=Media("u", STORED), settings="before"), False),
    ],
)
def test_only_what_may_have_changed_is_asked_again(said, settled):
    assert is_settled(said, "now") is settled


def test_the_ledger_of_a_kind_is_named_by_its_parts(folder):
    for name in ("image-a", "original-b", "page-c"):
        with WebLog(folder, name) as log:
            log.add(asked(0), BODY)
    assert [part.split("-")[0] for part in ledger_stamp(folder, IMAGE)] == ["image", "original"]
    assert [part.split("-")[0] for part in ledger_stamp(folder, PAGE)] == ["page"]


def test_a_file_of_the_dataset_keeps_its_name_where_the_dataset_is_moved(folder, tmp_path):
    assert resolve(in_dataset("web/a.warc"), folder) == str(tmp_path / "web/a.warc")
    assert resolve("/elsewhere/b.warc", folder) == "/elsewhere/b.warc"
