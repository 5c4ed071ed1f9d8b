"""The batcher on a real loop with a fake session."""

import asyncio
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from serving.core.batch import State
from serving.core.datatypes import Datatype
from serving.core.errors import DeadlineExceeded, ModelFailed, Overloaded
from serving.core.latency import LatencyProfile
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature, TensorSpec
from serving.worker.batcher import Batcher, Task
from serving.worker.run_threads import RunThreads

X = TensorSpec("x", Datatype.FP32, (-1, 2))
SIGNATURE = Signature("m", "1", (X,), (TensorSpec("y", Datatype.FP32, (-1, 2)),), 4)
NEVER = 2**62


class FakeSession:
    """Negates; fails on negative input; can be held up."""

    def __init__(self):
        self.batches = []
        self.hold_s = 0.0

    def run(self, arrays):
        (x,) = arrays
        self.batches.append(x.copy())
        if self.hold_s:
            time.sleep(self.hold_s)
        if (x < 0).any():
            raise ModelFailed("negative")
        return [-x]


class Collector:
    """Takes outcomes; keeps leases until told to give them back."""

    def __init__(self):
        self.answers = {}
        self.leases = []
        self.unloggable = 0

    def batch_done(self, batch, inputs, outputs, release, loggable, began_ns, ready_ns, run_ns):
        for task, start in zip(batch.members, batch.starts, strict=True):
            if task.state is not State.DONE:
                continue
            assert task not in self.answers
            self.answers[task] = outputs[0][start : start + task.rows].copy()
        if release is not None:
            self.leases.append((inputs, [x.copy() for x in inputs], release))
        self.unloggable += not loggable

    def member_failed(self, task, error, *, ran):
        assert task not in self.answers
        self.answers[task] = error


def task(value, rows=1, deadline_ns=NEVER):
    return Task("k", rows, [np.full((rows, 2), value, np.float32)], deadline_ns)


@pytest.fixture
def run():
    def run(scenario, *, inline=True, queue=QueueSettings(), wait_ns_max=0):  # noqa: B008 - frozen
        async def main():
            with closing(RunThreads(asyncio.get_running_loop(), 1)) as threads:
                session, collector = FakeSession(), Collector()
                batcher = Batcher(
                    asyncio.get_running_loop(),
                    time.monotonic_ns,
                    SIGNATURE,
                    session,
                    collector,
                    threads,
                    inline=inline,
                    profile=LatencyProfile([(4, 1000)]),
                    queue=queue,
                    wait_ns_max=wait_ns_max,
                )
                async with asyncio.timeout(30):
                    await scenario(batcher, session, collector)
                    await batcher.drained()
                batcher.queue.check()

        asyncio.run(main())

    return run


@pytest.mark.parametrize("inline", [True, False])
def test_what_arrives_in_one_turn_of_the_loop_is_one_batch(run, inline):
    async def scenario(batcher, session, collector):
        tasks = [task(i) for i in range(4)]
        for one in tasks:
            batcher.submit(one)
        await batcher.drained()
        assert [len(batch) for batch in session.batches] == [4]
        assert all((collector.answers[t] == -i).all() for i, t in enumerate(tasks))

    run(scenario, inline=inline)


@pytest.mark.parametrize("inline", [True, False])
def test_a_poisonous_member_fails_alone(run, inline):
    async def scenario(batcher, session, collector):
        tasks = [task(value) for value in (1, -1, 2)]
        for one in tasks:
            batcher.submit(one)
        await batcher.drained()
        assert [len(batch) for batch in session.batches] == [3, 1, 1, 1]
        assert isinstance(collector.answers[tasks[1]], ModelFailed)
        assert (collector.answers[tasks[2]] == -2).all()

    run(scenario, inline=inline)


def test_a_cancelled_request_does_not_hurt_its_batch_mates(run):
    async def scenario(batcher, session, collector):
        session.hold_s = 0.05
        tasks = [task(value) for value in (1, 2, 3)]
        for one in tasks:
            batcher.submit(one)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.cancel(tasks[1])
        await batcher.drained()
        assert (collector.answers[tasks[0]] == -1).all()
        assert (collector.answers[tasks[2]] == -3).all()

    run(scenario, inline=False)


def test_a_deadline_that_passes_during_a_slow_run_is_answered_then(run):
    async def scenario(batcher, session, collector):
        session.hold_s = 0.5
        soon = time.monotonic_ns() + 20_000_000
        running, waiting, patient = task(1, 4, soon), task(2, 1, soon), task(3)
        for one in (running, waiting, patient):
            batcher.submit(one)
        async with asyncio.timeout(20):
            while len(collector.answers) < 2:  # noqa: ASYNC110 - what is tested sets no event
                await asyncio.sleep(0.005)
        assert patient not in collector.answers  # the run itself is still going on
        for late in (running, waiting):
            assert isinstance(collector.answers[late], DeadlineExceeded)
        session.hold_s = 0
        await batcher.drained()
        assert (collector.answers[patient] == -3).all()

    run(scenario, inline=False)


def test_inputs_lent_to_the_log_stay_as_they_were_under_back_to_back_batches(run):
    async def scenario(batcher, session, collector):
        for value in range(400):
            batcher.submit(task(value))
            batcher.submit(task(value + 0.5))
            if value % 3 == 0:
                await batcher.drained()
            if value % 50 == 49:
                for inputs, copies, release in collector.leases:
                    for mine, copy in zip(inputs, copies, strict=True):
                        assert np.array_equal(mine, copy)
                    release()
                collector.leases.clear()
        assert collector.unloggable == 0

    run(scenario)


def test_an_output_that_cannot_be_cut_fails_the_batch_and_then_each_alone(run):
    async def scenario(batcher, session, collector):
        session.run = lambda arrays: [np.zeros((1, 2), np.float32)]
        tasks = [task(1), task(2)]
        for one in tasks:
            batcher.submit(one)
        await batcher.drained()
        # Together one row for two requests; alone one row is right.
        assert all((collector.answers[t] == 0).all() for t in tasks)

    run(scenario)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("where", ["claim", "copy"])
def test_without_memory_for_a_batch_each_request_runs_alone(run, inline, where, monkeypatch):
    async def scenario(batcher, session, collector):
        def no_memory(*_, **__):
            raise MemoryError

        with monkeypatch.context() as patch:
            if where == "claim":
                patch.setattr(batcher._pool, "claim", no_memory)
            else:
                patch.setattr(np, "concatenate", no_memory)
            tasks = [task(value) for value in (1, 2, 3)]
            for one in tasks:
                batcher.submit(one)
            await batcher.drained()
        assert [(collector.answers[t] == -i).all() for i, t in enumerate(tasks, 1)] == [True] * 3
        assert [len(batch) for batch in session.batches] == [1, 1, 1]
        assert batcher._pool.leased == 0

    run(scenario, inline=inline)


def queue(**settings):
    return QueueSettings(**settings)


def arriving(value, rows=1, wait_ns=NEVER):
    """A task that was queued now."""
    now_ns = time.monotonic_ns()
    arrays = [np.full((rows, 2), value, np.float32)]
    return Task("k", rows, arrays, min(NEVER, now_ns + wait_ns), now_ns)


@pytest.mark.parametrize("inline", [True, False])
def test_with_a_delay_an_idle_version_waits_for_a_full_batch(run, inline):
    async def scenario(batcher, session, collector):
        for value in range(4):
            assert not collector.answers
            batcher.submit(arriving(value))
            await asyncio.sleep(0.01)
        while not collector.answers:  # noqa: ASYNC110 - what is tested sets no event
            await asyncio.sleep(0.005)
        assert [len(batch) for batch in session.batches] == [4]

    run(scenario, inline=inline, queue=queue(delay_us=60_000_000))


@pytest.mark.parametrize("delay_us", [300, 20_000])
def test_a_request_without_company_runs_when_its_delay_has_passed(run, delay_us):
    async def scenario(batcher, session, collector):
        for value in (1, 2, 3):
            task = arriving(value)
            batcher.submit(task)
            while task not in collector.answers:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert time.monotonic_ns() - task.queued_ns >= delay_us * 1000

    run(scenario, queue=queue(delay_us=delay_us))


def test_a_hold_ends_before_a_deadline_and_when_its_last_client_left(run):
    async def scenario(batcher, session, collector):
        gone = arriving(1)
        batcher.submit(gone)
        await asyncio.sleep(0.01)
        assert batcher.cancel(gone)
        hasty = arriving(2, wait_ns=2_000_000_000)
        batcher.submit(hasty)
        while hasty not in collector.answers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert (collector.answers[hasty] == -2).all()
        assert [len(batch) for batch in session.batches] == [1]

    run(scenario, queue=queue(delay_us=60_000_000))


def test_a_drain_ends_every_hold(run):
    async def scenario(batcher, session, collector):
        task = arriving(1)
        batcher.submit(task)
        await asyncio.sleep(0.01)
        assert not collector.answers
        await batcher.drained()
        assert (collector.answers[task] == -1).all()

    run(scenario, queue=queue(delay_us=60_000_000))


def test_a_full_queue_refuses_and_takes_again_when_it_has_room(run):
    async def scenario(batcher, session, collector):
        batcher.check_room(time.monotonic_ns(), NEVER, 1, 0)
        for value in (1, 2):
            batcher.submit(arriving(value))
        with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
            batcher.check_room(time.monotonic_ns(), NEVER, 1, 0)
        await batcher.drained()
        batcher.check_room(time.monotonic_ns(), NEVER, 1, 0)

    run(scenario, queue=queue(max_queue_size=2))


@pytest.mark.parametrize(
    ("settings", "refuses"),
    [({}, True), ({"max_queue_size": 100}, False), ({"default_timeout_us": 10**9}, False)],
)
def test_a_model_that_bounds_its_queue_has_no_other_limit_of_the_wait(run, settings, refuses):
    async def scenario(batcher, session, collector):
        for value in range(9):
            batcher.submit(arriving(value))

        def ask():
            batcher.check_room(time.monotonic_ns(), NEVER, 1, 0, patient=True)

        batcher.check_room(time.monotonic_ns(), NEVER, 1, 0)
        if refuses:
            with pytest.raises(Overloaded, match="too long for a while"):
                ask()
        else:
            ask()

    run(scenario, queue=queue(**settings), wait_ns_max=1)


def test_who_waits_longer_than_the_queue_timeout_is_rejected_while_another_runs(run):
    async def scenario(batcher, session, collector):
        session.hold_s = 0.5
        running = arriving(1, 4)
        batcher.submit(running)
        await asyncio.sleep(0.01)
        late = arriving(2)
        batcher.submit(late)
        while late not in collector.answers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert running not in collector.answers
        assert isinstance(collector.answers[late], Overloaded)
        assert "Request timeout expired" in collector.answers[late].message
        await batcher.drained()
        assert (collector.answers[running] == -1).all()

    run(scenario, inline=False, queue=queue(default_timeout_us=50_000))


@pytest.mark.parametrize(
    ("settings", "heeds"),
    [
        ({}, True),
        ({"default_timeout_us": 5}, False),
        ({"default_timeout_us": 5, "allow_timeout_override": True}, True),
    ],
)
def test_a_model_may_insist_on_its_own_timeout(run, settings, heeds):
    async def scenario(batcher, session, collector):
        assert batcher.heeds_timeout is heeds

    run(scenario, queue=queue(**settings))


def test_so_many_batches_run_at_a_time_as_there_are_instances(run):
    async def scenario(batcher, session, collector):
        together = threading.Barrier(2)
        session.run = lambda arrays: together.wait(20) is not None and [-arrays[0]]
        with closing(RunThreads(asyncio.get_running_loop(), 2)) as threads:
            batcher._threads = threads
            tasks = [task(value, 4) for value in (1, 2)]
            for one in tasks:
                batcher.submit(one)
            await batcher.drained()
        assert all((collector.answers[t] == -v).all() for t, v in zip(tasks, (1, 2), strict=True))

    run(scenario, inline=False, queue=queue(instances=2))


def test_who_would_be_answered_too_late_is_refused_while_a_slow_run_is_on(run):
    async def scenario(batcher, session, collector):
        def room(wait_ns):
            now_ns = time.monotonic_ns()
            batcher.check_room(now_ns, now_ns + wait_ns, 1, 0)

        session.hold_s = 0.3
        for _ in range(3):  # one is cold, one might be an outlier
            batcher.submit(task(1, 4))
            await batcher.drained()
        batcher.submit(task(2, 4))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="cannot be met"):
            room(30_000_000)
        room(20_000_000_000)
        await batcher.drained()
        room(1)  # idle: whatever it was, it may try

    run(scenario, inline=False)


def test_late_requests_run_last_where_the_model_delays_them(run):
    async def scenario(batcher, session, collector):
        session.hold_s = 0.4
        for value, rows in ((1, 4), (2, 1)):
            batcher.submit(arriving(value, rows))
        await asyncio.sleep(0.25)
        batcher.submit(arriving(3, 4))
        await batcher.drained()
        assert [batch[0, 0] for batch in session.batches] == [1, 3, 2]
        assert not any(isinstance(answer, Exception) for answer in collector.answers.values())

    run(scenario, inline=False, queue=queue(default_timeout_us=300_000, timeout_delays=True))
