"""`flamingo generate` and `flamingo chat` over a checkpoint on the disk, and what a person may get wrong."""

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from videos_made import encode

from flamingo_model import chat
from flamingo_model.chat import Conversation, Talker, begin, converse, device_of, items_of, looks_of, open_talker
from flamingo_model.checkpoint import save, state_of
from flamingo_model.config import data_config
from flamingo_model.flamingo import make_flamingo
from flamingo_model.generate import NO_ROOM, Answer, Decoding
from flamingo_model.optim import trainable
from flamingo_model.presets import preset
from flamingo_model.prompt import END, Looks
from flamingo_model.tokens import ByteTokenizer
from flamingo_model.train_config import RunConfig
from pipeline.cli import main
from schemas.config import ConfigError

TOKENIZER = ByteTokenizer()
SMALL = {"resampler.layers": 1, "resampler.width": 16, "resampler.heads": 2, "resampler.head_width": 8,
         "xattn.heads": 2, "xattn.head_width": 8, "lm.layers": 2, "lm.width": 32, "lm.heads": 2, "lm.vocab": 264,
         "lm.tokens": 96, "lm.trainable": True, "vision.trainable": True}  # fmt: skip
DATA = {
    "image_px": 64, "mean": "imagenet", "fit": "crop",
    "datasets": {"films": {"kind": "videos", "shards": ["none"], "frames": 3, "fps": 2.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write a run's folder with one checkpoint, of a model whose every weight was learnt."""
    out = tmp_path_factory.mktemp("run")
    config = preset("tiny", SMALL)
    torch.manual_seed(1)
    model = make_flamingo(config, TOKENIZER)
    for name, parameter in model.named_parameters():
        if not name.startswith("vision"):
            torch.nn.init.normal_(parameter, float(parameter.ndim == 1), 0.2)
    settings = RunConfig(data_config(DATA, "test"), config)
    save(out, 7, {name: weight.detach() for name, weight in trainable(model).items()}, {},
         state_of(settings, {}, {}), TOKENIZER)  # fmt: skip
    return str(out)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def red(tmp_path):
    Image.new("RGB", (80, 60), "red").save(tmp_path / "red.png")
    return str(tmp_path / "red.png")


@pytest.fixture
def blue(tmp_path):
    Image.new("RGB", (80, 60), "blue").save(tmp_path / "blue.png")
    return str(tmp_path / "blue.png")


def flamingo(*words, said=None):
    return CliRunner().invoke(main, [str(word) for word in words], input=said, prog_name="flamingo")


def test_generate_reads_options_in_the_order_in_which_they_stand(run, red, blue):
    def row(*words):
        told = flamingo("generate", run, "--tokens", 6, "--json", *words)
        assert told.exit_code == 0, told.output
        return json.loads(told.output)

    first = row("--image", red, "--text", "one", "--image", blue, "--text", "two")
    assert set(first) == {"text", "ended", "score", "tokens"}
    assert first == row("--image", red, "--text=one", "--image", blue, "--text=two")
    others = [
        row("--image", blue, "--text", "one", "--image", red, "--text", "two"),
        row("--image", red, "--image", blue, "--text", "one", "--text", "two"),
        row("--text", "one", "--image", red, "--text", "two", "--image", blue),
    ]
    assert len({other["score"] for other in [first, *others]}) == 4
    assert row("--image", red, "--beams", "3")["score"] >= row("--image", red)["score"] - 1e-4


def test_generate_streams_the_text_that_json_holds(run, red):
    words = ["generate", run, "--image", red, "--text", "a", "--temperature", 1.2, "--seed", 4, "--tokens", 9]
    text = json.loads(flamingo(*words, "--json").output)["text"]
    told = flamingo(*words)
    assert told.exit_code == 0
    assert told.output == "".join(chr(0x2400 + ord(c)) if c < " " and c not in "\t\n" else c for c in text) + "\n"
    assert flamingo(*words[:-4], "--seed", 5, "--tokens", 9).output != told.output


def test_clips_are_shown_as_the_run_shows_them(run, tmp_path):
    assert looks_of(run) == Looks(64, "crop", "imagenet", 3, 2.0)
    (tmp_path / "clip.mp4").write_bytes(encode(frames=50, rate=25))
    items = items_of([("video", str(tmp_path / "clip.mp4")), ("text", "a\udcff")], looks_of(run))
    assert items[0].shape == (3, 3, 64, 64)
    assert items[1] == "a\ufffd"
    told = flamingo("generate", run, "--video", tmp_path / "clip.mp4", "--tokens", 2)
    assert told.exit_code == 0, told.output


def test_wrong_input_is_told_in_one_line(run, red, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    for words, told in [
        (["generate", run], "give a prompt"),
        (["generate", tmp_path / "none", "--text", "a"], "there is no checkpoint"),
        (["generate", red, "--text", "a"], "there is no checkpoint"),
        (["generate", run, "--image", tmp_path / "none.jpg"], "none.jpg: No such file"),
        (["generate", run, "--image", tmp_path / "text.jpg"], "text.jpg: unreadable"),
        (["generate", run, "--video", red], "red.png: unreadable: no MP4 or WebM"),
        (["generate", run, "--text", "x" * 200], "the prompt has 201 tokens, the language model 96 positions"),
        (["generate", run, "--text", "a", "--beams", 2, "--temperature", 1], "give one of the two"),
        (["generate", run, "--text", "a", "--device", "abacus"], "--device abacus: "),
        (["chat", run, "--ask", "no place"], "--ask says where the line stands"),
        (["chat", tmp_path], "there is no checkpoint"),
    ]:
        result = flamingo(*words)
        assert result.exit_code == 2, words
        assert told in result.stderr
        assert result.stderr.startswith("flamingo: ")
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


def test_a_missing_file_is_told_before_the_model_is_read(run, monkeypatch):
    monkeypatch.setattr(chat, "load_flamingo", lambda *given: pytest.fail("read"))
    with pytest.raises(ConfigError, match="No such file"):
        chat.answer_prompt([("image", "none.jpg")], run, print)


def test_a_device_that_is_not_there_is_refused():
    assert device_of("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="--device cuda:99: "):
        device_of("cuda:99")


def talk(run, *lines, ask=None):
    told = []
    conversation = begin(ask, checkpoint=run, tokens=5)
    converse(conversation, iter(lines), told.append)
    return "".join(told), conversation.items


def test_a_conversation_keeps_what_was_said_and_shown(run, red):
    text, items = talk(run, f"/image {red}", "what is it?", "  ", "why?")
    assert len(text.splitlines()) >= 2
    assert items[0].shape == (1, 3, 64, 64)
    assert [item if isinstance(item, str) else item is END for item in items[2::2]] == [True, True]
    assert items[1].startswith("Question: what is it? Answer:")
    assert items[3].startswith("Question: why? Answer:")
    assert len(items) == 5
    answers = [items[1].removeprefix("Question: what is it? Answer:"), items[3].removeprefix("Question: why? Answer:")]
    assert text == "".join(f"{answer}\n" for answer in answers)
    assert talk(run, f"/image {red}", "a", "/reset")[1] == []
    assert talk(run, "hello", ask="{} and")[1][0].startswith("hello and")
    assert talk(run, "/quit", "what?") == ("", [])


def test_a_wrong_line_is_told_and_the_conversation_goes_on(run, red, tmp_path):
    text, items = talk(run, f"/image {tmp_path}/none.png", "/image", "/help", "x" * 200, "a")
    lines = text.splitlines()
    assert lines[0].endswith("none.png: No such file or directory")
    assert lines[1] == lines[2] == chat.HELP
    assert "the language model 96 positions" in lines[3]
    assert len(items) == 2
    assert items[0].startswith("Question: a Answer:")
    assert "no room is left" in talk(run, "y" * 75)[0]


def test_an_interrupt_ends_an_answer_and_not_the_conversation(run, monkeypatch):
    def interrupted(*_):
        yield "be"
        raise KeyboardInterrupt

    conversation = Conversation(Talker(None, None, None, Decoding()))
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(chat, "stream", interrupted)
        converse(conversation, iter(["a"]), told.append)
    assert (told, conversation.items) == (["be", "\n"], [])


def test_chat_reads_lines_and_writes_nothing_that_steers_a_terminal(run, red, monkeypatch):
    def steering(*_):
        yield "\x1b[2Jé"
        return Answer("\x1b[2Jé", (), 0.0, NO_ROOM)

    monkeypatch.setattr(chat, "stream", steering)
    told = flamingo("chat", run, said=f"/image {red}\nwhat?\n\xff\n".encode("latin-1"))
    assert told.exit_code == 0, told.output
    assert told.output == "␛[2Jé\nno room is left for more: /reset begins anew\n" * 2


def test_the_latest_checkpoint_of_a_run_is_opened_with_its_settings(run):
    talker = open_talker(run, tokens=3, beams=2)
    assert talker.how == Decoding(3, 2)
    assert not talker.model.training
    assert not any(parameter.requires_grad for parameter in talker.model.parameters())
