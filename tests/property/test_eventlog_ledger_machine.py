"""The ledger against a model: producers that write, crash and end; readers; retention; damage.

The model knows the fate of every row. After any sequence of steps the ledger
says the same, and what a reader gets is each row once.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from eventlog import (
    ConsumedTally,
    GapReason,
    LogSettings,
    RecordKind,
    SqliteLog,
    close_books,
    encode_predictions,
    enforce_retention,
    fake_rows,
    ledger,
    publish_position,
)
from eventlog.core.marks import gap_record, heartbeat_record
from eventlog.core.record import Record, runs_of

FAR_FUTURE_NS = 1 << 61


class LedgerMachine(RuleBasedStateMachine):
    producers = Bundle("producers")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.logs: dict[str, SqliteLog] = {}
        self.acknowledged: dict[str, int] = {}
        self.expected_gaps: dict[str, dict[str, int]] = {}
        self.read_rows: dict[str, set[int]] = {}
        self.tally = ConsumedTally()
        self.reader: SqliteLog | None = None

    def teardown(self) -> None:
        for log in [*self.logs.values(), *([self.reader] if self.reader else [])]:
            log.close()
        shutil.rmtree(self.directory)

    @rule(target=producers)
    def start(self) -> str:
        producer = f"{len(self.acknowledged):06x}"
        self.logs[producer] = SqliteLog(
            self.directory, producer=producer, settings=LogSettings(segment_s=1e9)
        )
        self.acknowledged[producer] = 0
        self.expected_gaps[producer] = {}
        return producer

    @rule(
        producer=producers,
        parts=st.lists(
            st.tuples(st.integers(1, 4), st.sampled_from(["data", "gap", "late", "beat"])),
            min_size=1,
            max_size=5,
        ),
    )
    def append(self, producer: str, parts: list[tuple[int, str]]) -> None:
        """Rows in order, with those marked `late` coming last."""
        records: list[Record] = []
        late: list[Record] = []
        for count, kind in parts:
            first = self.acknowledged[producer]
            if kind == "beat":
                records.append(heartbeat_record(producer, first, 0))
                continue
            self.acknowledged[producer] += count
            if kind == "gap":
                gap = gap_record(producer, [(first, count)], GapReason.SAMPLED, watermark_ns=0)
                records.append(gap)
                gaps = self.expected_gaps[producer]
                gaps["sampled"] = gaps.get("sampled", 0) + count
            else:
                record = encode_predictions(fake_rows(first, count), producer, 0)
                (late if kind == "late" else records).append(record)
        self.logs[producer].append(records + late)

    @rule(producer=producers)
    def seal(self, producer: str) -> None:
        spool = self.logs[producer]._spool
        assert spool is not None
        if spool._segment_bytes:
            spool._seal()

    @rule(producer=consumes(producers), lost=st.integers(0, 5))
    def crash(self, producer: str, lost: int) -> None:
        """The process dies with `lost` rows numbered and not written."""
        log = self.logs.pop(producer)
        assert log._slab is not None
        self.acknowledged[producer] += lost
        log._slab.acknowledged = self.acknowledged[producer]
        log.close()
        (closed,) = close_books(self.directory)
        assert closed.producer == producer
        assert dict(closed.gaps) == ({"crash": lost} if lost else {})
        if lost:
            self.expected_gaps[producer]["crash"] = lost

    @rule(limit=st.integers(1, 30), publish=st.booleans())
    def consume(self, limit: int, publish: bool) -> None:
        if self.reader is None:
            self.reader = SqliteLog(self.directory)
        for stored in self.reader.read(self.tally.consumed().position, limit):
            self.tally.add(stored)
            record = stored.record
            seen = self.read_rows.setdefault(record.producer, set())
            if record.kind in (RecordKind.DATA, RecordKind.GAP):
                rows = {n for first, count in runs_of(record) for n in range(first, first + count)}
                assert not rows & seen, "a row came twice"
                seen |= rows
        if publish:
            publish_position(self.directory, "monitor", self.tally.consumed())

    @rule()
    def restart_reader(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    @rule(drop_everything=st.booleans())
    def retain(self, drop_everything: bool) -> None:
        publish_position(self.directory, "monitor", self.tally.consumed())
        size = 0 if drop_everything else 1 << 40
        limits = LogSettings(retention_s=1e12, retention_bytes=size)
        for removed in enforce_retention(self.directory, limits, FAR_FUTURE_NS):
            gaps = self.expected_gaps[removed.name[:6]]
            if removed.gap_rows:
                gaps["retention"] = gaps.get("retention", 0) + removed.gap_rows

    @precondition(lambda self: self.acknowledged)
    @rule()
    def close_again(self) -> None:
        assert close_books(self.directory) == []

    @invariant()
    def the_ledger_balances(self) -> None:
        consumed = self.tally.consumed()
        publish_position(self.directory, "monitor", consumed)
        lines = {line.producer: line for line in ledger(self.directory)}
        assert set(lines) == set(self.acknowledged)
        for producer, line in lines.items():
            assert line.live == (producer in self.logs)
            assert line.acknowledged == self.acknowledged[producer]
            assert line.unexplained == 0
            gaps = {reason: rows for reason, rows in line.gaps.items() if rows}
            assert gaps == self.unread_safe(producer, gaps)

    def unread_safe(self, producer: str, gaps: dict[str, int]) -> dict[str, int]:
        """Expected gaps; a buried record that had been read stays delivered."""
        expected = dict(self.expected_gaps[producer])
        if "retention" in expected:
            read = gaps.get("retention", 0)
            assert read <= expected["retention"]
            expected["retention"] = read
            if not read:
                del expected["retention"]
        return expected


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
