"""Choices by lot that are the same everywhere: each hangs on a hash of a key and of the choice's own name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Option = TypeVar("Option")


@dataclass(frozen=True, slots=True)
class Dice:
    """Choices that hang on a key and on the name of the choice, never on the order of asking."""

    key: str

    def sub(self, name: object) -> Dice:
        """Return the dice of something inside this one."""
        return Dice(f"{self.key}/{name}")

    def hex(self, name: str, chars: int = 16) -> str:
        """Return up to 32 hex digits."""
        return hashlib.blake2b(f"{self.key}/{name}".encode(), digest_size=16).hexdigest()[:chars]

    def unit(self, name: str) -> float:
        """Return a number in [0, 1)."""
        return int(self.hex(name, 12), 16) / 16**12

    def between(self, name: str, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int(self.unit(name) * (high - low + 1))

    def spread(self, name: str, reach: float) -> float:
        """Return a number in [-reach, reach)."""
        return (2 * self.unit(name) - 1) * reach

    def pick(self, name: str, options: Sequence[Option]) -> Option:
        """Return one of the options, each with the same chance."""
        return options[self.between(name, 0, len(options) - 1)]

    def order(self, name: str, options: Sequence[Option]) -> tuple[Option, ...]:
        """Return the options shuffled."""
        ranks = sorted(range(len(options)), key=lambda index: self.hex(f"{name}/{index}"))
        return tuple(options[index] for index in ranks)
