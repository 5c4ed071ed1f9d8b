"""The monitor's main loop: read, fold, store, publish, act; one thread does it all.

Laws:
- order of a round: state and history are stored in one transaction, then the
  position is published, then verdicts are acted on;
- nothing of the gateway depends on it: it may be killed at any instruction.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from eventlog import MONITOR_GROUP, Log, LogError, PredictionIds, SqliteLog, publish_position
from monitor.action_store import ACTIONS_FILE, ActionStore
from monitor.automation import Automation
from monitor.core.effects import effects
from monitor.core.guards import Guards
from monitor.core.model_state import Summary
from monitor.core.settings import CoreSettings
from monitor.database import StoreDamaged, set_aside
from monitor.documents import block_document, state_document, verdict_document
from monitor.engine import Closed, Engine
from monitor.profiles import RegistryProfiles
from monitor.published import Published, Snapshot
from monitor.settings import MonitorSettings
from monitor.store import BlockRow, Store
from registry_client import Source

READ_LIMIT = 64  # records per round: at their largest, 48 MiB
BLOCKS_PER_COMMIT = 256
COMMIT_S = 0.5  # longest time that what was read waits for its transaction
IDLE_S = 0.05
PUBLISH_S = 0.25
LOG_RETRY_S = 1.0

logger = logging.getLogger(__name__)


def core_settings(settings: MonitorSettings) -> CoreSettings:
    return CoreSettings(
        block_ns=_ns(settings.block_s),
        lateness_ns=_ns(settings.lateness_s),
        tolerance=settings.tolerance,
        loss_tolerance=settings.loss_tolerance,
        budget_s=settings.budget_s,
        warn_budget_s=settings.warn_budget_s,
        rows_min=settings.rows_min,
        loss_max_share=settings.loss_max_share,
        coarse_edges=settings.coarse_edges,
        window_blocks=settings.window_blocks,
        recent_change_ns=_ns(settings.recent_change_s),
    )


def guards(settings: MonitorSettings) -> Guards:
    return Guards(
        rollback_cooldown_ns=_ns(settings.rollback_cooldown_s),
        retrain_cooldown_ns=_ns(settings.retrain_cooldown_s),
        actions_per_day_max=settings.actions_per_day_max,
        rows_min=settings.rows_min,
        bake_ns=_ns(settings.bake_s),
        lag_max_ns=_ns(settings.lag_max_s),
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def fingerprint(settings: CoreSettings) -> str:
    """Of everything that the meaning of stored statistics depends on."""
    return sha256(repr(settings).encode()).hexdigest()


@dataclass(slots=True)
class Parts:
    """What the loop runs on; made by `open_parts`, tests make their own."""

    store: Store
    actions: ActionStore
    engine: Engine
    profiles: RegistryProfiles


def open_parts(
    path: Path, settings: CoreSettings, log: Log, ids: PredictionIds, source: Source
) -> Parts:
    """Open the database, or set a damaged one aside and start from the retained log."""
    try:
        return _open(path, settings, log, ids, source)
    except StoreDamaged as exc:
        reason = str(exc)
    aside = set_aside(path)
    logger.warning(
        "%s: %s; set aside as %s, statistics are rebuilt from the log", path, reason, aside.name
    )
    return _open(path, settings, log, ids, source)


def _open(
    path: Path, settings: CoreSettings, log: Log, ids: PredictionIds, source: Source
) -> Parts:
    store = Store(path, fingerprint(settings))
    try:
        state, profiles = store.state(), RegistryProfiles(store, source)
        engine = Engine(
            log, ids.decode, profiles, settings, load_page=store.label_page, state=state
        )
    except (ValueError, KeyError, TypeError) as exc:
        store.close()
        raise StoreDamaged(f"stored state: {type(exc).__name__}: {exc}") from exc
    except BaseException:
        store.close()
        raise
    return Parts(store, ActionStore(path.with_name(ACTIONS_FILE)), engine, profiles)


class Monitor:
    """Owns everything; `run` returns when `stop` was set."""

    def __init__(
        self,
        parts: Parts,
        log_dir: Path,
        published: Published,
        automation: Automation | None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._actions = parts.store, parts.actions
        self.engine, self._profiles = parts.engine, parts.profiles
        self._log_dir, self._published, self._automation = log_dir, published, automation
        self._clock = clock
        self._blocks: list[BlockRow] = []
        self._verdicts: list[dict[str, Any]] = []
        self._last: dict[str, Summary] = {}
        self._committed = -inf
        self._shown = -inf
        self._uncommitted = False
        self._unreadable = False

    def run(self, stop: threading.Event) -> None:
        publish_position(self._log_dir, MONITOR_GROUP, self.engine.consumed())
        self._publish()
        while not stop.is_set():
            if not self.round():
                stop.wait(IDLE_S)
        self._commit()
        self._publish()

    def round(self) -> bool:
        """One turn of the loop; False when there was nothing to read."""
        count = self._read()
        more = self.engine.close_blocks(self._closed, BLOCKS_PER_COMMIT)
        self._uncommitted = self._uncommitted or count > 0
        due = time.monotonic() - self._committed >= COMMIT_S
        if self._blocks or (self._uncommitted and due):
            self._commit()
        if self._automation is not None:
            self._automation.step(self.engine.models)
        if time.monotonic() - self._shown >= PUBLISH_S:
            self._publish()
        return count > 0 or more

    def _read(self) -> int:
        try:
            count = self.engine.read(READ_LIMIT)
        except (LogError, OSError) as exc:
            if not self._unreadable:
                logger.warning("the log cannot be read: %s; trying again", exc)
            self._unreadable = True
            time.sleep(LOG_RETRY_S)
            return 0
        self._unreadable = False
        return count

    def _closed(self, closed: Closed) -> None:
        summary = closed.summary
        self._last[closed.model] = summary
        self._blocks.append(
            BlockRow(
                closed.model,
                summary.start_ns,
                summary.stable_rows,
                summary.candidate_rows,
                block_document(summary),
            )
        )
        if summary.raised:
            state = self.engine.models[closed.model]
            self._verdicts.append(verdict_document(state, summary, self._clock()))

    def _commit(self) -> None:
        book = self.engine.book
        self._store.commit(self.engine.to_bytes(), self._blocks, self._verdicts, book.dirty())
        book.stored()
        publish_position(self._log_dir, MONITOR_GROUP, self.engine.consumed())
        for verdict in self._verdicts:
            logger.warning("%s: %s: %s", verdict["model"], verdict["kind"], verdict["reason"])
            if self._automation is not None:
                self._automation.note(verdict)
        self._blocks, self._verdicts, self._uncommitted = [], [], False
        self._committed = time.monotonic()

    def _publish(self) -> None:
        engine, now_ns = self.engine, self._clock()
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
        self._published.snapshot = Snapshot(
            ready=True,
            at_ns=now_ns,
            overall=self._overall(now_ns),
            models=models,
            effects={name: effects(state) for name, state in engine.models.items()},
        )
        self._shown = time.monotonic()

    def _overall(self, now_ns: int) -> dict[str, Any]:
        engine, counters = self.engine, self.engine.counters
        watermark_ns = engine.producers.watermark_ns()
        return {
            "at_ns": now_ns,
            "watermark_ns": watermark_ns,
            "frontier_ns": engine.frontier_ns,
            "lag_s": (now_ns - watermark_ns) / 1e9 if watermark_ns else 0.0,
            "slowest_producer": engine.producers.slowest(),
            "producers_live": engine.producers.live,
            "open_rows": engine.open_rows,
            "late": counters.late,
            "duplicates": counters.duplicates,
            "undecodable": counters.undecodable,
            "reread_lost": counters.reread_lost,
            "notes_dropped": self._automation.notes_dropped if self._automation else 0,
            "actions": self._actions.counts(),
        }


def open_log(directory: Path, stop: threading.Event) -> SqliteLog | None:
    """The gateway's log; waits for it to appear, None when told to stop first."""
    while not stop.is_set():
        try:
            return SqliteLog(directory)
        except FileNotFoundError:
            stop.wait(LOG_RETRY_S / 5)
    return None
