"""Compresses HTTP replies: short ones at once, the others in one thread.

A reply of the greatest size that is packed at once holds the event loop up for
about 0.4 ms; zlib lets go of the GIL, so a thread costs other
requests nothing but their share of the core. What waits for the thread is
bounded, and beyond the bound replies go out plain, which no client may object to
that does not refuse it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serving.core.content_coding import Accepted, pack

INLINE_BYTES_MAX = 32 * 1024
WAITING_BYTES_MAX = 64 * 1024 * 1024

Send = Callable[[bytes, str], None]


class ReplyPacker:
    """One per worker; lives on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bytes_min: int) -> None:
        """bytes_min: shorter replies go out plain; 0: every reply does."""
        self._loop, self._bytes_min = loop, bytes_min
        self._executor = ThreadPoolExecutor(1, "pack")
        self._waiting_bytes = 0

    def takes(self, size: int, accepted: Accepted) -> bool:
        """Whether a reply of `size` bytes is packed, as far as its size says."""
        if not self._bytes_min or self._waiting_bytes + size > WAITING_BYTES_MAX:
            return False
        return size >= self._bytes_min or accepted.needed

    def send(self, body: bytes, accepted: Accepted, send: Send) -> None:
        """Call `send` with the packed body and its coding, or with `body` and "".

        It is called before this returns, or later on the loop, but not after `close`.
        """
        size = len(body)
        if size <= INLINE_BYTES_MAX:
            _hand_over(body, pack(body, accepted.coding), accepted, send)
            return
        self._waiting_bytes += size
        running = self._loop.run_in_executor(self._executor, pack, body, accepted.coding)

        def done(future: asyncio.Future[bytes]) -> None:
            self._waiting_bytes -= size
            if future.cancelled():
                return
            if future.exception() is None:
                _hand_over(body, future.result(), accepted, send)
            else:  # no memory for it, say: the reply itself is there
                send(body, "")

        running.add_done_callback(done)

    def close(self) -> None:
        """No connection waits any more."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _hand_over(body: bytes, packed: bytes, accepted: Accepted, send: Send) -> None:
    if len(packed) < len(body) or accepted.needed:
        send(packed, accepted.coding)
    else:
        send(body, "")
