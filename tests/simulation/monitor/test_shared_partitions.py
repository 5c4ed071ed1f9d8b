"""Partitions that many producers share: what Kafka makes of time, and what the monitor does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eventlog import GapReason, Label, MemoryLog, Record, RecordKind, encode_labels
from eventlog.core.marks import gap_record, heartbeat_record
from eventlog.core.record import StoredRecord
from eventlog.kafka.topics import partition_of
from monitor.core.judge import Kind
from monitor.core.partition_time import STEP_NS, PartitionTime
from monitor.core.tree import pack
from monitor.engine import Engine
from tests.monitor_shared_log import PARTITIONS, SharedLog
from tests.monitor_world import BLOCK_NS, CODEC, MODEL, SETTINGS, START_NS, Traffic, Version
from tests.simulation.monitor.test_monitor_crashes import story
from tests.simulation.monitor.test_monitor_in_virtual_time import BAD, PROFILES, Watch

QUICK = replace(SETTINGS, silence_ns=3 * BLOCK_NS)


class SharedWatch(Watch):
    """As Watch, over shared partitions; `poison` gets what cannot be decoded."""

    def __init__(
        self, log: SharedLog, state: bytes | None = None, pages: dict | None = None
    ) -> None:
        super().__init__(MemoryLog())
        self.pages = {} if pages is None else pages
        self.poison: list[StoredRecord] = []
        self.engine = Engine(
            log, CODEC.decode, PROFILES, QUICK, load_page=self.pages.get,
            partitions=log.partitions, on_undecodable=lambda item, _: self.poison.append(item),
            state=state,
        )  # fmt: skip


def announce(log: SharedLog, *producers: str, block: int = 0) -> None:
    """Their first heartbeats, which they write before they let traffic in."""
    log.append([heartbeat_record(name, 0, START_NS + block * BLOCK_NS) for name in producers])


def rough(seed: int) -> SharedLog:
    """Everything that may befall a shared partition, in an order drawn from the seed.

    Three machines whose shippers lag each by its own; one is cut off for longer than
    silence lasts and comes back; records come twice; some are lost, some cannot be read.
    """
    random = np.random.default_rng(seed)
    log, coming = SharedLog(), {"00000a": [], "00000b": [], "00000c": []}

    def collect(_: object, producer: str, records: list[Record]) -> None:
        coming[producer] += records

    traffic = Traffic(
        MemoryLog(), seed, tuple(coming), rows_per_block=30, label_delay_blocks=3, append=collect
    )
    for block in range(40):
        if block == 12:
            traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.3, "r1"
        if block == 25:
            traffic.candidate, traffic.stable = None, Version("2")
        traffic.step()
        if random.random() < 0.2:
            traffic.lose("00000b", int(random.integers(1, 5)))
        for producer, waiting in coming.items():
            cut_off = producer == "00000c" and 15 <= block < 24
            ready = 0 if cut_off else int(random.integers(len(waiting) // 2, len(waiting) + 1))
            for record in waiting[:ready]:
                log.append([record] * (2 if random.random() < 0.1 else 1))
                if random.random() < 0.05:
                    log.skip(PARTITIONS[int(random.integers(2))], int(random.integers(1, 4)))
                if record.kind is RecordKind.DATA and random.random() < 0.05:
                    log.put(PARTITIONS[0], replace(record, body=b"no arrow"))
            del waiting[:ready]
    traffic.end()
    for waiting in coming.values():
        log.append(waiting)
    return log


@pytest.mark.parametrize("count", [1, 3])
def test_the_statistics_are_those_of_a_log_with_a_partition_per_producer(count: int) -> None:
    plain, shared = MemoryLog(), SharedLog(count, partition_of(MODEL, count))
    announce(shared, "00000a", "00000b")
    story(plain)
    story(shared)  # type: ignore[arg-type]
    expected = Watch(plain).catch_up().engine.models[MODEL].to_tree()
    engine = SharedWatch(shared).catch_up().engine
    assert pack(engine.models[MODEL].to_tree()) == pack(expected)
    assert engine.counters.late == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_state_is_a_function_of_the_records_alone_however_rough(seed: int) -> None:
    log = rough(seed)
    expected = SharedWatch(log).catch_up(10_000).engine
    counters = expected.counters
    assert min(counters.late, counters.duplicates, counters.undecodable, counters.passed_over) > 0
    for limit in (1, 3, 50):
        assert SharedWatch(log).catch_up(limit).engine.to_bytes() == expected.to_bytes()
    random = np.random.default_rng(seed)
    state: bytes | None = None
    pages: dict = {}
    while True:
        watch = SharedWatch(log, state, dict(pages))
        if not watch.engine.read(int(random.integers(1, 12))):
            break
        watch.engine.close_blocks(watch.closed, limit=int(random.integers(1, 4)))
        if random.random() < 0.4:
            continue  # killed before the commit
        state = watch.engine.to_bytes()
        pages |= watch.engine.book.dirty()
    final = SharedWatch(log, state, dict(pages))
    final.engine.close_blocks(final.closed)
    assert final.engine.to_bytes() == expected.to_bytes()


@pytest.mark.parametrize("seed", range(6))
def test_which_partition_is_read_ahead_is_immaterial(seed: int) -> None:
    """Labels of rows that came late find them, or not, whatever else has been read."""
    log, random = rough(seed), np.random.default_rng(seed)
    expected = SharedWatch(log).catch_up(1).engine

    class Lopsided(SharedLog):
        def read(self, after, limit):  # type: ignore[no-untyped-def]
            chosen = PARTITIONS[int(random.integers(2))]
            found = [x for x in log.read(after, 10_000) if x.partition == chosen]
            return found[:limit] or log.read(after, limit)

        def locate(self, producer, sequence, ts_ms):  # type: ignore[no-untyped-def]
            return log.locate(producer, sequence, ts_ms)

    assert SharedWatch(Lopsided()).catch_up(20).engine.to_bytes() == expected.to_bytes()


def machines(blocks: int, dies_at: int, back_at: int | None = None) -> SharedLog:
    """Two machines; the second falls silent at a block, and comes back with what it has."""
    log = SharedLog()
    announce(log, "00000a", "00000b")
    first = Traffic(log, 1, ("00000a",), 20, label_delay_blocks=1000)  # type: ignore[arg-type]
    kept: list[Record] = []
    second = Traffic(
        log, 2, ("00000b",), 20, label_delay_blocks=1000,  # type: ignore[arg-type]
        append=lambda _, __, records: kept.extend(records),
    )  # fmt: skip
    for block in range(blocks):
        first.step()
        if back_at is not None or block < dies_at:
            second.step()
        if block < dies_at or (back_at is not None and block >= back_at):
            log.append(kept)
            kept.clear()
    return log


def test_a_machine_that_died_holds_time_back_for_a_while_and_skews_nothing() -> None:
    silence = QUICK.silence_ns // BLOCK_NS
    held = SharedWatch(machines(10 + silence, dies_at=10)).catch_up().engine
    assert held.models[MODEL].blocks == 10
    assert held.producers.slowest() == "00000b"
    freed = SharedWatch(machines(20, dies_at=10)).catch_up().engine
    assert (freed.models[MODEL].blocks, freed.counters.late) == (20, 0)
    assert freed.models[MODEL].rows == 20 * 20 + 10 * 20
    assert (freed.producers.live, freed.producers.silent) == (1, 1)


def test_what_a_machine_brings_when_it_comes_back_is_late_and_counts_as_unseen() -> None:
    engine = SharedWatch(machines(20, dies_at=5, back_at=15)).catch_up().engine
    state = engine.models[MODEL]
    assert engine.counters.late > 0
    assert engine.counters.late % 20 == 0
    assert state.lost == engine.counters.late
    assert state.rows + state.lost == 20 * 20 + 20 * 20
    assert engine.consumed().delivered == {"00000a": 400, "00000b": 400}


@pytest.mark.parametrize("seed", range(3))
def test_one_that_holds_back_more_than_there_is_room_for_is_passed_over(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SharedLog()
    announce(log, "00000a", "00000b")
    slow = heartbeat_record("00000b", 0, START_NS)
    busy = Traffic(
        log, seed, ("00000a",), 20, label_delay_blocks=1000,  # type: ignore[arg-type]
        append=lambda log, _, records: log.append([*records, slow]),
    )  # fmt: skip
    busy.run(40)
    announce(log, "00000b", block=40)

    def most_open() -> tuple[SharedWatch, int]:
        watch, most = SharedWatch(log), 0
        while watch.engine.read(1):
            watch.engine.close_blocks(watch.closed)
            most = max(most, watch.engine.open_rows)
        assert watch.engine.models[MODEL].blocks == 40
        return watch, most

    assert most_open()[1] == 40 * 20
    monkeypatch.setattr("monitor.engine.OPEN_BYTES_MAX", 5 * 3000)
    expected, most = most_open()
    assert most < 40 * 20 / 2
    random, state = np.random.default_rng(seed), None
    while True:
        watch = SharedWatch(log, state)
        if not watch.engine.read(int(random.integers(1, 9))):
            break
        watch.engine.close_blocks(watch.closed)
        state = watch.engine.to_bytes()
    assert state == expected.engine.to_bytes()


def test_an_idle_producer_stalls_nothing() -> None:
    log = SharedLog()
    busy = Traffic(log, 1, ("00000a",), 20, label_delay_blocks=1000)  # type: ignore[arg-type]
    for block in range(30):
        busy.step()
        announce(log, "00000b", block=block + 1)
    engine = SharedWatch(log).catch_up().engine
    assert (engine.models[MODEL].blocks, engine.counters.late) == (30, 0)


def test_a_busy_producer_with_a_slow_request_is_not_silent() -> None:
    time = PartitionTime(3 * BLOCK_NS)
    for block in range(100):
        time.note("fast", START_NS + block * BLOCK_NS, False)
        time.note("slow", START_NS, False)
    assert time.clock_ns == START_NS


@pytest.mark.parametrize("step_ns", [3600 * 10**9, -3600 * 10**9])
def test_a_clock_that_is_set_silences_nobody(step_ns: int) -> None:
    time, off_ns = PartitionTime(2 * STEP_NS), 0
    for block in range(60):
        off_ns = step_ns if block >= 30 else 0
        time.note("00000a", START_NS + block * BLOCK_NS + off_ns, False)
        assert not time.silent()
        time.note("00000b", START_NS + block * BLOCK_NS, False)
        assert time.clock_ns is not None
        assert time.clock_ns <= START_NS + block * BLOCK_NS
    assert not time.silent()


def test_producers_that_died_are_forgotten_like_those_that_ended() -> None:
    time = PartitionTime(3 * BLOCK_NS)
    day_ns = 86_400 * 10**9
    time.note("dead", START_NS, False)
    for minute in range(8 * 24 * 60):
        time.note("alive", START_NS + minute * 60 * 10**9, False)
    time.note("brief", START_NS + 8 * day_ns, True)
    assert "dead" not in time.known


def test_a_newcomer_s_rows_are_in_time_within_the_lateness_allowed() -> None:
    def run(lateness_ns: int) -> Engine:
        log = SharedLog()
        old = Traffic(log, 1, ("00000a",), 20, label_delay_blocks=1000)  # type: ignore[arg-type]
        old.run(6)
        new = Traffic(log, 2, ("00000b",), 20, label_delay_blocks=1000, block=5)  # type: ignore[arg-type]
        announce(log, "00000b", block=5)
        new.run(5)  # its shipper was a block behind when it began
        old.run(4)
        settings = replace(SETTINGS, lateness_ns=lateness_ns)
        engine = Engine(
            log, CODEC.decode, PROFILES, settings, load_page={}.get, partitions=PARTITIONS
        )
        while engine.read(3):
            engine.close_blocks(lambda closed: None)
        return engine

    assert run(0).counters.late == 20
    assert run(2 * BLOCK_NS).counters.late == 0


def test_copies_of_a_nameless_loss_blind_and_are_not_counted_twice() -> None:
    log = SharedLog(3, partition_of(MODEL, 3))
    traffic = Traffic(log, 1, ("00000a",), 20, label_delay_blocks=1000)  # type: ignore[arg-type]
    traffic.run(3)
    gap = gap_record("00000a", [(10_000, 9)], GapReason.CRASH, watermark_ns=traffic.now_ns + 1)
    log.append([gap])
    traffic.run(3)
    engine = SharedWatch(log).catch_up().engine
    assert partition_of(MODEL, 3) != 0  # where the original is
    assert engine.models[MODEL].lost == 9
    assert sum(engine.consumed().gaps.values()) == 0


def test_records_that_come_twice_are_tallied_once() -> None:
    log = SharedLog()
    traffic = Traffic(
        log, 1, ("00000a",), 20, label_delay_blocks=1000,  # type: ignore[arg-type]
        append=lambda log, _, records: log.append([r for r in records for _ in range(2)]),
    )  # fmt: skip
    traffic.run(5)
    traffic.lose("00000a", 7)
    engine = SharedWatch(log).catch_up().engine
    assert engine.consumed().delivered == {"00000a": 100}
    assert sum(engine.consumed().gaps.values()) == 7


@pytest.mark.parametrize(
    "hole", [lambda log: log.skip(PARTITIONS[0], 200), lambda log: _poison(log, 60)]
)
def test_what_a_partition_does_not_hold_any_more_blinds(hole: Callable[[SharedLog], None]) -> None:
    log = SharedLog()
    traffic = Traffic(log, 1, ("00000a",), 20, label_delay_blocks=2)  # type: ignore[arg-type]
    traffic.run(10)
    hole(log)
    traffic.run(3)
    watch = SharedWatch(log).catch_up()
    assert watch.kinds == [Kind.BLIND]
    assert watch.engine.models[MODEL].seen_share() < 0.95
    assert len(watch.poison) == watch.engine.counters.undecodable // 20


def _poison(log: SharedLog, records: int) -> None:
    good = next(item.record for item in log.stored[PARTITIONS[0]] if item.record.body)
    for number in range(records):
        log.put(PARTITIONS[0], replace(good, first_sequence=10_000 + 20 * number, body=b"?"))


def test_a_log_that_begins_late_is_no_loss() -> None:
    log = SharedLog()
    log.skip(PARTITIONS[0], 1000)
    Traffic(log, 1, ("00000a",), 20, label_delay_blocks=2).run(5)  # type: ignore[arg-type]
    engine = SharedWatch(log).catch_up().engine
    assert (engine.models[MODEL].lost, engine.counters.passed_over) == (0, 0)


@pytest.mark.parametrize("limit", [1, 10_000])
def test_a_row_that_comes_late_is_unknown_to_a_label_whose_block_was_over(limit: int) -> None:
    log = SharedLog()
    announce(log, "00000a", "00000b")
    late: list[Record] = []
    Traffic(
        MemoryLog(), 1, ("00000b",), 20, label_delay_blocks=1000,
        append=lambda _, __, records: late.extend(records),
    ).step()  # fmt: skip
    label = Label(CODEC.encode(START_NS // 10**6, "00000b", 0), 0, 0, 1.0)
    at_ns = START_NS + BLOCK_NS
    log.append([encode_labels(MODEL, [label], "00000a", 0, at_ns, arrived_ns=at_ns)])
    for block in range(2, 12):
        announce(log, "00000a", block=block)
    log.append(late)
    watch = SharedWatch(log).catch_up(limit)
    assert watch.engine.counters.labels == {MODEL: {"orphan": 1}}
