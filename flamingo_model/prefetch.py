"""Making things ahead of who takes them: an iterator that runs in a thread of its own.

items → Prefetched(items, depth) → the same items
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

from flamingo_model.pixels import one_thread

Item = TypeVar("Item")
LOOK_UP_S = 0.1
"""How soon a thread that waits for room sees that it was closed."""


class Failed:
    """What ended the items: an error, or that there are no more."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Prefetched(Generic[Item]):
    """Runs `items` in a thread, at most `depth` ahead; what they raise is raised where they are taken."""

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self.items = items
        self.made: queue.Queue[Item | Failed] = queue.Queue(depth)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="prefetch", daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        item = self.made.get()
        if isinstance(item, Failed):
            self.made.put(item)  # and again for who asks again
            raise item.error
        return item

    def run(self) -> None:
        """Make items until there are no more, one fails, or all is closed."""
        one_thread()
        try:
            while self.put(next(self.items)):
                pass
        except BaseException as error:  # whatever it is, it belongs to who takes the items
            self.put(Failed(error))
        # Generators clean up in the thread that ran them.
        del self.items

    def put(self, item: Item | Failed) -> bool:
        """Wait for room; False once closed."""
        while not self.stopped.is_set():
            try:
                self.made.put(item, timeout=LOOK_UP_S)
            except queue.Full:
                continue
            return True
        return False

    def close(self, timeout_s: float | None = None) -> bool:
        """Stop the thread and wait for it; False where it still makes an item after so long."""
        self.stopped.set()
        self.thread.join(timeout_s)
        with contextlib.suppress(queue.Full):
            self.made.put_nowait(Failed(RuntimeError("closed while it was waited for")))
        return not self.thread.is_alive()
