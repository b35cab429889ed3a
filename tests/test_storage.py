"""Reading bytes of shards: every byte right, from a disk, over HTTP that fails, and from other file systems."""

import asyncio
import io
import multiprocessing
import os
import pickle
import random
import shutil
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import fsspec
import pytest
import webdataset as wds
from fsspec.asyn import AsyncFileSystem
from web_server import Reply, WebServer, redirect

from flamingo_model import ranged, storage
from flamingo_model.ahead import ReadAhead
from flamingo_model.storage import Storage, Unreadable

DATA = random.Random(6).randbytes(300_000)
QUICK = {"wait_s": 0.001, "timeout_s": 5.0}
"""Nothing waits longer than it must; what is to time out says so."""


def span_of(seen):
    begin, _, end = seen.headers["range"].removeprefix("bytes=").partition("-")
    return int(begin), int(end) + 1


def part(seen, data=DATA, tag='"1"', **named):
    """Answer a request for a range as a server should."""
    begin, end = span_of(seen)
    if begin >= len(data):
        return Reply(status=416, headers=(("Content-Range", f"bytes */{len(data)}"),))
    end = min(end, len(data))
    told = f"bytes {begin}-{end - 1}/{len(data)}"
    return Reply(data[begin:end], status=206, headers=(("Content-Range", told), ("ETag", tag)), **named)


class Failing:
    """Answers with the replies in turn, each once, and then as a server should."""

    def __init__(self, *replies, data=DATA):
        self.replies, self.data = list(replies), data

    def __call__(self, seen):
        if not self.replies:
            return part(seen, self.data)
        reply = self.replies.pop(0)
        return reply(seen) if callable(reply) else reply


@pytest.fixture(scope="module")
def server():
    with WebServer() as running:
        yield running


@pytest.fixture
def remote(server):
    """Make a storage of one shard that a route serves."""
    made = []

    def make(route, *, sizes=None, path="/shard.tar", **named):
        server.routes = {path.partition("?")[0]: route, path: route}
        server.seen.clear()
        made.append(Storage([server.url(path)], sizes, **{**QUICK, **named}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def failure(reading, reason):
    with pytest.raises(Unreadable) as caught:
        reading()
    assert caught.value.reason == reason, caught.value
    return caught.value


# A local disk


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(DATA)
    return path


def test_local_bytes_are_right(file):
    for name in (str(file), f"file://{file}"):
        with Storage([name], [len(DATA)]) as local:
            for offset, length in ((0, 10), (5, 0), (299_990, 10), (0, len(DATA)), (1234, 70_000), (1234, 70_000)):
                assert local.read_ahead(0, offset, length) in (True, False)
                assert local.read(0, offset, length) == DATA[offset : offset + length]
            assert local.stat(0).size == len(DATA)


def test_a_local_shard_that_is_not_what_it_was(file, tmp_path):
    with Storage([str(file), str(tmp_path / "none"), str(tmp_path)], [len(DATA), -1, -1], **QUICK) as local:
        failure(lambda: local.read(0, len(DATA) - 5, 10), ranged.BEYOND_END)
        failure(lambda: local.read(1, 0, 10), ranged.NOT_FOUND)
        assert not local.read_ahead(1, 0, 10)
        failure(lambda: local.read(2, 0, 10), ranged.FORBIDDEN)
        assert local.read(0, 0, 5) == DATA[:5]
    with Storage([str(file)], [len(DATA) - 1]) as local:
        assert "its index says 299999" in str(failure(lambda: local.read(0, 0, 10), ranged.CHANGED))


def test_few_files_are_open_and_many_threads_read_right(tmp_path):
    urls = []
    for number in range(20):
        urls.append(str(tmp_path / f"{number}.tar"))
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 5000)
    with Storage(urls, open_files=3) as local, ThreadPoolExecutor(8) as pool:
        asked = [(number * 7 % 20, number % 4000, 900) for number in range(2000)]
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        found = list(pool.map(lambda place: local.read(*place), asked))
        assert [set(data) for data in found] == [{shard} for shard, _, _ in asked]
        assert {len(data) for data in found} == {900}
        assert len(local.files) <= 3
        if before:
            assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_local_read_that_fails_is_tried_again(file, monkeypatch):
    real, failures = os.pread, [OSError(5, "Input/output error")] * 2

    def pread(*arguments):
        if failures:
            raise failures.pop()
        return real(*arguments)[:40_000]  # as a file system may give less at a time

    with Storage([str(file)], **QUICK) as local:
        local.read(0, 0, 1)
        monkeypatch.setattr(os, "pread", pread)
        assert local.read(0, 100, 100_000) == DATA[100:100_100]
        assert local.retried == {storage.FAILED: 1}  # the first of the two began the careful way


# HTTP


def test_ranges_come_over_one_connection(remote, server):
    web = remote(part, sizes=[len(DATA)])
    for offset, length in ((0, 1), (77, 20_000), (299_000, 1000), (5, 0)):
        assert web.read(0, offset, length) == DATA[offset : offset + length]
    assert web.stat(0) == storage.Stat(len(DATA), '"1"')
    assert len({seen.connection for seen in server.seen}) == 1
    assert len(server.seen) == 4
    assert web.retried == {}


PASSING = {
    "500": (Reply(b"oh", status=500), ranged.SERVER_ERROR),
    "429": (Reply(b"slow down", status=429), ranged.SERVER_ERROR),
    "reset": (Reply(way="reset"), ranged.CONNECTION),
    "closed": (Reply(way="close"), ranged.CONNECTION),
    "cut": (lambda seen: part(seen, way="reset_body"), ranged.CONNECTION),
    "short": (lambda seen: changed(part(seen), body=part(seen).body[:-7], way="unframed"), ranged.CUT),
    "garbage": (Reply(b"x" * 99, way="garbage"), ranged.BROKEN_REPLY),
    "no headers' end": (Reply(way="endless_headers"), ranged.BROKEN_REPLY),
    "other bytes": (lambda seen: moved(seen), ranged.WRONG_RANGE),
    "more bytes": (lambda seen: longer(seen), ranged.WRONG_RANGE),
    "no range": (Reply(b"12345", status=206), ranged.WRONG_RANGE),
    "zipped": (lambda seen: zipped(seen), ranged.WRONG_RANGE),
}


def changed(reply, body=None, way="whole", headers=()):
    return Reply(reply.body if body is None else body, status=206, headers=(*reply.headers, *headers), way=way)


def moved(seen):
    begin, end = span_of(seen)
    return Reply(DATA[begin + 1 : end + 1], status=206, headers=(("Content-Range", f"bytes {begin + 1}-{end}/300000"),))


def longer(seen):
    return changed(part(seen), body=part(seen).body + b"more", way="chunked")


def zipped(seen):
    return changed(part(seen), headers=(("Content-Encoding", "gzip"),))


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again_and_counted(remote, name):
    reply, reason = PASSING[name]
    web = remote(Failing(reply, reply))
    assert web.read(0, 1000, 5000) == DATA[1000:6000]
    assert web.retried == {reason: 2}
    web = remote(Failing(*[reply] * 9), retries=2)
    failure(lambda: web.read(0, 1000, 5000), reason)
    assert web.retried == {reason: 2}


LASTING = {
    "404": (Reply(b"no", status=404), ranged.NOT_FOUND),
    "410": (Reply(b"gone", status=410), ranged.NOT_FOUND),
    "403": (Reply(b"never", status=403), ranged.FORBIDDEN),
    "400": (Reply(b"what", status=400), ranged.REFUSED),
    "whole": (Reply(DATA), ranged.NO_RANGES),
    "endless whole": (Reply(way="endless_body"), ranged.NO_RANGES),
    "round": (redirect("/shard.tar"), ranged.REDIRECTS),
    "elsewhere": (redirect("ftp://a.test/"), ranged.BAD_URL),
    "nowhere": (redirect("http://[::/"), ranged.BAD_URL),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_will_not_change_is_not_tried_again(remote, server, name):
    reply, reason = LASTING[name]
    web = remote(reply)
    error = failure(lambda: web.read(0, 0, 5000), reason)
    assert error.url == web.urls[0]
    assert web.retried == {}
    assert len(server.seen) == (6 if reason == ranged.REDIRECTS else 1)


def test_beyond_the_end_and_empty(remote):
    for offset in (299_999, 300_000):
        web = remote(part)
        failure(lambda: web.read(0, offset, 2), ranged.BEYOND_END)  # noqa: B023
        assert web.retried == {}


def test_chunked_replies_and_redirects_and_queries(remote, server):
    web = remote(lambda seen: changed(part(seen), way="chunked"), path="/a shard.tar?sign=x%2By")
    server.routes = {
        "/a%20shard.tar?sign=x%2By": redirect("/there.tar"),
        "/there.tar": lambda seen: changed(part(seen), way="chunked"),
    }
    assert web.read(0, 10, 20_000) == DATA[10:20_010]
    server.routes = {}
    assert "sign" not in str(failure(lambda: web.read(0, 10, 10), ranged.NOT_FOUND))


def test_changed_content_is_refused(remote):
    web = remote(part, sizes=[len(DATA) - 1])
    assert "its index says 299999" in str(failure(lambda: web.read(0, 0, 10), ranged.CHANGED))
    tags = iter(['"1"', '"1"', '"2"'])
    web = remote(lambda seen: part(seen, tag=next(tags)))
    assert web.read(0, 0, 10) + web.read(0, 10, 10) == DATA[:20]
    failure(lambda: web.read(0, 20, 10), ranged.CHANGED)
    assert web.retried == {}


# Trap M: a server that says nothing more. Webdataset's curl has no limit on that, so it would wait for ever here.


@pytest.mark.parametrize("way", ["never", "silent_body", "endless_continue", "slow_headers"])
def test_a_stalled_server_is_given_up(remote, way, monkeypatch):
    monkeypatch.setattr(ranged, "MIN_BYTES_PER_S", 1 << 30)
    web = remote(Failing(lambda seen: part(seen, way=way)), timeout_s=0.3)
    assert web.read(0, 0, 5000) == DATA[:5000]
    assert web.retried == {ranged.TIMED_OUT: 1}


def test_a_body_that_trickles_is_given_up(remote, monkeypatch):
    monkeypatch.setattr(ranged, "MIN_BYTES_PER_S", 1 << 30)
    web = remote(lambda seen: part(seen, way="slow_body"), timeout_s=0.2, retries=0)
    failure(lambda: web.read(0, 0, 5000), ranged.TIMED_OUT)


def test_nobody_listens():
    urls = ["http://127.0.0.1:9/a.tar", "http://127.0.0.1:99999/", "https://", "http://[::/"]
    with Storage(urls, retries=1, wait_s=0.0) as web:
        failure(lambda: web.read(0, 0, 5), ranged.CONNECTION)
        failure(lambda: web.read(1, 0, 5), ranged.BAD_URL)
        failure(lambda: web.read(2, 0, 5), ranged.BAD_URL)
        failure(lambda: web.read(3, 0, 5), ranged.BAD_URL)
        assert web.retried == {ranged.CONNECTION: 1}


def test_a_certificate_that_nobody_trusts():
    with WebServer({"/a.tar": part}, tls=True) as secure, Storage([secure.url("/a.tar")], **QUICK) as web:
        failure(lambda: web.read(0, 0, 5), ranged.CERTIFICATE)
        assert web.retried == {}


# Traps K and L: cut connections and missing shards.


@pytest.mark.skipif(not shutil.which("curl"), reason="webdataset reads HTTP through curl")
def test_a_missing_shard_has_no_reason_in_webdataset_but_one_here(remote, server):
    web = remote(Reply(b"no", status=404))
    seen = []
    lost = wds.WebDataset(
        web.urls[0], shardshuffle=False, empty_check=False, handler=lambda error: not seen.append(error)
    )
    assert list(lost) == []
    told = [str(error).replace(web.urls[0], "") for error in seen]  # its port may have the number in it
    assert not any("404" in text or "not found" in text for text in told)
    assert "the server said 404" in str(failure(lambda: web.read(0, 0, 512), ranged.NOT_FOUND))


def test_what_came_before_a_cut_is_not_lost(remote):
    """Webdataset drops samples that had come whole when curl's exit is noticed; here only the range is read again."""
    web = remote(Failing(lambda seen: part(seen, way="reset_body")))
    assert web.read_ahead(0, 0, 100_000)
    assert b"".join(web.read(0, at, 10_000) for at in range(0, 100_000, 10_000)) == DATA[:100_000]
    assert web.retried == {ranged.CONNECTION: 1}


# Reading ahead


def test_blocks_are_read_once_and_dropped(remote, server):
    web = remote(part)
    for at in (0, 100_000):
        assert web.read_ahead(0, at, 100_000)
        assert web.read_ahead(0, at, 100_000)
    for at in random.Random(1).sample(range(0, 200_000, 4000), 50):
        assert web.read(0, at, 4000) == DATA[at : at + 4000]
    assert sorted(span_of(seen) for seen in server.seen) == [(0, 100_000), (100_000, 200_000)]
    assert (web.ahead.held_bytes, web.ahead.blocks) == (0, {})
    assert web.read(0, 99_000, 2000) == DATA[99_000:101_000]
    assert len(server.seen) == 3


def test_blocks_wait_while_there_is_no_room(remote, server):
    web = remote(part, max_bytes=25_000)
    assert not web.read_ahead(0, 0, 25_001)
    assert all(web.read_ahead(0, at, 10_000) for at in (0, 10_000, 20_000))
    assert web.read(0, 20_000, 1000) == DATA[20_000:21_000]  # alone: its block waits
    assert web.read(0, 0, 10_000) == DATA[:10_000]
    assert web.read(0, 21_000, 9000) == DATA[21_000:30_000]
    assert web.read(0, 10_000, 10_000) == DATA[10_000:20_000]
    asked = {span_of(seen) for seen in server.seen}
    assert asked == {(0, 10_000), (10_000, 20_000), (20_000, 21_000), (20_000, 30_000)}
    assert web.ahead.held_bytes == 0


def test_never_more_is_held_than_may_be():
    held, most, lock = 0, 0, threading.Lock()

    def fetch(shard, offset, length):
        nonlocal held, most
        with lock:
            held += length
            most = max(most, held)
        return DATA[offset : offset + length]

    ahead = ReadAhead(fetch, 4, 20_000)
    for at in range(0, 200_000, 5000):
        assert ahead.begin(0, at, 5000)
    for at in range(0, 200_000, 5000):
        data = ahead.read(0, at, 5000) or b""
        assert data in (b"", DATA[at : at + 5000])
        with lock:
            held -= len(data)
    ahead.close()
    assert 5000 <= most <= 25_000  # one was taken but not yet counted here
    assert not ahead.begin(0, 0, 1)


def test_forgotten_blocks_make_room(remote):
    web = remote(lambda seen: part(seen, delay_s=0.02), max_bytes=10_000, connections=1)
    assert web.read_ahead(0, 0, 10_000)
    assert web.read_ahead(0, 10_000, 10_000)
    web.forget(0)
    assert web.ahead.blocks == {}
    assert web.read(0, 0, 100) == DATA[:100]
    assert web.read_ahead(0, 50_000, 10_000)
    assert web.read(0, 50_000, 10_000) == DATA[50_000:60_000]
    web.forget()
    assert web.ahead.held_bytes == 0


def test_a_block_that_fails_fails_its_samples(remote, server):
    web = remote(Reply(status=404))
    assert web.read_ahead(0, 0, 3000)
    for at in (0, 1000, 2000):
        failure(lambda: web.read(0, at, 1000), ranged.NOT_FOUND)  # noqa: B023
    assert len(server.seen) == 1
    assert web.ahead.held_bytes == 0


def test_every_byte_is_right_where_requests_fail(remote, server):
    ways = ("reset_body", "short_body", "500", "silent")
    failed = []

    def route(seen):
        if span_of(seen)[0] // 2000 % 9 or span_of(seen) in failed:
            return part(seen, delay_s=0.001)
        failed.append(span_of(seen))
        way = ways[len(failed) % len(ways)]
        if way == "500":
            return Reply(status=500)
        if way == "short_body":
            return changed(part(seen), body=part(seen).body[:-1], way="unframed")
        return part(seen, way={"silent": "silent_body"}.get(way, way))

    web = remote(route, timeout_s=1.0, connections=8)
    blocks = range(0, 300_000, 2000)
    assert all(web.read_ahead(0, at, 2000) for at in blocks)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda at: web.read(0, at, 500), range(0, 300_000, 500))
        assert b"".join(found) == DATA
    assert len(failed) == 17
    assert web.retried.total() == 17
    assert set(web.retried) == {ranged.CONNECTION, ranged.CUT, ranged.SERVER_ERROR, ranged.TIMED_OUT}
    assert web.ahead.held_bytes == 0


def test_closing_ends_what_waits(remote):
    web = remote(Reply(way="never"), timeout_s=60.0)
    assert web.read_ahead(0, 0, 1000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(web.read, 0, 5000, 1000)
        while len(web.web.busy) < 2 or any(each.sock is None for each in web.web.busy):
            time.sleep(0.001)
        time.sleep(0.05)  # both are past sending, or their next try finds the storage closed
        web.close()
        failure(lambda: waiting.result(20), storage.CLOSED)
    failure(lambda: web.read(0, 0, 10), storage.CLOSED)


# Trap H: webdataset knows a few protocols, here any of fsspec's will do.


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.pipe_file("/storage-test/a.tar", DATA)
    yield system
    system.rm("/storage-test", recursive=True)


def test_any_protocol_of_fsspec_is_read(memory, monkeypatch):
    url = "memory://storage-test/a.tar"
    with pytest.raises(ValueError, match="no gopen handler"):
        list(wds.WebDataset(url, shardshuffle=False))
    with Storage([url, "memory://storage-test/b.tar", "nosuch://a/b.tar"], [len(DATA), -1, -1], **QUICK) as other:
        assert other.read(0, 1000, 500) == DATA[1000:1500]
        assert other.read_ahead(0, 0, 10_000)
        assert other.read(0, 3000, 7000) == DATA[3000:10_000]
        assert other.stat(0).size == len(DATA)
        assert other.stat(0).tag
        failure(lambda: other.read(1, 0, 5), ranged.NOT_FOUND)
        failure(lambda: other.read(2, 0, 5), storage.NO_PROTOCOL)
        failure(lambda: other.read(0, len(DATA) - 1, 5), ranged.CUT)
        assert other.retried == {ranged.CUT: 4}
        real = type(memory).cat_file
        failures = [OSError("lost"), RuntimeError("of a library of its own"), TimeoutError()]

        def cat_file(self, path, **span):
            if failures:
                raise failures.pop()
            return real(self, path, **span)

        monkeypatch.setattr(type(memory), "cat_file", cat_file)
        assert other.read(0, 20_000, 5) == DATA[20_000:20_005]
        assert other.retried == {ranged.CUT: 4, storage.FAILED: 2, ranged.TIMED_OUT: 1}
    with Storage([url], [5], **QUICK) as other:
        failure(lambda: other.read(0, 0, 5), ranged.CHANGED)


def test_file_systems_that_wait_in_an_event_loop_are_held_to_the_limit():
    class Slow(AsyncFileSystem):
        async def _info(self, path, **named):
            return {"size": len(DATA)}

        async def _cat_file(self, path, start=None, end=None, **named):
            await asyncio.sleep(60)

    fsspec.register_implementation("slow-test", Slow, clobber=True)
    with Storage(["slow-test://storage-test/a.tar"], retries=0, timeout_s=0.1) as other:
        failure(lambda: other.read(0, 0, 5), ranged.TIMED_OUT)


# Other processes


def in_another_process(web, answers):
    answers.put(web.read(0, 100, 50) + web.read(1, 100, 50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_reads_for_itself(remote, server, file):
    with Storage([remote(part).urls[0], str(file)], **QUICK) as web:
        assert web.read_ahead(0, 0, 1000)
        assert web.read(0, 100, 50) + web.read(1, 100, 50) == DATA[100:150] * 2
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        process = context.Process(target=in_another_process, args=(web, answers))
        with web.lock, web.ahead.lock:  # as another thread may hold them at that moment
            process.start()
        assert answers.get(timeout=60) == DATA[100:150] * 2
        process.join()
        assert process.exitcode == 0
        assert web.read(0, 2000, 50) == DATA[2000:2050]
    connections = [seen.connection for seen in server.seen]
    assert connections[0] == connections[2] != connections[1]


def test_a_spawned_process_reads_for_itself(remote, file):
    with Storage([remote(part).urls[0], str(file)], **QUICK) as web:
        assert web.read(0, 0, 5) == web.read(1, 0, 5)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(web.read, 0, 100, 50).result(60) == DATA[100:150]
            assert pool.submit(web.read, 1, 100, 50).result(60) == DATA[100:150]


def test_a_storage_is_pickled_as_what_it_reads(file):
    with Storage([str(file)], [len(DATA)], retries=7, max_bytes=5) as local:
        local.read(0, 0, 5)
        again = pickle.loads(pickle.dumps(local))
        assert (again.urls, again.sizes, again.retries, again.max_bytes) == (local.urls, local.sizes, 7, 5)
        assert again.read(0, 5, 5) == DATA[5:10]
        again.close()


def test_errors_travel_between_processes():
    error = Unreadable(ranged.NOT_FOUND, "https://me:secret@a.test/b.tar?key=secret", "there is no such file")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "https://a.test/b.tar: there is no such file"
    assert (again.reason, again.url) == (error.reason, error.url)


def test_a_shard_is_read_as_a_file(remote, file):
    for each in (remote(part), Storage([str(file)])):
        with each, each.file(0) as stream:
            assert stream.seek(-10, io.SEEK_END) == len(DATA) - 10
            assert stream.read() == DATA[-10:]
            stream.seek(1000)
            assert stream.read(70_000) == DATA[1000:71_000]
