"""From batches to the prediction log: numbers before the reply, rows after it.

The writer (eventlog) never blocks and never fails a prediction: what it cannot
take becomes a gap record. Laws:
- rows are numbered before their reply is written, so every reply a client has
  seen is in `acknowledged`;
- arrays are handed over by reference and belong to the log until it calls
  `release`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from eventlog import GapReason, PredictionRows, Status
from eventlog.core.predictions import TRACE_BYTES
from serving.core.datatypes import Array
from serving.core.routing import Arm
from serving.core.signature import Signature
from serving.worker.log_shape import LogShape

Done = Callable[[Exception | None], None]
Release = Callable[[], None]

NO_TRACE = bytes(TRACE_BYTES)
UNANSWERED = 1  # bit of `flags`: the prediction was made, but nobody read it


class LogMode(Enum):
    """async: reply at once. durable: reply after commit. sampled: keep a share. off: nothing."""

    ASYNC = "async"
    DURABLE = "durable"
    SAMPLED = "sampled"
    OFF = "off"


class Writer(Protocol):
    """The part of eventlog.PredictionWriter that the data plane uses."""

    def assign(self, rows: int) -> int: ...
    def offer(self, rows: PredictionRows, release: Release | None = None) -> None: ...
    def skip(self, first_sequence: int, rows: int, reason: GapReason, model: str) -> None: ...
    def offer_durable(self, rows: PredictionRows, done: Done) -> None: ...


class Ids(Protocol):
    """The part of eventlog.PredictionIds that the data plane uses."""

    def encode(self, ts_ms: int, producer: str, sequence: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the predictions of this process go."""

    writer: Writer
    ids: Ids
    producer: str


@dataclass(frozen=True, slots=True)
class Rows:
    """One executed batch, in row order.

    status: of all rows. outputs: empty for a failed one. traces: per request, b"" for
    none; None if no request has one.
    """

    ts_ns: list[int]
    latency_ns: list[int]
    counts: list[int]  # rows per request
    unanswered: list[bool] | None
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    status: Status
    traces: list[bytes] | None = None


class LogTap:
    """The log as one loaded version sees it."""

    def __init__(
        self,
        journal: Journal | None,
        signature: Signature,
        digest: str,
        mode: LogMode,
        sample_rate: float,
        chance: Callable[[], float],
        shape: LogShape,
    ) -> None:
        """chance: uniform in [0, 1), decides which batches a sampled log keeps."""
        self.mode = mode if journal is not None else LogMode.OFF
        self._journal = journal
        self._signature = signature
        self._digest = digest
        self._rate = sample_rate
        self._chance = chance
        self._shape = shape

    @property
    def numbers(self) -> bool:
        """Whether rows are numbered at all."""
        return self.mode is not LogMode.OFF

    def number(self, rows: int) -> int:
        """Sequence number of the first of `rows` rows about to be acknowledged."""
        assert self._journal is not None
        return self._journal.writer.assign(rows)

    def prediction_id(self, ts_ns: int, sequence: int) -> str:
        journal = self._journal
        assert journal is not None
        return journal.ids.encode(ts_ns // 1_000_000, journal.producer, sequence)

    def keep(self, first: int, rows: Rows, arm: Arm[Any], release: Release | None) -> None:
        """Hand numbered rows to the log, or account for them as sampled out."""
        assert self._journal is not None
        weight = 1.0
        if self.mode is LogMode.SAMPLED:
            if self._chance() >= self._rate:
                self.drop(first, sum(rows.counts), GapReason.SAMPLED)
                if release is not None:
                    release()
                return
            weight = 1.0 / self._rate
        self._journal.writer.offer(self._record(first, rows, arm, weight), release)

    def keep_durably(self, first: int, rows: Rows, arm: Arm[Any], done: Done) -> None:
        """Hand numbered rows to the log; `done` is called from its thread after the commit."""
        assert self._journal is not None
        self._journal.writer.offer_durable(self._record(first, rows, arm, 1.0), done)

    def drop(self, first: int, rows: int, reason: GapReason) -> None:
        """Account for numbered rows that will not be offered."""
        assert self._journal is not None
        self._journal.writer.skip(first, rows, reason, self._signature.model)

    def _record(self, first: int, rows: Rows, arm: Arm[Any], weight: float) -> PredictionRows:
        counts = rows.counts
        total = sum(counts)
        ts = np.array(rows.ts_ns, dtype=np.int64)
        latency = np.array(rows.latency_ns, dtype=np.int64)
        flags = _filled(total, 0, "u1")
        if total == len(counts) and max(counts) == 1:
            index = _filled(total, 0, "u4")
        else:
            ts, latency = np.repeat(ts, counts), np.repeat(latency, counts)
            index = np.concatenate([np.arange(count, dtype=np.uint32) for count in counts])
        if rows.unanswered is not None:
            flags = np.repeat(np.array(rows.unanswered, dtype=np.uint8) * UNANSWERED, counts)
        return PredictionRows(
            model=self._signature.model,
            version=self._signature.version,
            digest=self._digest,
            role=arm.role,
            rollout=arm.rollout,
            first_sequence=first,
            ts_ns=ts,
            latency_ns=latency,
            status=_filled(total, rows.status, "u1"),
            flags=flags,
            weight=_filled(total, weight, "f4"),
            row=index,
            traces=None if rows.traces is None else _traces(rows.traces, counts),
            **self._shape.columns(rows.inputs, rows.outputs),
        )


def _traces(traces: Sequence[bytes], counts: Sequence[int]) -> Array:
    """uint8 (n, 25), the same for all rows of a request."""
    joined = b"".join([trace or NO_TRACE for trace in traces])
    each = np.frombuffer(joined, dtype=np.uint8).reshape(-1, TRACE_BYTES)
    return np.repeat(each, counts, axis=0)


@lru_cache(maxsize=1024)
def _filled(rows: int, value: float, dtype: str) -> Array:
    """A constant column, shared by all batches of so many rows; the log only reads it."""
    column = np.full(rows, value, dtype=dtype)
    column.flags.writeable = False
    return column
