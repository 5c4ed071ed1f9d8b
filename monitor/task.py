"""One engine with all that belongs to it: it reads, folds, stores and acts, turn by turn.

Law of a turn: state and history are stored in one transaction, then the position is
published, then verdicts are acted on.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from eventlog import Consumed, Log, LogError, StoredRecord
from monitor.action_store import ACTIONS_FILE, ActionStore
from monitor.automation import Automation
from monitor.core.effects import effects
from monitor.core.model_state import ModelState, Summary
from monitor.core.settings import CoreSettings
from monitor.database import StoreDamaged, set_aside
from monitor.documents import block_document, state_document, verdict_document
from monitor.engine import Closed, DecodeId, Engine, ignore_undecodable
from monitor.fairness_documents import fairness_document
from monitor.outlier_documents import EncodeId, no_ids, outliers_document
from monitor.performance_documents import performance_document
from monitor.profiles import RegistryProfiles
from monitor.published import Document, Shown
from monitor.segment_documents import live_segments
from monitor.store import BlockRow, Store
from registry_client import Source

READ_LIMIT = 64  # records per turn: at their largest, 48 MiB
BLOCKS_PER_COMMIT = 256
COMMIT_S = 0.5  # longest time that what was read waits for its transaction
LOG_RETRY_S = 1.0

logger = logging.getLogger(__name__)


def fingerprint(settings: CoreSettings) -> str:
    """Of everything that the meaning of stored statistics depends on."""
    return sha256(repr(settings).encode()).hexdigest()


@dataclass(slots=True)
class Parts:
    """What a task runs on; made by `open_parts`, tests make their own."""

    path: Path
    store: Store
    actions: ActionStore
    engine: Engine
    profiles: RegistryProfiles
    encode_id: EncodeId = no_ids

    def close(self) -> None:
        self.store.close()
        self.actions.close()


def open_store(path: Path, settings: CoreSettings) -> Store:
    """Open the database, or set a damaged one aside and begin another."""
    try:
        return Store(path, fingerprint(settings))
    except StoreDamaged as exc:
        _set_aside(path, exc)
    return Store(path, fingerprint(settings))


def open_parts(
    path: Path,
    settings: CoreSettings,
    log: Log,
    decode_id: DecodeId,
    source: Source,
    *,
    partitions: Sequence[str] = (),
    on_undecodable: Callable[[StoredRecord, str], None] = ignore_undecodable,
    encode_id: EncodeId = no_ids,
) -> Parts:
    """Open the database, or set a damaged one aside and start from the retained log.

    encode_id: gives rows that are shown their prediction ids.
    """

    def attempt() -> Parts:
        store = Store(path, fingerprint(settings))
        try:
            profiles = RegistryProfiles(store, source)
            engine = Engine(
                log,
                decode_id,
                profiles,
                settings,
                load_page=store.label_page,
                partitions=partitions,
                on_undecodable=on_undecodable,
                state=store.state(),
            )
        except (ValueError, KeyError, TypeError) as exc:
            store.close()
            raise StoreDamaged(f"stored state: {type(exc).__name__}: {exc}") from exc
        except BaseException:
            store.close()
            raise
        actions = ActionStore(path.with_name(ACTIONS_FILE))
        return Parts(path, store, actions, engine, profiles, encode_id)

    try:
        return attempt()
    except StoreDamaged as exc:
        _set_aside(path, exc)
    return attempt()


def _set_aside(path: Path, reason: StoreDamaged) -> None:
    aside = set_aside(path)
    logger.warning(
        "%s: %s; set aside as %s, statistics are rebuilt from the log", path, reason, aside.name
    )


class Task:
    """Mutable; owned by one thread."""

    def __init__(
        self,
        parts: Parts,
        automation: Automation | None,
        publish_position: Callable[[Consumed], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """publish_position: is told what has been taken account of, after it was stored."""
        self._store, self._actions = parts.store, parts.actions
        self.parts, self.engine, self._profiles = parts, parts.engine, parts.profiles
        self._publish_position, self._automation = publish_position, automation
        self._clock = clock
        self._blocks: list[BlockRow] = []
        self._verdicts: list[dict[str, Any]] = []
        self._last: dict[str, Summary] = {}
        # By model, with the blocks that it is of.
        self._measured: dict[str, tuple[int, tuple[list[Document], list[Document]]]] = {}
        self._committed = -inf
        self._uncommitted = False
        self.unreadable = ""  # why the log cannot be read now
        self._closing = False

    def begin(self) -> None:
        """Say where the reading begins, before it does."""
        self._publish_position(self.engine.consumed())

    def turn(self) -> bool:
        """Read, close blocks, store, act; False when there was nothing to read.

        Raises: LogError if a block could not be closed, since the row of a label cannot be
                looked up now. What was stored last is then all that is sound.
        """
        count = self._read()
        self._closing = True  # and stays so if that fails
        more = self.engine.close_blocks(self._closed, BLOCKS_PER_COMMIT)
        self._closing = False
        self._uncommitted = self._uncommitted or count > 0
        due = time.monotonic() - self._committed >= COMMIT_S
        if self._blocks or (self._uncommitted and due):
            self.commit()
        if self._automation is not None:
            self._automation.step(self.engine.models)
        return count > 0 or more

    def _read(self) -> int:
        try:
            count = self.engine.read(READ_LIMIT)
        except (LogError, OSError) as exc:
            if not self.unreadable:
                logger.warning("the log cannot be read: %s; trying again", exc)
            self.unreadable = str(exc)
            time.sleep(LOG_RETRY_S)
            return 0
        self.unreadable = ""
        return count

    def _closed(self, closed: Closed) -> None:
        summary = closed.summary
        self._last[closed.model] = summary
        self._blocks.append(
            BlockRow(
                closed.model,
                summary.start_ns,
                summary.stable,
                summary.candidate,
                block_document(summary),
            )
        )
        if summary.raised:
            state = self.engine.models[closed.model]
            self._verdicts.append(verdict_document(state, summary, self._clock()))

    def commit(self) -> None:
        """Store where the engine stands; nothing of one that failed in the middle of a block."""
        if self._closing:
            return
        book = self.engine.book
        self._store.commit(self.engine.to_bytes(), self._blocks, self._verdicts, book.dirty())
        book.stored()
        self._publish_position(self.engine.consumed())
        for verdict in self._verdicts:
            logger.warning("%s: %s: %s", verdict["model"], verdict["kind"], verdict["reason"])
            if self._automation is not None:
                self._automation.note(verdict)
        self._blocks, self._verdicts, self._uncommitted = [], [], False
        self._committed = time.monotonic()

    def show(self) -> Shown:
        """Where its models stand, and it itself."""
        engine = self.engine
        models = {
            name: state_document(state, self._last.get(name), engine.counters.labels.get(name, {}))
            for name, state in engine.models.items()
        }
        for name, digest in self._profiles.pending:
            stable = models.get(name, {}).get("stable")
            if stable and stable["digest"] == digest:
                stable["reference_pending"] = True
        withheld = self._automation.withheld if self._automation else {}
        for name, reason in withheld.items():
            if name in models:
                models[name]["withheld"] = reason
        return Shown(
            overall=self._overall(self._clock()),
            models=models,
            effects={name: effects(state) for name, state in engine.models.items()},
            databases=dict.fromkeys(models, self.parts.path),
            spaces={
                name: state.stable.spaces() if state.stable else []
                for name, state in engine.models.items()
            },
            performance={name: self._measures(state)[0] for name, state in engine.models.items()},
            fairness={name: self._measures(state)[1] for name, state in engine.models.items()},
            segments={name: live_segments(state) for name, state in engine.models.items()},
            outliers={
                name: outliers_document(state, self.parts.encode_id)
                for name, state in engine.models.items()
            },
        )

    def _measures(self, state: ModelState) -> tuple[list[Document], list[Document]]:
        """Performance and fairness; by slice that is much, and only a block changes it."""
        blocks, found = self._measured.get(state.model, (-1, ([], [])))
        if blocks != state.blocks:
            found = performance_document(state), fairness_document(state)
            self._measured[state.model] = state.blocks, found
        return found

    def _overall(self, now_ns: int) -> Document:
        engine, counters = self.engine, self.engine.counters
        watermark_ns = engine.producers.watermark_ns()
        return {
            "at_ns": now_ns,
            "watermark_ns": watermark_ns,
            "frontier_ns": engine.frontier_ns,
            "lag_s": (now_ns - watermark_ns) / 1e9 if watermark_ns else 0.0,
            "log_unreadable": self.unreadable,
            "slowest_producer": engine.producers.slowest(),
            "producers_live": engine.producers.live,
            "producers_silent": engine.producers.silent,
            "open_rows": engine.open_rows,
            "late": counters.late,
            "duplicates": counters.duplicates,
            "undecodable": counters.undecodable,
            "passed_over": counters.passed_over,
            "reread_lost": counters.reread_lost,
            "unverified": sum(fates.get("unverified", 0) for fates in counters.labels.values()),
            "notes_dropped": self._automation.notes_dropped if self._automation else 0,
            "actions": self._actions.counts(),
        }
