"""Clients that do not stop as they should hold nobody up, and end nobody else."""

import asyncio

from eventlog.kafka.event_loop import stop_within


def test_a_client_that_raises_a_cancellation_ends_only_itself():
    async def stray():
        raise asyncio.CancelledError

    async def failing():
        raise OSError("gone")

    async def main():
        await stop_within(5.0, stray(), failing())
        await stop_within(5.0)
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_a_client_that_never_stops_is_left():
    async def stubborn():
        ended = asyncio.Event()
        stubborn_tasks.append((asyncio.current_task(), ended))
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue

    stubborn_tasks = []

    async def main():
        await stop_within(0.01, stubborn())
        ((task, ended),) = stubborn_tasks
        assert not task.done()
        ended.set()
        await task

    asyncio.run(main())
