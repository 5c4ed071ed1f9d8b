"""A partition goes from one monitor's files to another's, through a topic in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eventlog import LogError
from monitor.action_store import ActionRow, ActionStore, pack_action, unpack_action
from monitor.admin import AdminClient, AdminError, AdminRefused
from monitor.automation import Automation
from monitor.core.guards import Action
from monitor.core.handover import Entry, HandedOver, claim_entry
from monitor.documents import block_document, verdict_document
from monitor.engine import Closed, Engine
from monitor.kafka.ownership import NotOwner, Ownership
from monitor.store import BlockRow, Store
from tests.handover import fold
from tests.integration.monitor.test_automation import (
    BAD,
    GUARDS,
    PROFILES,
    Crash,
    FakeGateway,
    command_hooks,
)
from tests.monitor_process import Admin
from tests.monitor_shared_log import PARTITIONS, SharedLog
from tests.monitor_world import CODEC, MODEL, SETTINGS, START_NS, Traffic

S = 10**9


class MemoryTopic:
    """One partition of the topic; `away`: Kafka cannot be reached."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, bytes | None]] = []
        self.away = False

    def claim(self, number: int, owner: str) -> HandedOver:
        self.write(number, [claim_entry(owner)])
        return fold(self.entries)

    def write(self, number: int, entries: Sequence[Entry]) -> None:
        if self.away:
            raise LogError("no broker")
        for key, value in entries:
            self.entries.append((len(self.entries), key, value))

    def newest_claim(self, number: int, epoch: int) -> int:
        if self.away:
            raise LogError("no broker")
        claim = fold(self.entries).claim
        assert claim is not None
        return claim.epoch


class Machine:
    """A monitor with its own files, owner of the partition from its start on."""

    def __init__(self, path: Path, topic: MemoryTopic, world: "World", hook: str = "") -> None:
        path.mkdir(exist_ok=True)
        self.world, self.path = world, path
        self.ownership = Ownership(topic, 0, path.name)  # type: ignore[arg-type]
        self.store = Store(path / "monitor.db", "test")
        self.origin = self.ownership.inherit(self.store)
        self.actions = ActionStore(path / "actions.db")
        self.ownership.adopt_actions(self.actions)
        self.engine = Engine(
            world.log, CODEC.decode, PROFILES, SETTINGS, load_page=self.store.label_page,
            partitions=PARTITIONS, state=self.store.state(),
        )  # fmt: skip
        self.hooks = command_hooks((hook,) if hook else (), path, timeout_s=30.0)
        self.automation = Automation(
            self.store, self.actions, world.gateway, self.hooks, GUARDS,
            rollback=True, undo=True, advance=True, retrain_window_ns=60 * S,
            clock=lambda: world.traffic.now_ns, mandate=self.ownership,
        )  # fmt: skip
        self.rows: list[BlockRow] = []
        self.verdicts: list[dict] = []

    def _closed(self, closed: Closed) -> None:
        summary, state = closed.summary, self.engine.models[closed.model]
        document = block_document(summary)
        rows = (summary.stable, summary.candidate)
        self.rows.append(BlockRow(closed.model, summary.start_ns, *rows, document))
        if summary.raised:
            self.verdicts.append(verdict_document(state, summary, 1))

    def read(self, limit: int = 7, records: int = 10**9, act: bool = True) -> "Machine":
        while records > 0 and (count := self.engine.read(limit)):
            records -= count
            self.engine.close_blocks(self._closed)
            pages = self.engine.book.dirty()
            self.store.commit(self.engine.to_bytes(), self.rows, self.verdicts, pages)
            self.engine.book.stored()
            self.rows, self.verdicts = [], []
            if act:
                self.automation.step(self.engine.models)
        return self

    def hand_over(self) -> bool:
        standing = {s.standing_id for s in self.engine.models.values() if s.standing_key}
        return self.ownership.hand_over(self.store, standing)

    def close(self) -> None:
        self.store.close()
        self.actions.close()


class World:
    def __init__(self) -> None:
        self.log, self.gateway, self.topic = SharedLog(), FakeGateway(), MemoryTopic()
        self.traffic = Traffic(self.log, rows_per_block=60, label_delay_blocks=3)  # type: ignore[arg-type]
        self.machines: list[Machine] = []

    def machine(self, path: Path, hook: str = "") -> Machine:
        self.machines.append(Machine(path, self.topic, self, hook))
        return self.machines[-1]

    def close(self) -> None:
        for machine in self.machines:
            machine.close()


@pytest.fixture
def world():  # type: ignore[no-untyped-def]
    found = World()
    yield found
    found.close()


def bad_candidate(world: World) -> None:
    world.traffic.candidate, world.traffic.weight, world.traffic.rollout = BAD, 0.2, "r3"
    world.gateway.state = {
        "model": MODEL, "phase": "PROGRESSING", "rollout": "r3", "weight": 20, "generation": "4",
        "stable": {"digest": "1"}, "candidate": {"digest": BAD.digest},
        "changed_ns": str(world.traffic.now_ns),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_however_often_it_changes_hands_the_state_is_that_of_one_monitor(
    world: World, tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    world.traffic.run(12)
    bad_candidate(world)
    world.traffic.run(12)
    world.traffic.candidate = None
    world.traffic.run(6)
    world.traffic.end()
    expected = world.machine(tmp_path / "one").read(10_000, act=False).engine.to_bytes()
    world.topic.entries.clear()
    for _ in range(12):
        machine = world.machine(tmp_path / f"m{int(random.integers(3))}")
        for _ in range(int(random.integers(1, 4))):
            machine.read(3, records=int(random.integers(1, 12)), act=False)
            if random.random() < 0.5:
                assert machine.hand_over()
        machine.close()  # what it did since is on its own machine alone
        world.machines.remove(machine)
    last = world.machine(tmp_path / "last").read(act=False)
    assert last.engine.to_bytes() == expected
    stored = {k: last.store.label_page(k) for k in _page_keys(last.store)}
    first = world.machines[0].store
    assert stored == {k: first.label_page(k) for k in _page_keys(first)}


def _page_keys(store: Store) -> list[tuple[str, int]]:
    return list(store._db.execute("SELECT producer, page FROM label_pages ORDER BY 1, 2"))


def test_one_that_ends_before_its_first_step_hands_nothing_over_that_is_no_state(
    world: World, tmp_path: Path
) -> None:
    assert world.machine(tmp_path / "one").hand_over()
    found = fold(world.topic.entries).state()
    assert found is not None
    assert "engine" not in found
    heir = world.machine(tmp_path / "two")
    assert heir.origin == "the topic"
    assert heir.store.state() is None
    world.traffic.run(4)
    heir.read()
    assert heir.hand_over()
    assert "engine" in (fold(world.topic.entries).state() or {})


def test_a_state_that_nobody_else_touched_is_taken_from_ones_own_file(
    world: World, tmp_path: Path
) -> None:
    world.traffic.run(10)
    first = world.machine(tmp_path / "a").read(records=20)
    assert first.origin == "the log's beginning"
    assert first.hand_over()
    first.read()
    first.close()
    world.machines.clear()
    assert world.machine(tmp_path / "a").origin == "its own file"
    second = world.machine(tmp_path / "b")
    assert second.origin == "the topic"
    assert second.hand_over()
    third = world.machine(tmp_path / "a")
    assert third.origin == "the topic"


def test_a_successor_does_what_its_predecessor_began_under_the_same_key(
    world: World, tmp_path: Path
) -> None:
    world.traffic.run(15)
    bad_candidate(world)
    first = world.machine(tmp_path / "a")
    world.traffic.run(40)
    first.read(act=False)
    assert first.hand_over()
    world.gateway.failure = AdminError("unplugged at the worst moment")
    first.automation.step(first.engine.models)
    world.gateway.failure = None
    world.gateway.crash_after = True
    world.traffic.run(1)
    with pytest.raises(Crash):  # it dies when the gateway has applied it
        first.automation.step(first.engine.models)
    world.gateway.crash_after = False
    second = world.machine(tmp_path / "b").read(act=False)
    for _ in range(3):
        world.traffic.run(1)
        second.automation.step(second.engine.models)
    sent = [c for c in world.gateway.attempts if c["verb"] == "ROLLBACK"]
    assert len(sent) == 2
    assert len({c["id"] for c in sent}) == 1
    assert [int(c["fence"]) for c in sent] == [first.ownership.epoch, second.ownership.epoch]
    assert second.actions.actions(MODEL)[0].state == "done"


def test_cool_downs_go_over_with_the_partition(world: World, tmp_path: Path) -> None:
    world.traffic.run(15)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.gateway.state = {"model": MODEL, "phase": "STABLE", "stable": {"digest": "1"}}
    first = world.machine(tmp_path / "a", hook="/bin/true")
    world.traffic.run(40)
    first.read()
    assert [row.action for row in first.actions.actions(MODEL)] == [Action.RETRAIN]
    assert first.hand_over()
    second = world.machine(tmp_path / "b", hook="/bin/true")
    world.traffic.run(2)
    second.read(act=False).automation.step(second.engine.models)
    assert [row.action for row in second.actions.actions(MODEL)] == [Action.RETRAIN]
    assert "cooling down" in second.automation.withheld[MODEL]


def test_who_has_lost_the_partition_or_cannot_ask_does_nothing(
    world: World, tmp_path: Path
) -> None:
    world.traffic.run(15)
    bad_candidate(world)
    old = world.machine(tmp_path / "a")
    world.traffic.run(40)
    old.read(act=False)
    world.topic.away = True
    old.automation.step(old.engine.models)
    assert world.gateway.verbs() == []
    assert not old.hand_over()
    world.topic.away = False
    world.machine(tmp_path / "b")
    world.traffic.run(5)
    old.automation.step(old.engine.models)
    assert world.gateway.verbs() == []
    assert old.ownership.lost
    with pytest.raises(NotOwner):
        old.ownership.confirm()
    assert not old.hand_over()


def test_how_an_action_ended_reaches_the_topic_even_if_kafka_was_away_then(
    world: World, tmp_path: Path
) -> None:
    first = world.machine(tmp_path / "a")
    row = ActionRow("k", MODEL, Action.RETRAIN, START_NS, "done", "v", {})
    world.topic.away = True
    with pytest.raises(AdminError):
        first.ownership.record(row)
    world.topic.away = False
    world.traffic.run(3)
    first.read()
    assert first.hand_over()
    assert unpack_action(fold(world.topic.entries).actions["action/k"]) == row


def test_an_action_survives_its_packing() -> None:
    row = ActionRow("k", MODEL, Action.ROLLBACK, 5, "pending", "v", {"command": {"id": "k"}})
    assert unpack_action(pack_action(row)) == row


def test_any_gateway_takes_a_command_and_the_next_is_asked_when_one_is_gone(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("secret\n")
    gone, here = Admin(), Admin()
    client = AdminClient([gone.url, here.url], tmp_path / "token")
    try:
        client.apply({"verb": "NOTE", "id": "1"})
        assert gone.verbs() == ["NOTE"]
        gone.close()
        client.apply({"verb": "NOTE", "id": "2"})
        client.apply({"verb": "NOTE", "id": "3"})
        assert [c["id"] for c in here.commands] == ["2", "3"]
        here.refuse = "no"
        with pytest.raises(AdminRefused):
            client.apply({"verb": "ROLLBACK", "id": "4"})
    finally:
        here.close()
    with pytest.raises(AdminError):
        client.apply({"verb": "NOTE", "id": "5"})
