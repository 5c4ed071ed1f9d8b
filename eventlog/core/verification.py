"""Whether every row that was numbered is in the log, in one record or another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eventlog.core.intervals import Intervals, drop_first
from eventlog.core.kafka_message import is_copy
from eventlog.core.marks import parse_gap
from eventlog.core.record import (
    PREDICTIONS,
    GapReason,
    Record,
    RecordError,
    RecordKind,
    Run,
    runs_of,
)


@dataclass(slots=True)
class _Rows:
    accounted: Intervals = field(default_factory=Intervals)
    data: Intervals = field(default_factory=Intervals)
    gaps: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0


class RowCount:
    """The prediction rows in the records it was shown, by producer; each counts once."""

    def __init__(self) -> None:
        self._rows: dict[str, _Rows] = {}

    def add(self, record: Record) -> None:
        """Raises: RecordError for a record that does not say which rows it holds."""
        if record.stream != PREDICTIONS or record.rows == 0 or is_copy(record):
            return
        rows = self._rows.setdefault(record.producer, _Rows())
        before = rows.accounted.total
        runs = runs_of(record)
        rows.accounted.update(runs)
        new = rows.accounted.total - before
        rows.duplicates += record.rows - new
        if record.kind is RecordKind.DATA:
            rows.data.update(runs)
        else:
            reason = _reason(record)
            rows.gaps[reason] = rows.gaps.get(reason, 0) + new

    def of(self, producer: str) -> _Rows:
        return self._rows.get(producer, _Rows())


@dataclass(frozen=True, slots=True)
class Verdict:
    """One incarnation, in prediction rows.

    found:      in DATA records. gaps: in GAP records, by reason.
    spooled:    neither, and on their way in the spool.
    earlier:    neither, and gone from here after they were delivered.
    expired:    neither, and from before what the topic still holds: not known.
    duplicates: times that a row came again.
    missing:    runs of rows that are nowhere.
    """

    producer: str
    acknowledged: int
    found: int
    gaps: Mapping[str, int]
    spooled: int
    earlier: int
    expired: int
    duplicates: int
    missing: tuple[Run, ...]

    @property
    def unexplained(self) -> int:
        return sum(count for _, count in self.missing)


def judge(
    producer: str,
    acknowledged: int,
    count: RowCount,
    *,
    spooled: Iterable[Run] = (),
    earlier: Iterable[Run] = (),
    earlier_rows: int = 0,
    may_have_expired: bool = False,
) -> Verdict:
    """What became of the first `acknowledged` rows of `producer`.

    spooled, earlier: rows known to be elsewhere. earlier_rows: how many more were
    delivered elsewhere, when it is not known which: the first ones are taken.
    """
    rows = count.of(producer)
    missing = rows.accounted.missing(acknowledged)
    in_spool = _without(missing, spooled)
    left = _without(in_spool, earlier)
    unknown = drop_first(left, earlier_rows)
    return Verdict(
        producer,
        acknowledged,
        rows.data.total,
        dict(rows.gaps),
        _total(missing) - _total(in_spool),
        _total(in_spool) - _total(unknown),
        _total(unknown) if may_have_expired else 0,
        rows.duplicates,
        () if may_have_expired else unknown,
    )


def _without(runs: Iterable[Run], others: Iterable[Run]) -> tuple[Run, ...]:
    return Intervals(runs).minus(Intervals(others))


def _total(runs: Iterable[Run]) -> int:
    return sum(count for _, count in runs)


def _reason(record: Record) -> str:
    try:
        return parse_gap(record).reason.label
    except RecordError:
        return GapReason.UNKNOWN.label
