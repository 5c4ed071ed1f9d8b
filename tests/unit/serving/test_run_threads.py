"""Runs in threads come back to the loop, soon and in any case."""

import asyncio
import threading
from contextlib import closing

import pytest

from serving.worker import run_threads
from serving.worker.run_threads import RunThreads

WAIT_S = 30


def run(scenario):
    async def main():
        with closing(RunThreads(asyncio.get_running_loop(), 1)) as threads:
            async with asyncio.timeout(WAIT_S):
                await scenario(threads)

    asyncio.run(main())


def started(threads, work):
    """A future of what became of it, on the loop."""
    ended = asyncio.get_running_loop().create_future()
    threads.start(work, ended.set_result)
    return ended


def test_what_became_of_a_run_reaches_the_loop():
    async def scenario(threads):
        assert (await started(threads, lambda: 5)).result() == 5
        failed = await started(threads, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failed.result()

    run(scenario)


def test_a_loop_that_does_not_come_round_can_collect_what_has_ended():
    async def scenario(threads):
        ended = started(threads, lambda: 5)
        while not threads.ended:
            threads.leave_core()
        threads.collect()
        assert ended.done()
        assert not threads.ended

    run(scenario)


def test_one_that_fails_to_end_does_not_keep_the_others_back(caplog):
    async def scenario(threads):
        threads.start(lambda: 5, lambda _: 1 / 0)
        assert (await started(threads, lambda: 6)).result() == 6
        assert "ending a run failed" in caplog.text

    run(scenario)


def test_the_core_is_left_while_a_run_is_on_and_until_it_ends(monkeypatch):
    monkeypatch.setattr(run_threads, "LEAVE_S", WAIT_S)

    async def scenario(threads):
        threads.leave_core()  # nothing runs: at once
        go = threading.Event()
        ended = started(threads, lambda: go.wait(WAIT_S))
        threading.Timer(0.05, go.set).start()
        threads.leave_core()
        assert go.is_set()
        threads.leave_core()  # it has ended: at once
        assert (await ended).result() is True
        threads.leave_core()

    run(scenario)


def test_what_has_not_begun_when_they_close_never_runs():
    async def scenario(threads):
        go = threading.Event()
        first = started(threads, lambda: go.wait(WAIT_S))
        second = started(threads, lambda: 6)
        threads.close()
        go.set()
        assert (await first).result() is True
        assert (await second).cancelled()

    run(scenario)
