"""`flamingo generate` and `flamingo chat`: a checkpoint and what a person gives → answers, as they are written.

    (option, value) pairs in the order of the command line → prompt → Answer
    images → captions
    lines of a person → Conversation → pieces of text

What is wrong with the input is a `ConfigError` of one line. Terminals are not this module's: it is given what to
write to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from flamingo_model.checkpoint import load_flamingo, open_checkpoint, opened_run
from flamingo_model.config import VIDEOS
from flamingo_model.decoding import Sampling
from flamingo_model.flamingo import Flamingo
from flamingo_model.generate import NO_ROOM, Answer, Decoding, generate, stream
from flamingo_model.prompt import END, Item, Looks, open_medium, read_medium
from flamingo_model.samples import Medium
from flamingo_model.tokens import Tokenizer
from schemas.config import ConfigError

ASK = "Question: {} Answer:"
"""What a line of a conversation becomes (SPEC-flamingo, Evaluation: dialogue)."""
AT_ONCE = 32
"""Images that are captioned in one pass."""
DEVICES = ("cpu", "cuda", "mps", "xpu")
HELP = "/image FILE and /video FILE show something, /reset begins anew, /quit ends; all else is asked"


@dataclass(frozen=True, slots=True)
class Talker:
    """A model that can be asked, how it was shown images in training, and how it answers."""

    model: Flamingo
    tokenizer: Tokenizer
    looks: Looks
    how: Decoding


def open_talker(
    checkpoint: str,
    device: str = "",
    tokens: int = 64,
    beams: int = 1,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Talker:
    """Open a checkpoint, or the latest one of a run's folder, on `device` (a GPU where there is one)."""
    try:
        how = Decoding(tokens, beams, sampling=Sampling(temperature, top_k, top_p, seed))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    place = device_of(device)
    looks = looks_of(checkpoint)
    model, tokenizer, _ = load_flamingo(checkpoint, place)
    if place.type == "cuda":
        model.to(torch.bfloat16)  # as in training, and half the memory to read for each token
    return Talker(model, tokenizer, looks, how)


def device_of(name: str) -> torch.device:
    """Find a device by its name, or choose one; a `ConfigError` says that it is not there."""
    if name and name.partition(":")[0] not in DEVICES:
        raise ConfigError(f"--device {name}: it is {', '.join(DEVICES)}, or one of several (cuda:1)")
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has no narrower ones
        raise ConfigError(f"--device {name}: {' '.join(str(error).split())[:200]}") from None
    return device


def looks_of(checkpoint: str) -> Looks:
    """Tell how a run shows images in training; of clips its first dataset that has any decides."""
    run = opened_run(open_checkpoint(Path(checkpoint)))
    shown = Looks(run.model.vision.image_px, run.data.fit, run.data.mean)
    clips = [dataset for dataset in run.data.datasets.values() if dataset.kind == VIDEOS]
    return replace(shown, frames=clips[0].frames, fps=clips[0].fps) if clips else shown


def answer_prompt(
    given: Sequence[tuple[str, str]], checkpoint: str, tell: Callable[[str], None], **settings: Any
) -> Answer:
    """Answer what options name, as `items_of` reads it; `settings` are those of `open_talker`."""
    if not given:
        raise ConfigError("generate: give a prompt: --image FILE, --text TEXT or --video FILE, as often as wanted")
    items = items_of(given, looks_of(checkpoint))  # before the model, which takes longer to read
    talker = open_talker(checkpoint, **settings)
    return tell_all(stream(talker.model, talker.tokenizer, items, talker.how), tell)


def captions(checkpoint: str, images: Iterable[bytes], **settings: Any) -> list[str]:
    """Say what each image shows, without a prompt; `settings` are those of `open_talker`.

    `BadImage` says what cannot be decoded.
    """
    talker = open_talker(checkpoint, **settings)
    prompts = ([read_medium(Medium((data,), "image"), talker.looks)] for data in images)
    said: list[str] = []
    while some := list(islice(prompts, AT_ONCE)):
        answers = generate(talker.model, talker.tokenizer, some, talker.how)
        said += [answer.text.strip() for answer in answers]
    return said


def as_row(answer: Answer) -> dict[str, Any]:
    """Write an answer for JSON."""
    return {"text": answer.text, "ended": answer.ended, "score": answer.score, "tokens": len(answer.tokens)}


def tell_all(pieces: Generator[str, None, Answer], tell: Callable[[str], None]) -> Answer:
    """Tell the pieces of an answer, then end the line."""
    while True:
        try:
            tell(next(pieces))
        except StopIteration as done:
            tell("\n")
            answer: Answer = done.value
            return answer


def begin(ask: str | None = None, **settings: Any) -> Conversation:
    """Begin a conversation; `settings` are those of `open_talker`."""
    if ask is not None and "{}" not in ask:
        raise ConfigError("--ask says where the line stands in it: {}")
    return Conversation(open_talker(**settings), ask or ASK)


def items_of(given: Iterable[tuple[str, str]], looks: Looks) -> list[Item]:
    """Read what options name: pairs of `image`, `video` or `text` and a file or text, in the order of the prompt."""
    return [clean(value) if kind == "text" else open_medium(value, kind, looks) for kind, value in given]


def clean(text: str) -> str:
    """Replace bytes of a command line or terminal that are no UTF-8: tokenizers cannot take them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(slots=True)
class Conversation:
    """What was said and shown so far; each line is answered until the model ends a chunk."""

    talker: Talker
    ask: str = ASK
    items: list[Item] = field(default_factory=list)

    def say(self, line: str) -> Generator[str, None, Answer]:
        """Answer a line, piece by piece; what was asked is kept when it is answered."""
        question = self.ask.replace("{}", clean(line), 1)
        asked: list[Item] = [*self.items, question]
        answer = yield from stream(self.talker.model, self.talker.tokenizer, asked, self.talker.how)
        self.items = [*self.items, question + answer.text, END]
        return answer

    def show(self, kind: str, path: str) -> None:
        """Show an image or a video, which what follows is about."""
        self.items.append(open_medium(path, kind, self.talker.looks))


def converse(conversation: Conversation, lines: Iterator[str], tell: Callable[[str], None]) -> None:
    """Answer lines until `/quit` or their end; `tell` writes pieces of text as they come.

    A wrong line is told as such, and the conversation goes on as if it had not been. An interrupt ends an answer.
    """
    for line in lines:
        command, _, rest = line.strip().partition(" ")
        try:
            if command == "/quit":
                return
            if command in ("/image", "/video") and rest.strip():
                conversation.show(command[1:], rest.strip())
            elif command == "/reset":
                conversation.items = []
            elif command.startswith("/"):
                tell(f"{HELP}\n")
            elif command:
                answer_line(conversation, line.strip(), tell)
        except ConfigError as error:
            tell(f"{error}\n")


def answer_line(conversation: Conversation, line: str, tell: Callable[[str], None]) -> None:
    """Tell the answer to a line; an interrupt ends it."""
    try:
        answer = tell_all(conversation.say(line), tell)
    except KeyboardInterrupt:
        tell("\n")
        return
    if answer.ended == NO_ROOM:
        tell("no room is left for more: /reset begins anew\n")
