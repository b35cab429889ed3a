"""A site that is asked for over HTTP and the archive of the same site make the same shards."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest
from web_server import Reply, WebServer

from pipeline.build import BUILD, BuildConfig
from pipeline.demo import site, write_warc
from pipeline.folder import Folder
from pipeline.local import LocalOptions
from pipeline.run import run
from pipeline.tables import REJECTED, KeyRange, stream_range
from pipeline.urls import host_of
from schemas.config import from_tree

PAGES = 12
OF_THE_CAPTURE = ("origin", "fetched")
"""What a sample says of where and when it was read: the one thing in which the two must differ."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Serve a demo site whose hosts are loopback addresses, and build it from there and from its archive."""
    folder = tmp_path_factory.mktemp("web")
    files = list(site(PAGES, 3))
    hosts = sorted({host_of(file.url) for file in files})
    addresses = [f"127.0.0.{number}" for number in range(2, 2 + len(hosts))]
    with WebServer(addresses=addresses) as server:
        roots = {f"https://{host}": server.url("", address) for host, address in zip(hosts, addresses, strict=True)}
        moved = [move(file, roots) for file in sorted(files, key=lambda file: file.captured)]
        for file in moved:
            path = file.url.partition("://")[2].partition("/")[2]
            address = host_of(file.url).partition(":")[0]
            server.routes[f"{address}/{path}"] = Reply(file.data, file.content_type, file.headers, file.status)
        write_warc(moved, str(folder / "site.warc.gz"))
        pages = sorted({file.url for file in moved if file.content_type.startswith("text/html")})
        (folder / "pages.txt").write_text("\n".join(pages))
        web = build(folder / "web", folder / "pages.txt", {"contact": "t@example.org", "allow_private": True})
        archive = build(folder / "archive", folder / "site.warc.gz", {})
    return folder, web, archive


def move(file, roots):
    """Give a file of the site, and what it refers to, the addresses of the server."""
    data, url = file.data, file.url
    for old, new in roots.items():
        url = url.replace(old, new)
        if not file.content_type.startswith("image/"):
            data = data.replace(old.encode(), new.encode()).replace(old.encode()[6:], new.encode()[5:])
    return dataclasses.replace(file, url=url, data=data)


def build(out, source, fetch):
    tree = {"source": {"paths": [str(source)]}, "fetch": fetch | {"delay_s": 0.0}}
    return run(str(out), from_tree(BuildConfig, tree, "test"), BUILD, LocalOptions(1), lambda state: None)


def samples(folder):
    """Read every sample of a dataset: its members in order, without what is of the capture."""
    found = {}
    for shard in sorted(Path(folder, "interleaved").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                data = tar.extractfile(member).read()
                if member.name.endswith(".json"):
                    told = json.loads(data)
                    data = {name: value for name, value in told.items() if name not in OF_THE_CAPTURE}
                found[shard.name, member.name] = data
    return found


def test_the_web_gives_the_shards_of_the_archive(built):
    folder, _, _ = built
    web, archive = samples(folder / "web"), samples(folder / "archive")
    assert list(web) == list(archive)
    assert web == archive
    assert sum(name.endswith(".json") for _, name in web) > PAGES // 2


def test_the_funnels_agree_on_what_is_no_matter_of_the_web(built):
    _, web, archive = built
    kept = [("extract", "page", ""), ("normalise", "image url", ""), ("select", "page", ""), ("shard", "image", "")]
    assert [web.counts[name] for name in kept] == [archive.counts[name] for name in kept]


def test_what_was_got_is_an_archive_like_any_other(built):
    folder, _, _ = built
    logs = sorted(map(str, (folder / "web" / "web").glob("page-*.warc")))
    tree = {"source": {"paths": [*logs, str(folder / "site.warc.gz")]}}
    run(str(folder / "again"), from_tree(BuildConfig, tree, "test"), BUILD, LocalOptions(1), lambda state: None)
    assert samples(folder / "again") == samples(folder / "archive")


def test_every_listed_page_is_accounted_for(built):
    folder, web, _ = built
    listed = (folder / "pages.txt").read_text().split()
    rejected = {row["url"] for row in stream_range(Folder(str(folder / "web")), REJECTED, KeyRange("", ""))}
    kept = {value["url"] for (_, name), value in samples(folder / "web").items() if name.endswith(".json")}
    assert set(listed) <= kept | rejected
    assert web.counts["settle", "page", ""] + sum(
        count for (stage, _, reason), count in web.counts.items() if stage == "settle" and reason
    ) == len(listed)
