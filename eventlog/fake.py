"""A Log in memory, and made-up rows: for tests, and for code that wants one process only."""

import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from eventlog.core.fairness import shares
from eventlog.core.predictions import Array, PredictionRows, Status
from eventlog.core.record import Position, Record, StoredRecord, holds_row
from eventlog.log import LogClosed


class MemoryLog:
    """Partition = producer, as in SqliteLog. Writers and readers share one object."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[str, list[StoredRecord]] = {}
        self._closed = False

    def append(self, records: Sequence[Record]) -> None:
        with self._lock:
            self._check_open()
            for record in records:
                partition = self._partitions.setdefault(record.producer, [])
                partition.append(StoredRecord(record.producer, len(partition) + 1, record))

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        with self._lock:
            self._check_open()
            backlog = {
                name: stored[after.get(name, 0) :] for name, stored in self._partitions.items()
            }
        counts = shares({name: len(stored) for name, stored in backlog.items()}, limit)
        return [record for name, count in counts.items() for record in backlog[name][:count]]

    def end(self) -> dict[str, int]:
        with self._lock:
            self._check_open()
            return {name: len(stored) for name, stored in self._partitions.items()}

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:  # noqa: ARG002
        with self._lock:
            self._check_open()
            stored = list(self._partitions.get(producer, ()))
        return next((item for item in stored if holds_row(item.record, sequence)), None)

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosed("the log is closed")


def fake_rows(
    first_sequence: int,
    count: int,
    *,
    model: str = "m",
    version: str = "1",
    ts_ns: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    outputs: Mapping[str, Array] | None = None,
    status: Status = Status.OK,
) -> PredictionRows:
    """`count` rows of one request each; input `x` (n, 3) holds the sequence numbers."""
    ts_ns = time.time_ns() if ts_ns is None else ts_ns
    numbers = np.arange(first_sequence, first_sequence + count, dtype=np.float32)
    return PredictionRows(
        model=model,
        version=version,
        digest="d" * 64,
        role="stable",
        rollout="",
        first_sequence=first_sequence,
        ts_ns=np.full(count, ts_ns, dtype=np.int64),
        latency_ns=np.full(count, 1_500_000, dtype=np.int64),
        status=np.full(count, status, dtype=np.uint8),
        flags=np.zeros(count, dtype=np.uint8),
        weight=np.ones(count, dtype=np.float32),
        row=np.zeros(count, dtype=np.uint32),
        inputs={"x": np.repeat(numbers[:, None], 3, axis=1)} if inputs is None else inputs,
        outputs={"y": numbers} if outputs is None else outputs,
    )
