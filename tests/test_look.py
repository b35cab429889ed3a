"""Batches made by hand are shown as they are: every token, image and mistake, with hostile text made harmless."""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
from functools import partial
from html.parser import HTMLParser
from itertools import groupby

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from flamingo_model.batch import Batch
from flamingo_model.look import FRAME_PX, IMAGE, IMAGE_PX, PADDING, SPECIAL, TEXT, facts_of, rows_json, view_rows
from flamingo_model.look_lines import show_batches
from flamingo_model.look_page import page
from flamingo_model.tokens import ByteTokenizer, FastTokenizer, train_tokenizer
from pipeline.cli import main
from pipeline.report import HARMFUL, printable

BYTES = ByteTokenizer()
CLEAN = partial(printable, one_line=False)
SIDE = 160
NASTY = '<script>alert("x")</script>\x1b[31m\u202e &amp;'


def make_batch(rows, length, tokenizer=BYTES, names=("pages",), side=SIDE, following=False):
    """Make a batch of rows of samples (key, [text | number of frames]); phi is the last image, or the next one."""
    fields = ("tokens", "loss", "image_of", "segment", "position", "source")
    arrays = {name: np.zeros((len(rows), length), np.int64) for name in fields}
    arrays["tokens"][:] = tokenizer.pad
    media = []
    for number, samples in enumerate(rows):
        at = images = 0
        for segment, (_, items) in enumerate(samples, 1):
            last, total = 0, images + sum(isinstance(item, int) for item in items)
            tokens = [(tokenizer.bos, images + 1 if following and total > images else 0, False)]
            for item in [*items, None]:
                sees = last if not following else images + 1 if images < total else 0
                if isinstance(item, str):
                    tokens += [(token, sees, True) for token in tokenizer.encode(item)]
                elif item is None:
                    tokens += [(tokenizer.eoc, sees, True), (tokenizer.eos, sees, True)]
                else:
                    images += 1
                    last = images
                    media.append((number, images, item))
                    tokens += [(token, images, False) for token in tokenizer.image]
            for place, (token, sees, loss) in enumerate(tokens):
                values = (token, loss, sees, segment, place, (segment - 1) % len(names))
                for name, value in zip(fields, values, strict=True):
                    arrays[name][number, at] = value
                at += 1
    counts = [frames for _, _, frames in media]
    arrays["loss"] = arrays["loss"].astype(bool)
    return Batch(
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
        frames=colours(sum(counts), side),
        media_row=torch.tensor([row for row, _, _ in media], dtype=torch.int64),
        media_number=torch.tensor([image for _, image, _ in media], dtype=torch.int64),
        media_frames=torch.tensor(counts, dtype=torch.int64),
        flip=torch.zeros(len(media), dtype=torch.bool),
        jitter=torch.ones(len(media), 3),
        keys=tuple(tuple(key for key, _ in samples) for samples in rows),
        names=names,
    )


def colours(count, side):
    """Make frames: the left half is black, the right half of a grey that tells the frames apart."""
    frames = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    for number in range(count):
        frames[number, :, :, side // 2 :] = 200 - 20 * min(number, 9)
    return frames


def first_row(batch, tokenizer=BYTES):
    return next(view_rows(batch, tokenizer))


def whole(row, tokens, tokenizer=BYTES):
    """Decode each stretch of text of a row in one go, as the spans should tell it."""
    return "".join(
        tokenizer.decode([tokens[place] for span in spans for place in range(span.start, span.stop)])
        for (what, _), spans in groupby(row.spans, key=lambda span: (span.what, span.state))
        if what == TEXT
    )


# Rows as spans

ITEMS = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), st.just(1)), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.text("abc", min_size=1), ITEMS), max_size=3), min_size=1, max_size=2), st.data())
def test_spans_tell_every_token_once(rows, data):
    size = sum(len(str(item).encode()) + 1 for row in rows for _, items in row for item in items)
    batch = make_batch(rows, size + 40, side=4)
    # Whatever a token sees and wherever the mask begins, what is shown says it.
    cut = data.draw(st.integers(0, size + 39))
    batch.loss[0, :cut] &= data.draw(st.booleans())
    for number, row in enumerate(view_rows(batch, BYTES)):
        assert [span.start for span in row.spans] == [0, *(span.stop for span in row.spans)][:-1]
        assert row.spans[-1].stop == batch.tokens.shape[1]
        for span in row.spans:
            for column, value in (("image_of", span.image_of), ("loss", span.loss), ("segment", span.segment)):
                assert set(getattr(batch, column)[number, span.start : span.stop].tolist()) == {value}
            kinds = {
                PADDING if not span.segment else IMAGE if token == 260 else SPECIAL if token > 255 else TEXT
                for token in row.tokens[span.start : span.stop]
            }
            assert kinds == {span.what}
        assert "".join(span.text for span in row.spans if span.what == TEXT) == whole(row, row.tokens)
        assert not row.problems


def test_a_span_is_a_character():
    row = first_row(make_batch([[("k", ["aé😀", 1, "b"])]], 20))
    assert [(span.what, span.start, span.stop, span.text) for span in row.spans] == [
        (SPECIAL, 0, 1, "<BOS>"),
        (TEXT, 1, 2, "a"),
        (TEXT, 2, 4, "é"),
        (TEXT, 4, 8, "😀"),
        (IMAGE, 8, 9, ""),
        (TEXT, 9, 10, "b"),
        (SPECIAL, 10, 11, "<EOC>"),
        (SPECIAL, 11, 12, "<EOS>"),
        (PADDING, 12, 20, ""),
    ]


def test_a_character_that_runs_divide_is_not_lost():
    batch = make_batch([[("k", [1, "é", 1])]], 8)
    batch.image_of[0, 3] = 2
    spans = [(span.text, span.start, span.stop, span.image_of) for span in first_row(batch).spans]
    assert spans[2:4] == [("�", 2, 3, 1), ("�", 3, 4, 2)]


def test_bytes_that_are_no_text_stay_bounded():
    batch = make_batch([[("k", ["a" * 200])]], 220)
    batch.tokens[0, 1:201] = 0xFF
    spans = [span for span in first_row(batch).spans if span.what == TEXT]
    assert "".join(span.text for span in spans) == "�" * 200
    assert max(span.stop - span.start for span in spans) == 64


def test_a_tag_of_several_tokens_is_one_image():
    tokenizer = FastTokenizer(train_tokenizer(["a heron in the reeds", "herons and reeds"], 300))
    assert len(tokenizer.image) > 1
    row = first_row(make_batch([[("k", ["a heron", 1, " the reeds", 1, "é"])]], 40, tokenizer), tokenizer)
    assert [span.stop - span.start for span in row.spans if span.what == IMAGE] == [len(tokenizer.image)] * 2
    assert "".join(span.text for span in row.spans if span.what == TEXT) == "a heron the reedsé"


def test_a_tag_whose_tokens_differ_is_no_tag():
    tokenizer = FastTokenizer(train_tokenizer(["a heron in the reeds"], 300))
    batch = make_batch([[("k", [1, "a"])]], 20, tokenizer)
    batch.image_of[0, 2] = 0
    row = first_row(batch, tokenizer)
    assert "".join(span.text for span in row.spans if span.what == TEXT) == "<image>a"
    assert row.problems == ("image 1 has no tag",)


class Stripping(ByteTokenizer):
    """Drops a space that begins what it decodes, as SentencePiece does."""

    def decode(self, ids):
        return super().decode(ids).removeprefix(" ")


def test_a_leading_space_is_seen():
    row = first_row(make_batch([[("k", [1, " a heron", 1, "  b"])]], 20, Stripping()), Stripping())
    assert "".join(span.text for span in row.spans if span.what == TEXT) == " a heron  b"


# Pictures, figures and mistakes


def test_a_thumbnail_is_what_the_model_sees():
    batch = make_batch([[("k", [1, "a", 1, "b", 1])]], 12)
    batch.flip[1] = True
    batch.jitter[2] = torch.tensor([0.5, 1.0, 1.0])
    media = first_row(batch).media
    pictures = {number: np.asarray(medium.thumbnail()).astype(int) for number, medium in media.items()}
    assert {picture.shape for picture in pictures.values()} == {(IMAGE_PX, IMAGE_PX, 3)}
    edges = {number: (picture[60, 5].tolist(), picture[60, -5].tolist()) for number, picture in pictures.items()}
    assert edges == {1: ([0] * 3, [200] * 3), 2: ([180] * 3, [0] * 3), 3: ([0] * 3, [80] * 3)}
    assert media[2].told == "image 2 160x160 mirrored"


def test_a_clip_is_a_strip_of_its_frames():
    medium = first_row(make_batch([[("k", [3, "a"])]], 8)).media[1]
    strip = np.asarray(medium.thumbnail())
    assert strip.shape == (FRAME_PX, 3 * FRAME_PX, 3)
    assert [int(strip[40, 40 + 20 + 80 * frame, 0]) for frame in range(3)] == [200, 180, 160]
    assert medium.told == "clip 1 of 3 frames 160x160"


def test_small_frames_are_not_enlarged():
    assert first_row(make_batch([[("k", [1])]], 8, side=16)).media[1].thumbnail().size == (16, 16)


def test_what_a_batch_adds_up_to():
    batch = make_batch([[("k", ["ab", 1]), ("l", ["c"])], [("m", [2, "d"])]], 16)
    assert facts_of(batch) == {
        "rows": 2,
        "length": 16,
        "samples": 3,
        "tokens": 6 + 4 + 5,
        "targets": 4 + 3 + 3,
        "padding": 1 - 15 / 32,
        "media": 2,
        "frames": 3,
        "side_px": SIDE,
    }


OTHERS = "tokens of sample 2 see image 1, which is of sample 1"


def no_media(batch):
    batch.media_row[0] = 1


def two_tags(batch):
    batch.image_of[0, 7] = 1


def no_tag(batch):
    batch.tokens[0, 1] = ord("x")


def sees_nothing_there(batch):
    batch.image_of[0, 3] = 7


def sees_other_sample(batch):
    batch.image_of[0, 8] = 1


def tag_is_target(batch):
    batch.loss[0, 1] = True


def padding_is_target(batch):
    batch.loss[0, -1] = True


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_media, ("the tag of image 1 has no image",)),
        (two_tags, ("two tags are of one image", "image 2 has no tag", OTHERS)),
        (no_tag, ("image 1 has no tag",)),
        (sees_nothing_there, ("tokens see image 7, which is not there",)),
        (sees_other_sample, (OTHERS,)),
        (tag_is_target, ("a tag or padding is a target",)),
        (padding_is_target, ("a tag or padding is a target",)),
    ],
)
def test_a_row_that_is_wrong_says_so(spoil, told):
    batch = make_batch([[("k", [1, "ab"]), ("l", [1, "cd"])], [("m", ["e"])]], 20)
    assert [row.problems for row in view_rows(batch, BYTES)] == [(), ()]
    spoil(batch)
    assert first_row(batch).problems == told
    assert told[0] in lines_of(batch)
    assert told[0] in read_page(batch).text


# For programs


def test_a_row_for_programs():
    batch = make_batch([[("k", ["a", 1, "é"]), ("l", ["\n"])]], 14, names=("pages", "more"))
    (row,) = rows_json([{"mixed": batch}], BYTES)
    assert json.loads(json.dumps(row)) == {
        "step": 0,
        "batch": "mixed",
        "row": 0,
        "keys": ["k", "l"],
        "tokens": [256, 97, 260, 0xC3, 0xA9, 258, 257, 256, 10, 258, 257, 259, 259, 259],
        "text": "<BOS>a<image>é<EOC><EOS><BOS>\n<EOC><EOS>",
        "image_of": [[0, 2, 0], [2, 7, 1], [7, 14, 0]],
        "loss": [
            *([0, 1, False], [1, 2, True], [2, 3, False], [3, 7, True]),
            *([7, 8, False], [8, 11, True], [11, 14, False]),
        ],
        "segment": [[0, 7, 1], [7, 11, 2], [11, 14, 0]],
        "padding": 3,
        "media": [{"number": 1, "frames": 1, "flip": False, "jitter": [1.0, 1.0, 1.0]}],
        "problems": [],
    }


def test_rows_are_counted():
    batch = make_batch([[("k", ["a"])]] * 5, 8)
    steps = [{"a": batch, "b": batch}, {"a": batch}]
    assert [(row["step"], row["batch"]) for row in rows_json(steps, BYTES, 1)] == [(0, "a"), (0, "b"), (1, "a")]
    assert len(list(rows_json(steps, BYTES))) == 15
    assert lines_of(batch, rows=2).count("row ") == 2
    assert "and 3 more rows (--rows)" in lines_of(batch, rows=2)
    assert "more rows" not in lines_of(batch, rows=5)
    assert read_page(batch, rows=2).text.count("and 3 more rows (--rows)") == 1


# The page


class Read(HTMLParser):
    """Reads a page: its elements, its text without the style, what its tooltips and pictures are."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.text, self.tips, self.pictures = [], [], "", [], []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "i" and "title" in given:
            self.tips.append(given["title"])
        if tag == "img":
            head, _, data = given["src"].partition(",")
            assert head == "data:image/jpeg;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def read_page(batch, rows=None, name="pages"):
    return Read("".join(page([{name: batch}], BYTES, "batches", CLEAN, rows)))


def test_the_page_shows_rows_in_reading_order():
    found = read_page(make_batch([[("key-1", ["One\ntwo", 1, "three", 1, "four"])]], 40))
    assert "sample 1 · key-1<BOS>One↵\ntwoimage 1 160x160threeimage 2 160x160four<EOC><EOS> … 19 padding" in found.text
    assert "1 × 40 rows × tokens" in found.text
    assert "47.5% padding" in found.text
    assert [picture.size for picture in found.pictures] == [(IMAGE_PX, IMAGE_PX)] * 2
    assert found.tips[0] == "id 256 · phi 0 · position 0 · segment 1 · no target"
    assert found.tips[-1] == "id 257 · phi 2 · position 20 · segment 1"


def test_packed_samples_are_kept_apart_on_the_page():
    rows = [[("key-1", [1, "one"]), ("key-2", [1, "two"])]]
    text = read_page(make_batch(rows, 20, names=("pairs", "laion")), name="mixed").text
    one, two = "image 1 160x160one<EOC><EOS>", "image 2 160x160two<EOC><EOS>"
    assert f"sample 1 · key-1 · pairs<BOS>{one}sample 2 · key-2 · laion<BOS>{two} … 6 padding" in text
    assert "2.0 samples a row" in text


def hue_of(attributes):
    return attributes.get("style", "")


def test_what_tokens_see_and_what_is_no_target_is_marked():
    found = read_page(make_batch([[("k", ["a", 1, "b", 1, "c"])]], 16, following=True))
    runs = [given for tag, given in found.elements if tag == "span" and given.get("class") in ("see ", "see mute", "")]
    shown = [(given["class"], hue_of(given)) for given in runs]
    # <BOS> | a | tag 1 | b | tag 2 | c <EOC> <EOS>
    classes = ["see mute", "see ", "see mute", "see ", "see mute", ""]
    assert [kind for kind, _ in shown] == classes
    hues = [hue for _, hue in shown]
    assert hues[0] == hues[1] == hues[2] != hues[3] == hues[4]
    assert hues[5] == ""


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text(max_size=8))
def test_text_of_strangers_does_nothing_on_the_page(text, key):
    source = "".join(page([{NASTY: make_batch([[(key + NASTY, [text, NASTY])]], 200)}], BYTES, NASTY, CLEAN))
    assert not set(map(ord, source)) & set(HARMFUL)
    found = Read(source)
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b", "div", "span", "i", "sup", "img"}
    assert {tag for tag, _ in found.elements} <= allowed
    assert all(not name.startswith("on") for _, given in found.elements for name in given)
    assert CLEAN(text + NASTY).replace("\n", "↵\n") in found.text
    assert ("meta", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        (tag, given.get("content")) for tag, given in found.elements
    ]


# The terminal


def lines_of(batch, rows=None, draw=None, width=2000, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    show_batches([{"pages": batch}], BYTES, console, CLEAN, draw, rows)
    return console.file.getvalue()


def test_a_pipe_gets_marks_in_place_of_colours():
    batch = make_batch([[("k", ["a\nb", 1, "c"]), ("l", [2, "d"])]], 20)
    assert lines_of(batch).splitlines() == [
        "a colour or ⟨k⟩: sees image k · ~between tildes~: no target · ↵ a line break",
        "",
        "step 0 · pages",
        "1 rows of 20 tokens · 13 tokens, 9 of them targets · 35.0% padding · 2 images or clips, 3 frames of 160 px"
        " · 2 samples, 2.0 a row",
        "",
        "row 0",
        "sample 1 · k",
        "~<BOS>~a↵ b[image 1 160x160]c<EOC><EOS>",
        "sample 2 · l",
        "~<BOS>~[clip 2 of 2 frames 160x160]d<EOC><EOS> … 7 padding",
    ]


def test_the_image_seen_is_named_where_it_changes():
    batch = make_batch([[("k", ["a", 1, "b", 1, "c"])]], 16, following=True)
    line = lines_of(batch).splitlines()[-1]
    assert line == "⟨1⟩~<BOS>~a[image 1 160x160]⟨2⟩b[image 2 160x160]⟨0⟩c<EOC><EOS> … 8 padding"


def test_a_terminal_gets_colours_and_pictures():
    drawn = []
    batch = make_batch([[("k", ["a", 1, "b", 3, "c"])]], 16)
    text = lines_of(batch, draw=drawn.append, force_terminal=True, color_system="standard")
    assert "\x1b[36mb" in text
    assert "\x1b[33mc" in text
    assert "\x1b[1;2m<BOS>" in text
    assert "~" not in text
    assert [picture.size for picture in drawn] == [(IMAGE_PX, IMAGE_PX), (3 * FRAME_PX, FRAME_PX)]


def test_text_of_strangers_cannot_steer_the_terminal():
    batch = make_batch([[(NASTY, [NASTY, 1, NASTY])]], 200)
    for options in ({}, {"force_terminal": True, "color_system": None}):
        text = lines_of(batch, **options)
        assert text.count("␛[31m") == 3
        assert not set(map(ord, text)) - {10} & set(HARMFUL)


def test_a_row_without_samples_is_shown():
    batch = make_batch([[]], 8)
    assert lines_of(batch).splitlines()[-1] == " … 8 padding"
    assert " … 8 padding" in read_page(batch).text
    assert next(rows_json([{"a": batch}], BYTES))["segment"] == [[0, 8, 0]]


# The command


def flamingo(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give either a PATH or --batches CONFIG"),
        (["dataset", "--batches", "data.toml"], "give either a PATH or --batches CONFIG"),
        (["--batches", "data.toml", "--key", "3fa9"], "--key finds a sample of a PATH; --batches has none"),
        (["--batches", "data.toml", "--json", "--out", "a.html"], "--json prints lines and --out writes a page"),
        (["dataset", "--out", "a.html"], "--rows and --out are for --batches"),
        (["dataset", "--rows", "3"], "--rows and --out are for --batches"),
    ],
)
def test_options_that_do_not_go_together_are_told_in_one_line(arguments, told):
    result = flamingo(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith(f"flamingo: inspect: {told}")
    assert result.output.count("\n") == 1


def test_without_torch_the_command_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "flamingo_model"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = flamingo("--batches", "data.toml")
    assert result.exit_code == 2
    assert result.output == "flamingo: --batches needs torch: pip install 'flamingo-data[train]'\n"


CONFIG = """
[data]
image_px = 32
shuffle = false
[data.datasets.captions]
kind = "pairs"
shards = ["{shard}"]
batch = 4
p_space = 0.0
"""


@pytest.fixture
def config(tmp_path):
    """Write a shard of eight pairs, one of which cannot be read, and the settings of a loader for it."""
    stream = io.BytesIO()
    Image.new("RGB", (48, 24), (200, 40, 40)).save(stream, "JPEG")
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as tar:
        for number in range(8):
            for part, data in (("jpg", stream.getvalue()), ("txt", b"\xff" if number == 1 else b"Heron %d" % number)):
                member = tarfile.TarInfo(f"k{number}.{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    path = tmp_path / "data.toml"
    path.write_text(CONFIG.format(shard=tmp_path / "shard-000000.tar"))
    return path


def test_the_command_shows_what_the_loader_gives(config, tmp_path):
    result = flamingo("--batches", config, "--json", "--limit", 2)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["step"], row["batch"]) for row in rows] == [(0, "captions")] * 4 + [(1, "captions")] * 4
    told = {key: row["text"] for row in rows for key in row["keys"]}
    assert told.keys() >= {"k0", "k2", "k7"}
    assert "k1" not in told
    assert told["k2"] == "<BOS><image>Heron 2<EOC><EOS>"
    assert "skipped: captions bad_text" in result.stderr
    lines = flamingo("--batches", config, "--rows", 1).stdout.splitlines()
    assert lines[-3:] == ["~<BOS>~[image 1 32x32]Heron 0<EOC><EOS> … 21 padding", "", "and 3 more rows (--rows)"]
    out = tmp_path / "batches.html"
    assert flamingo("--batches", config, "--out", out).exit_code == 0
    found = Read(out.read_text("utf-8"))
    assert len(found.pictures) == 4
    assert "Heron 3" in found.text


def test_what_the_command_cannot_do_is_told_in_one_line(config, tmp_path):
    for arguments in (
        ["--batches", tmp_path / "none.toml"],
        ["--batches", config, "--out", config / "page.html"],
    ):
        result = flamingo(*arguments)
        assert result.exit_code == 2
        assert result.output.startswith("flamingo: ")
        assert result.output.count("\n") == 1
    config.write_text("[data]\nimage_px = 32\n")
    assert "[data.datasets.NAME]" in flamingo("--batches", config).output
