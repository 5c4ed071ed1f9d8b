"""Clients that do not stop as they should hold nobody up, and end nobody else."""

import asyncio

from eventlog.kafka.event_loop import is_told_to_end, stop_within


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


def test_a_cancellation_within_a_client_is_told_from_ones_own():
    found = []

    async def waits(raised):
        try:
            await raised
        except asyncio.CancelledError:
            found.append(is_told_to_end())

    async def main():
        stray = asyncio.get_running_loop().create_future()
        stray.cancel()
        await waits(stray)
        task = asyncio.create_task(waits(asyncio.sleep(3600)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(main())
    assert found == [False, True]
