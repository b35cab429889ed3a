"""Losses of tokens: what is predicted where, and cross-entropy that never holds the logits of all positions.

    Batch → find_targets → Targets (place, label, source)                     N of them, on the CPU
    hidden [B, T, D], Targets, weights [N], Head → token_loss → sum of weight * -log p, and -log p of each [N]

B rows, T tokens, D width, N targets, n of them in a chunk, S datasets, V rows of the output embedding, K new tokens.
Nothing here divides by a count: weights come from `token_weights`, which is given the counts of all ranks
(SPEC-flamingo, Data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flamingo_model.lm import Head

if TYPE_CHECKING:
    from flamingo_model.batch import Batch

CHUNK_LOGITS = {"cpu": 1 << 23}
"""Logits that exist at once, by the type of the device: 32 MiB of float32 on the CPU."""
CHUNK_LOGITS_ELSEWHERE = 1 << 27
"""As many on other devices, which only larger matrices keep busy: 512 MiB."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The tokens of a batch that are predicted."""

    place: Tensor
    """[N] int64: where in the rows, laid end to end, the token stands that predicts."""
    label: Tensor
    """[N] int64: the token that follows it."""
    source: Tensor
    """[N] int64: the dataset of that token."""

    def to(self, device: torch.device | str) -> Targets:
        """Move the tensors, without waiting where the memory is pinned."""
        return Targets(*(tensor.to(device, non_blocking=True) for tensor in (self.place, self.label, self.source)))


def find_targets(batch: Batch) -> Targets:
    """List what a batch predicts: each token with `loss` from the one before it, where that is of the same segment.

    Best called while the batch is on the CPU: on a GPU the number of targets would have to be waited for.
    """
    follows = (batch.segment[:, 1:] == batch.segment[:, :-1]) & (batch.segment[:, 1:] > 0)
    row, column = torch.nonzero(batch.loss[:, 1:] & follows, as_tuple=True)
    return Targets(
        place=row * batch.tokens.shape[1] + column,
        label=batch.tokens[row, column + 1].long(),
        source=batch.source[row, column + 1].long(),
    )


def sum_by_source(values: Tensor, source: Tensor, datasets: int) -> Tensor:
    """Add up values [N] of targets by their dataset, float32 [S]; given ones, it counts the targets."""
    sums = torch.zeros(datasets, dtype=torch.float32, device=values.device)
    return sums.index_add_(0, source, values.float())


def token_weights(source: Tensor, factors: Tensor, totals: Tensor) -> Tensor:
    """Weigh each target by its dataset's factor, lambda, over the dataset's total [S]: float32 [N].

    `totals` are over all ranks: counts of targets for the mean over tokens, of samples for the mean over samples of
    the sum over tokens. So one pass over a mixture has the gradient of the datasets' own passes added up.
    """
    return (factors.float() / totals.float().clamp(min=1))[source]


def token_loss(
    hidden: Tensor, targets: Targets, weights: Tensor, head: Head, chunk_logits: int | None = None
) -> tuple[Tensor, Tensor]:
    """Give the sum of weighted cross-entropies (float32, differentiable) and each one unweighted (float32 [N]).

    `hidden` is [B, T, D], of which only positions that predict reach the head. Softmax is in float32. At most
    `chunk_logits` logits exist at once, and gradients are made with them in the forward pass: none are kept for the
    backward pass, nor made again.
    """
    chosen = hidden.flatten(0, 1)[targets.place]
    most = chunk_logits or CHUNK_LOGITS.get(hidden.device.type, CHUNK_LOGITS_ELSEWHERE)
    at_once = max(1, most // len(head.weight))
    shared = (targets.label, weights.float(), head, at_once, torch.is_grad_enabled())
    total, each = ChunkedLoss.apply(chosen, head.weight, head.bias, head.rows, *shared)  # type: ignore[no-untyped-call]
    return total, each


class ChunkedLoss(torch.autograd.Function):
    """Cross-entropy over a head, some positions at a time, with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        bias: Tensor | None,
        rows: Tensor | None,
        label: Tensor,
        weights: Tensor,
        head: Head,
        at_once: int,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        """Sum the losses of hidden [N, D], `at_once` of them at a time; make gradients of the sum where `wanted`."""
        device, given = hidden.device.type, (hidden, table, bias, rows)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else table.dtype
        made = [
            torch.zeros_like(tensor, dtype=None if tensor is hidden else torch.float32)
            if wanted and needed and tensor is not None
            else None
            for tensor, needed in zip(given, ctx.needs_input_grad, strict=False)
        ]
        each = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        cast = replace(head, weight=table.to(dtype), rows=None if rows is None else rows.to(dtype))
        with torch.autocast(device, enabled=False):
            for part in (slice(start, start + at_once) for start in range(0, len(hidden), at_once)):
                chunk = Chunk(hidden[part].to(dtype), label[part], cast)
                each[part] = chunk.losses
                if any(gradient is not None for gradient in made):
                    chunk.add_gradients(weights[part], made, part)
                del chunk  # before the next one is made
            total = each @ weights
        ctx.made, ctx.dtypes = made, [None if tensor is None else tensor.dtype for tensor in given]
        ctx.mark_non_differentiable(each)
        return total, each

    @staticmethod
    @once_differentiable  # type: ignore[no-untyped-call]
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients made on the way."""
        scaled = (
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(ctx.made, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None, None, None, None)


class Chunk:
    """The losses of hidden [n, D] and, once, their gradients.

    With z the logits, s the sum of their exponentials and w a weight, the gradient of w * loss by the logits is
    w / s * (exp(z) - s [label]). The exponentials are kept without the factor, which is left for what is made of them:
    the factor then goes to n * D numbers and not to n * V.
    """

    def __init__(self, hidden: Tensor, label: Tensor, head: Head) -> None:
        self.hidden, self.head = hidden, head
        known, new = head.parts(hidden)
        self.known, self.new = known.float(), None if new is None else new.float()
        self.slopes = head.slope(self.known), None if self.new is None else head.slope(self.new)
        self.label = label.clamp(max=len(head.weight) - 1)[:, None]
        picked = self.known.gather(1, self.label)[:, 0]
        most = self.known.amax(1)
        if self.new is not None:
            self.is_new = head.is_new(label)
            for id in head.inside():
                self.known[:, id] = -torch.inf
            picked = torch.where(self.is_new.any(1), torch.where(self.is_new, self.new, 0).sum(1), picked)
            most = torch.maximum(most, self.new.amax(1))
            self.new = self.new.sub_(most[:, None]).exp_()
        self.known.sub_(most[:, None]).exp_()
        self.total = self.known.sum(1) if self.new is None else self.known.sum(1) + self.new.sum(1)
        self.losses = self.total.log() + most - picked

    def add_gradients(self, weights: Tensor, made: Sequence[Tensor | None], part: slice) -> None:
        """Add the gradients by all hidden states, the embedding, its bias and the new rows, where there are such."""
        if self.new is not None:
            self.known.scatter_add_(1, self.label, torch.where(self.is_new.any(1), 0, -self.total)[:, None])
            self.new.sub_(self.is_new * self.total[:, None])
        else:
            self.known.scatter_add_(1, self.label, -self.total[:, None])
        for error, slope in zip((self.known, self.new), self.slopes, strict=True):
            if error is not None and slope is not None:
                error.mul_(slope)
        factor = (weights / (self.total * self.head.divisor))[:, None]
        of_hidden, of_table, of_bias, of_rows = made
        dtype = self.hidden.dtype
        known, new = self.known.to(dtype), None if self.new is None else self.new.to(dtype)
        if of_hidden is not None:
            back = (known @ self.head.weight).float()
            if new is not None and self.head.rows is not None:
                back += new @ self.head.rows
            of_hidden[part] = back * factor
        scaled = (self.hidden * factor).to(dtype)
        if of_table is not None:
            of_table += known.T @ scaled
        if of_bias is not None:
            of_bias += (self.known * factor).sum(0)
        if of_rows is not None and new is not None:
            of_rows += new.T @ scaled
