"""The hot side of the writer: what the data plane calls, and the bounds it meets.

Laws:
- nothing here waits for the disk: the one lock guards a few additions and is
  never taken by the writer's thread;
- buffered rows and bytes are bounded; what is beyond them becomes an overflow
  gap at once;
- skipped runs are bounded in number: beyond that their detail is dropped, and
  the rows are accounted for when the incarnation ends.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from eventlog.core.labels import Label
from eventlog.core.predictions import PredictionRows, rows_bytes
from eventlog.core.record import GapReason
from eventlog.log import LogClosed, StorageError
from eventlog.settings import LogSettings
from eventlog.slab import Slab

T = TypeVar("T")
Done = Callable[[Exception | None], None]
Skip = tuple[int, int, GapReason, str]  # first sequence, rows, reason, model

SKIPS_MAX = 65_536
# A flush before its time, so that a burst meets an empty buffer again.
WAKE_SHARE = 4
# A label with its prediction id, roughly.
LABEL_BYTES = 160


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """Rows on their way; `bytes` is what they count for in the bounds."""

    rows: PredictionRows
    bytes: int
    release: Callable[[], None] | None = None
    done: Done | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OfferedLabels:
    model: str
    labels: Sequence[Label]
    done: Done


class Intake:
    """Numbers rows and queues them. Any thread may call; the writer's thread drains."""

    def __init__(self, slab: Slab, settings: LogSettings, wake: threading.Event) -> None:
        self._lock = threading.Lock()
        self._cells, self._wake = slab.cells, wake
        self._rows_max = settings.buffer_rows_max
        self._bytes_max = settings.buffer_bytes_max
        self._next = slab.acknowledged
        self._queue: deque[Offered] = deque()
        self._labels: deque[OfferedLabels] = deque()
        self._skips: deque[Skip] = deque()
        # Rising counters with one writer each: their difference needs no lock.
        self._rows_in = self._bytes_in = self._labels_in = 0
        self._rows_out = self._bytes_out = self._labels_out = 0
        self._closed = False

    @property
    def acknowledged(self) -> int:
        return self._next

    @property
    def buffered_rows(self) -> int:
        return self._rows_in - self._rows_out

    def assign(self, rows: int) -> int:
        """Number `rows` rows; survives a kill from here on. Returns the first number."""
        with self._lock:
            if self._closed:
                raise LogClosed("the prediction writer is closed")
            first = self._next
            # Cell 0 is `acknowledged`: an aligned store of eight bytes, so that a
            # kill leaves the old number or the new one.
            self._next = self._cells[0] = first + rows
        return first

    def offer(
        self, rows: PredictionRows, release: Callable[[], None] | None, done: Done | None
    ) -> None:
        """Queue `rows`, or turn them into an overflow gap."""
        count, size = len(rows), rows_bytes(rows)
        with self._lock:
            waiting_rows = self._rows_in - self._rows_out + count
            waiting_bytes = self._bytes_in - self._bytes_out + size
            fits = waiting_rows <= self._rows_max and waiting_bytes <= self._bytes_max
            fits = fits and not self._closed
            if fits:
                self._rows_in += count
                self._bytes_in += size
                self._queue.append(Offered(rows, size, release, done))
        if not fits:
            self._refuse(rows, release, done)
        elif (
            done is not None
            or waiting_rows * WAKE_SHARE > self._rows_max
            or waiting_bytes * WAKE_SHARE > self._bytes_max
        ):
            self._wake.set()

    def offer_labels(self, model: str, labels: Sequence[Label], done: Done) -> None:
        """Queue labels; `done` gets a StorageError at once if there are too many."""
        with self._lock:
            size = LABEL_BYTES * len(labels)
            full = self._labels_in - self._labels_out + size > self._bytes_max // WAKE_SHARE
            full = full or self._closed
            if not full:
                self._labels_in += size
                self._labels.append(OfferedLabels(model, labels, done))
        if full:
            done(StorageError("the buffer for labels is full; send them again later"))
        else:
            self._wake.set()

    def skip(self, first: int, rows: int, reason: GapReason, model: str) -> None:
        if len(self._skips) < SKIPS_MAX:
            self._skips.append((first, rows, reason, model))

    def take(self) -> tuple[list[Offered], list[OfferedLabels], list[Skip]]:
        """Everything queued now; the rows count as buffered until `taken`."""
        return _drain(self._queue), _drain(self._labels), _drain(self._skips)

    def taken(self, offered: Sequence[Offered], labels: Sequence[OfferedLabels]) -> None:
        self._rows_out += sum(len(item.rows) for item in offered)
        self._bytes_out += sum(item.bytes for item in offered)
        self._labels_out += sum(LABEL_BYTES * len(item.labels) for item in labels)

    def close(self) -> int:
        """No number is assigned after this. Returns how many were."""
        with self._lock:
            self._closed = True
            return self._next

    def detach(self) -> None:
        """Let go of the slab's memory, so that it can be unmapped."""
        with self._lock:
            self._cells = memoryview(b"")

    def _refuse(
        self, rows: PredictionRows, release: Callable[[], None] | None, done: Done | None
    ) -> None:
        for first, count in rows.all_runs:
            self.skip(first, count, GapReason.OVERFLOW, rows.model)
        if release is not None:
            release()
        if done is not None:
            done(StorageError("the prediction log's buffer is full"))


def _drain(queue: deque[T]) -> list[T]:
    # popleft is atomic: appends go on meanwhile
    return [queue.popleft() for _ in range(len(queue))]
