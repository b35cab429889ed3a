"""Looking into datasets, shards and samples, with hostile ones among them."""

import base64
import io
import json
import re
import tarfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from PIL import Image
from rich.console import Console
from test_report import make_dataset, page, png, shown

from pipeline import inspect
from pipeline.folder import UserError
from schemas.document import ImageRef, Text
from schemas.page import Origin, key_of
from schemas.sample import Interleaved, Picture, to_members

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
    assert value["totals"]["images"] == 3
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
    assert inspect.choose_drawing(terminal, environment) == expected
    assert inspect.choose_drawing(Console(file=io.StringIO()), environment) == "line"
    colourless = Console(file=io.StringIO(), force_terminal=True, color_system=None)
    assert inspect.choose_drawing(colourless, environment) == "line"


def test_a_half_block_is_two_pixels():
    image = Image.frombytes("RGB", (2, 2), bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]))
    left, right, end = inspect.half_blocks(image)
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
    assert inspect.cells(size_px, 4, width) == expected


def test_inline_images_carry_a_png():
    data = base64.b64encode(png(300, 300) * 9).decode()
    pieces = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", inspect.kitty(data, 7))
    assert pieces[0][0] == "a=T,f=100,q=2,c=7,m=1"
    assert [head for head, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]
    assert "".join(piece for _, piece in pieces) == data
    assert max(len(piece) for _, piece in pieces) == 4096
    assert inspect.kitty("abcd", 7) == "\x1b_Ga=T,f=100,q=2,c=7,m=0;abcd\x1b\\"
    assert inspect.iterm("abcd", 7) == "\x1b]1337;File=inline=1;width=7;preserveAspectRatio=1:abcd\x07"


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
    assert "sample a␛[31m: sample schema ␛[2J, this version reads 1" in refusal(path)
    write_tar(path, [("a.json", b'{"schema": 1, "kind": "pair"}')])
    assert "sample a: sample kind 'pair', expected 'interleaved'" in refusal(path)


@pytest.mark.parametrize("json_bytes", [b"{", b"\xff", b"[" * 100_000])
def test_a_sample_whose_json_cannot_be_read_is_told(tmp_path, json_bytes):
    path = write_tar(tmp_path / "s.tar", [("k.json", json_bytes)])
    assert "the JSON of sample k is damaged: " in refusal(path)
    assert "the JSON of sample k is damaged: " in refusal(path, "k")


def test_a_sample_that_lacks_fields_is_told(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("k.json", b'{"schema": 1, "kind": "interleaved"}')])
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
