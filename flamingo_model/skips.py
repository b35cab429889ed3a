"""What is lost of the data: set aside sample by sample, counted by name, and an error where it is too much.

Skip → Budget, while lanes read; Skip → Stats, as batches are delivered
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flamingo_model.config import DataConfig

if TYPE_CHECKING:
    from flamingo_model.batch import Batch

FREE_SKIPS = 16
TOLD_SKIPS = 100
"""Skips whose place is kept for `Stats`."""


class DataError(Exception):
    """The data cannot be read as configured; the text is one line that says what, where and what would be right."""


class Skip(NamedTuple):
    """A sample, or a picture of one, that could not be used."""

    source: str
    reason: str
    told: str


def judge(config: DataConfig, skipped: Mapping[tuple[str, str], int], first: Skip, total: float) -> None:
    """Raise `DataError` where more of `total` samples is lost than the settings allow."""
    if config.on_damage == "raise":
        raise DataError(f"{first.reason}: {first.told} (data.on_damage is raise)")
    lost = sum(skipped.values())
    if lost > FREE_SKIPS + config.max_damaged * total:
        reasons = ", ".join(f"{source} {reason} {count}" for (source, reason), count in skipped.items())
        raise DataError(
            f"{lost} samples lost of {round(total)} read, more than data.max_damaged = {config.max_damaged} "
            f"allows ({reasons}); the first: {first.told}"
        )


class Budget:
    """Judges the losses of some lanes while they read, as they may lose so much that no batch is ever full.

    `share` is that of these lanes among all of the rank: the others are taken to have read as many samples each.
    """

    def __init__(self, config: DataConfig, share: float = 1.0) -> None:
        self.config, self.share = config, share
        self.read = 0
        self.skipped: Counter[tuple[str, str]] = Counter()
        self.first: Skip | None = None

    def skip(self, skip: Skip) -> None:
        """Count a loss; raises `DataError` if it is one too many."""
        self.skipped[skip.source, skip.reason] += 1
        self.first = self.first or skip
        judge(self.config, self.skipped, self.first, self.read / self.share)


@dataclass(slots=True)
class Stats:
    """What was delivered: counts by dataset, and what was lost by dataset and reason."""

    steps: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    padding: Counter[str] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: list[Skip] = field(default_factory=list)
    wait_s: float = 0.0

    def add(self, batches: Mapping[str, Batch], skipped: tuple[Skip, ...]) -> None:
        """Count a step."""
        self.steps += 1
        for name, batch in batches.items():
            real = int((batch.segment > 0).sum())
            self.samples[name] += sum(map(len, batch.keys))
            self.tokens[name] += real
            self.padding[name] += batch.segment.numel() - real
            self.media[name] += len(batch.media_row)
        for skip in skipped:
            self.skipped[skip.source, skip.reason] += 1
        self.told.extend(skipped[: TOLD_SKIPS - len(self.told)])
