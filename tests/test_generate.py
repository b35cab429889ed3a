"""A Flamingo is asked: with caches and without, alone and beside others, the same comes out.

Gates are open and all weights random, so that every image and every token counts.
"""

import functools
from dataclasses import replace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_model.decoding import Sampling, beam_search, choose
from flamingo_model.flamingo import Flamingo, make_blocks
from flamingo_model.generate import (
    END_OF_CHUNK,
    END_OF_TEXT,
    NO_ROOM,
    Decoding,
    Read,
    generate,
    look,
    read_prompts,
    score,
    stream,
)
from flamingo_model.lm import LanguageModel, made
from flamingo_model.presets import FlamingoConfig, preset
from flamingo_model.prompt import END, encode_prompt
from flamingo_model.resampler import make_resampler
from flamingo_model.seen import see
from flamingo_model.tokens import ByteTokenizer
from flamingo_model.vision import make_vision
from schemas.config import ConfigError

TOKENIZER = ByteTokenizer()
SIDE = 64
SMALL = {
    "vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 160, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 259,
}  # fmt: skip
GROUPS = {**SMALL, "num_key_value_heads": 1, "head_dim": 16}
OPT = {key: value for key, value in SMALL.items() if key != "intermediate_size"}
FAMILIES = {
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL),
    "llama": lambda: transformers.LlamaConfig(**GROUPS),
    "mistral": lambda: transformers.MistralConfig(**GROUPS, sliding_window=12),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL, num_key_value_heads=1),
    "gemma2": lambda: transformers.Gemma2Config(**GROUPS, sliding_window=12, query_pre_attn_scalar=16),
    "opt": lambda: transformers.OPTConfig(**OPT, ffn_dim=48, word_embed_proj_dim=32),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=264, n_embd=32, n_layer=2, n_head=2, n_positions=160, bos_token_id=256, eos_token_id=257
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=264, hidden_size=32, n_layer=2, n_head=2),
}
TINY = {"resampler.layers": 1, "resampler.width": 16, "resampler.heads": 2, "resampler.head_width": 8,
        "resampler.latents": 3, "xattn.heads": 2, "xattn.head_width": 8}  # fmt: skip
KINDS = {
    "gated": {},
    "vanilla": {"xattn.kind": "vanilla"},
    "grafting": {"xattn.kind": "grafting"},
    "see_all": {"xattn.see_all": True},
    "mlp": {"resampler.kind": "mlp"},
}


def assemble(config: FlamingoConfig, settings) -> Flamingo:
    lm = LanguageModel(made(settings, torch.float32), [TOKENIZER.eoc])
    vision = make_vision(config.vision)
    xattn = make_blocks(config, lm.width, len(lm.layers))
    return Flamingo(vision, make_resampler(config.resampler, vision.width), lm, xattn, config.xattn.see_all)


@functools.cache
def model_of(family="gpt_neox", kind="gated"):
    torch.manual_seed(0)
    model = assemble(preset("tiny", {**TINY, **KINDS[kind]}), FAMILIES[family]())
    for name, parameter in model.named_parameters():
        if not name.startswith("vision"):
            torch.nn.init.normal_(parameter, float(parameter.ndim == 1), 0.15)
    return model.eval()


def picture(seed, frames=1):
    return torch.randint(0, 256, (frames, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)).byte()


CAT, DOG, FILM = picture(1), picture(2), picture(3, frames=3)
PROMPTS = [
    ["No image yet. ", CAT, "Output: a cat", DOG, "Output:"],
    [FILM],
    ["Only text."],
    [DOG, "Question: what? Answer: a dog", END, "Question: why?"],
]


ENDS = {END_OF_CHUNK: [TOKENIZER.eoc], END_OF_TEXT: [TOKENIZER.eos]}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def uncached(model, items, tokens):
    """Log-probabilities [n, V] of each of `tokens` after a prompt, from one pass over all of it without any cache."""
    prompt = encode_prompt(items, TOKENIZER)
    ids = torch.tensor([[*prompt.tokens.tolist(), *tokens]])
    last = int(prompt.image_of[-1])
    image_of = torch.tensor([[*prompt.image_of.tolist(), *[last] * len(tokens)]])
    numbers = torch.arange(1, len(prompt.media) + 1)
    with torch.no_grad():
        latents, lengths = look(model, prompt.media)
        rows, segment = torch.zeros_like(numbers), torch.ones_like(ids)
        seen = see(latents, image_of, rows, numbers, segment, see_all=model.see_all, lengths=lengths)
        logits = model.lm.head(model.read(ids, seen))
    return logits[0, len(prompt.tokens) - 1 :].log_softmax(-1)


def check_against_uncached(model, how):
    """Each token must be the one that is chosen when all before it is read in one pass, alone and without a cache."""
    written = set()
    for row, (answer, items) in enumerate(zip(generate(model, TOKENIZER, PROMPTS, how), PROMPTS, strict=True)):
        tokens = [*answer.tokens, *ENDS.get(answer.ended, [])]
        assert len(tokens) == how.tokens or answer.ended in ENDS
        scores = uncached(model, items, tokens[:-1])
        scores[:, [TOKENIZER.bos, TOKENIZER.pad, TOKENIZER.image[0], *range(TOKENIZER.vocab_size, 264)]] = -torch.inf
        wanted = [int(choose(scores[step : step + 1], how.sampling, [row], step)) for step in range(len(tokens))]
        assert tokens == wanted
        likelihoods = [float(scores[step, token]) for step, token in enumerate(tokens)]
        assert answer.score == pytest.approx(sum(likelihoods), rel=1e-4)
        written |= set(tokens)
    return written


DRAWN = Decoding(tokens=14, sampling=Sampling(temperature=1.5, seed=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_decoding_of_a_batch_is_uncached_decoding_of_each(family):
    check_against_uncached(model_of(family), Decoding(tokens=14))
    # What is likeliest repeats itself; what is drawn does not.
    assert len(check_against_uncached(model_of(family), DRAWN)) > 14


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gated"])
def test_cached_decoding_is_exact_for_every_kind_of_cross_attention(kind):
    check_against_uncached(model_of(kind=kind), Decoding(tokens=14))
    assert len(check_against_uncached(model_of(kind=kind), DRAWN)) > 14


def test_images_and_their_order_change_what_is_read():
    model = model_of()
    asked = [[CAT, "a", DOG, "b"], [DOG, "a", CAT, "b"], [DOG, "a", DOG, "b"], ["a", END, "b"]]
    read = read_prompts(model, TOKENIZER, [encode_prompt(items, TOKENIZER) for items in asked])
    distances = torch.cdist(read.next[:, :256], read.next[:, :256])
    assert (distances + 9 * torch.eye(4) > 0.1).all()


def scores_of(model, items, candidates):
    """Log-likelihoods from a pass of its own for each candidate."""
    rows = [[*TOKENIZER.encode(text), TOKENIZER.eoc] for text in candidates]
    return [
        sum(float(scores[token]) for scores, token in zip(uncached(model, items, row), row, strict=False))
        for row in rows
    ]


CANDIDATES = ["yes", "no", "", " a much longer answer than the others", "no", "nope"]


@pytest.mark.parametrize("family", ["gpt_neox", "mistral", "gpt2"])
def test_candidates_are_scored_as_if_each_were_read_alone(family, monkeypatch):
    model = model_of(family)
    for items in PROMPTS:
        wanted = pytest.approx(scores_of(model, items, CANDIDATES), rel=1e-4)
        monkeypatch.setattr("flamingo_model.generate.TOKENS_AT_ONCE", 1024)
        assert score(model, TOKENIZER, items, CANDIDATES) == wanted
        monkeypatch.setattr("flamingo_model.generate.TOKENS_AT_ONCE", 8)
        assert score(model, TOKENIZER, items, CANDIDATES) == wanted


@pytest.mark.parametrize("kind", ["gated", "grafting"])
def test_scoring_again_from_the_same_prompt_gives_the_same_to_the_bit(kind):
    """SPEC-flamingo, the traps: a cache that is used for one candidate after another, and changed by each."""
    read = read_prompts(model_of(kind=kind), TOKENIZER, [encode_prompt(PROMPTS[0], TOKENIZER)])
    first, second = TOKENIZER.encode("a cat"), TOKENIZER.encode("a dog, or not")
    alone = read.score([first])
    assert read.score([second]) != alone
    assert read.score([first]) == alone == read.score([first])
    longer = read.read(torch.tensor([65]))
    assert longer.score([first]) != alone
    assert read.score([first]) == alone


def test_a_prompt_alone_is_a_row_to_be_scored_after():
    read = read_prompts(model_of(), TOKENIZER, [encode_prompt(items, TOKENIZER) for items in PROMPTS])
    with pytest.raises(ValueError, match="one row"):
        read.score([[1]])
    with pytest.raises(ValueError, match="one token or more"):
        read.pick(torch.tensor([0])).score([[]])
    # A row of a batch, padding before it, is scored as if it were alone.
    row = read.pick(torch.tensor([2]))
    assert row.score([[*b"yes"]]) == pytest.approx(
        read_prompts(model_of(), TOKENIZER, [encode_prompt(PROMPTS[2], TOKENIZER)]).score([[*b"yes"]]), rel=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_beams_find_likelier_texts_and_a_beam_of_one_is_greedy(kind):
    model = model_of(kind=kind)
    greedy = generate(model, TOKENIZER, PROMPTS, Decoding(tokens=6))
    read = read_prompts(model, TOKENIZER, [encode_prompt(items, TOKENIZER) for items in PROMPTS])
    one = beam_search(read, 1, {TOKENIZER.eoc, TOKENIZER.eos}, 6)
    assert [texts[0].tokens[: len(answer.tokens)] for texts, answer in zip(one, greedy, strict=True)] == [
        answer.tokens for answer in greedy
    ]
    beams = generate(model, TOKENIZER, PROMPTS, Decoding(tokens=6, beams=4))
    assert all(four.score >= answer.score - 1e-4 for four, answer in zip(beams, greedy, strict=True))
    for answer, items in zip(beams, PROMPTS, strict=True):
        tokens = [*answer.tokens, *ENDS.get(answer.ended, [])]
        scores = uncached(model, items, tokens)
        assert answer.score == pytest.approx(sum(float(scores[n, t]) for n, t in enumerate(tokens)), rel=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_beam_search_without_images_is_that_of_transformers(family, penalty):
    """With closed gates a Flamingo is its language model, whose own beam search is somebody else's work."""
    model = model_of(family)
    prompt = encode_prompt(["some text"], TOKENIZER)
    ids = torch.from_numpy(prompt.tokens).long()[None]
    unwanted = [TOKENIZER.bos, TOKENIZER.pad, TOKENIZER.image[0], *range(TOKENIZER.vocab_size, 264)]
    closed = [block.gate.weight for block in model.xattn.values()] + [b.gate_ffw.weight for b in model.xattn.values()]
    kept = [gate.detach().clone() for gate in closed]
    lm = model.lm.model
    # Its rows of `<EOC>` are its own.
    rows = lm.get_input_embeddings().weight, lm.get_output_embeddings().weight
    with torch.no_grad():
        for gate in closed:
            gate.zero_()
        for row, new in zip(rows, (model.lm.new_input, model.lm.new_output), strict=True):
            row[TOKENIZER.eoc] = new[0]
        theirs = lm.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=3, do_sample=False, max_new_tokens=8,
            length_penalty=penalty, early_stopping="never", eos_token_id=[TOKENIZER.eoc, TOKENIZER.eos],
            pad_token_id=TOKENIZER.pad, suppress_tokens=unwanted,
        )[0, ids.shape[1] :]  # fmt: skip
        ours = generate(model, TOKENIZER, [["some text"]], Decoding(tokens=8, beams=3, penalty=penalty))[0]
        for gate, value in zip(closed, kept, strict=True):
            gate.copy_(value)
    ended = [token for token in theirs.tolist() if token != TOKENIZER.pad]
    assert [*ours.tokens, *ENDS.get(ours.ended, [])] == ended


@settings(max_examples=10, deadline=None)
@given(numbers=st.lists(st.integers(0, 3), min_size=1, max_size=4), beams=st.integers(1, 2))
def test_what_a_prompt_is_answered_does_not_hang_on_the_others(numbers, beams):
    model = model_of()
    how = Decoding(tokens=5, beams=beams)
    answers = generate(model, TOKENIZER, [PROMPTS[n] for n in numbers], how)
    for number, answer in zip(numbers, answers, strict=True):
        alone = generate(model, TOKENIZER, [PROMPTS[number]], how)[0]
        assert replace(alone, score=0) == replace(answer, score=0)
        assert alone.score == pytest.approx(answer.score, rel=1e-4)


@pytest.mark.parametrize("how", [Decoding(tokens=9), replace(DRAWN, tokens=9), Decoding(tokens=4, beams=2)])
def test_what_streams_is_the_answer(how):
    pieces = []
    asked = stream(model_of(), TOKENIZER, PROMPTS[0], how)
    while True:
        try:
            pieces.append(next(asked))
        except StopIteration as done:
            answer = done.value
            break
    assert "".join(pieces) == answer.text
    assert answer == generate(model_of(), TOKENIZER, [PROMPTS[0]], how)[0]


def test_text_streams_while_it_is_written(monkeypatch):
    steps = []
    extend = Read.extend
    monkeypatch.setattr(Read, "extend", lambda self, *given: steps.append(1) or extend(self, *given))
    seen = [len(steps) for _ in stream(model_of(), TOKENIZER, PROMPTS[0], replace(DRAWN, tokens=12))]
    assert len(seen) > 4
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("token", "ended", "text"),
    [(TOKENIZER.eoc, "end_of_chunk", "aaa"), (TOKENIZER.eos, "end_of_text", "aaa"), (98, "most_tokens", "aaabbb")],
)
def test_answers_stop_at_the_first_end_of_a_chunk(token, ended, text, monkeypatch):
    said = iter([97] * 3 + [token] * 3)

    def likelihoods(_, hidden):
        return torch.full((len(hidden), 264), -9.0).index_fill(1, torch.tensor([next(said)]), -0.5)

    monkeypatch.setattr(Read, "likelihoods", likelihoods)
    answer = generate(model_of(), TOKENIZER, [[CAT]], Decoding(tokens=6))[0]
    assert (answer.text, answer.ended) == (text, ended)
    assert answer.score == -0.5 * (6 if ended == "most_tokens" else 4)


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "opt"])
def test_answers_end_where_positions_end(family):
    model = model_of(family)
    assert model.lm.max_tokens == 160
    long = ["x" * 155, CAT]  # with <BOS>, <EOC> and the tag 158 tokens: two more can be read, a third is the last
    how = Decoding(tokens=20)
    answers = generate(model, TOKENIZER, [long, PROMPTS[1]], how)
    assert len(answers[0].tokens) == 3 or answers[0].ended in ENDS
    assert answers[0].ended in (NO_ROOM, *ENDS)
    assert answers[1] == generate(model, TOKENIZER, [PROMPTS[1]], how)[0]
    assert score(model, TOKENIZER, long, ["no"])[0] < 0
    with pytest.raises(ConfigError, match="a candidate of 4 tokens"):
        score(model, TOKENIZER, long, ["yes"])
    for ask in (lambda: generate(model, TOKENIZER, [["x" * 160]]), lambda: list(stream(model, TOKENIZER, ["x" * 160]))):
        with pytest.raises(ConfigError, match="the prompt has 161 tokens, the language model 160 positions"):
            ask()
    assert len(generate(model, TOKENIZER, [["x" * 159]], how)[0].tokens) <= 1


def test_the_model_is_left_in_its_mode():
    model = model_of()
    model.train()
    try:
        generate(model, TOKENIZER, [PROMPTS[1]], Decoding(tokens=2))
        assert model.training
        pieces = stream(model, TOKENIZER, ["a"], replace(DRAWN, tokens=9))
        next(pieces)
        assert not model.training
        pieces.close()
        assert model.training
    finally:
        model.eval()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="one of the two"):
        Decoding(beams=3, sampling=Sampling(temperature=1.0))
    with pytest.raises(ValueError, match="at least 1"):
        Decoding(tokens=0)


def test_a_model_in_bf16_answers_nearly_the_same():
    """Checkpoints are opened so on a GPU."""
    coarse = model_of.__wrapped__().to(torch.bfloat16)
    prompts = [encode_prompt(items, TOKENIZER) for items in PROMPTS]
    rounded, exact = (read_prompts(model, TOKENIZER, prompts).next[:, :256] for model in (coarse, model_of()))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).std() < 0.1 * exact.std()
    assert all(answer.tokens for answer in generate(coarse, TOKENIZER, PROMPTS, DRAWN))
