"""What the shipper of this state directory tells of itself, as metrics and in the status."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from eventlog.kafka.figures import STALE_NS, Figures, read_figures
from serving import metrics
from serving.metrics import Metric


class Put(Protocol):
    def __call__(self, metric: Metric, value: float, *labels: str) -> None: ...


class ShipperWatch:
    """Looks at its file when asked; it is a process of its own, with a life of its own."""

    def __init__(
        self,
        run_dir: Path,
        *,
        expected: bool,
        labels_topic: str = "",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """expected:  whether the log goes to Kafka at all.
        labels_topic: what the shipper takes labels from; empty: nothing.
        """
        self._run_dir, self._expected, self._clock = run_dir, expected, clock
        self._labels_topic = labels_topic

    def put(self, put: Put) -> None:
        """Nothing where no shipper is expected."""
        if not self._expected:
            return
        figures = read_figures(self._run_dir) or Figures()
        put(metrics.SHIPPER_UP, float(self._runs(figures) and not figures.away))
        put(metrics.SHIPPER_AWAY_SINCE, figures.away_since_ns / 1e9)
        put(metrics.SHIPPER_RECORDS, figures.records)
        put(metrics.SHIPPER_ROWS, figures.rows)
        put(metrics.SHIPPER_BYTES, figures.bytes)
        put(metrics.SHIPPER_RETRIES, figures.retries)
        put(metrics.SHIPPER_DEAD_LETTERS, figures.dead_letters)
        put(metrics.SHIPPER_REFUSED, figures.refused_rows)
        put(metrics.SHIPPER_EVENTS_LEFT_OUT, figures.events_left_out)
        if self._labels_topic:
            put(metrics.SHIPPER_LABELS_UP, float(self._runs(figures) and not figures.labels_away))
            put(metrics.SHIPPER_LABELS, figures.labels)
            put(metrics.SHIPPER_LABEL_MESSAGES, figures.labels_refused, "refused")
            put(metrics.SHIPPER_LABEL_MESSAGES, figures.labels_dropped, "dropped")
            put(metrics.SHIPPER_LABEL_MESSAGES, figures.labels_expired, "expired")
            put(metrics.SHIPPER_LABEL_LAG, figures.labels_lag)
        put(metrics.SHIPPER_LAG_ROWS, figures.lag_rows)
        put(metrics.SHIPPER_LAG_BYTES, figures.lag_bytes)
        put(metrics.SHIPPER_LAG_SECONDS, figures.lag_s)

    def problem(self) -> str:
        """In a sentence; empty while all is well. Predictions do not depend on it."""
        if not self._expected:
            return ""
        figures = read_figures(self._run_dir)
        if figures is None or not self._runs(figures):
            return "no shipper runs: the prediction log stays in the spool; start `driftgate ship`"
        if figures.away:
            seconds = (self._clock() - figures.away_since_ns) / 1e9
            return (
                f"kafka has taken nothing for {seconds:.0f} s, {figures.lag_rows} rows wait in "
                f"the spool: {figures.away}"
            )
        if self._labels_topic and figures.labels_away:
            seconds = (self._clock() - figures.labels_away_since_ns) / 1e9
            return f"no labels were taken from kafka for {seconds:.0f} s: {figures.labels_away}"
        return ""

    def _runs(self, figures: Figures) -> bool:
        return self._clock() - figures.at_ns < STALE_NS
