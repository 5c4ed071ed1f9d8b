"""A loaded version on a real loop, with a model and a log that fail."""

import asyncio
import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest.mock import MagicMock

import numpy as np
import pytest

from serving.core.admission import Admission
from serving.core.datatypes import Datatype
from serving.core.errors import LogUnavailable, ModelFailed
from serving.core.latency import LatencyProfile
from serving.core.queue_settings import QueueSettings
from serving.core.request import PLAIN
from serving.core.routing import Arm
from serving.core.signature import Signature, TensorSpec
from serving.worker.log_tap import LogMode
from serving.worker.run_threads import RunThreads
from serving.worker.task import Task
from serving.worker.version import Version

X, Y = TensorSpec("x", Datatype.FP32, (-1, 2)), TensorSpec("y", Datatype.FP32, (-1, 2))
COST_BYTES = 100


class Session:
    """Negates; fails on negative input."""

    def run(self, arrays):
        if (arrays[0] < 0).any():
            raise ModelFailed("negative")
        return [-arrays[0]]


class BrokenTap:
    """A log that numbers, or keeps, nothing."""

    numbers = True

    def __init__(self, breaks, mode=LogMode.ASYNC):
        self._breaks, self.mode = breaks, mode

    def number(self, rows):
        if self._breaks == "number":
            raise RuntimeError("closed")
        return 7

    def prediction_id(self, ts_ns, sequence):
        return "id"

    def keep(self, *_):
        raise RuntimeError("closed")

    keep_durably = keep


class Waiter:
    protocol = "http"

    def __init__(self):
        self.answers = []

    def succeed(self, task, outputs, start, stop):
        self.answers.append(outputs.slice(0, start, stop).tolist())

    def fail(self, error):
        self.answers.append(error)


@pytest.mark.parametrize("breaks", ["number", "keep"])
def test_a_log_that_breaks_keeps_no_answer_back(breaks):
    async def main():
        loop = asyncio.get_running_loop()
        admission = Admission(10, 1000, 10)
        problems = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        with ThreadPoolExecutor(1) as executor:
            version = Version(
                loop, time.monotonic_ns, Signature("m", "1", (X,), (Y,), 4), "d", Session(),
                executor, admission, MagicMock(), BrokenTap(breaks), {}, QueueSettings(),
                inline=True, profile=LatencyProfile(),
            )  # fmt: skip
            arm = Arm(version, "1", "stable", "", 100)
            waiters = [Waiter() for _ in range(3)]
            for waiter, value in zip(waiters, (1, -1, 2), strict=True):
                admission.hold_rows(1)
                admission.hold_bytes(COST_BYTES)
                array = np.full((1, 2), value, np.float32)
                version.submit(
                    Task(version, arm, waiter, [array], 1, PLAIN, (), COST_BYTES, 0, 0, 0, 2**62)
                )
            async with asyncio.timeout(20):
                await version.drained()
        assert waiters[0].answers == [[[-1.0, -1.0]]]
        assert [type(answer) for answer in waiters[1].answers] == [ModelFailed]
        assert waiters[2].answers == [[[-2.0, -2.0]]]
        assert (admission.rows, admission.bytes) == (0, 0)
        assert problems == []

    asyncio.run(main())


@pytest.mark.parametrize("breaks", ["number", "keep"])
def test_a_durable_version_answers_nothing_that_its_log_did_not_take(breaks):
    async def main():
        loop = asyncio.get_running_loop()
        admission = Admission(10, 1000, 10)
        with ThreadPoolExecutor(1) as executor:
            version = Version(
                loop, time.monotonic_ns, Signature("m", "1", (X,), (Y,), 4), "d", Session(),
                executor, admission, MagicMock(), BrokenTap(breaks, LogMode.DURABLE), {},
                QueueSettings(), inline=True, profile=LatencyProfile(),
            )  # fmt: skip
            arm = Arm(version, "1", "stable", "", 100)
            waiters = [Waiter() for _ in range(2)]
            for waiter in waiters:
                admission.hold_rows(1)
                admission.hold_bytes(COST_BYTES)
                array = np.ones((1, 2), np.float32)
                version.submit(
                    Task(version, arm, waiter, [array], 1, PLAIN, (), COST_BYTES, 0, 0, 0, 2**62)
                )
            async with asyncio.timeout(20):
                await version.drained()
        assert [[type(a) for a in waiter.answers] for waiter in waiters] == [[LogUnavailable]] * 2
        assert (admission.rows, admission.bytes) == (0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "thread"])
def test_a_version_goes_with_its_last_reference(inline):
    """Its weights may be gigabytes, and no search for cycles finds what is frozen."""

    class ForgetfulWaiter(Waiter):
        """As a connection does, it keeps no error: those know the frames they passed."""

        def succeed(self, *_):
            self.answers.append(True)

        def fail(self, _):
            self.answers.append(False)

    class KeepingTap(BrokenTap):
        def keep(self, *_):
            pass

    async def main():
        loop = asyncio.get_running_loop()
        admission = Admission(10, 1000, 10)
        session = Session()
        gone = asyncio.Event()
        weakref.finalize(session, loop.call_soon_threadsafe, gone.set)
        with closing(RunThreads(loop, 1)) as threads:
            version = Version(
                loop, time.monotonic_ns, Signature("m", "1", (X,), (Y,), 4), "d", session,
                threads, admission, MagicMock(), KeepingTap(None), {}, QueueSettings(),
                inline=inline, profile=LatencyProfile(),
            )  # fmt: skip
            del session
            arm = Arm(version, "1", "stable", "", 100)
            in_an_hour_ns = time.monotonic_ns() + 3600 * 10**9
            for value in (1, -1):  # one that is answered, one that fails
                waiter = ForgetfulWaiter()
                admission.hold_rows(1)
                admission.hold_bytes(COST_BYTES)
                array = np.full((1, 2), value, np.float32)
                version.submit(
                    Task(
                        version, arm, waiter, [array], 1, PLAIN, (), COST_BYTES, 0, 0, 0,
                        in_an_hour_ns,
                    )
                )  # fmt: skip
                async with asyncio.timeout(20):
                    await version.drained()
                assert waiter.answers == [value > 0]
            assert not gone.is_set()
            del version, arm, waiter
            async with asyncio.timeout(20):
                await gone.wait()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
