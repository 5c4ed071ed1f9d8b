"""The metrics that requests touch, looked up once per version."""

from dataclasses import dataclass
from enum import Enum

from serving import metrics as catalogue
from serving.core.errors import Reason
from serving.metrics import Counter, Gauge, MetricsSlab, Record

PROTOCOLS = ("http", "grpc")
UNKNOWN = "unknown"  # a model or version that no registry has named


_LAST = catalogue.MODEL_STATISTICS.fields.index("inference_ms_last")


class LabelOutcome(Enum):
    TAKEN = "taken"
    REFUSED = "refused"


@dataclass(slots=True)
class ExecutionTimes:
    """Where the time of one run went; queue_ns is its requests' mean."""

    input_ns: int
    infer_ns: int
    queue_ns: int
    output_ns: int = 0  # known when the replies are written


class VersionMetrics:
    """Cells of one version."""

    def __init__(self, slab: MetricsSlab, model: str, version: str) -> None:
        self._slab, self._model, self._version = slab, model, version
        self.answered = {
            protocol: slab.counter(catalogue.REQUESTS, model, version, protocol, "200")
            for protocol in PROTOCOLS
        }
        self.seconds = {
            protocol: slab.histogram(catalogue.REQUEST_SECONDS, model, protocol)
            for protocol in PROTOCOLS
        }
        self.rows = slab.counter(catalogue.ROWS, model, version)
        self.executions = slab.counter(catalogue.EXECUTIONS, model, version)
        self.batch_rows = slab.histogram(catalogue.BATCH_ROWS, model)
        self.decode = slab.histogram(catalogue.STAGE_SECONDS, model, "decode")
        self.queue = slab.histogram(catalogue.STAGE_SECONDS, model, "queue")
        self.infer = slab.histogram(catalogue.STAGE_SECONDS, model, "infer")
        self.encode = slab.histogram(catalogue.STAGE_SECONDS, model, "encode")
        create_model_series(slab, model)
        self.cancelled = slab.counter(catalogue.CANCELLED, model)
        self._statistics = slab.record(catalogue.MODEL_STATISTICS, model, version)
        self._by_rows: dict[int, Record] = {}
        self._elements: tuple[Counter, Counter] | None = None  # sent, padding

    def failed(self, protocol: str, code: int, took_ns: int) -> None:
        """Count a request that this version did not answer with a prediction."""
        self._slab.counter(
            catalogue.REQUESTS, self._model, self._version, protocol, str(code)
        ).inc()
        self._statistics.add(0, 0, 1, took_ns)

    def padded(self, sent: int, padding: int) -> None:
        """Count the elements of the inputs of one run of a model that may be padded."""
        if self._elements is None:
            sent_elements, padding_elements = [
                self._slab.counter(catalogue.INPUT_ELEMENTS, self._model, self._version, kind)
                for kind in ("sent", "padding")
            ]
            self._elements = sent_elements, padding_elements
        self._elements[0].inc(sent)
        self._elements[1].inc(padding)

    def executed(
        self, times: ExecutionTimes, rows: int, requests: int, success_ns: int, last_ms: int
    ) -> None:
        """Count one run whose replies are written.

        requests, success_ns: of it, how many got their prediction, and in what time together.
        """
        spent = (times.input_ns, times.infer_ns, times.output_ns)
        each = (times.queue_ns, *spent)
        self._statistics.add(
            requests, success_ns, 0, 0, *[requests * spent_ns for spent_ns in each], rows, 1
        )
        self._statistics.raise_to(_LAST, last_ms)
        record = self._by_rows.get(rows)
        if record is None:
            record = self._by_rows[rows] = self._slab.record(
                catalogue.BATCH_STATISTICS, self._model, self._version, str(rows)
            )
        record.add(1, *spent)


def create_model_series(slab: MetricsSlab, model: str) -> None:
    """Errors at zero: a series that begins with its first error has no rate at that error."""
    for reason in Reason:
        slab.counter(catalogue.REJECTED, model, reason.value)
    for outcome in LabelOutcome:
        slab.counter(catalogue.LABELS, model, outcome.value)


class GateMetrics:
    """Cells of requests and connections that have no version."""

    def __init__(self, slab: MetricsSlab) -> None:
        self._slab = slab
        for reason in Reason:
            slab.counter(catalogue.REJECTED, UNKNOWN, reason.value)

    def connections_of(self, protocol: str) -> Gauge:
        """Open connections. Asked for by who counts them: zero would say that there are none."""
        return self._slab.gauge(catalogue.CONNECTIONS, protocol)

    def refused(self, model: str, protocol: str, code: int, reason: Reason, count: int = 1) -> None:
        """Count requests refused before they were queued; `model` is a known one or UNKNOWN."""
        self._slab.counter(catalogue.REQUESTS, model, UNKNOWN, protocol, str(code)).inc(count)
        self._slab.counter(catalogue.REJECTED, model, reason.value).inc(count)

    def closed(self, protocol: str, reason: str) -> None:
        """Count a connection that we closed."""
        self._slab.counter(catalogue.CONNECTIONS_CLOSED, protocol, reason).inc()

    def labels(self, model: str, outcome: LabelOutcome, count: int) -> None:
        """Count labels."""
        self._slab.counter(catalogue.LABELS, model, outcome.value).inc(count)
