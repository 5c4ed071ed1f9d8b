"""Killed at any point, the monitor goes on as if nothing had happened."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eventlog import MemoryLog, Record, RecordKind
from eventlog.core.marks import end_record
from tests.monitor_world import BLOCK_NS, MODEL, Traffic, Version
from tests.simulation.monitor.test_monitor_in_virtual_time import BAD, Watch, doubled


def story(log: MemoryLog, **more: Any) -> Traffic:
    """A good stretch, a bad candidate, lost rows, a new stable version, and an end."""
    traffic = Traffic(log, rows_per_block=60, label_delay_blocks=3, **more)
    traffic.run(12)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.3, "r1"
    traffic.run(12)
    traffic.lose("00000b", 7)
    traffic.candidate = None
    traffic.stable = Version("2")
    traffic.run(6)
    traffic.end()
    return traffic


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    log = MemoryLog()
    story(log)
    return log


def finished(log: MemoryLog) -> Watch:
    return Watch(log).catch_up()


def test_the_state_is_the_same_after_a_crash_at_every_commit(log: MemoryLog) -> None:
    expected = finished(log).engine.to_bytes()
    state, pages, commits = None, {}, 0
    while True:
        # Everything that was not committed is gone: a new engine, from stored bytes.
        watch = Watch(log, state, dict(pages))
        if not watch.engine.read(5):
            break
        watch.engine.close_blocks(watch.closed)
        state, commits = watch.engine.to_bytes(), commits + 1
        pages |= watch.engine.book.dirty()
    assert commits > 20
    assert state == expected


@pytest.mark.parametrize("seed", range(5))
def test_work_that_was_not_committed_leaves_no_trace(log: MemoryLog, seed: int) -> None:
    random = np.random.default_rng(seed)
    expected = finished(log).engine.to_bytes()
    state: bytes | None = None
    pages: dict = {}
    while True:
        watch = Watch(log, state, dict(pages))
        if not watch.engine.read(int(random.integers(1, 12))):
            break
        watch.engine.close_blocks(watch.closed, limit=int(random.integers(1, 4)))
        if random.random() < 0.5:
            continue  # killed before the commit
        state = watch.engine.to_bytes()
        pages |= watch.engine.book.dirty()
    final = Watch(log, state, dict(pages))
    final.engine.close_blocks(final.closed)
    assert final.engine.to_bytes() == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 50, 10_000])
def test_how_reads_are_cut_is_immaterial(log: MemoryLog, limit: int) -> None:
    assert Watch(log).catch_up(limit).engine.to_bytes() == finished(log).engine.to_bytes()


def test_records_that_come_twice_count_once() -> None:
    once, twice = MemoryLog(), MemoryLog()
    story(once)

    story(twice, append=doubled)
    first, second = finished(once).engine, finished(twice).engine
    assert second.counters.duplicates > 0
    a, b = (engine.models[MODEL].to_tree() for engine in (first, second))
    assert a["rows"] == b["rows"]
    np.testing.assert_array_equal(
        a["stable"]["window"]["current"], b["stable"]["window"]["current"]
    )
    np.testing.assert_array_equal(a["stable"]["m"]["LOSS"], b["stable"]["m"]["LOSS"])


def test_rows_of_a_closed_block_are_counted_as_late_and_left_out() -> None:
    log = MemoryLog()
    traffic = Traffic(log, producers=("00000a",), label_delay_blocks=1000)
    traffic.run(5)
    watch = Watch(log).catch_up()
    # A producer that nobody knew of, with rows of long ago.
    late = Traffic(log, producers=("00000c",), label_delay_blocks=1000)
    late.step()
    watch.catch_up()
    assert watch.engine.counters.late == late.rows_per_block
    assert watch.engine.models[MODEL].rows == traffic.rows_per_block * 5
    assert watch.engine.consumed().delivered["00000c"] == late.rows_per_block


def test_blocks_wait_for_the_slowest_producer_until_it_ends() -> None:
    log = MemoryLog()
    slow = Traffic(log, producers=("00000a",), label_delay_blocks=1000)
    slow.run(3)
    fast = Traffic(log, producers=("00000b",), label_delay_blocks=1000)
    fast.run(10)
    watch = Watch(log).catch_up()
    assert watch.engine.producers.slowest() == "00000a"
    assert watch.engine.models[MODEL].blocks == 3
    slow.end()
    watch.catch_up()
    assert watch.engine.models[MODEL].blocks == 10


def test_a_record_that_cannot_be_decoded_is_counted_and_passed() -> None:
    log = MemoryLog()
    traffic = Traffic(log, producers=("00000a",), label_delay_blocks=1000)
    traffic.run(3)
    good = log.read({}, 1)[0].record
    broken = Record(
        good.stream, good.kind, good.producer, traffic.sequences["00000a"], 9,
        traffic.now_ns, {"model": MODEL}, b"no arrow at all",
    )  # fmt: skip
    log.append([broken])
    traffic.sequences["00000a"] += 9
    traffic.run(3)
    watch = Watch(log).catch_up()
    assert watch.engine.counters.undecodable == 9
    state = watch.engine.models[MODEL]
    assert (state.blocks, state.lost) == (6, 9)


def test_labels_are_told_apart_by_what_became_of_them() -> None:
    from eventlog import Label, encode_labels
    from eventlog.core.marks import heartbeat_record
    from tests.monitor_world import BLOCK_NS, CODEC

    log = MemoryLog()
    traffic = Traffic(log, producers=("00000a",), label_delay_blocks=1000)
    traffic.run(3)
    name = CODEC.encode(0, "00000a", 5)
    labels = [
        Label(name, 0, 0, 1.0),
        Label(name, 0, 0, "1"),
        Label(name, 0, 0, 2.0),
        Label(CODEC.encode(0, "00000a", 10**6), 0, 0, 1.0),
        Label(CODEC.encode(0, "ffffff", 0), 0, 0, 1.0),
        Label("nonsense", 0, 0, 1.0),
        Label(CODEC.encode(0, "00000a", 6), 3, 0, 1.0),  # that row was row 0 of its request
    ]
    at_ns = traffic.now_ns + 1
    log.append([encode_labels(MODEL, labels, "00000a", 0, at_ns, arrived_ns=at_ns)])
    log.append([heartbeat_record("00000a", traffic.sequences["00000a"], at_ns + BLOCK_NS)])
    found = Watch(log).catch_up().engine.counters.labels[MODEL]
    assert found == {
        "joined": 1, "duplicate": 1, "contradiction": 1, "orphan": 3, "malformed": 1
    }  # fmt: skip


def chatty(log: MemoryLog, producer: str, records: list[Record]) -> None:
    """One producer writes forty records where the other writes one."""
    beats = 40 if producer == "00000a" else 0
    log.append([*records, *(records[-1] for _ in range(beats))])


@pytest.mark.parametrize("bounded", [True, False])
def test_with_little_memory_only_the_partitions_that_hold_time_back_are_read(
    bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    story(log, append=chatty)
    expected = finished(log).engine.to_bytes()
    if bounded:
        monkeypatch.setattr("monitor.engine.OPEN_BYTES_MAX", 20_000)
    watch, most = Watch(log), 0
    while watch.engine.read(10):
        watch.engine.close_blocks(watch.closed)
        most = max(most, watch.engine.open_rows)
    assert watch.engine.to_bytes() == expected
    assert (most < 500) == bounded  # the story has 1,800 rows


def test_rows_ahead_of_their_producer_s_watermark_do_not_stop_the_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow request holds the watermark back while the rows of fast ones are logged."""
    log = MemoryLog()

    def held_back(log: MemoryLog, producer: str, records: list[Record]) -> None:
        log.append([replace(r, watermark_ns=r.watermark_ns - 5 * BLOCK_NS) for r in records])

    traffic = Traffic(log, append=held_back, label_delay_blocks=1000)
    traffic.run(30)
    for producer in traffic.producers:
        log.append([end_record(producer, traffic.sequences[producer], traffic.now_ns, clean=True)])
    monkeypatch.setattr("monitor.engine.OPEN_BYTES_MAX", 1)
    watch = Watch(log).catch_up()
    assert watch.engine.models[MODEL].rows == 30 * traffic.rows_per_block


def test_lost_rows_keep_their_block_when_their_record_s_watermark_fell_back() -> None:
    """A gap record of a repaired spool may know of no watermark at all."""
    log = MemoryLog()

    def forgetful(log: MemoryLog, producer: str, records: list[Record]) -> None:
        log.append([replace(r, watermark_ns=0) if is_gap(r) else r for r in records])

    traffic = Traffic(log, rows_per_block=60, label_delay_blocks=1000, append=forgetful)
    for _ in range(12):
        traffic.step()
        traffic.lose("00000a", 3)
    traffic.step()
    traffic.end()
    expected = finished(log).engine
    assert expected.models[MODEL].lost == 36
    state = None
    while True:
        watch = Watch(log, state)
        if not watch.engine.read(1):
            break
        watch.engine.close_blocks(watch.closed)
        state = watch.engine.to_bytes()
    assert state == expected.to_bytes()


def is_gap(record: Record) -> bool:
    return record.kind is RecordKind.GAP
