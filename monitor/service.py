"""The monitor's main loop over an embedded log; one thread does it all.

Law: nothing of the gateway depends on it: it may be killed at any instruction.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from math import ceil, inf
from pathlib import Path

from eventlog import MONITOR_GROUP, SqliteLog, publish_position
from monitor.automation import Automation
from monitor.core.budget import mean_time_s
from monitor.core.gate import GateLimits
from monitor.core.guards import Action, Guards
from monitor.core.periods import parse_period_ns
from monitor.core.settings import ANY_MODEL, CoreSettings, RollingSettings, WarmUpSettings
from monitor.published import Published, Snapshot
from monitor.settings import DAY_S, MonitorSettings
from monitor.task import LOG_RETRY_S, Parts, Task
from monitor.triggers.core.schedule import Schedule
from monitor.triggers.settings import RetrainSettings

IDLE_S = 0.05
PUBLISH_S = 0.25
ROLLING_PARTS_MAX = 64  # of a feature they take 280 KB of the stored state


def core_settings(settings: MonitorSettings) -> CoreSettings:
    budget_s = mean_time_s(settings.false_alarms) if settings.false_alarms else settings.budget_s
    return CoreSettings(
        block_ns=_ns(settings.block_s),
        lateness_ns=_ns(settings.lateness_s),
        silence_ns=_ns(settings.silence_s),
        tolerance=settings.tolerance,
        loss_tolerance=settings.loss_tolerance,
        outlier_tolerance=settings.outlier_tolerance,
        budget_s=budget_s,
        warn_budget_s=settings.warn_budget_s,
        independent_rows=settings.dependence == "rows",
        rows_min=settings.rows_min,
        loss_max_share=settings.loss_max_share,
        coarse_edges=settings.coarse_edges,
        window_blocks=settings.window_blocks,
        verify_ns=_ns(settings.verify_s),
        recent_change_ns=_ns(settings.recent_change_s),
        seasonal=settings.seasonal,
        multivariate_rows=settings.multivariate_rows,
        warm_up=warm_up(settings),
        rolling=rolling(settings),
        quantile_level=settings.quantile_level,
        slices=tuple(sorted(settings.slices.items())),
    )


def warm_up(settings: MonitorSettings) -> WarmUpSettings | None:
    if settings.reference == "pushed":
        return None
    return _needs(settings, always=settings.reference == "warm-up")


def rolling(settings: MonitorSettings) -> RollingSettings | None:
    models = (ANY_MODEL,) if settings.reference == "rolling" else settings.rolling_models
    if not models:
        return None
    parts = ceil(settings.rolling_days / settings.rolling_guard_days)
    return RollingSettings(
        tuple(sorted(models)),
        min(max(parts, 1), ROLLING_PARTS_MAX),
        _ns(settings.rolling_guard_days * DAY_S),
        _needs(settings, always=True),
    )


def _needs(settings: MonitorSettings, *, always: bool) -> WarmUpSettings:
    return WarmUpSettings(
        settings.warm_up_rows,
        _ns(settings.warm_up_s),
        _ns(settings.warm_up_skip_s),
        continuous=settings.continuous,
        always=always,
    )


def guards(settings: MonitorSettings) -> Guards:
    return Guards(
        rollback_cooldown_ns=_ns(settings.rollback_cooldown_s),
        retrain_cooldown_ns=_ns(settings.retrain_cooldown_s),
        actions_per_day_max=settings.actions_per_day_max,
        rows_min=settings.rows_min,
        bake_ns=_ns(settings.bake_s),
        lag_max_ns=_ns(settings.lag_max_s),
        approve=frozenset(Action(name) for name in settings.approve),
        approve_ns=_ns(settings.approve_s),
    )


def gate_limits(settings: MonitorSettings) -> GateLimits:
    return GateLimits(settings.rows_min, _ns(settings.lag_max_s))


def schedule(settings: RetrainSettings) -> Schedule:
    return Schedule(parse_period_ns(settings.every), settings.after_labels)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class Monitor:
    """The monitor of an embedded log: one task; `run` returns when `stop` was set."""

    def __init__(
        self,
        parts: Parts,
        log_dir: Path,
        published: Published,
        automation: Automation | None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        publish = partial(publish_position, log_dir, MONITOR_GROUP)
        self._task = Task(parts, automation, publish, clock)
        self._published = published
        self._shown = -inf

    def run(self, stop: threading.Event) -> None:
        self._task.begin()
        self._publish()
        while not stop.is_set():
            if not self.round():
                stop.wait(IDLE_S)
        self._task.commit()
        self._publish()

    def round(self) -> bool:
        """One turn of the loop; False when there was nothing to read."""
        busy = self._task.turn()
        if time.monotonic() - self._shown >= PUBLISH_S:
            self._publish()
        return busy

    def _publish(self) -> None:
        self._published.snapshot = Snapshot.of([self._task.show()], ready=True)
        self._shown = time.monotonic()


def open_log(directory: Path, stop: threading.Event) -> SqliteLog | None:
    """The gateway's log; waits for it to appear, None when told to stop first."""
    while not stop.is_set():
        try:
            return SqliteLog(directory)
        except FileNotFoundError:
            stop.wait(LOG_RETRY_S / 5)
    return None
