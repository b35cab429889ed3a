"""Videos of pages, from archive and web to shards: each clip with its text, and every video accounted for."""

import json
import tarfile
from pathlib import Path

import pytest
from damage import http, member, page, picture, record
from videos_made import encode
from web_dataset import WORDS, build_here, list_of
from web_server import Reply, WebServer, redirect

from pipeline.build import BUILD, BuildConfig, run_steps
from pipeline.clips import Unfit, sample_clips
from pipeline.folder import Folder
from pipeline.stage import Job, gather, run_unit
from pipeline.tables import REJECTED, KeyRange, stream_range
from pipeline.videos import MAX_TEXTS_CHARS, texts_of
from schemas.config import from_tree
from schemas.document import Said

HOST = "http://site.example"
EVERYTHING = KeyRange("", "")
CUES = """WEBVTT

00:00.000 --> 00:02.000
A grey square grows light.

00:04.000 --> 00:06.000
It is almost white.
"""


def article(*videos):
    return page(
        "Films", f"<article><h1>Films</h1>{WORDS}{''.join(videos)}<img src=a.jpg width=300 height=200>{WORDS}</article>"
    )


def video(name, inside="", caption=""):
    return f"<figure><video controls src='{name}'>{inside}</video><figcaption>{caption}</figcaption></figure>"


@pytest.fixture(scope="module")
def files():
    """Make the videos: three of 6 s, one that is cut off, and what is none."""
    whole = encode(frames=60, rate=10)
    return {
        "spoken.mp4": (whole, "video/mp4"),
        "cues.vtt": (CUES.encode(), "text/vtt"),
        "captioned.webm": (encode("libvpx", "webm", frames=60, rate=10), "video/webm"),
        "bare.mp4": (encode(frames=61, rate=10), "video/mp4"),
        "cut.mp4": (whole[: len(whole) // 3], "video/mp4"),
        "page.mp4": (b"<!doctype html><title>404</title>", "video/mp4"),
        "a.jpg": (picture(300, 200), "image/jpeg"),
    }


HTML = article(
    video("spoken.mp4", "<track kind=captions src=cues.vtt srclang=en>", "A square that changes"),
    video("captioned.webm", "", "A square in another file"),
    video("bare.mp4"),
    video("cut.mp4", "", "A film that is cut off"),
    video("page.mp4", "", "A film that is a page"),
    video("gone.mp4", "", "A film that is not in the archive"),
)
LOST = {
    "cut.mp4": ("decode_videos", "truncated"),
    "page.mp4": ("decode_videos", "not_a_video"),
    "gone.mp4": ("locate_videos", "not_in_sources"),
    "bare.mp4": ("clip", "no_text"),
}


def archive(files, path, html=HTML):
    records = [member(record(http(html), url=f"{HOST}/films.html"))]
    records += [member(record(http(data, kind), url=f"{HOST}/{name}")) for name, (data, kind) in files.items()]
    path.write_bytes(b"".join(records))
    return path


def build(source, out, others=None, **videos):
    """Build a dataset with videos in this process; gives its folder."""
    tree = {"source": {"paths": [str(source)]}, "videos": {"keep": "frames", "max_clip_s": 3.0} | videos}
    job = Job(Folder(str(out)), from_tree(BuildConfig, tree | (others or {}), "test"))

    def execute(stage, units, done):
        for unit in units:
            run_unit(stage, job, unit, gather(stage, job.folder, unit))

    run_steps(job, BUILD, execute)
    return job.folder


def clips_of(out):
    """Read the clips of a dataset by the file name of their video and their start: JSON, and the names of members."""
    found = {}
    for shard in sorted(Path(out, "videos").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name, data in members.items():
            if name.endswith(".json"):
                told, key = json.loads(data), name.partition(".")[0]
                parts = sorted(other.partition(".")[2] for other in members if other.startswith(key))
                assert members[f"{key}.txt"].decode() == told["caption"]
                found[told["url"].rpartition("/")[2], told["start_s"]] = (told, parts)
    return found


def lost_of(out):
    rows = stream_range(Folder(str(out)), REJECTED, EVERYTHING)
    stages = ("locate_videos", "decode_videos", "clip")
    return {row["url"].rpartition("/")[2]: (row["stage"], row["reason"]) for row in rows if row["stage"] in stages}


def test_clips_have_the_text_that_is_said_over_them(files, tmp_path):
    build(archive(files, tmp_path / "a.warc.gz"), tmp_path / "out")
    clips = clips_of(tmp_path / "out")
    assert {name: (told["caption"], told["text_kind"]) for name, (told, _) in clips.items()} == {
        ("spoken.mp4", 0.0): ("A grey square grows light.", "cues"),
        ("spoken.mp4", 3.0): ("It is almost white.", "cues"),
        ("captioned.webm", 0.0): ("A square in another file", "figcaption"),
        ("captioned.webm", 3.0): ("A square in another file", "figcaption"),
    }
    assert {tuple(parts) for _, parts in clips.values()} == {("000.jpg", "001.jpg", "002.jpg", "json", "txt")}
    assert lost_of(tmp_path / "out") == LOST


def test_the_track_in_the_language_of_the_page_speaks(files, tmp_path):
    foreign = CUES.replace("A grey square grows light.", "Ein graues Quadrat wird hell.").encode()
    tracks = "<track src=a-de.vtt srclang=de><track src=b-xx.vtt srclang=fr><track src=c-en.vtt srclang=en-GB>"
    html = article(video("spoken.mp4", tracks))
    records = [member(record(http(html), url=f"{HOST}/films.html"))]
    held = {"spoken.mp4": files["spoken.mp4"], "a.jpg": files["a.jpg"]}
    held |= {"a-de.vtt": (foreign, "text/vtt"), "b-xx.vtt": (foreign, "text/vtt"), "c-en.vtt": files["cues.vtt"]}
    records += [member(record(http(data, kind), url=f"{HOST}/{name}")) for name, (data, kind) in held.items()]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(records))
    build(tmp_path / "a.warc.gz", tmp_path / "out")
    assert clips_of(tmp_path / "out")["spoken.mp4", 0.0][0]["caption"] == "A grey square grows light."


def test_clips_can_be_cut_files(files, tmp_path):
    build(archive(files, tmp_path / "a.warc.gz"), tmp_path / "out", keep="clips")
    parts = {name: parts for (name, _), (_, parts) in clips_of(tmp_path / "out").items()}
    assert parts["spoken.mp4"] == ["json", "mp4", "txt"]
    assert lost_of(tmp_path / "out") == LOST


def test_without_videos_there_are_none(files, tmp_path):
    source = archive(files, tmp_path / "a.warc.gz")
    build(source, tmp_path / "out")
    build(source, tmp_path / "out", keep="none")
    assert Folder(str(tmp_path / "out")).names("videos") == []
    videos = {*files, "gone.mp4"} - {"a.jpg"}
    assert lost_of(tmp_path / "out") == dict.fromkeys(videos, ("locate_videos", "not_wanted"))
    assert Path(tmp_path, "out/interleaved/manifest.json").exists()


def test_a_track_of_two_videos_counts_once(files, tmp_path):
    tracks = "<track kind=captions src=a-empty.vtt><track kind=captions src=cues.vtt>"
    films = (video("spoken.mp4", tracks), video("bare.mp4", tracks))
    more = files | {"a-empty.vtt": (b"WEBVTT\n", "text/vtt")}
    build(archive(more, tmp_path / "a.warc.gz", article(*films)), tmp_path / "out")
    assert {told["caption"] for told, _ in clips_of(tmp_path / "out").values()} == {
        "A grey square grows light.",
        "It is almost white.",
    }
    manifest = json.loads(Path(tmp_path, "out/videos/manifest.json").read_text())
    rows = {(row["stage"], row["kind"]): (row["seen"], row["kept"]) for row in manifest["funnel"]}
    assert rows["locate_videos", "track"] == rows["decode_videos", "track"] == (2, 2)
    assert rows["locate_videos", "video"] == rows["decode_videos", "video"] == (2, 2)
    assert rows["decode_videos", "clip"][1] == rows["clip", "clip"][0]


@pytest.mark.parametrize(
    ("tree", "again"),
    [
        ({"fetch": {"max_video_bytes": 1_000_000}}, True),
        ({"media": {"jpeg_quality": 80}}, True),
        ({"media": {"short_side_px": 100}}, False),
        ({"pairs": {"preset": "align"}}, False),
    ],
)
def test_videos_are_decoded_again_when_it_matters(files, tmp_path, tree, again):
    source = archive(files, tmp_path / "a.warc.gz")
    before = build(source, tmp_path / "out").names("work/done/decode_videos")
    after = build(source, tmp_path / "out", tree).names("work/done/decode_videos")
    assert (before != after) == again


def test_each_clip_that_is_lost_counts(files, tmp_path, monkeypatch):
    def lose(*given):
        yield next(sample_clips(*given))
        yield Unfit("corrupt", "2 of 3 clips lost", 2)

    monkeypatch.setattr("pipeline.videos.sample_clips", lose)
    build(archive(files, tmp_path / "a.warc.gz", article(video("spoken.mp4", "", "A square"))), tmp_path / "out")
    manifest = json.loads(Path(tmp_path, "out/videos/manifest.json").read_text())
    (row,) = (row for row in manifest["funnel"] if (row["stage"], row["kind"]) == ("decode_videos", "clip"))
    assert (row["seen"], row["kept"], row["rejected"]) == (3, 1, {"corrupt": 2})


def test_texts_of_a_video_on_many_pages_are_bounded():
    pages = [{"texts": [{"kind": "transcript", "text": f"{n:03d}" * 1000}]} for n in range(100)]
    pages.append({"texts": [{"kind": "caption", "text": "A square"}]})
    found = texts_of(pages, "Said")
    assert found[:2] == [Said("cues", "Said"), Said("caption", "A square")]
    assert MAX_TEXTS_CHARS / 2 < sum(len(said.text) for said in found[1:]) <= MAX_TEXTS_CHARS
    assert texts_of(pages[::-1], "Said") == found


def test_the_web_gives_the_same_clips(files, tmp_path):
    build(archive(files, tmp_path / "a.warc.gz"), tmp_path / "archive")
    with WebServer() as server:
        server.routes["/films.html"] = Reply(HTML)
        for name, (data, kind) in files.items():
            server.routes[f"/{name}"] = Reply(data, kind)
        source = list_of(tmp_path, [server.url("/films.html")])
        build_here(tmp_path / "web", source, videos__keep="frames", videos__max_clip_s="3.0")
        asked = len(server.seen)
        build_here(tmp_path / "web", source, videos__keep="clips", videos__max_clip_s="3.0")
        assert [seen.path for seen in server.seen[asked:]] == []
        build_here(tmp_path / "web", source, videos__keep="frames", videos__max_clip_s="3.0")
    web, packed = clips_of(tmp_path / "web"), clips_of(tmp_path / "archive")
    assert {name: (told["caption"], told["parts"]) for name, (told, _) in web.items()} == {
        name: (told["caption"], told["parts"]) for name, (told, _) in packed.items()
    }
    assert lost_of(tmp_path / "web") == LOST | {"gone.mp4": ("locate_videos", "http_404")}


def test_a_video_that_moved_to_where_somebody_opted_out_is_left_out(files, tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("# nobody\n")
    with WebServer() as server:
        server.routes["/films.html"] = Reply(article(video("spoken.mp4", "", "A square that changes")))
        server.routes["/spoken.mp4"] = redirect("/moved/film.mp4")
        server.routes["/moved/film.mp4"] = Reply(*files["spoken.mp4"])
        server.routes["/a.jpg"] = Reply(*files["a.jpg"])
        source = list_of(tmp_path, [server.url("/films.html")])
        chosen = {"videos__keep": "frames", "rights__opt_out": f"['{listed}']"}
        build_here(tmp_path / "out", source, **chosen)
        assert clips_of(tmp_path / "out")
        listed.write_text(server.url("/moved") + "\n")
        build_here(tmp_path / "out", source, **chosen)
    assert clips_of(tmp_path / "out") == {}
    assert lost_of(tmp_path / "out") == {"spoken.mp4": ("locate_videos", "opted_out")}
