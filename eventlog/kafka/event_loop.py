"""An event loop in a thread of its own, which ends whatever runs in it.

A client of aiokafka does not always end when it is told to: an idempotent producer
waits for ever for a broker that is gone, and its tasks outlive a cancelled `stop()`.
A client that has a loop to itself ends with it.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


def is_told_to_end() -> bool:
    """Whether a cancellation that was caught is this task's own, and not one within a client.

    A client raises to its callers the cancellation of tasks that it keeps.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def stop_within(seconds: float, *stops: Coroutine[Any, Any, object]) -> None:
    """Wait for clients to stop, for so long at most; how they fail at it does not matter.

    Each in a task of its own: a client may raise here the cancellation of a task that it
    waited for, which would pass for our own and end whoever stops it.
    """
    tasks = [asyncio.create_task(stop) for stop in stops]
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=seconds / 4)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # a broker that is gone takes no goodbye


class EventLoop:
    """Coroutines may be submitted from any thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._on_stray)
        self._ending = False
        # A daemon: were it ever stuck, the process could still exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Raises: RuntimeError once it has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def end(self, stop: Callable[[], Awaitable[object]], timeout_s: float) -> None:
        """Cancel all that runs, `stop` the client, end the thread; blocks for `timeout_s` at most.

        What was submitted and is not done is cancelled.
        """
        if self._ending:
            return
        self._ending = True
        done = self.submit(self._end(stop, timeout_s))
        with suppress(TimeoutError):
            done.result(timeout_s + 1.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)

    async def _end(self, stop: Callable[[], Awaitable[object]], timeout_s: float) -> None:
        await self._cancel_others(timeout_s / 3)
        # A client that fails to say goodbye is gone all the same; and it may wait for a task
        # that was cancelled above, whose cancellation is then raised here.
        with suppress(Exception, asyncio.CancelledError):
            async with asyncio.timeout(timeout_s / 3):
                await stop()
        await self._cancel_others(timeout_s / 3)

    @staticmethod
    async def _cancel_others(timeout_s: float) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _on_stray(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Of a failure that nobody waited for; while ending, every failure is one of those."""
        if not self._ending:
            logger.warning("kafka client: %s", context.get("exception") or context["message"])
