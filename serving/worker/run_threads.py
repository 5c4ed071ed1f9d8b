"""Threads that run models, and how the event loop learns that a run has ended.

A loop with a thousand sockets to read takes tens of milliseconds to come round to a
callback, and then the threads have nothing to do. So whoever is called for each request
looks here first: what has ended is taken, and the next batch started, in between.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from serving.priority import RUN_NICE, give_way

log = logging.getLogger("driftgate.serving")

LEAVE_S = 0.001  # see `leave_core`
RUN_THREADS = 4  # slow versions that may run at the same time

Ended = Callable[["Future[Any]"], None]


class RunThreads:
    """`start` and `collect` are for the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int = RUN_THREADS) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(
            count, "driftgate-run", initializer=give_way, initargs=(RUN_NICE,)
        )
        self.ended: deque[tuple[Ended, Future[Any]]] = deque()
        self._running = 0
        self._news = threading.Event()  # something ended since the last look

    def start(self, run: Callable[[], Any], ended: Ended) -> None:
        """Run in a thread; `ended` is called with what became of it, on the loop."""
        self._running += 1
        self._executor.submit(run).add_done_callback(partial(self._hand_back, ended))

    def _hand_back(self, ended: Ended, future: "Future[Any]") -> None:
        self.ended.append((ended, future))
        self._news.set()
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self.collect)

    def leave_core(self) -> None:
        """Do nothing for LEAVE_S, or until a run ends; go on at once if none is on.

        What arrives meanwhile is then read in one turn of the loop. Where each request
        wakes the loop by itself, it takes from the run several times what it costs.
        """
        if self._running and not self.ended:
            self._news.clear()
            if not self.ended:
                self._news.wait(LEAVE_S)

    def close(self) -> None:
        """What has not begun never will; nobody waits for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def collect(self) -> None:
        """Tell of all runs that have ended."""
        while self.ended:
            ended, future = self.ended.popleft()
            self._running -= 1
            try:
                ended(future)
            except Exception:  # the request in whose turn this is asked is not to blame
                log.exception("ending a run failed")
