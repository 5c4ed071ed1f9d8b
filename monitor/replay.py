"""The state and its verdicts once more from the log, beside what a monitor has stored.

Laws:
- nothing is written: the database is opened read-only, and no position is published,
  so a monitor may run meanwhile;
- what is compared is what one transaction of that monitor stored; what it reads and
  decides meanwhile is left out;
- the profiles are those that the monitor was given, not what the registry holds now.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from eventlog import Log, LogClosed, StoredRecord
from eventlog.core.record import Position, Record
from monitor.core.agreement import Fate, Finding, Told, compare
from monitor.core.label_book import PageKey
from monitor.core.model_state import REPEAT_NS, ModelState
from monitor.core.profile import ReferenceProfile
from monitor.core.settings import CoreSettings
from monitor.core.tree import pack, unpack
from monitor.documents import block_document, verdict_document
from monitor.engine import Closed, DecodeId, Engine
from monitor.profiles import parse_profile
from monitor.store import FORMAT
from monitor.task import READ_LIMIT, fingerprint

BlockKey = tuple[str, int]  # model, start


class CannotReplay(Exception):
    """There is nothing to compare with; the message says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a monitor had stored at one moment.

    frontier_ns: everything before it is in its statistics.
    states:      model -> last block and the state after it.
    read:        partition -> the last offset that was taken account of.
    verdicts:    by id, all that are kept; blocks: of those verdicts, as far as they are kept.
    """

    frontier_ns: int
    states: Mapping[str, tuple[int | None, bytes]]
    read: Mapping[str, int]
    verdicts: Mapping[str, Told]
    profiles: Mapping[tuple[str, str], bytes | None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """findings: in the order of their blocks; states: model -> whether it came out the same.

    log_from_ns: the log is whole from here on; -inf: from its beginning.
    """

    findings: Sequence[Finding]
    states: Mapping[str, Fate]
    log_from_ns: float


def read_stored(path: Path, settings: CoreSettings) -> Stored:
    """Raises: CannotReplay."""
    try:
        with _snapshot(path) as db:
            meta = dict(db.execute("SELECT key, value FROM meta"))
            if meta.get("format") != str(FORMAT):
                raise CannotReplay(f"{path} was made by another version of driftgate")
            if meta.get("fingerprint") != fingerprint(settings):
                raise CannotReplay(
                    f"{path} was made with other monitor settings than those that are set now"
                )
            return _read_stored(db, settings)
    except sqlite3.Error as exc:
        raise CannotReplay(f"{path} cannot be read: {exc}") from exc


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as db:
        db.isolation_level = None
        db.execute("BEGIN")
        yield db


def _read_stored(db: sqlite3.Connection, settings: CoreSettings) -> Stored:
    row = db.execute("SELECT data FROM state").fetchone()
    if row is None:
        raise CannotReplay("the monitor has stored no state yet")
    try:
        tree = unpack(bytes(row[0]))
        states = {name: (item["last_index"], pack(item)) for name, item in tree["models"].items()}
        frontier_ns = (tree["frontier"] or 0) * settings.block_ns
        verdicts = {
            verdict: Told(json.loads(data), json.loads(block) if block else None)
            for verdict, data, block in db.execute(
                "SELECT v.id, v.data, b.data FROM verdicts v LEFT JOIN blocks b "
                "ON b.model = v.model AND b.start_ns = v.start_ns"
            )
        }
    except (ValueError, KeyError, TypeError) as exc:
        raise CannotReplay(f"what the monitor has stored is damaged: {exc}") from exc
    profiles = {
        (model, digest): data
        for model, digest, data in db.execute("SELECT model, digest, data FROM profiles")
    }
    return Stored(frontier_ns, states, dict(tree["read"]), verdicts, profiles)


def replay(
    log: Log,
    decode_id: DecodeId,
    stored: Stored,
    settings: CoreSettings,
    *,
    partitions: Sequence[str] = (),
    chosen: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    until_ns: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Build the state from all of the log that is kept, and compare.

    partitions:  as for `Engine`.
    chosen:      which verdicts to say something of, by their documents.
    until_ns:    no verdict of a later block is asked for; None: up to where the monitor was.
    on_progress: gets the end of what has been built, Unix ns.
    Raises: LogError when the log cannot be read.
    """
    last_ns = stored.frontier_ns if until_ns is None else min(until_ns, stored.frontier_ns)
    kept = KeptLog(log, stored.read, partitions)
    pages: dict[PageKey, bytes] = {}
    engine = Engine(
        kept,
        decode_id,
        _profiles_of(stored.profiles),
        settings,
        load_page=pages.get,
        partitions=partitions,
    )
    watch = _Watch(stored, engine.models, kept, last_ns)
    more = True
    while more and engine.frontier_ns < last_ns:
        more = engine.read(READ_LIMIT) > 0
        engine.close_blocks(watch.closed)
        pages |= engine.book.dirty()
        engine.book.stored()
        on_progress(engine.frontier_ns)
    return Replayed(watch.findings(chosen), watch.states, kept.whole_from_ns)


def _profiles_of(
    stored: Mapping[tuple[str, str], bytes | None],
) -> Callable[[str, str, str], ReferenceProfile | None]:
    parsed: dict[tuple[str, str], ReferenceProfile | None] = {}

    def profile_of(model: str, version: str, digest: str) -> ReferenceProfile | None:
        key = (model, digest)
        if key not in parsed:
            parsed[key] = parse_profile(model, version, stored.get(key))
        return parsed[key]

    return profile_of


class KeptLog:
    """A log for reading, which notes where what is kept of it begins. Mutable."""

    def __init__(self, log: Log, read: Mapping[str, int], partitions: Sequence[str]) -> None:
        """read: what was taken account of; a partition of it that is not there is gone."""
        self._log, self._last = log, dict.fromkeys(partitions, 0)
        self.whole_from_ns = -inf
        self._gone = {name for name, offset in read.items() if offset} - log.end().keys()

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        found = self._log.read(after, limit)
        for stored in found:
            if stored.offset > self._last.get(stored.partition, 0) + 1:
                self._begins(stored)
            elif self._gone:
                # Whatever went with its partition whole went before the others' first records.
                self._gone.clear()
                self._begins(stored)
            self._last[stored.partition] = max(stored.offset, self._last.get(stored.partition, 0))
        return found

    def _begins(self, stored: StoredRecord) -> None:
        self.whole_from_ns = max(self.whole_from_ns, stored.record.watermark_ns)

    def append(self, records: Sequence[Record]) -> None:  # noqa: ARG002 - the protocol's
        raise LogClosed("a replay only reads")

    def end(self) -> dict[str, int]:
        return self._log.end()

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
        return self._log.locate(producer, sequence, ts_ms)

    def close(self) -> None:
        self._log.close()


@dataclass(slots=True)
class _Watch:
    """What comes out of the log, beside what was stored. Mutable."""

    stored: Stored
    models: Mapping[str, ModelState]
    kept: KeptLog
    last_ns: int
    states: dict[str, Fate] = field(default_factory=dict)
    _replayed: dict[str, Told] = field(default_factory=dict)
    _outcomes: dict[BlockKey, tuple[str, bool]] = field(default_factory=dict)  # and if whole
    _asked: set[BlockKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._asked = {_block_of(told.verdict) for told in self.stored.verdicts.values()}

    def closed(self, closed: Closed) -> None:
        summary, state = closed.summary, self.models[closed.model]
        if summary.start_ns >= self.last_ns:
            return
        key = (closed.model, summary.start_ns)
        if summary.raised:
            verdict = _as_stored(verdict_document(state, summary, 0))
            self._replayed[verdict["id"]] = Told(verdict, _as_stored(block_document(summary)))
        if summary.raised or key in self._asked:
            raised = "" if summary.raised else ", which was raised before or needs no raising"
            self._outcomes[key] = (f"{summary.verdict.kind.value}{raised}", self._whole(state))
        last_index, data = self.stored.states.get(closed.model, (None, b""))
        if state.last_index == last_index:
            same = pack(unpack(pack(state.to_tree()))) == data
            different = Fate.DIFFERENT if self._whole(state, totals=True) else Fate.GONE
            self.states[closed.model] = Fate.SAME if same else different

    def _whole(self, state: ModelState, *, totals: bool = False) -> bool:
        """Whether the log holds everything that the state rests on.

        totals: with what is counted from the model's beginning. Evidence begins anew with
        each stable version, and what stands besides is forgotten after a while.
        """
        from_ns = self.kept.whole_from_ns
        if from_ns == -inf:
            return True
        return (
            not totals
            and state.stable is not None
            and state.stable.rests_on_ns >= (from_ns + REPEAT_NS)
        )

    def findings(self, chosen: Callable[[Mapping[str, Any]], bool]) -> list[Finding]:
        stored = {
            key: told
            for key, told in self.stored.verdicts.items()
            if int(told.verdict["block_start_ns"]) < self.last_ns
        }
        # Verdicts are kept by number: older ones than the oldest may have been there.
        oldest = min((_block_of(told.verdict)[1] for told in stored.values()), default=0)
        extra = {
            key: told
            for key, told in self._replayed.items()
            if key not in stored and _block_of(told.verdict)[1] >= oldest
        }
        found = []
        for key, told in {**extra, **stored}.items():
            if not chosen(told.verdict):
                continue
            nothing = ("no such block", self.kept.whole_from_ns == -inf)
            outcome, whole = self._outcomes.get(_block_of(told.verdict), nothing)
            replayed = self._replayed.get(key)
            found.append(compare(stored.get(key), replayed, whole=whole, outcome=outcome))
        return sorted(found, key=lambda item: (item.block_start_ns, item.id))


def _block_of(verdict: Mapping[str, Any]) -> BlockKey:
    return str(verdict["model"]), int(verdict["block_start_ns"])


def _as_stored(document: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from the store: without tuples."""
    read_back: dict[str, Any] = json.loads(json.dumps(document))
    return read_back
