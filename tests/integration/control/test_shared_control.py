"""Gateways that share a log: who decides, what is done alone, and how they find together."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from protos import control_pb2 as pb
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Refused,
    Repeated,
    Verb,
    Version,
)
from serving.store.audit import verify_audit
from serving.store.control_store import ControlStore
from serving.store.desired_state import Change, OutcomeUnknownError, OutOfReachError
from serving.store.shared_store import SharedStore
from serving.supervisor import shared_control
from serving.supervisor.shared_control import SharedControl, SharedSettings

from .fake_shared_log import FakeSharedLog, FakeTopic

V1, V2, V3 = (Version(str(n), f"{n}" * 64) for n in (1, 2, 3))
PATIENCE_S = 30.0
SETTINGS = SharedSettings(catch_up_s=0.2, answer_s=5.0)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_control, "RETRY_S", 0.01)


def in_a_loop(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S * 2):
                await test(tmp_path)

        asyncio.run(bounded())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Member:
    """One gateway, as far as control goes."""

    def __init__(self, folder: Path, topic: FakeTopic) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.log = FakeSharedLog(topic)
        self.control = SharedControl(SharedStore(folder, 0), self.log, SETTINGS)
        self.control.changed = self._changed
        self.changes: list[Change] = []
        self.generations: list[int] = []

    def _changed(self, changes: Sequence[Change]) -> None:
        self.changes += changes
        self.generations.append(self.digits.generation)
        assert self.generations == sorted(self.generations)

    @property
    def digits(self) -> Deployment:
        return self.control.deployment("digits")

    async def tell(self, verb: Verb, version: Version | None = None, **fields: Any) -> Any:
        command = Command(
            **{
                "id": f"{self.folder.name}-{verb.name}-{len(self.log.topic.values)}",
                "ts_ns": 10**18,
                "actor": "ann",
                "origin": Origin.CLI,
                "model": "digits",
                "verb": verb,
                "version": version,
                **fields,
            }
        )
        return await self.control.submit(command)

    async def does(self, verb: Verb, version: Version | None = None, **fields: Any) -> None:
        applied = await self.tell(verb, version, **fields)
        assert isinstance(applied.outcome, Accepted), applied


@asynccontextmanager
async def following(*members: Member) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(member.control.run()) for member in members]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in members:
            member.control.close()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not check():  # noqa: ASYNC110 - a check is about state, not about an event
            await asyncio.sleep(0.005)


async def together(*members: Member) -> None:
    await until(
        lambda: all(m.control.up and m.control._store.position == len(m.log.topic.values)
                    for m in members)
    )  # fmt: skip
    first = members[0]
    for member in members:
        assert member.control.deployments == first.control.deployments
        assert member.control.diverged == ()


@in_a_loop
async def test_what_one_gateway_is_told_all_do(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one, two):
        await one.does(Verb.ADOPT, V1)
        await until(lambda: two.digits.generation == 1)
        await two.does(Verb.START, V2)
        await until(lambda: one.digits.candidate == V2)
        refused = await one.tell(Verb.START, V1)
        assert isinstance(refused.outcome, Refused)
        assert "already serves" in refused.result.error
        await together(one, two)
        assert [item.command.verb for item in two.changes] == [Verb.ADOPT, Verb.START]
    for folder, kinds in (
        ("a", ["accepted", "accepted", "refused"]),
        ("b", ["accepted", "accepted"]),
    ):
        assert [e.kind for e in SharedStore(tmp_path / folder, 1).entries("", 0, 9)] == kinds
        assert verify_audit(tmp_path / folder)[1] == []


@in_a_loop
async def test_an_append_that_comes_twice_is_done_once(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    one.log.twice = True
    async with following(one, two):
        await one.does(Verb.ADOPT, V1)
        await one.does(Verb.HOLD, hold_until_ns=2 * 10**18)
        await together(one, two)
        assert len(topic.values) == 4
        assert two.digits.generation == 2
        again = await two.tell(Verb.HOLD, hold_until_ns=2 * 10**18, id="a-HOLD-2")
        assert isinstance(again.outcome, Repeated)
        assert again.result.duplicate
        assert again.result.after.generation == 2
        reused = await two.tell(Verb.PAUSE, id="a-HOLD-2")
        assert "HOLD of digits" in reused.result.error


@in_a_loop
async def test_without_the_log_a_rollback_is_done_at_once_and_followed_later(
    tmp_path: Path,
) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one, two):
        await one.does(Verb.ADOPT, V1)
        await one.does(Verb.START, V2, steps=(100,))
        await together(one, two)
        one.log.cut()
        await until(lambda: not one.control.up)
        applied = await one.tell(Verb.ROLLBACK)
        assert applied.result.diverged
        assert one.digits.stable == V1
        assert one.control.diverged == ("digits",)
        assert "digits: diverged: changed on this gateway alone" in one.control.degraded()
        assert one.control.status()["away_since"] > 0
        for verb, origin in ((Verb.START, Origin.CLI), (Verb.ABORT, Origin.MONITOR)):
            with pytest.raises(OutOfReachError, match="only rollback, abort and hold"):
                await one.tell(verb, V3, origin=origin)
        await two.does(Verb.HOLD, hold_until_ns=2 * 10**18)
        one.log.heal()
        await together(one, two)
        assert two.digits.stable == V1
        assert two.digits.generation == one.digits.generation == 4
        assert sum(change.command.verb is Verb.ROLLBACK for change in one.changes) == 1


@in_a_loop
async def test_what_was_done_alone_survives_a_restart_without_the_log(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(two):
        async with following(one):
            await one.does(Verb.ADOPT, V1)
            await one.does(Verb.START, V2)
            one.log.cut()
            await until(lambda: not one.control.up)
            await one.does(Verb.ROLLBACK)
        one = Member(tmp_path / "a", topic)
        one.log.cut()
        assert one.digits.candidate is None
        async with following(one):
            await one.control.begun()
            assert not one.control.up
            assert one.control.diverged == ("digits",)
            one.log.heal()
            await together(one, two)
            assert two.digits.quarantined == (V2.digest,)


@in_a_loop
async def test_an_answer_that_is_lost_is_told_so_and_a_rollback_is_done_all_the_same(
    tmp_path: Path,
) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one, two):
        await one.does(Verb.ADOPT, V1)
        await one.does(Verb.START, V2)
        one.log.loses = True
        with pytest.raises(OutcomeUnknownError):
            await one.tell(Verb.PROMOTE, id="p")
        one.log.loses = False
        one.log.heal()
        await together(one, two)
        assert one.digits.stable == V2
        again = await one.tell(Verb.PROMOTE, id="p")
        assert isinstance(again.outcome, Repeated)
        one.log.loses = True
        applied = await one.tell(Verb.ROLLBACK, id="r")
        assert applied.result.diverged
        one.log.loses = False
        one.log.heal()
        await together(one, two)
        assert [p.command.id for p in topic.proposals()].count("r") == 1
        assert two.digits.stable == V1
        assert two.digits.generation == 4


@in_a_loop
async def test_a_new_gateway_starts_from_a_snapshot_and_ends_like_the_others(
    tmp_path: Path,
) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one):
        await one.does(Verb.ADOPT, V1)
        for number in range(shared_control.SNAPSHOT_ENTRIES + 40):
            await one.tell(Verb.HOLD, id=f"h{number}", hold_until_ns=2 * 10**18 + number)
        (snapshot,) = topic.snapshots
        async with following(two):
            await together(one, two)
            (begin,) = two.control._store._connection.execute(
                "SELECT position FROM replica"
            ).fetchone()
            assert begin == snapshot.position >= shared_control.SNAPSHOT_ENTRIES
    three = Member(tmp_path / "c", topic)
    topic.snapshots.clear()
    async with following(three):
        await together(three)
        assert three.control.deployments == one.control.deployments
    assert SharedStore(tmp_path / "b", 1).deployments == one.control.deployments


@in_a_loop
async def test_a_snapshot_of_another_log_is_not_used(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one):
        await one.does(Verb.ADOPT, V1)
        await one.does(Verb.START, V2)
        snapshot = one.control._store.snapshot
    other = FakeTopic()
    other.values = [topic.values[0], topic.values[0]]
    other.snapshots = [snapshot]
    two.log.topic = other
    async with following(two):
        await together(two)
        assert two.digits.candidate is None


@pytest.mark.parametrize("loss", ["empty", "shorter", "another", "trimmed"])
def test_a_log_that_is_not_the_one_that_was_read_is_not_folded(tmp_path: Path, loss: str) -> None:
    async def test(folder: Path) -> None:
        topic = FakeTopic()
        one = Member(folder / "a", topic)
        async with following(one):
            await one.does(Verb.ADOPT, V1)
            await one.does(Verb.START, V2)
            one.log.cut()
            await until(lambda: not one.control.up)
            stray = pb.Proposal(id="x", command=topic.proposals()[0].command)
            if loss == "empty":
                topic.values.clear()
            elif loss == "shorter":
                topic.values.pop()
            elif loss == "another":
                topic.values[:] = [stray.SerializeToString()] * 5
            else:
                topic.values += [stray.SerializeToString()] * 5
                topic.first = 4
            one.log.heal()
            await until(lambda: "made anew" in one.control.trouble)
            assert not one.control.up
            assert one.digits.candidate == V2
            await one.does(Verb.ROLLBACK)
            assert one.digits.candidate is None

    in_a_loop(test)(tmp_path)


@in_a_loop
async def test_an_entry_that_nobody_understands_is_passed_over_and_said(tmp_path: Path) -> None:
    topic = FakeTopic()
    one = Member(tmp_path / "a", topic)
    async with following(one):
        await one.does(Verb.ADOPT, V1)
        await topic.add(b"\xff\xff")
        later = pb.Command(verb=99, model="digits")  # type: ignore[arg-type]
        await topic.add(pb.Proposal(command=later).SerializeToString())
        await one.does(Verb.START, V2)
        assert one.control.refused == {"unreadable": 2}


@in_a_loop
async def test_a_gateway_brings_what_it_served_alone_and_a_second_one_follows(
    tmp_path: Path,
) -> None:
    topic = FakeTopic()
    for name, more in (("a", 0), ("b", 7)):
        (tmp_path / name).mkdir()
        alone = ControlStore(tmp_path / name, 0)
        alone.apply(Command("1", 1, "ann", Origin.CLI, "digits", Verb.ADOPT, V1))
        alone.apply(Command("2", 2, "ann", Origin.CLI, "digits", Verb.START, V2, (100,)))
        alone.apply(Command("3", 3, "ann", Origin.CLI, "digits", Verb.ROLLBACK))
        for number in range(more):
            hold = {"hold_until_ns": 10**18}
            alone.apply(Command(f"h{number}", 4, "ann", Origin.CLI, "digits", Verb.HOLD, **hold))  # type: ignore[arg-type]
        alone.close()
    one = Member(tmp_path / "a", topic)
    assert one.digits.quarantined == (V2.digest,)
    assert one.digits.generation == 3
    async with following(one):
        await until(lambda: one.control.up)
        assert (one.digits.generation, one.digits.stable) == (4, V1)
        two = Member(tmp_path / "b", topic)
        assert two.digits.generation == 10
        async with following(two):
            await together(one, two)
            assert one.digits.generation == 11
            assert not (tmp_path / "b" / "control.db").exists()
    back = ControlStore(tmp_path / "b", 9)  # no Kafka any more
    assert back.deployment("digits") == one.digits
    back.close()


@in_a_loop
async def test_a_damaged_copy_serves_the_last_state_and_is_read_anew(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(two):
        async with following(one):
            await one.does(Verb.ADOPT, V1)
            await one.does(Verb.START, V2)
            one.log.cut()
            await until(lambda: not one.control.up)
            await one.does(Verb.ROLLBACK)
        (tmp_path / "a" / "control.shared.db").write_bytes(b"no database" * 500)
        one = Member(tmp_path / "a", topic)
        assert one.digits.candidate is None
        assert one.control.diverged == ("digits",)
        async with following(one):
            await together(one, two)
            assert two.digits.quarantined == (V2.digest,)
            assert two.digits.generation == 3
        assert list((tmp_path / "a").glob("control.shared.db.damaged-*"))


@in_a_loop
async def test_an_audit_that_was_late_is_caught_up_at_the_next_start(tmp_path: Path) -> None:
    topic = FakeTopic()
    one = Member(tmp_path / "a", topic)
    async with following(one):
        await one.does(Verb.ADOPT, V1)
        one.control._store.audit.extend = lambda items: (_ for _ in ()).throw(OSError("full"))  # type: ignore[method-assign,assignment]
        await one.does(Verb.START, V2)
    store = SharedStore(tmp_path / "a", 1)
    bodies = [json.loads(entry.body) for entry in store.entries("", 0, 9)]
    assert [body["offset"] for body in bodies] == [0, 1]
    assert bodies[1]["recovered"]
    store.close()


@in_a_loop
async def test_a_full_disk_takes_nothing_over_and_goes_on_when_it_can(tmp_path: Path) -> None:
    topic = FakeTopic()
    one, two = (Member(tmp_path / name, topic) for name in "ab")
    async with following(one, two):
        await one.does(Verb.ADOPT, V1)
        await together(one, two)
        other = sqlite3.connect(tmp_path / "b" / "control.shared.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        two.control._store._connection.execute("PRAGMA busy_timeout = 1")
        await one.does(Verb.START, V2)
        await until(lambda: "cannot be written" in two.control.trouble)
        assert two.digits.generation == 1
        other.execute("ROLLBACK")
        other.close()
        await together(one, two)
