"""Looking into datasets, shards and samples, with hostile ones among them."""

import base64
import io
import json
import re
import tarfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from captioned_dataset import FILM, HERON, PAGE, add_captioned, jpeg
from PIL import Image
from rich.console import Console
from test_report import make_dataset, page, png, shown

from pipeline import drawing, inspect
from pipeline.folder import UserError
from schemas import SCHEMA_VERSION
from schemas.document import ImageRef, Text
from schemas.page import Origin, key_of
from schemas.pair import ImageText, Part, pair_to_members
from schemas.sample import Interleaved, Picture, to_members
from schemas.video import VideoText, clip_key, video_to_members

HOST = "https://h.example"
NASTY = "\x1b]0;owned\x07 \x1b[31mred\x9b1m"
PAGES = [
    page(
        f"{HOST}/fens",
        Text("The fens lie low."),
        ImageRef(f"{HOST}/a.png", alt="no", caption="A heron"),
        Text("Birds of the fens."),
        ImageRef(f"{HOST}/b.png", alt="Sunset"),
        title="A walk",
    ),
    page(f"{HOST}/nasty", Text(f"Some text {NASTY}."), ImageRef(f"{HOST}/a.png", caption=NASTY), title=NASTY),
    page(f"{HOST}/short", Text("Too short"), ImageRef(f"{HOST}/a.png")),
]
IMAGES = {f"{HOST}/a.png": png(), f"{HOST}/b.png": png(90, 100)}
FENS, NASTIES = key_of(f"{HOST}/fens"), key_of(f"{HOST}/nasty")
SHARD = "interleaved/shard-000000.tar"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"), PAGES, IMAGES)


def told(path, key=None, limit=10, as_json=False, **options):
    return shown(lambda console: inspect.inspect(str(path), key, limit, as_json, console), **options)


def refusal(path, key=None):
    with pytest.raises(UserError) as error:
        told(path, key)
    text = str(error.value)
    assert "\n" not in text
    assert "\x1b" not in text
    return text


def write_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample_members(key, data=b"no picture", url=HOST):
    picture = Picture(f"{HOST}/a.png", "", "", "s", "p", "jpeg", 5, 4, data)
    sample = Interleaved(key, url, "Title", "en", ("One two", 0), (picture,), Origin("a.warc", 3))
    return [(f"{key}.{name}", member) for name, member in to_members(sample)]


def row_of(key, images, words, title):
    return f"{key} {images:6} {words:7}  {title}"


def test_a_dataset_is_summed_up_and_its_samples_listed(dataset):
    lines = told(dataset.root)
    rows = {FENS: row_of(FENS, 2, 8, "A walk"), NASTIES: row_of(NASTIES, 1, 4, "␛]0;owned␇ ␛[31mred\ufffd1m")}
    header = lines.index("key                      images   words  title")
    assert lines[header + 1 : header + 3] == [rows[key] for key in sorted(rows)]
    assert lines[-2] == f"flamingo inspect {dataset.root} --key {min(rows)[:8]}"
    assert any(re.fullmatch(r" +page +3 +2 +66\.7 +1 too_few_words", line) for line in lines)


def test_a_limit_says_how_many_are_left(dataset):
    lines = told(dataset.root, limit=1)
    assert lines[-4] == "and 1 more (--limit)"
    assert told(dataset.path(SHARD), limit=1)[-2] == "and 1 more (--limit)"


def test_a_dataset_in_json(dataset):
    (line, _) = told(dataset.root, limit=1, as_json=True)
    value = json.loads(line)
    assert value["dataset"] == dataset.root
    assert value["samples"] == 2
    assert value["totals"]["parts"] == 3
    assert [sample["key"] for sample in value["first"]] == [min(FENS, NASTIES)]


def test_a_sample_in_a_pipe_in_reading_order(dataset):
    lines = told(dataset.root, FENS[:6])
    assert lines == [
        "A walk",
        f"{HOST}/fens",
        "2 texts · 8 words · 2 images · en · captured 2024-05-01",
        f"sample {FENS} of {dataset.path(SHARD)}",
        "page read from a.warc at byte 0",
        "",
        "The fens lie low.",
        "",
        "[image m000.jpg 80x64 A heron]",
        "",
        "Birds of the fens.",
        "",
        "[image m001.jpg 90x100 Sunset]",
        "",
    ]


def test_what_a_page_says_of_itself_is_shown(tmp_path):
    said = {"author": "Jane Roe", "published": datetime(2024, 4, 3, tzinfo=UTC), "licence": "https://h.example/terms"}
    fens = replace(next(one for one in PAGES if one.url == f"{HOST}/fens"), **said)
    facts = told(make_dataset(tmp_path, [fens], IMAGES).root, FENS)[2].split(" · ")[3:]
    assert facts == ["en", "Jane Roe", "published 2024-04-03", "captured 2024-05-01", "https://h.example/terms"]


@pytest.mark.parametrize(
    "key", [f"{HOST}/fens", "HTTPS://H.example:443/fens#top", "h.example/fens", FENS, FENS.upper()]
)
def test_a_sample_by_url_in_any_spelling_or_by_key(dataset, key):
    assert told(dataset.root, key)[0] == "A walk"
    assert told(dataset.path(SHARD), key)[0] == "A walk"


def test_a_sample_in_json_holds_no_image_bytes(dataset):
    (line, _) = told(dataset.root, FENS, as_json=True)
    value = json.loads(line)
    assert value["shard"] == "shard-000000.tar"
    assert value["texts"] == ["The fens lie low.", None, "Birds of the fens.", None]
    assert value["images"] == [None, "m000.jpg", None, "m001.jpg"]
    assert [(part["name"], part["width_px"], "data" in part) for part in value["parts"]] == [
        ("m000.jpg", 80, False),
        ("m001.jpg", 90, False),
    ]


def test_a_shard_lists_its_samples(dataset):
    assert told(dataset.path(SHARD))[0] == f"{dataset.path(SHARD)}: 2 samples"
    *lines, _ = told(dataset.path(SHARD), as_json=True)
    values = {value["key"]: value for value in map(json.loads, lines)}
    assert values[FENS] == {
        "key": FENS,
        "url": f"{HOST}/fens",
        "title": "A walk",
        "language": "en",
        "images": 2,
        "texts": 2,
        "chars": 35,
        "words": 8,
        "shard": "shard-000000.tar",
    }


def test_the_shard_and_the_index_say_the_same(dataset):
    *lines, _ = told(dataset.path(SHARD), as_json=True)
    assert json.loads(told(dataset.root, as_json=True)[0])["first"] == [json.loads(line) for line in lines]


def test_a_sample_is_read_where_the_index_says(tmp_path):
    folder = make_dataset(tmp_path, PAGES, IMAGES)
    first, second = sorted([FENS, NASTIES])
    with open(folder.path(SHARD), "r+b") as stream:
        stream.write(b"x" * 2048)
    assert told(folder.root, second)[3] == f"sample {second} of {folder.path(SHARD)}"
    assert "a damaged one" in refusal(folder.root, first)
    assert "a damaged one" in refusal(folder.path(SHARD))
    write_tar(folder.path(SHARD), sample_members("other"))
    assert refusal(folder.root, first).endswith(f"no sample {first} at byte 0, where the index says it is")


def test_what_is_no_key_is_told(dataset):
    first = min(FENS, NASTIES)
    missing = first[:3] + ("0" if first[3] != "0" else "1")
    assert f"--key {missing}: no such sample; near it: {first}" in refusal(dataset.root, missing)
    assert refusal(dataset.path(SHARD), missing) == f"--key {missing}: no such sample"
    assert "neither a key (24 hex digits, or the first of them)" in refusal(dataset.root, "heron")
    assert "no sample of this page; `flamingo why URL" in refusal(dataset.root, f"{HOST}/short\x1b[2J")


def test_the_beginning_of_several_keys_lists_them(tmp_path):
    members = [member for number in range(7) for member in sample_members(f"ab{number}")]
    path = write_tar(tmp_path / "s.tar", members)
    assert refusal(path, "ab") == "--key ab: begins several keys: ab0, ab1, ab2, ab3, ab4, ..."
    assert told(path, "ab3")[3] == f"sample ab3 of {path}"


def test_text_of_a_page_cannot_steer_the_terminal(dataset):
    options = {"force_terminal": True, "color_system": None}
    for lines in (told(dataset.root, **options), told(dataset.root, NASTIES, **options), told(dataset.root, NASTIES)):
        text = "\n".join(lines)
        assert "␛[31mred" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_pictures_are_drawn_where_the_terminal_can(dataset, monkeypatch):
    for name in ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    options = {"force_terminal": True, "color_system": "truecolor"}
    blocks = "\n".join(told(dataset.root, FENS, **options))
    assert blocks.count("▀") == 20 * 8 + 23 * 13
    assert re.search(r"\x1b\[38;2;25[3-5];0;0;48;2;25[3-5];0;0m▀", blocks)
    monkeypatch.setenv("TERM_PROGRAM", "WezTerm")
    assert "\n".join(told(dataset.root, FENS, **options)).count("\x1b]1337;File=inline=1;") == 2
    monkeypatch.setenv("KITTY_WINDOW_ID", "1")
    assert "\n".join(told(dataset.root, FENS, **options)).count("\x1b_Ga=T,f=100,q=2,") == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app", "TMUX": "x"}, "blocks"),
    ],
)
def test_the_terminal_says_how_pictures_are_drawn(environment, expected):
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor")
    assert drawing.choose_drawing(terminal, environment) == expected
    assert drawing.choose_drawing(Console(file=io.StringIO()), environment) == "line"
    colourless = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    assert drawing.choose_drawing(colourless, environment) == "line"


def test_a_half_block_is_two_pixels():
    image = Image.frombytes("RGB", (2, 2), bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]))
    left, right, end = drawing.half_blocks(image)
    assert (left.text, str(left.style)) == ("▀", "#ff0000 on #0000ff")
    assert (right.text, str(right.style)) == ("▀", "#00ff00 on #090807")
    assert end.text == "\n"


@pytest.mark.parametrize(
    ("size_px", "width", "expected"),
    [
        ((400, 200), 80, (79, 20)),
        ((40, 40), 80, (10, 5)),
        ((480, 4800), 80, (4, 20)),
        ((4800, 480), 120, (119, 6)),
        ((1, 1), 80, (1, 1)),
        ((1, 20_000), 80, (1, 24)),
        ((100, 100), 1, (1, 1)),
    ],
)
def test_pictures_fit_the_terminal(size_px, width, expected):
    assert drawing.cells(size_px, 4, width) == expected


def test_inline_images_carry_a_png():
    data = base64.b64encode(png(300, 300) * 9).decode()
    pieces = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", drawing.kitty(data, 7))
    assert pieces[0][0] == "a=T,f=100,q=2,c=7,m=1"
    assert [head for head, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]
    assert "".join(piece for _, piece in pieces) == data
    assert max(len(piece) for _, piece in pieces) == 4096
    assert drawing.kitty("abcd", 7) == "\x1b_Ga=T,f=100,q=2,c=7,m=0;abcd\x1b\\"
    assert drawing.iterm("abcd", 7) == "\x1b]1337;File=inline=1;width=7;preserveAspectRatio=1:abcd\x07"


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    path = write_tar(tmp_path / "s.tar", sample_members("k"))
    (line,) = [
        line for line in told(path, "k", force_terminal=True, color_system="truecolor") if "cannot be drawn" in line
    ]
    assert "[image m000.jpg 5x4 cannot be drawn: not_an_image starts with b'no pictu']" in line


def test_a_damaged_tar_is_told(tmp_path):
    whole = write_tar(tmp_path / "s.tar", sample_members("k0", bytes(3000)) + sample_members("k1")).read_bytes()
    path = tmp_path / "bad.tar"
    second = whole.index(b"k1.json")
    flipped = whole[:second] + b"X" + whole[second + 1 :]
    bad = {"empty": b"", "text": b"no tar" * 200, "in a member": whole[:2500], "a header": flipped}
    bad |= {"between members": whole[:second], "gzip": b"\x1f\x8b" + whole}
    for name, data in bad.items():
        path.write_bytes(data)
        assert "no tar file, or a damaged one: " in refusal(path), name
    path.write_bytes(flipped)
    assert refusal(path).endswith(f"neither a member nor the end mark at byte {second}")


def test_a_member_that_points_back_ends_the_scan(tmp_path):
    info = tarfile.TarInfo("k.json")
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = tarfile.itn(-512, 12, tarfile.GNU_FORMAT)
    total = 256 + sum(header[:148]) + sum(header[156:512])
    header[148:156] = b"%06o\0 " % total
    path = tmp_path / "back.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    assert "no tar file, or a damaged one: " in refusal(path)


def test_shards_of_other_programs_and_versions_are_named(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("0001.jpg", b"x"), ("0001.txt", b"caption"), ("0002.jpg", b"y")])
    assert "a shard of another program (sample 0001 is jpg + txt)" in refusal(path)
    write_tar(path, [("0001.jpg", b"x"), ("0001.json", b'{"caption": "c"}')])
    assert "a shard of another program (sample 0001 is jpg + json)" in refusal(path)
    write_tar(path, [("a\x1b[31m.json", b'{"schema": "\\u001b[2J", "kind": "interleaved"}')])
    assert f"sample a␛[31m: sample schema ␛[2J, this version reads {SCHEMA_VERSION}" in refusal(path)
    write_tar(path, [("a.json", b'{"schema": %d, "kind": "pair"}' % SCHEMA_VERSION)])
    assert "sample a: sample kind 'pair', expected 'interleaved'" in refusal(path)


@pytest.mark.parametrize("json_bytes", [b"{", b"\xff", b"[" * 100_000])
def test_a_sample_whose_json_cannot_be_read_is_told(tmp_path, json_bytes):
    path = write_tar(tmp_path / "s.tar", [("k.json", json_bytes)])
    assert "the JSON of sample k is damaged: " in refusal(path)
    assert "the JSON of sample k is damaged: " in refusal(path, "k")


def test_a_sample_that_lacks_fields_is_told(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("k.json", b'{"schema": %d, "kind": "interleaved"}' % SCHEMA_VERSION)])
    assert "sample k: " in refusal(path)
    (name, data), *rest = sample_members("k")
    write_tar(path, [(name, json.dumps(json.loads(data) | {"texts": 3}).encode()), *rest])
    assert "sample k is damaged: " in refusal(path)


def test_a_sample_with_fields_of_the_wrong_type_is_told(tmp_path):
    (name, data), *rest = sample_members("k")
    header = json.loads(data)
    own = ({"title": 3}, {"author": 3}, {"licence": []}, {"canonical": None}, {"published": 3}, {"published": "soon"})
    for wrong in (*own, {"texts": [5, None]}, {"parts": [header["parts"][0] | {"format": []}]}, {"origin": {}}):
        path = write_tar(tmp_path / "s.tar", [(name, json.dumps(header | wrong).encode()), *rest])
        assert "sample k is damaged: " in refusal(path, "k")


def test_a_sample_above_the_limit_is_not_read(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "s.tar", sample_members("k", bytes(5000)))
    monkeypatch.setattr(inspect, "MAX_SAMPLE_BYTES", 4999)
    assert refusal(path, "k") == f"{path}: sample k has more than 5.0 KB"


def test_what_is_no_dataset_is_told(tmp_path):
    assert refusal(tmp_path / "nothing").endswith("nothing: no such file or folder")
    assert "no dataset (no interleaved/manifest.json in it) and no shard" in refusal(tmp_path)
    (tmp_path / "config.toml").write_text("")
    assert "not complete; `flamingo build --out" in refusal(tmp_path)


# Pairs and clips

PAIR, CLIP, WHOLE = key_of(HERON), clip_key(FILM, 0.0, 8.0), clip_key(FILM, 60.0, 70.0)
PART = Part("ab", "cd", "jpeg", 64, 48, jpeg(3))


@pytest.fixture(scope="module")
def three_kinds(tmp_path_factory):
    """Give a dataset of pages, pairs and clips."""
    folder = make_dataset(tmp_path_factory.mktemp("dataset"), PAGES, IMAGES)
    add_captioned(folder.root, pairs=3)
    return folder


def captioned_members(key, said=NASTY, part=PART):
    pair = ImageText(key, HOST, PAGE, said, "alt", (), part, "en", "", Origin("a.warc", 3))
    return [(f"{key}.{name}", member) for name, member in pair_to_members(pair)]


def clip_members(key):
    clip = VideoText(key, HOST, PAGE, "A film.", "cues", (), 0.0, 2.0, 1.0, (PART,), "en", "", Origin("a.warc", 3))
    return [(f"{key}.{name}", member) for name, member in video_to_members(clip)]


def test_a_dataset_lists_the_samples_of_each_kind(three_kinds, dataset):
    lines = told(three_kinds.root)
    assert f"{PAIR}     64x48     5  A heron in the reeds." in lines
    assert f"{CLIP}     64x48         0.0-8.0     3  The river rises." in lines
    assert f"{WHOLE}   640x360       60.0-70.0     2  Night falls." in lines
    assert lines.count("key                      images   words  title") == 1
    assert lines.count("key                           size words  text") == 1
    assert lines.count("key                           size         seconds words  text") == 1
    short = told(three_kinds.root, limit=1)
    assert [line for line in short if line.startswith("and ")] == [f"and {n} more (--limit)" for n in (1, 2, 2)]
    assert lines[-2] == told(dataset.root)[-2].replace(dataset.root, three_kinds.root)


def test_a_dataset_of_three_kinds_in_json(three_kinds):
    value = json.loads(told(three_kinds.root, limit=1, as_json=True)[0])
    assert (value["kind"], value["samples"]) == ("interleaved", 2)
    assert (value["pairs"]["kind"], value["pairs"]["samples"], value["pairs"]["totals"]["parts"]) == ("pairs", 3, 3)
    assert (value["videos"]["samples"], value["videos"]["totals"]["seconds"]) == (3, 30.5)
    assert len(value["videos"]["first"]) == 1


def test_a_dataset_of_pairs_alone(tmp_path):
    folder = add_captioned(tmp_path, pairs=3, clips=False)
    lines = told(folder.root)
    assert f"{PAIR}     64x48     5  A heron in the reeds." in lines
    assert not any("images" in line for line in lines)
    assert json.loads(told(folder.root, as_json=True)[0])["kind"] == "pairs"
    assert told(folder.root, PAIR)[0] == "A heron in the reeds."


@pytest.mark.parametrize("kind", ["pairs", "videos"])
def test_the_shard_and_the_index_say_the_same_of_pairs_and_clips(three_kinds, kind):
    *lines, _ = told(three_kinds.path(kind, "shard-000000.tar"), as_json=True)
    assert len(lines) == 3
    assert json.loads(told(three_kinds.root, as_json=True)[0])[kind]["first"] == [json.loads(line) for line in lines]


def test_a_shard_of_pairs_lists_its_samples(three_kinds):
    path = three_kinds.path("pairs/shard-000000.tar")
    lines = told(path)
    assert lines[0] == f"{path}: 3 samples"
    assert f"{PAIR}     64x48     5  A heron in the reeds." in lines


@pytest.mark.parametrize("key", [PAIR[:8], HERON, "H.example/heron.jpg"])
def test_a_pair_in_a_pipe(three_kinds, key):
    path = three_kinds.path("pairs/shard-000000.tar")
    expected = [
        "A heron in the reeds.",
        HERON,
        "figcaption · 5 words · en · captured 2024-05-01",
        f"sample {PAIR} of {path}",
        f"text of {PAGE}, read from a.warc at byte 7",
        "[image jpg 64x48]",
        "figcaption   A heron in the reeds.",
        "alt          heron.jpg",
        "",
    ]
    assert told(three_kinds.root, key) == expected
    assert told(path, key) == expected


def test_clips_in_a_pipe(three_kinds):
    lines = told(three_kinds.root, CLIP)
    assert lines[2] == "cues · 3 words · 0.0 to 8.0 s · 1 frames a second · en · captured 2024-05-01"
    assert lines[5:8] == [f"[image 00{number}.jpg 64x48]" for number in range(3)]
    assert lines[8:10] == ["cues         The river rises.", "name         The fens in May"]
    assert told(three_kinds.root, WHOLE)[5] == "[clip mp4 640x360, 268 B]"


def test_a_pair_in_json_holds_no_image_bytes(three_kinds):
    value = json.loads(told(three_kinds.root, PAIR, as_json=True)[0])
    assert (value["shard"], value["caption"], value["kind"]) == ("shard-000000.tar", "A heron in the reeds.", "pairs")
    assert "data" not in value["parts"][0]


def test_a_pair_is_drawn_where_the_terminal_can(three_kinds, monkeypatch):
    for name in ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    options = {"force_terminal": True, "color_system": "truecolor"}
    assert "\n".join(told(three_kinds.root, PAIR, **options)).count("▀") == 16 * 6
    assert "\n".join(told(three_kinds.root, CLIP, **options)).count("▀") == 3 * 16 * 6


def test_text_of_a_pair_cannot_steer_the_terminal(tmp_path):
    path = write_tar(tmp_path / "s.tar", captioned_members("k"))
    options = {"force_terminal": True, "color_system": None}
    for lines in (told(path, **options), told(path, "k", **options), told(path, "k")):
        text = "\n".join(lines)
        assert "␛[31mred" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_the_beginning_of_keys_of_several_kinds_lists_them(three_kinds):
    listed = refusal(three_kinds.root, "6")
    assert "begins several keys: " in listed
    assert all(key in listed for key in (FENS, CLIP, WHOLE))
    assert refusal(three_kinds.root, PAIR[:-1] + "x").startswith(f"--key {PAIR[:-1]}x: neither a key")
    missing = PAIR[:-1] + ("0" if PAIR[-1] != "0" else "1")
    assert PAIR in refusal(three_kinds.root, missing)


def test_a_shard_of_mixed_kinds_is_listed_whole(tmp_path):
    path = write_tar(
        tmp_path / "s.tar", [*captioned_members("a", "A heron."), *clip_members("b"), *sample_members("c")]
    )
    lines = told(path)
    assert lines[0].endswith(": 3 samples")
    assert [line[:1] for line in lines[1:-1]] == ["k", "a", "b", "k", "c"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"caption": 3},
        {"texts": [{"kind": "alt"}]},
        {"texts": [{"kind": "alt", "text": 3}]},
        {"url": 3},
        {"width": 1e999, "parts": [{"name": "jpg"}]},
        {"parts": [{"name": []}]},
        {"parts": 3},
        {"origin": {}},
        {"fetched": "soon"},
    ],
)
def test_a_pair_with_fields_of_the_wrong_type_is_told(tmp_path, wrong):
    members = dict(captioned_members("k"))
    header = json.loads(members["k.json"]) | wrong
    path = write_tar(tmp_path / "s.tar", (members | {"k.json": json.dumps(header).encode()}).items())
    assert "sample k is damaged: " in refusal(path, "k")


@pytest.mark.parametrize("wrong", [{"start_s": "0"}, {"end_s": 10**400}, {"width": 1e999}, {"width": "3"}])
def test_a_clip_with_numbers_that_are_none_is_told(tmp_path, wrong):
    members = dict(clip_members("k"))
    header = json.loads(members["k.json"]) | wrong
    path = write_tar(tmp_path / "s.tar", (members | {"k.json": json.dumps(header).encode()}).items())
    assert "sample k is damaged: " in refusal(path)
