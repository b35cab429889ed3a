"""Losses: what is predicted where, equal to the plain cross-entropy and its gradients, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from flamingo_model.batch import Batch
from flamingo_model.lm import Head
from flamingo_model.losses import Targets, find_targets, sum_by_source, token_loss, token_weights

WIDTH, ROWS = 8, 11


def text_batch(tokens: Tensor, loss: Tensor, segment: Tensor, source: Tensor) -> Batch:
    none = torch.zeros(0, dtype=torch.int64)
    flat = torch.zeros_like(segment)
    return Batch(
        tokens, loss, flat, segment, flat, source, torch.zeros(0, 3, 4, 4, dtype=torch.uint8), none, none, none,
        none.bool(), torch.zeros(0, 3), (), ("a", "b", "c"),
    )  # fmt: skip


def random_batch(seed: int, rows: int = 3, count: int = 16) -> Batch:
    chance = torch.Generator().manual_seed(seed)

    def draw(most: int) -> Tensor:
        return torch.randint(most, (rows, count), generator=chance)

    return text_batch(draw(ROWS), draw(2).bool(), draw(3).int().sort(1).values, draw(3).int())


@strategies.composite
def batches(draw: Any) -> Batch:
    """Packed rows: segments of any lengths, then padding."""
    count = draw(strategies.integers(2, 12))
    rows = []
    for _ in range(draw(strategies.integers(1, 3))):
        lengths = draw(strategies.lists(strategies.integers(1, 5), max_size=4))
        row = [number for number, length in enumerate(lengths, 1) for _ in range(length)]
        rows.append((row + [0] * count)[:count])
    segment = torch.tensor(rows, dtype=torch.int32)
    loss = torch.tensor([[draw(strategies.booleans()) for _ in row] for row in rows])
    tokens = torch.arange(segment.numel()).view_as(segment)
    return text_batch(tokens, loss, segment, segment % 3)


@hypothesis.given(batches())
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_token_is_predicted_by_the_one_before_it_in_its_segment(batch: Batch) -> None:
    expected = []
    for row in range(len(batch.tokens)):
        for column in range(batch.tokens.shape[1] - 1):
            here, there = batch.segment[row, column], batch.segment[row, column + 1]
            if here == there and there > 0 and batch.loss[row, column + 1]:
                place = row * batch.tokens.shape[1] + column
                expected.append((place, int(batch.tokens[row, column + 1]), int(batch.source[row, column + 1])))
    found = find_targets(batch)
    assert list(zip(found.place.tolist(), found.label.tolist(), found.source.tolist(), strict=True)) == expected


def plain_logits(hidden: Tensor, head: Head) -> Tensor:
    """Logits by their definition: the embedding with the new rows put in or behind it."""
    assert head.rows is not None or not head.ids
    width = max(len(head.weight), *(id + 1 for id in head.ids), 0)
    logits = torch.full((*hidden.shape[:-1], width), -torch.inf)
    columns = {id: head.weight[id] for id in range(len(head.weight))}
    columns |= {id: head.rows[number] for number, id in enumerate(head.ids) if head.rows is not None}
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    parts = []
    for id in range(width):
        if id not in columns:
            parts.append(logits[..., id])
            continue
        value = hidden @ columns[id] + (0 if id in head.ids else bias[id])
        value = value / head.divisor
        parts.append(value if head.cap is None else head.cap * torch.tanh(value / head.cap))
    return torch.stack(parts, -1)


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape).requires_grad_()


def head_of(case: str) -> Head:
    torch.manual_seed(1)
    weight = leaf(ROWS, WIDTH)
    heads = {
        "frozen": lambda: Head(weight.detach()),
        "learnt": lambda: Head(weight),
        "bias": lambda: Head(weight, leaf(ROWS)),
        "beyond": lambda: Head(weight.detach(), None, leaf(1, WIDTH), (ROWS,)),
        "inside": lambda: Head(weight.detach(), None, leaf(1, WIDTH), (4,)),
        "gap": lambda: Head(weight.detach(), None, leaf(2, WIDTH), (ROWS + 3, 0)),
        "scaled": lambda: Head(weight, leaf(ROWS), leaf(2, WIDTH), (2, ROWS), 6.0),
        "capped": lambda: Head(weight, leaf(ROWS), leaf(2, WIDTH), (2, ROWS), 0.5, 3.0),
    }
    return heads[case]()


CASES = ("frozen", "learnt", "bias", "beyond", "inside", "gap", "scaled", "capped")


def targets_for(head: Head, batch: Batch) -> Targets:
    """Let new tokens be among the labels."""
    found = find_targets(batch)
    label = found.label.clone()
    for number, id in enumerate(head.ids):
        label[number::4] = id
    return replace(found, label=label)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk_logits", [1, 3 * ROWS, 1 << 20])
def test_the_loss_and_its_gradients_are_those_of_the_plain_one(case: str, chunk_logits: int) -> None:
    head, batch = head_of(case), random_batch(3)
    targets = targets_for(head, batch)
    assert len(targets.label) > 8
    hidden, weights = leaf(3, 16, WIDTH), torch.rand(len(targets.label)) + 0.1
    leaves = [tensor for tensor in (hidden, head.weight, head.bias, head.rows) if tensor is not None]
    learnt = [tensor for tensor in leaves if tensor.requires_grad]

    logits = plain_logits(hidden.flatten(0, 1)[targets.place], head)
    plain = functional.cross_entropy(logits, targets.label, reduction="none")
    expected = torch.autograd.grad((plain * weights).sum() * 0.7, learnt)
    total, each = token_loss(hidden, targets, weights, head, chunk_logits)
    found = torch.autograd.grad(total * 0.7, learnt)

    torch.testing.assert_close(each, plain.detach())
    torch.testing.assert_close(total, (plain * weights).sum())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not each.requires_grad


@pytest.mark.parametrize("case", CASES)
def test_the_head_makes_the_logits_that_the_loss_is_of(case: str) -> None:
    head, hidden = head_of(case), torch.randn(2, 3, WIDTH)
    torch.testing.assert_close(head(hidden), plain_logits(hidden, head))


def test_a_batch_without_targets_has_no_loss_and_no_gradient() -> None:
    head, batch = head_of("beyond"), replace(random_batch(0), loss=torch.zeros(3, 16, dtype=torch.bool))
    hidden = leaf(3, 16, WIDTH)
    total, each = token_loss(hidden, find_targets(batch), torch.zeros(0), head)
    total.backward()
    assert total == 0
    assert len(each) == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_a_frozen_head_gets_no_gradient_and_evaluation_makes_none() -> None:
    head, batch = head_of("frozen"), random_batch(0)
    hidden, targets = leaf(3, 16, WIDTH), find_targets(batch)
    weights = torch.ones(len(targets.label))
    token_loss(hidden, targets, weights, head)[0].backward()
    assert head.weight.grad is None
    with torch.no_grad():
        total, _ = token_loss(hidden, targets, weights, head)
    assert not total.requires_grad


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        out = function(*given, **(named or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_the_logits_of_all_positions_never_exist_and_none_are_kept() -> None:
    rows, count = 1000, 200
    head = Head(torch.randn(rows, WIDTH), None, leaf(1, WIDTH), (rows,))
    targets = Targets(torch.arange(count), torch.arange(count), torch.zeros(count, dtype=torch.int64))
    hidden, kept = leaf(1, count, WIDTH), []
    with (
        Largest() as largest,
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x),
    ):
        token_loss(hidden, targets, torch.ones(count), head, chunk_logits=16 * rows)[0].backward()
    assert largest.numel == 16 * rows < count * rows
    assert max(kept, default=0) <= count * WIDTH


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bf16_the_softmax_is_in_float32(autocast: bool) -> None:
    torch.manual_seed(0)
    count, rows = 64, 500
    exact = Head(torch.randn(rows, 64) / 4, None, (torch.randn(1, 64) / 4).requires_grad_(), (rows,))
    half = replace(exact, weight=exact.weight if autocast else exact.weight.bfloat16())
    targets = Targets(torch.arange(count), torch.arange(count), torch.zeros(count, dtype=torch.int64))
    hidden = torch.randn(1, count, 64)
    one, other = hidden.clone().requires_grad_(), hidden.bfloat16().requires_grad_()
    total, _ = token_loss(one, targets, torch.ones(count) / count, exact)
    total.backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        rough, each = token_loss(other, targets, torch.ones(count) / count, half)
    rough.backward()
    assert each.dtype == rough.dtype == torch.float32
    assert math.isclose(total.item(), rough.item(), rel_tol=2e-3)
    assert one.grad is not None
    assert other.grad is not None
    assert other.grad.dtype == torch.bfloat16
    distance = (one.grad - other.grad.float()).norm() / one.grad.norm()
    assert distance < 0.02


def test_one_weighted_pass_has_the_gradient_of_the_passes_of_all_datasets() -> None:
    """Trap: a mean over what happens to be in a batch weighs datasets by their size (SPEC-flamingo, Data)."""
    head, batch, factors = head_of("beyond"), random_batch(5, rows=6), torch.tensor([1.0, 0.2, 0.03])
    targets = find_targets(batch)
    totals = sum_by_source(torch.ones(len(targets.label)), targets.source, 3)
    assert totals.min() > 0
    assert len(set(totals.tolist())) > 1
    hidden = leaf(6, 16, WIDTH)
    assert head.rows is not None
    weights = token_weights(targets.source, factors, totals)
    merged = torch.autograd.grad(token_loss(hidden, targets, weights, head)[0], [hidden, head.rows])

    sums = [torch.zeros_like(hidden), torch.zeros_like(head.rows)]
    for number, factor in enumerate(factors):
        chosen = targets.source == number
        logits = plain_logits(hidden.flatten(0, 1)[targets.place[chosen]], head)
        loss = factor * functional.cross_entropy(logits, targets.label[chosen])
        for total, part in zip(sums, torch.autograd.grad(loss, [hidden, head.rows]), strict=True):
            total += part
    for one, other in zip(merged, sums, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_losses_are_added_up_by_dataset() -> None:
    sums = sum_by_source(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 2, 2, 0]), 4)
    assert sums.tolist() == [9.0, 0.0, 6.0, 0.0]


def test_a_dataset_without_targets_weighs_nothing_and_divides_by_nothing() -> None:
    weights = token_weights(torch.tensor([0, 0]), torch.tensor([1.0, 0.2]), torch.tensor([2, 0]))
    assert weights.tolist() == [0.5, 0.5]
