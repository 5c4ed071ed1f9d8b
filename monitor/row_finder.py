"""Finding the prediction that a label speaks of: recent rows at hand, the rest in the log."""

from bisect import bisect_left, bisect_right, insort
from collections import deque

from eventlog import Log, PredictionRows, RecordError, StoredRecord, decode_predictions
from monitor.decoded_bytes import decoded_bytes

BYTES_KEPT = 128 * 1024 * 1024  # of decoded records, for labels that follow soon


class RowFinder:
    """A cache in front of `Log.locate`; it changes speed, never the answer."""

    def __init__(self, log: Log, bytes_kept: int = BYTES_KEPT) -> None:
        self._log, self._bytes_kept = log, bytes_kept
        self._runs: dict[str, list[tuple[int, int, int]]] = {}  # first, count, ticket
        self._rows: dict[int, tuple[StoredRecord, PredictionRows]] = {}  # by ticket
        self._order: deque[int] = deque()
        self._ticket = 0
        self._held = 0

    def add(self, stored: StoredRecord, rows: PredictionRows) -> None:
        """Keep a decoded record; the oldest go when there are too many bytes."""
        self._ticket += 1
        runs = self._runs.setdefault(stored.record.producer, [])
        for first, count in rows.all_runs:
            insort(runs, (first, count, self._ticket))
        self._rows[self._ticket] = (stored, rows)
        self._order.append(self._ticket)
        self._held += decoded_bytes(stored.record)
        while self._held > self._bytes_kept and len(self._order) > 1:
            self._drop(self._order.popleft())

    def find(
        self, producer: str, sequence: int, ts_ms: int, up_to: int | None = None
    ) -> tuple[PredictionRows, int] | None:
        """The record's rows and the row's place in them; None if the log has no such row.

        ts_ms: as in `Log.locate`.
        up_to: records beyond this offset do not count.
        """
        rows = self._cached(producer, sequence, up_to)
        if rows is None:
            stored = self._log.locate(producer, sequence, ts_ms)
            if stored is None or (up_to is not None and stored.offset > up_to):
                return None
            try:
                rows = decode_predictions(stored.record)
            except RecordError:
                return None
            self.add(stored, rows)
        place = rows.index_of(sequence)
        return None if place is None else (rows, place)

    def _cached(self, producer: str, sequence: int, up_to: int | None) -> PredictionRows | None:
        runs = self._runs.get(producer, [])
        place = bisect_right(runs, (sequence, 1 << 62, 0)) - 1
        if place < 0:
            return None
        first, count, ticket = runs[place]
        stored, rows = self._rows[ticket]
        usable = sequence < first + count and (up_to is None or stored.offset <= up_to)
        return rows if usable else None

    def _drop(self, ticket: int) -> None:
        stored, rows = self._rows.pop(ticket)
        producer = stored.record.producer
        runs = self._runs[producer]
        for first, count in rows.all_runs:
            del runs[bisect_left(runs, (first, count, ticket))]
        if not runs:
            del self._runs[producer]
        self._held -= decoded_bytes(stored.record)
