"""Texts and images of a sample as tokens: tokenizers, and the paper's sampler (SPEC-flamingo, Data).

    items (texts, indices of media) → Encoded: `<BOS> text <EOC><image> text <EOC><EOS>`     n tokens, m tags
    Encoded → Window: l tokens, of each which image it sees (phi) and whether it is a target

A tag is the token or tokens of `<image>`. No text can make one, nor any special token: tokenizers spell out what
strangers wrote as plain characters, and what still reads as a special token or as the tag loses a token. Nothing
here draws numbers: what is random in the sampler is given to it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.config import ConfigError

if TYPE_CHECKING:
    import tokenizers

BYTES = "bytes"
"""The name of the tokenizer that needs no file."""
IMAGE, EOC = "<image>", "<EOC>"
BETWEEN_TEXTS = "\n\n"
"""What joins neighbouring texts, as in the samples that the pipeline writes."""
CUSTOMARY = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "[BOS]"),
    "eos_token": ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[EOS]"),
    "pad_token": ("<pad>", "<|padding|>", "<|pad|>", "<|finetune_right_pad_id|>", "[PAD]"),
}
"""Names of special tokens, tried in order where nothing says which they are."""
UNKNOWN = ("<unk>", "[UNK]")
NAMING_FILES = ("special_tokens_map.json", "tokenizer_config.json")
TRAINED_SPECIAL = ("<s>", "</s>", "<pad>", EOC)
WORDS = re.compile(" ?[^ ]+| +")
"""Words with the space before them."""
MAX_WORDS, MAX_WORD_CHARS = 1 << 16, 32
"""Words whose tokens are remembered."""


class Tokenizer(Protocol):
    """What turns text into tokens and back; `image` is the tag."""

    bos: int
    eos: int
    eoc: int
    pad: int
    image: tuple[int, ...]
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Give the tokens of a text: whatever it says, none is special, and none are the tag."""

    def decode(self, ids: Sequence[int]) -> str:
        """Write tokens as text, special ones by their names."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A whole document as tokens int32 [n]; `tags` [m] are where the tags begin, `media` [m] whose they are.

    `tag` is what stands there. `<EOC>` stands before each but one that follows `<BOS>`.
    """

    tokens: NDArray[np.int32]
    tags: tuple[int, ...]
    media: tuple[int, ...]
    tag: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What is read of a sample, ready for a row.

    `tokens` int32 [l]; `image_of` int32 [l] is phi: 0 for no image, k for the k-th of `media`, counted from 1; `loss`
    bool [l] says which tokens are targets, predicted from those before them. `media` are indices into the sample's,
    in the order of their tags.
    """

    tokens: NDArray[np.int32]
    image_of: NDArray[np.int32]
    loss: NDArray[np.bool_]
    media: tuple[int, ...]


def encode_items(items: Iterable[str | int], tokenizer: Tokenizer, space: bool = False) -> Encoded:
    """Encode a document; `space` puts one space before its first text (of a pair, with p = 0.5)."""
    ids = [tokenizer.bos]
    tags: list[int] = []
    media: list[int] = []
    run: list[str] = []

    def write_run() -> None:
        nonlocal space
        if run:
            ids.extend(tokenizer.encode(" " * space + BETWEEN_TEXTS.join(run)))
            run.clear()
            space = False

    for item in items:
        if isinstance(item, str):
            run.append(item)
            continue
        write_run()
        if len(ids) > 1:
            ids.append(tokenizer.eoc)
        tags.append(len(ids))
        media.append(item)
        ids += tokenizer.image
    write_run()
    ids += (tokenizer.eoc, tokenizer.eos)
    return Encoded(np.array(ids, np.int32), tuple(tags), tuple(media), tokenizer.image)


def sample_window(encoded: Encoded, length: int, max_images: int, roll: float, following: bool) -> Window:
    """Read at most `length` tokens and the first `max_images` images in them.

    `roll`, from 0 to less than 1, chooses the start, uniformly among those that leave a full window and are not
    inside a tag. A tag that the end cuts is not read; further images are left out with their tags and the `<EOC>`
    before each, so a window may be shorter. A token sees the last image that begins before or at it; with `following`
    (p_next) the first that ends at or after it. Targets are all but tags and the first token, which nothing precedes.
    """
    width = len(encoded.tag)
    start = choose_start(encoded, length, roll)
    stop = min(start + length, len(encoded.tokens))
    first, last = bisect_left(encoded.tags, start), bisect_left(encoded.tags, stop)
    if last > first and encoded.tags[last - 1] + width > stop:
        last -= 1
        stop = encoded.tags[last]
    shown = min(last, first + max_images)
    tags = [at - start for at in encoded.tags[first:shown]]
    tokens = encoded.tokens[start:stop]
    if shown < last:
        # Before a tag stands <EOC>, but for one that follows <BOS>; the window may begin between the two.
        gone = [(max(at - (at > 1), start) - start, at + width - start) for at in encoded.tags[shown:last]]
        tokens = leave_out(tokens, gone, encoded.tag, tags[-1] + width if tags else 0)
    loss = np.ones(len(tokens), np.bool_)
    loss[:1] = False
    image_of = np.zeros(len(tokens), np.int32)
    end = 0
    for number, at in enumerate(tags, start=1):
        if following:
            image_of[end : at + width] = number
        else:
            image_of[at:] = number
        end = at + width
        loss[at:end] = False
    return Window(tokens, image_of, loss, encoded.media[first:shown])


def choose_start(encoded: Encoded, length: int, roll: float) -> int:
    """Choose where a window begins: 0 where the document fits, else a place that is not inside a tag."""
    last = len(encoded.tokens) - length
    if last <= 0:
        return 0
    inner = len(encoded.tag) - 1
    within = encoded.tags[: bisect_left(encoded.tags, last)]
    places = last + 1 - sum(min(inner, last - at) for at in within)
    start = min(int(roll * places), places - 1)
    # The places are counted without the insides of tags, which are put back in one after the other.
    for at in within:
        if start <= at:
            break
        start += inner
    return start


def leave_out(
    tokens: NDArray[np.int32], gone: Sequence[tuple[int, int]], tag: tuple[int, ...], after: int
) -> NDArray[np.int32]:
    """Leave out some stretches (begin, end), all of them behind `after`.

    Texts that were apart then touch, so what reads as a tag behind `after` is broken.
    """
    keep = np.ones(len(tokens), np.bool_)
    for begin, end in gone:
        keep[begin:end] = False
    rest = tokens[after:][keep[after:]].tolist()
    return np.concatenate([tokens[:after], np.array(break_tags(rest, tag), np.int32)])


def break_tags(ids: list[int], tag: tuple[int, ...]) -> list[int]:
    """Take the first token from whatever reads as the tag in a text, until nothing does."""
    if tag[0] not in ids:
        return ids
    ending, kept = list(tag), []
    for token in ids:
        kept.append(token)
        while token == ending[-1] and kept[-len(tag) :] == ending:
            del kept[-len(tag)]
    return kept


class ByteTokenizer:
    """The 256 bytes of UTF-8 and five special tokens: needs no file."""

    bos, eos, eoc, pad = 256, 257, 258, 259
    image: tuple[int, ...] = (260,)
    vocab_size = 261
    written = ("<BOS>", "<EOS>", EOC, "<PAD>", IMAGE)

    def encode(self, text: str) -> list[int]:
        """Give the bytes of a text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Write bytes as text, those that are no UTF-8 as U+FFFD."""
        data = b"".join(bytes([token]) if token < 256 else self.written[token - 256].encode() for token in ids)
        return data.decode(errors="replace")


class FastTokenizer:
    """A tokenizer of the package `tokenizers`, which it takes over.

    `names` are those of the special tokens, by `bos_token`, `eos_token`, `pad_token` and `unk_token`; customary ones
    are tried for what it does not name. Without a name of its own `<BOS>` and padding are `<EOS>`. `<EOC>` is added
    where it is missing; `<image>` is plain text unless the vocabulary has it whole (SPEC-flamingo, Sizes).
    Most of the package's time goes into splitting a text and noting where its parts come from, so that for byte-level
    BPE the tokens of words are remembered.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, names: Mapping[str, str] | None = None) -> None:
        import tokenizers

        vocabulary = tokenizer.get_vocab()
        roles = name_special(vocabulary, names or {})
        self.names = {**(names or {}), **roles}
        special = [*roles.values(), EOC, *([IMAGE] if IMAGE in vocabulary else [])]
        tokenizer.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in special])
        # A file may ask for texts to be cut or filled up to a length; that is the sampler's task.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        # A file may also ask for merges left out by chance, which no seed governs.
        if isinstance(tokenizer.model, tokenizers.models.BPE):
            tokenizer.model.dropout = None
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self.bos, self.eos, self.pad = (vocabulary[roles[role]] for role in CUSTOMARY)
        self.eoc = vocabulary[EOC]
        self.vocab_size = max(vocabulary.values()) + 1
        self.image = self.find_tag(vocabulary)
        added = {token for token, known in tokenizer.get_added_tokens_decoder().items() if known.special}
        unknown = {vocabulary.get(name) for name in (self.names.get("unk_token", ""), *UNKNOWN)}
        self.forbidden = (added - unknown) | {vocabulary[name] for name in special}
        self.words: dict[str, list[int]] = {}
        self.by_words = is_split_by_words(tokenizer)

    def __reduce__(self) -> tuple[Any, ...]:
        # The package forgets on the way that special tokens are not to be read from texts.
        return restore, (self.tokenizer.to_str(), self.names)

    def find_tag(self, vocabulary: Mapping[str, int]) -> tuple[int, ...]:
        """Find the tokens of `<image>`, which must be readable in them."""
        if IMAGE in vocabulary:
            return (vocabulary[IMAGE],)
        tag = tuple(self.tokenizer.encode(IMAGE, add_special_tokens=False).ids)
        # Where nothing says how tokens are joined, they are decoded with spaces between them.
        if "".join(self.decode(tag).split()) != IMAGE:
            raise ConfigError(f"tokenizer: it cannot write {IMAGE}, of which it makes {self.decode(tag)!r}")
        return tag

    def encode(self, text: str) -> list[int]:
        """Give the tokens of a text, none of them special; `text` holds no half of a surrogate pair."""
        ids = self.encode_words(text) if self.by_words else self.encode_whole(text)
        if not self.forbidden.isdisjoint(ids):
            ids = [token for token in ids if token not in self.forbidden]
        return ids if len(self.image) == 1 else break_tags(ids, self.image)

    def encode_whole(self, text: str) -> list[int]:
        """Have the package encode a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_words(self, text: str) -> list[int]:
        """Encode a text word by word, unless a space follows other blanks, which may then be one token."""
        ids: list[int] = []
        for word in WORDS.findall(text):
            known = self.words.get(word)
            if known is None:
                if word[-1].isspace():
                    return self.encode_whole(text)
                known = self.encode_whole(word)
                if len(self.words) < MAX_WORDS and len(word) <= MAX_WORD_CHARS:
                    self.words[word] = known
            ids += known
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Write tokens as text."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))


def is_split_by_words(tokenizer: tokenizers.Tokenizer) -> bool:
    """Tell whether no token has a space behind another character: byte-level BPE that splits as GPT-2's does."""
    import tokenizers

    split, normal = tokenizer.pre_tokenizer, tokenizer.normalizer
    if not isinstance(split, tokenizers.pre_tokenizers.ByteLevel) or not split.use_regex or split.add_prefix_space:
        return False
    plain = any(not known.special for known in tokenizer.get_added_tokens_decoder().values())
    return not plain and (normal is None or isinstance(normal, tokenizers.normalizers.NFC))


def restore(text: str, names: Mapping[str, str]) -> FastTokenizer:
    """Build a tokenizer from what `FastTokenizer` is sent to another process as."""
    import tokenizers

    return FastTokenizer(tokenizers.Tokenizer.from_str(text), names)


def name_special(vocabulary: Mapping[str, int], names: Mapping[str, str]) -> dict[str, str]:
    """Name beginning, end and padding; `ConfigError` where a text cannot end, or a name is not in the vocabulary."""
    found = {}
    for role, customary in CUSTOMARY.items():
        found[role] = names.get(role) or next((name for name in customary if name in vocabulary), "")
        if found[role] and found[role] not in vocabulary:
            raise ConfigError(f"tokenizer: its {role} {found[role]!r} is not in its vocabulary")
    if not found["eos_token"]:
        tried = ", ".join(CUSTOMARY["eos_token"])
        raise ConfigError(f"tokenizer: no token ends a text; {NAMING_FILES[0]} beside it can name one (tried {tried})")
    return {role: name or found["eos_token"] for role, name in found.items()}


def open_tokenizer(name: str) -> Tokenizer:
    """Open `bytes`, a `tokenizer.json`, a folder that holds one, or a name on the hub; `ConfigError` otherwise."""
    if name == BYTES:
        return ByteTokenizer()
    import tokenizers

    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    from_hub = not file.exists() and not path.is_dir() and path.suffix != ".json" and name.count("/") <= 1
    try:
        opened = tokenizers.Tokenizer.from_pretrained(name) if from_hub else tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing narrower, and the hub's client many things
        wanted = f"{BYTES}, a tokenizer.json, a folder that holds one, or a name on the hub"
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"tokenizer: {name!r} is not {wanted}: {why}") from None
    return FastTokenizer(opened, read_names(path) if path.is_dir() else None)


def read_names(folder: Path) -> dict[str, str]:
    """Read what the special tokens of a folder's tokenizer are called."""
    names: dict[str, str] = {}
    for file in (folder / name for name in NAMING_FILES):
        if not file.exists():
            continue
        try:
            tree = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"tokenizer: {file} is not JSON: {error}") from None
        for role in (*CUSTOMARY, "unk_token"):
            named = tree.get(role) if isinstance(tree, dict) else None
            named = named.get("content") if isinstance(named, dict) else named
            if isinstance(named, str):
                names.setdefault(role, named)
    return names


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train byte-level BPE: any text can be written, and the same texts give the same tokenizer in any order.

    `vocab_size` counts the 256 bytes and `TRAINED_SPECIAL`; few texts give fewer tokens.
    """
    import tokenizers

    least = 256 + len(TRAINED_SPECIAL)
    if vocab_size < least:
        raise ValueError(f"a vocabulary of {vocab_size}, at least {least} are needed")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(TRAINED_SPECIAL),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return trained
