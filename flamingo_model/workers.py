"""Worker processes: items made by several of them, none of which outlives who takes the items.

items, each process its own → open_workers → the items, from one process after the other
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import webdataset as wds
from torch.utils.data import IterableDataset

Item = TypeVar("Item")


class Leashed(IterableDataset):  # type: ignore[type-arg]
    """What a worker process makes, as long as nobody closes the other end of `leash`.

    That end closes with the process that holds it, however it ends. PyTorch's own watch looks at the parent process,
    which is here the server that workers are forked from: it lives as long as they do.
    """

    def __init__(self, items: Iterable[Any], leash: Connection) -> None:
        super().__init__()
        self.items, self.leash = items, leash

    def __iter__(self) -> Iterator[Any]:
        threading.Thread(target=self.leave, name="leash", daemon=True).start()
        return iter(self.items)

    def leave(self) -> None:
        """Wait for the other end to close, then leave at once, whatever is being done."""
        try:
            self.leash.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)


def open_workers(items: Iterable[Item], workers: int, prefetch: int, leash: Connection) -> Iterator[Item]:
    """Begin the processes; they end with the items, or when the other end of `leash` is closed.

    They are not forked from this process, which has threads, and file systems that do not survive a fork, but from
    a server that has loaded torch once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flamingo_model.data"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores: who asked for it knows
        loader = wds.WebLoader(
            Leashed(items, leash),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=prefetch,
            multiprocessing_context=context,
        )
        made = received(iter(loader))
        first = list(islice(made, 1))  # the processes begin with the first item
    return itertools.chain(first, made)


def received(items: Iterator[Item]) -> Iterator[Item]:
    """Give what the processes send; one that is killed while it hands over an item is told like any other.

    The connection breaks before the server that workers are forked from tells of the death, and PyTorch, which asks
    it only once, would let the broken connection through.
    """
    try:
        yield from items
    except (ConnectionError, EOFError) as error:
        raise RuntimeError(f"a worker process exited unexpectedly, handing over what it made: {error}") from error
