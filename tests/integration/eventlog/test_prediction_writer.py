"""The prediction writer against a real directory."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from eventlog import (
    GapReason,
    Label,
    LogError,
    LogSettings,
    MonotoneClock,
    PredictionWriter,
    RecordKind,
    SqliteLog,
    Status,
    StorageError,
    StoredRecord,
    allocate_incarnation,
    decode_labels,
    decode_predictions,
    fake_rows,
    ledger,
    parse_end,
    parse_gap,
)
from eventlog.core.record import LABELS, PREDICTIONS
from eventlog.slab import SlabInUse

A = "aaaaaa"
PATIENCE_S = 30.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def read_all(directory: Path) -> list[StoredRecord]:
    log = SqliteLog(directory)
    try:
        found: list[StoredRecord] = []
        position: dict[str, int] = {}
        while batch := log.read(position, 64):
            for stored in batch:
                position[stored.partition] = stored.offset
            found += batch
        return found
    finally:
        log.close()


def data_records(directory: Path, stream: str = PREDICTIONS) -> list[StoredRecord]:
    return [
        s
        for s in read_all(directory)
        if s.record.kind is RecordKind.DATA and s.record.stream == stream
    ]


def test_rows_are_logged_as_they_were_offered(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings())
    sent = {}
    for batch in range(40):
        size = batch % 7 + 1
        first = writer.assign(size)
        x = np.random.default_rng(batch).random((size, 5), dtype=np.float32)
        sent |= {first + i: x[i].tobytes() for i in range(size)}
        writer.offer(fake_rows(first, size, inputs={"x": x}))
    assert writer.close(PATIENCE_S)
    logged = {}
    for stored in data_records(tmp_path):
        rows = decode_predictions(stored.record)
        numbers = rows.sequences().tolist()
        logged |= {number: rows.inputs["x"][i].tobytes() for i, number in enumerate(numbers)}
    assert logged == sent


def test_buffers_come_back_once_they_are_encoded_and_may_be_reused(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=5))
    buffer = np.empty((4, 2), dtype=np.float32)
    for batch in range(20):
        released = threading.Event()
        buffer[:] = batch
        writer.offer(fake_rows(writer.assign(4), 4, inputs={"x": buffer}), released.set)
        assert released.wait(PATIENCE_S)
        buffer[:] = -1  # the next batch writes over it at once
    assert writer.close(PATIENCE_S)
    for stored in data_records(tmp_path):
        rows = decode_predictions(stored.record)
        assert rows.inputs["x"][:, 0].tolist() == [n // 4 for n in rows.sequences().tolist()]


def test_models_versions_and_failures_go_into_records_of_their_own(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=200))
    for _ in range(10):
        writer.offer(fake_rows(writer.assign(2), 2, model="m"))
        writer.offer(fake_rows(writer.assign(1), 1, model="n"))
        failed = fake_rows(writer.assign(1), 1, model="m", outputs={}, status=Status.FAILED)
        writer.offer(failed)
    assert writer.close(PATIENCE_S)
    keys = {(s.record.headers["model"], s.record.headers["schema"]) for s in data_records(tmp_path)}
    assert len(keys) == 3
    assert sum(s.record.rows for s in data_records(tmp_path)) == 40
    for stored in data_records(tmp_path):
        rows = decode_predictions(stored.record)
        assert rows.inputs["x"][:, 0].tolist() == rows.sequences().tolist()


def test_records_keep_to_their_bounds(tmp_path: Path) -> None:
    settings = LogSettings(flush_ms=200, record_rows_max=100, record_bytes_max=4000)
    writer = PredictionWriter(tmp_path, A, settings)
    for _ in range(10):
        writer.offer(fake_rows(writer.assign(50), 50))
    assert writer.close(PATIENCE_S)
    records = [stored.record for stored in data_records(tmp_path)]
    assert sum(record.rows for record in records) == 500
    assert max(record.rows for record in records) <= 95  # 42 bytes a row


def test_beyond_the_buffer_rows_become_an_overflow_gap_and_nobody_waits(tmp_path: Path) -> None:
    settings = LogSettings(flush_ms=10_000, buffer_rows_max=100)
    writer = PredictionWriter(tmp_path, A, settings)
    released: list[int] = []
    with hold(writer):
        for batch in range(30):
            writer.offer(
                fake_rows(writer.assign(10), 10), lambda batch=batch: released.append(batch)
            )
        assert writer.buffered_rows == 100
        assert released == list(range(10, 30))
    assert writer.close(PATIENCE_S)
    assert sorted(released) == list(range(30))
    assert (writer.written, writer.gap_rows) == (100, {"overflow": 200})
    (line,) = ledger(tmp_path)
    assert (line.spooled, dict(line.gaps), line.unexplained) == (100, {"overflow": 200}, 0)


def test_the_byte_bound_counts_too(tmp_path: Path) -> None:
    settings = LogSettings(flush_ms=10_000, buffer_bytes_max=10_000)
    writer = PredictionWriter(tmp_path, A, settings)
    with hold(writer):
        for _ in range(5):
            words = np.array([b"x" * 3000], dtype=np.object_)
            writer.offer(fake_rows(writer.assign(1), 1, inputs={"s": words}))
    assert writer.close(PATIENCE_S)
    assert (writer.written, writer.gap_rows) == (3, {"overflow": 2})


def test_skipped_rows_are_gaps_by_reason_and_model(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=100))
    for i in range(20):
        first = writer.assign(2)
        writer.skip(first, 1, GapReason.SAMPLED, "m")
        writer.offer(fake_rows(first + 1, 1, model="m"))
        if i % 2:
            writer.skip(writer.assign(1), 1, GapReason.OVERFLOW, "n")
    assert writer.close(PATIENCE_S)
    gaps = [parse_gap(s.record) for s in read_all(tmp_path) if s.record.kind is RecordKind.GAP]
    totals = {(g.reason, g.model): 0 for g in gaps}
    for gap in gaps:
        totals[gap.reason, gap.model] += gap.rows
    assert totals == {(GapReason.SAMPLED, "m"): 20, (GapReason.OVERFLOW, "n"): 10}
    (line,) = ledger(tmp_path)
    assert line.unexplained == 0


def test_durable_rows_answer_once_they_are_in_the_log(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=60_000))
    outcomes: list[Exception | None] = []
    in_log: list[int] = []

    def done(error: Exception | None) -> None:
        in_log.append(sum(s.record.rows for s in data_records(tmp_path)))
        outcomes.append(error)

    writer.offer_durable(fake_rows(writer.assign(3), 3), done)
    wait_for(lambda: outcomes == [None])  # long before the flush is due
    assert in_log == [3]
    assert writer.close(PATIENCE_S)


def test_labels_answer_once_they_are_in_the_log(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=60_000))
    outcomes: list[Exception | None] = []
    labels = [Label("id", i, 0, float(i)) for i in range(5)]
    writer.offer_labels("m", labels, outcomes.append)
    writer.offer_labels("m", labels[:2], outcomes.append)
    wait_for(lambda: outcomes == [None, None])
    assert writer.close(PATIENCE_S)
    records = [stored.record for stored in data_records(tmp_path, LABELS)]
    assert sum(record.rows for record in records) == 7
    assert [r.first_sequence for r in records] == np.cumsum([0, *(r.rows for r in records)])[
        :-1
    ].tolist()
    for record in records:
        _, decoded = decode_labels(record)
        assert {label.ts_ns for label in decoded} == {int(record.headers["ts_min_ns"])}
    (line,) = ledger(tmp_path)
    assert (line.acknowledged, line.spooled) == (0, 0)  # labels are no predictions


def test_an_idle_writer_beats(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=5, heartbeat_ms=10))
    writer.assign(4)
    wait_for(lambda: len(read_all(tmp_path)) >= 3)
    beats = [stored.record for stored in read_all(tmp_path)]
    assert {record.kind for record in beats} == {RecordKind.HEARTBEAT}
    assert {record.first_sequence for record in beats[1:]} == {4}
    watermarks = [record.watermark_ns for record in beats]
    assert watermarks == sorted(set(watermarks))
    assert writer.close(PATIENCE_S)


def test_no_row_is_older_than_a_watermark_before_it(tmp_path: Path) -> None:
    """Rows run for a while after they arrive; the promise is made as the data plane makes it."""
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2, heartbeat_ms=5))
    random = np.random.default_rng(5)
    running: list[tuple[int, int]] = []  # (arrival, model)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        running.append((writer.now_ns(), int(random.integers(3))))
        if random.random() < 0.5:  # a batch ends, not the oldest one
            ts_ns, model = running.pop(int(random.integers(len(running))))
            writer.offer(fake_rows(writer.assign(1), 1, ts_ns=ts_ns, model=f"m{model}"))
        if len(running) > 20:
            ts_ns, model = running.pop(0)
            writer.offer(fake_rows(writer.assign(1), 1, ts_ns=ts_ns, model=f"m{model}"))
        writer.advance(min((ts_ns for ts_ns, _ in running), default=writer.now_ns()))
        time.sleep(0.0005)
    assert writer.close(PATIENCE_S)
    assert writer.late_rows == 0
    watermark = 0
    batches = 0
    for stored in read_all(tmp_path):
        if stored.record.kind is RecordKind.DATA:
            batches += 1
            assert int(stored.record.headers["ts_min_ns"]) >= watermark
        assert stored.record.watermark_ns >= watermark
        watermark = stored.record.watermark_ns
    assert batches > 20
    assert watermark > 0


def ticking_writer(directory: Path) -> PredictionWriter:
    """Beats on every flush; its clock counts looks from 1, so that any promise is ahead of it."""
    ticks = count(1)
    settings = LogSettings(flush_ms=2, heartbeat_ms=0)
    return PredictionWriter(directory, A, settings, clock=lambda: next(ticks))


def test_a_broken_promise_is_counted_and_the_row_is_logged_as_it_is(tmp_path: Path) -> None:
    writer = ticking_writer(tmp_path)
    writer.advance(10_000)
    wait_for(lambda: any(s.record.watermark_ns == 10_000 for s in read_all(tmp_path)))
    writer.offer(fake_rows(writer.assign(2), 2, ts_ns=9_999))
    assert writer.close(PATIENCE_S)
    assert writer.late_rows == 2
    assert data_records(tmp_path)[0].record.headers["ts_min_ns"] == "9999"


def test_a_promise_is_never_taken_back(tmp_path: Path) -> None:
    writer = ticking_writer(tmp_path)
    writer.advance(1_000_000)
    writer.advance(900_000)
    wait_for(lambda: sum(s.record.watermark_ns == 1_000_000 for s in read_all(tmp_path)) > 3)
    assert max(stored.record.watermark_ns for stored in read_all(tmp_path)) == 1_000_000
    assert writer.close(PATIENCE_S)


def test_an_orderly_end_accounts_for_rows_that_were_never_offered(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings())
    writer.offer(fake_rows(writer.assign(5), 5))
    writer.assign(3)
    assert writer.close(PATIENCE_S)
    *_, gap, end = read_all(tmp_path)
    assert (parse_gap(gap.record).rows, parse_gap(gap.record).reason) == (3, GapReason.CRASH)
    assert parse_end(end.record).clean
    assert parse_end(end.record).next_sequence == 8
    (line,) = ledger(tmp_path)
    assert (line.live, line.unexplained) == (False, 0)


def test_after_the_end_nothing_is_numbered(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings())
    assert writer.close(PATIENCE_S)
    outcomes: list[Exception | None] = []
    with pytest.raises(LogError):
        writer.assign(1)
    writer.offer_labels("m", [], outcomes.append)
    writer.offer_durable(fake_rows(0, 1), outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError]


def test_rows_that_cannot_be_encoded_cost_nobody_else(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=50))
    outcomes: list[Exception | None] = []
    bad = fake_rows(writer.assign(2), 2, inputs={"x": np.zeros(2, dtype=np.complex64)})
    writer.offer_durable(bad, outcomes.append)
    writer.offer(fake_rows(writer.assign(3), 3))
    wait_for(lambda: len(outcomes) == 1)
    assert isinstance(outcomes[0], LogError)
    assert writer.close(PATIENCE_S)
    assert (writer.written, writer.gap_rows) == (3, {"corrupt": 2})


def test_labels_that_cannot_be_encoded_cost_nobody_else(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=50))
    outcomes: dict[str, Exception | None] = {}
    for _ in range(20):  # so that some share a flush, in either order
        for value in ("good", "\ud800", "fine"):
            writer.offer_labels(
                "m", [Label("id", 0, 0, value)], lambda e, v=value: outcomes.update({v: e})
            )
        writer.offer(fake_rows(writer.assign(3), 3))
    wait_for(lambda: len(outcomes) == 3)
    assert writer.close(PATIENCE_S)
    assert (writer.written, writer.gap_rows) == (60, {})
    assert isinstance(outcomes["\ud800"], UnicodeEncodeError)
    assert outcomes["good"] is outcomes["fine"] is None
    records = [stored.record for stored in data_records(tmp_path, LABELS)]
    assert sorted(label.value for record in records for label in decode_labels(record)[1]) == (
        ["fine"] * 20 + ["good"] * 20
    )
    numbers = [n for r in records for n in range(r.first_sequence, r.first_sequence + r.rows)]
    assert numbers == list(range(40))


def test_nobody_waits_for_a_flush_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=5))
    monkeypatch.setattr(writer, "_store", None)  # calling it is an error of ours
    outcomes: list[Exception | None] = []
    writer.offer_labels("m", [Label("id", 0, 0, 1.0)], outcomes.append)
    writer.offer_durable(fake_rows(writer.assign(2), 2), outcomes.append)
    wait_for(lambda: len(outcomes) == 2)
    assert all(isinstance(outcome, TypeError) for outcome in outcomes)
    monkeypatch.undo()
    assert writer.close(PATIENCE_S)
    (line,) = ledger(tmp_path)
    assert (line.acknowledged, line.spooled, sum(line.gaps.values())) == (2, 0, 2)


def test_a_callback_that_fails_stops_nothing(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=5))

    def broken() -> None:
        raise RuntimeError("theirs")

    writer.offer(fake_rows(writer.assign(1), 1), broken)
    wait_for(lambda: writer.written == 1)
    writer.offer(fake_rows(writer.assign(1), 1))
    assert writer.close(PATIENCE_S)
    assert writer.written == 2


def test_several_threads_never_get_the_same_number(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings())
    taken: list[list[int]] = [[] for _ in range(4)]

    def number(mine: list[int]) -> None:
        mine += [writer.assign(3) for _ in range(3000)]

    threads = [threading.Thread(target=number, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for mine in taken for n in mine) == list(range(0, 36_000, 3))
    assert writer.acknowledged == 36_000
    assert writer.close(PATIENCE_S)


def test_segments_are_sealed_by_size_and_offsets_go_on(tmp_path: Path) -> None:
    settings = LogSettings(flush_ms=1, segment_bytes=20_000)
    writer = PredictionWriter(tmp_path, A, settings)
    for _ in range(30):
        before = writer.written
        writer.offer(fake_rows(writer.assign(100), 100))
        wait_for(lambda before=before: writer.written > before)
    assert writer.close(PATIENCE_S)
    segments = sorted(tmp_path.glob("*.db"))
    assert len(segments) > 3
    assert not list(tmp_path.glob("*-wal"))
    offsets = [stored.offset for stored in read_all(tmp_path)]
    assert offsets == list(range(1, len(offsets) + 1))


def test_an_idle_writer_opens_no_new_segments(tmp_path: Path) -> None:
    settings = LogSettings(flush_ms=2, heartbeat_ms=2, segment_s=0.01)
    writer = PredictionWriter(tmp_path, A, settings)
    wait_for(lambda: len(read_all(tmp_path)) > 20)
    assert writer.close(PATIENCE_S)
    assert len(list(tmp_path.glob("*.db"))) == 1


def test_an_incarnation_has_one_owner_and_is_used_once(tmp_path: Path) -> None:
    producer = allocate_incarnation(tmp_path)
    writer = PredictionWriter(tmp_path, producer, LogSettings())
    with pytest.raises(SlabInUse):
        PredictionWriter(tmp_path, producer, LogSettings())
    assert writer.close(PATIENCE_S)
    with pytest.raises(LogError, match="used before"):
        PredictionWriter(tmp_path, producer, LogSettings())


def test_a_row_too_large_for_a_record_is_logged_as_shape_and_digest(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(record_bytes_max=2000))
    image = np.ones((2, 50, 50), dtype=np.float32)
    writer.offer(fake_rows(writer.assign(2), 2, inputs={"image": image}))
    assert writer.close(PATIENCE_S)
    rows = decode_predictions(data_records(tmp_path)[0].record)
    assert rows.inputs == {}
    assert rows.omitted["input:image"].shape == (50, 50)


def test_the_clock_of_an_incarnation_follows_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MonotoneClock()
    before = clock()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock() >= before


class hold:  # noqa: N801
    """Keeps the writer's thread from taking anything."""

    def __init__(self, writer: PredictionWriter) -> None:
        self._writer = writer
        self._intake = writer._intake
        self._take = self._intake.take
        self._held = threading.Event()

    def __enter__(self) -> None:
        def take() -> object:
            self._held.wait(PATIENCE_S)
            return self._take()

        self._intake.take = take  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        self._held.set()


def test_rows_of_a_durable_and_an_async_model_share_a_commit(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=60_000))
    outcomes: list[Exception | None] = []
    with hold(writer):
        writer.offer(fake_rows(writer.assign(1), 1, model="n"))
        first = writer.assign(2)
        writer.offer_durable(replace(fake_rows(first, 2)), outcomes.append)
    wait_for(lambda: outcomes == [None])
    assert writer.written == 3
    assert writer.close(PATIENCE_S)


def test_a_producer_is_in_the_log_before_it_can_take_a_row(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, "00000a", LogSettings(flush_ms=3_600_000))
    try:
        before_ns = writer.now_ns()
        (beat,) = read_all(tmp_path)
        assert beat.record.kind is RecordKind.HEARTBEAT
        assert beat.record.watermark_ns <= before_ns
    finally:
        writer.close(10.0)
