"""Blocks of shards that are read before they are needed, within a bound of memory.

begin(shard, offset, length)        read(shard, offset, length) → bytes within a block, None where there is none
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor


class Block:
    """A range of a shard; `future` is None while there is no room for it, `left` the bytes yet to be read of it."""

    __slots__ = ("future", "left", "length", "offset", "shard")

    def __init__(self, shard: int, offset: int, length: int, wanted: int) -> None:
        self.shard, self.offset, self.length = shard, offset, length
        self.future: Future[bytes] | None = None
        self.left = wanted

    def holds(self, offset: int, length: int) -> bool:
        """Tell whether a range lies within."""
        return self.offset <= offset and offset + length <= self.offset + self.length


class ReadAhead:
    """Calls `fetch(shard, offset, length)` in threads, and holds at most `max_bytes` of what it gives or will give."""

    def __init__(self, fetch: Callable[[int, int, int], bytes], connections: int, max_bytes: int) -> None:
        self.fetch, self.connections, self.max_bytes = fetch, connections, max_bytes
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.blocks: dict[int, list[Block]] = {}
        self.waiting: deque[Block] = deque()
        self.held_bytes = 0
        self.closed = False

    def begin(self, shard: int, offset: int, length: int, wanted: int | None = None) -> bool:
        """Ask for a block; False where it is larger than the room, or all is closed.

        It waits while there is no room, and is held until `wanted` bytes were read of it (default: as many as it
        has). Asking again for one that is held changes nothing.
        """
        with self.lock:
            if self.closed or not 0 < length <= self.max_bytes:
                return False
            blocks = self.blocks.setdefault(shard, [])
            if not any(block.offset == offset and block.length == length for block in blocks):
                blocks.append(Block(shard, offset, length, length if wanted is None else wanted))
                self.waiting.append(blocks[-1])
                self.begin_waiting()
        return True

    def read(self, shard: int, offset: int, length: int) -> bytes | None:
        """Take bytes of a block, waiting for them; None where none has them. Raises what `fetch` raised."""
        with self.lock:
            block = next((block for block in self.blocks.get(shard, ()) if block.holds(offset, length)), None)
            future = block.future if block is not None else None
        if block is None:
            return None
        try:
            return None if future is None else future.result()[offset - block.offset :][:length]
        except CancelledError:
            return None  # it was forgotten in the meantime
        finally:
            self.take(block, length)

    def forget(self, shard: int | None = None) -> None:
        """Drop the blocks of a shard, or of all."""
        with self.lock:
            dropped = [block for blocks in self.blocks.values() for block in blocks if shard in (None, block.shard)]
            for block in dropped:
                self.remove(block)
        for block in dropped:
            self.release(block)

    def close(self) -> None:
        """Drop everything and begin nothing more; what is being read ends in its own time."""
        with self.lock:
            self.closed = True
        self.forget()
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def take(self, block: Block, length: int) -> None:
        """Note that bytes of a block were read, and drop it after the last."""
        with self.lock:
            block.left -= length
            done = block.left <= 0 and block in self.blocks.get(block.shard, ())
            if done:
                self.remove(block)
        if done:
            self.release(block)

    def remove(self, block: Block) -> None:
        """Take a block from the lists, with the lock held."""
        self.blocks[block.shard].remove(block)
        if not self.blocks[block.shard]:
            del self.blocks[block.shard]
        if block.future is None:
            self.waiting.remove(block)

    def release(self, block: Block) -> None:
        """Give back the room of a block that was removed, as soon as nothing is read into it any more."""
        if block.future is not None:
            block.future.cancel()
            block.future.add_done_callback(lambda _: self.free(block.length))

    def free(self, length: int) -> None:
        """Give back room."""
        with self.lock:
            self.held_bytes -= length
            self.begin_waiting()

    def begin_waiting(self) -> None:
        """Begin the blocks that there is room for, with the lock held."""
        while self.waiting and not self.closed and self.held_bytes + self.waiting[0].length <= self.max_bytes:
            block = self.waiting.popleft()
            self.held_bytes += block.length
            self.pool = self.pool or ThreadPoolExecutor(self.connections, "read-ahead")
            block.future = self.pool.submit(self.fetch, block.shard, block.offset, block.length)
