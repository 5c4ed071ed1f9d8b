"""The worker's prediction log: opened once, counted into metrics, closed last."""

from pathlib import Path

from eventlog import GapReason, PredictionIds, PredictionWriter
from eventlog.hash_key import HashKey
from eventlog.settings import LogSettings
from serving import metrics as catalogue
from serving.metrics import MetricsSlab
from serving.worker.log_tap import Journal


class WorkerLog:
    """Owns the writer of this incarnation."""

    def __init__(
        self, state_dir: Path, incarnation: str, settings: LogSettings, slab: MetricsSlab
    ) -> None:
        """Raises: what the writer raises when the incarnation is not free, OSError."""
        self._state_dir, self._settings = state_dir, settings
        self.ids = PredictionIds.load(state_dir)
        self.writer = PredictionWriter(state_dir / "log", incarnation, settings)
        self.journal = Journal(self.writer, self.ids, incarnation)
        self._slab = slab
        self._acknowledged = slab.counter(catalogue.LOG_ACKNOWLEDGED)
        self._written = slab.counter(catalogue.LOG_WRITTEN)
        self._buffered = slab.gauge(catalogue.LOG_BUFFER_ROWS)
        for reason in GapReason:  # at zero, so that the first gap has a rate
            slab.counter(catalogue.LOG_GAPS, reason.label)
        self._seen: dict[str, float] = {}

    def hash_key(self) -> HashKey:
        """The key of hashed fields, made if it is ours to make. Raises: LogError, OSError."""
        return HashKey.of_log(self._state_dir, self._settings)

    def count(self) -> None:
        """Bring the metrics up to the writer's own counters."""
        writer = self.writer
        self._acknowledged.inc(self._risen("acknowledged", writer.acknowledged))
        self._written.inc(self._risen("written", writer.written))
        self._buffered.set(writer.buffered_rows)
        for reason, rows in list(writer.gap_rows.items()):
            risen = self._risen(f"gap {reason}", rows)
            if risen:
                self._slab.counter(catalogue.LOG_GAPS, reason).inc(risen)

    def _risen(self, name: str, total: float) -> float:
        before = self._seen.get(name, 0.0)
        self._seen[name] = total
        return total - before

    def close(self, timeout_s: float) -> bool:
        """Write what is left and the end record. Blocking."""
        ended = self.writer.close(timeout_s)
        self.count()
        return ended
