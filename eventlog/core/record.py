"""The unit of the prediction log: one record of one producer.

Laws:
- a producer's prediction rows are numbered 0, 1, 2, ...; every number appears in
  exactly one DATA or GAP record of stream `predictions`;
- labels have a numbering of their own and never count as predictions;
- a record names its rows by runs (first, count). One run is the rule; several
  appear, in header `runs`, where batches of two models took turns;
- `watermark_ns` never falls within a producer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

PREDICTIONS = "predictions"
LABELS = "labels"
RUNS_HEADER = "runs"

Run = tuple[int, int]  # first sequence, number of rows
Position = Mapping[str, int]  # partition -> last offset consumed; offsets start at 1


class LogError(Exception):
    """What the log cannot do, in one sentence."""


class RecordError(LogError):
    """A record's content is not what its kind promises."""


class RecordKind(IntEnum):
    DATA = 1
    GAP = 2
    HEARTBEAT = 3
    END = 4


class GapReason(IntEnum):
    """Why rows are missing; numbers as in protos/records.proto."""

    CRASH = 1
    OVERFLOW = 2
    SAMPLED = 3
    STORAGE = 4
    RETENTION = 5
    CORRUPT = 6
    UNKNOWN = 7
    REFUSED = 8

    @property
    def label(self) -> str:
        """The name in metrics, ledgers and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Record:
    """One DATA, GAP, HEARTBEAT or END record.

    producer:       incarnation, 6 lower-case hex characters.
    first_sequence: DATA, GAP: the lowest of its rows; HEARTBEAT, END: the next
                    sequence of predictions.
    rows:           DATA, GAP: number of rows; else 0.
    watermark_ns:   every row of this producer that arrived before it is in an
                    earlier record or in this one.
    headers:        DATA of predictions: model, version, digest, role, rollout,
                    schema, ts_min_ns, ts_max_ns; of labels: model, ts_min_ns,
                    ts_max_ns; any: runs.
    body:           DATA of predictions: an Arrow IPC stream of one batch; else a
                    message of protos/records.proto.
    """

    stream: str
    kind: RecordKind
    producer: str
    first_sequence: int
    rows: int
    watermark_ns: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with its place; offsets of a partition rise by one per append."""

    partition: str
    offset: int
    record: Record


def runs_of(record: Record) -> tuple[Run, ...]:
    """The rows of a DATA or GAP record, in the order of its rows.

    Raises: RecordError if header `runs` contradicts `rows`.
    """
    if record.rows == 0:
        return ()
    text = record.headers.get(RUNS_HEADER)
    if text is None:
        return ((record.first_sequence, record.rows),)
    try:
        runs = tuple(_run(part) for part in text.split(","))
    except ValueError as exc:
        raise RecordError(f"header runs of {record.producer} is malformed") from exc
    if sum(count for _, count in runs) != record.rows:
        raise RecordError(f"header runs of {record.producer} does not add up to {record.rows} rows")
    return runs


def holds_row(record: Record, sequence: int) -> bool:
    """Whether it is the DATA record of predictions with the row of this number."""
    if record.stream != PREDICTIONS or record.kind is not RecordKind.DATA:
        return False
    return any(first <= sequence < first + count for first, count in runs_of(record))


def runs_header(runs: Sequence[Run]) -> dict[str, str]:
    """The header that carries `runs`: none for one run, which first and rows say."""
    if len(runs) <= 1:
        return {}
    return {RUNS_HEADER: ",".join(f"{first}+{count}" for first, count in runs)}


def merge_adjacent(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Join runs where one begins as its predecessor ends; order is kept."""
    merged: list[Run] = []
    for first, count in runs:
        if merged and sum(merged[-1]) == first:
            merged[-1] = (merged[-1][0], merged[-1][1] + count)
        else:
            merged.append((first, count))
    return tuple(merged)


def cut_runs(runs: Sequence[Run], start: int, stop: int) -> tuple[Run, ...]:
    """The runs of rows `start` to `stop` (by position in the record, half open)."""
    cut: list[Run] = []
    position = 0
    for first, count in runs:
        low, high = max(start - position, 0), min(stop - position, count)
        if low < high:
            cut.append((first + low, high - low))
        position += count
    return tuple(cut)


def _run(text: str) -> Run:
    first, count = text.split("+")
    if not (first.isdecimal() and count.isdecimal() and int(count) > 0):
        raise ValueError(text)
    return int(first), int(count)
