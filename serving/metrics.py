"""The gateway's metrics: one catalogue, counted in shared memory.

Laws:
- a slab file has one writer (its process) and any number of readers;
- a cell is a little-endian float64 and, for counters, never falls;
- the directory at the front of the file only grows, and a line is visible only
  once its cells are zero and in place, so a reader needs no lock;
- label values come from closed sets (model and version names of the registry,
  protocols, codes), never from a client;
- every byte has its place on the disk before the first count: a count into a hole
  of a file on a full disk would end the process (SIGBUS).
"""

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeAlias

MAGIC = b"dgmetr03"
HEADER_BYTES = 24  # magic, then as uint64: the directory's length in bytes, and beats
_BEATS_OFFSET = 16
DIRECTORY_BYTES = 1024 * 1024  # about 13,000 children of 80 bytes
CELLS = 96 * 1024  # float64; 12 models of 4 versions take about 6,000, and 4 per batch size seen
FILE_BYTES = HEADER_BYTES + DIRECTORY_BYTES + CELLS * 8
# For the one child "other" of each family, so that counting goes on when the rest is full.
SPARE_DIRECTORY_BYTES = 16 * 1024
SPARE_CELLS = 4 * 1024

# Sub-millisecond edges because small ONNX models answer in less; 0.1 and 1 s
# are where service objectives usually stand.
SECONDS_BUCKETS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
STAGE_BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, *SECONDS_BUCKETS)
ROWS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


Cells: TypeAlias = "memoryview[float]"


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    RECORD = "record"  # fields that are read together; shown by `serving.statistics`


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue; `name` is the exposed family name."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fields: tuple[str, ...] = ()  # of a record; sums, and in names ending in `_last` the greatest


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"driftgate_{name}_total", Kind.COUNTER, help, labels)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"driftgate_{name}", Kind.GAUGE, help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"driftgate_{name}", Kind.HISTOGRAM, help, labels, buckets)


# Counted by workers.
REQUESTS = _counter("requests", "Infer requests answered.", "model", "version", "protocol", "code")
REQUEST_SECONDS = _histogram(
    "request_duration_seconds",
    "From the request's last byte to its reply.",
    SECONDS_BUCKETS,
    "model",
    "protocol",
)
STAGE_SECONDS = _histogram(
    "request_stage_seconds",
    "Time in one stage; infer is per execution, the others per request.",
    STAGE_BUCKETS,
    "model",
    "stage",
)
ROWS = _counter("inference_rows", "Rows predicted.", "model", "version")
EXECUTIONS = _counter("executions", "Runs of ONNX Runtime.", "model", "version")
BATCH_ROWS = _histogram("batch_rows", "Rows per execution.", ROWS_BUCKETS, "model")
INPUT_ELEMENTS = _counter(
    "input_elements",
    "Elements of inputs that ran, of models that may be padded: sent, or padding.",
    "model",
    "version",
    "kind",
)
REJECTED = _counter(
    "requests_rejected", "Requests refused before they were queued.", "model", "reason"
)
CANCELLED = _counter("requests_cancelled", "Clients that left before the reply.", "model")
QUEUE_ROWS = _gauge("queue_rows", "Rows admitted and not yet answered.", "model")
CONNECTIONS = _gauge("connections", "Open connections; of gRPC where its engine tells.", "protocol")
CONNECTIONS_CLOSED = _counter(
    "connections_closed", "Connections the gateway closed.", "protocol", "reason"
)
LABELS = _counter("labels", "Labels taken or refused.", "model", "outcome")
LOG_ACKNOWLEDGED = _counter("prediction_log_acknowledged_rows", "Rows numbered before their reply.")
LOG_WRITTEN = _counter("prediction_log_written_rows", "Rows committed to the spool.")
LOG_GAPS = _counter(
    "prediction_log_gap_rows",
    "Rows that will not appear in the log, each in a gap record.",
    "reason",
)
LOG_BUFFER_ROWS = _gauge("prediction_log_buffer_rows", "Rows waiting for the spool.")

# In Triton's meaning: of requests that were answered, or failed after they were queued.
MODEL_STATISTICS = Metric(
    "driftgate_model_statistics",
    Kind.RECORD,
    "What became of the requests of a version, and where their time went.",
    ("model", "version"),
    fields=(
        *("success", "success_ns", "fail", "fail_ns"),
        *("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns"),
        *("rows", "executions", "inference_ms_last"),
    ),
)
BATCH_STATISTICS = Metric(
    "driftgate_batch_statistics",
    Kind.RECORD,
    "Executions of so many rows, and where their time went.",
    ("model", "version", "rows"),
    fields=("executions", "compute_input_ns", "compute_infer_ns", "compute_output_ns"),
)

# Set by the supervisor.
BUILD_INFO = _gauge("build_info", "Always 1.", "version")
UP_WORKERS = _gauge("workers", "Workers serving.")
WORKER_RESTARTS = _counter("worker_restarts", "Workers replaced.", "reason")
MODEL_INFO = _gauge("model_info", "Always 1 for a loaded version.", "model", "version", "digest")
MODEL_LOAD_SECONDS = _gauge("model_load_seconds", "Time to load and verify.", "model", "version")
ROLLOUT_WEIGHT = _gauge(
    "rollout_weight_ratio", "Share of the traffic routed to a version, 0 to 1.", "model", "version"
)
ROLLOUT_PHASE = _gauge("rollout_phase", "1 for the phase the rollout is in.", "model", "phase")
GENERATION = _gauge("deployment_generation", "Generation of the desired state.", "model")
TRANSITIONS = _counter("rollout_transitions", "Accepted commands.", "model", "verb", "origin")
CONTROL_KAFKA_UP = _gauge("control_kafka_up", "1 while the shared control log is followed.")
CONTROL_DIVERGED = _gauge(
    "control_diverged", "Models changed on this gateway alone, until the shared log is back."
)
CONTROL_REFUSED = _counter(
    "control_refused", "Entries of the shared control log that its fold refused.", "reason"
)
REGISTRY_UP = _gauge("registry_up", "1 when the last look at the registry succeeded.")
REGISTRY_SYNC = _gauge("registry_last_sync_timestamp_seconds", "When that was, Unix time.")

# Told by the shipper, shown by the supervisor where the log goes to Kafka.
SHIPPER_UP = _gauge("shipper_up", "1 while a shipper runs and Kafka takes its records.")
SHIPPER_AWAY_SINCE = _gauge(
    "shipper_away_since_timestamp_seconds", "Since when Kafka takes none, Unix time; else 0."
)
SHIPPER_RECORDS = _counter("shipper_records", "Records that Kafka has acknowledged.")
SHIPPER_ROWS = _counter("shipper_rows", "Predictions in them.")
SHIPPER_BYTES = _counter("shipper_bytes", "Bytes of their bodies, before compression.")
SHIPPER_RETRIES = _counter("shipper_retries", "Batches that had to be sent again.")
SHIPPER_DEAD_LETTERS = _counter("shipper_dead_letters", "Records in the dead-letter topic.")
SHIPPER_REFUSED = _counter(
    "shipper_refused_rows", "Predictions in records that Kafka never takes; each in a gap record."
)
SHIPPER_EVENTS_LEFT_OUT = _counter(
    "shipper_row_events_left_out", "Events of rows that kafka.rows_topic did not get."
)
SHIPPER_LABELS_UP = _gauge(
    "shipper_labels_up", "1 while a shipper runs and labels of kafka.labels_topic can be taken."
)
SHIPPER_LABELS = _counter("shipper_labels", "Labels of kafka.labels_topic that were taken.")
SHIPPER_LABEL_MESSAGES = _counter(
    "shipper_label_messages",
    "Messages of kafka.labels_topic that gave no labels: refused (in the dead-letter topic), "
    "dropped (that topic does not take them either), expired (removed before they were read).",
    "outcome",
)
SHIPPER_LABEL_LAG = _gauge(
    "shipper_label_lag_messages", "Messages of kafka.labels_topic that wait for this shipper."
)
SHIPPER_LAG_ROWS = _gauge("shipper_lag_rows", "Rows numbered and not acknowledged by Kafka.")
SHIPPER_LAG_BYTES = _gauge("shipper_lag_bytes", "Bytes of the segments that they are in.")
SHIPPER_LAG_SECONDS = _gauge("shipper_lag_seconds", "Age of the oldest record that waits.")

CATALOGUE: Mapping[str, Metric] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}


class Counter:
    """A cell that rises."""

    __slots__ = ("_cells", "_index")

    def __init__(self, cells: Cells, index: int) -> None:
        self._cells, self._index = cells, index

    def inc(self, amount: float = 1.0) -> None:
        self._cells[self._index] += amount


class Gauge:
    """A cell that is set."""

    __slots__ = ("_cells", "_index")

    def __init__(self, cells: Cells, index: int) -> None:
        self._cells, self._index = cells, index

    def set(self, value: float) -> None:
        self._cells[self._index] = value


class Histogram:
    """Cells: one count per bucket and one beyond the last, then the sum."""

    __slots__ = ("_buckets", "_cells", "_index", "_sum")

    def __init__(self, cells: Cells, index: int, buckets: tuple[float, ...]) -> None:
        self._cells, self._index, self._buckets = cells, index, buckets
        self._sum = index + len(buckets) + 1

    def observe(self, value: float, count: int = 1) -> None:
        """Count `value` as seen `count` times."""
        cells = self._cells
        cells[self._index + bisect_left(self._buckets, value)] += count
        cells[self._sum] += value * count

    def observe_all(self, values: Sequence[float]) -> None:
        """Count every value."""
        cells, buckets, first = self._cells, self._buckets, self._index
        for value in values:
            cells[first + bisect_left(buckets, value)] += 1
        cells[self._sum] += sum(values)


class Record:
    """A cell per field of its metric."""

    __slots__ = ("_cells", "_index")

    def __init__(self, cells: Cells, index: int) -> None:
        self._cells, self._index = cells, index

    def add(self, *amounts: float) -> None:
        """Add to the first fields, in their order."""
        cells = self._cells
        for index, amount in enumerate(amounts, self._index):
            cells[index] += amount

    def raise_to(self, field: int, value: float) -> None:
        """Set a field that never falls."""
        index = self._index + field
        self._cells[index] = max(self._cells[index], value)


def width(metric: Metric) -> int:
    """Cells of one child."""
    if metric.kind is Kind.RECORD:
        return len(metric.fields)
    return len(metric.buckets) + 2 if metric.kind is Kind.HISTOGRAM else 1


class MetricsSlab:
    """The metrics of one process, in a file that others may read at any time."""

    def __init__(self, path: Path) -> None:
        """Create the file at `path`; an existing one is replaced."""
        scratch = path.with_suffix(".new")
        with scratch.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            file.write(MAGIC)
        os.replace(scratch, path)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), FILE_BYTES)
        view = memoryview(self._map)
        self._cells = view[HEADER_BYTES + DIRECTORY_BYTES :].cast("d")
        self._directory_bytes = 0
        self._next_cell = 0
        self._children: dict[tuple[str, ...], int] = {}
        self._beats = 0

    def beat(self) -> None:
        """Show that the process's event loop turns; see `read_beats`."""
        self._beats += 1
        self._map[_BEATS_OFFSET:HEADER_BYTES] = struct.pack("<Q", self._beats)

    def counter(self, metric: Metric, *labels: str) -> Counter:
        return Counter(self._cells, self._child(metric, labels))

    def gauge(self, metric: Metric, *labels: str) -> Gauge:
        return Gauge(self._cells, self._child(metric, labels))

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        return Histogram(self._cells, self._child(metric, labels), metric.buckets)

    def record(self, metric: Metric, *labels: str) -> Record:
        return Record(self._cells, self._child(metric, labels))

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> int:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, got {labels}")
        key = (metric.name, *labels)
        if key not in self._children:
            self._children[key] = self._allocate(metric, key)
        return self._children[key]

    def _allocate(self, metric: Metric, key: tuple[str, ...]) -> int:
        try:
            return self._place(metric, key, SPARE_DIRECTORY_BYTES, SPARE_CELLS)
        except MemoryError:
            # Better one shared child than a failed prediction: the overflow is
            # visible as a family whose labels read "other".
            other = (metric.name, *("other" for _ in metric.labels))
            if other not in self._children:
                self._children[other] = self._place(metric, other, 0, 0)
            return self._children[other]

    def _place(
        self, metric: Metric, key: tuple[str, ...], spare_bytes: int, spare_cells: int
    ) -> int:
        """Raises: MemoryError if only spare room is left."""
        line = ("\x1f".join((str(self._next_cell), *key)) + "\n").encode()
        end = self._directory_bytes + len(line)
        beyond = self._next_cell + width(metric)
        if end > DIRECTORY_BYTES - spare_bytes or beyond > CELLS - spare_cells:
            raise MemoryError("metrics slab is full")
        index, self._next_cell = self._next_cell, beyond
        start = HEADER_BYTES + self._directory_bytes
        self._map[start : start + len(line)] = line
        self._directory_bytes = end
        self._map[8:16] = struct.pack("<Q", end)  # last: it makes the line visible
        return index


@dataclass
class Totals:
    """Values by (metric name, labels), each a list of cells as laid out in a slab."""

    cells: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def add(self, other: "Totals", *, kinds: Sequence[Kind] = tuple(Kind)) -> None:
        """Add every child of `other` whose metric is of one of `kinds`."""
        for key, values in other.cells.items():
            metric = CATALOGUE[key[0]]
            if metric.kind not in kinds:
                continue
            mine = self.cells.setdefault(key, [0.0] * len(values))
            last = {i for i, name in enumerate(metric.fields) if name.endswith("_last")}
            for index, value in enumerate(values):
                mine[index] = max(mine[index], value) if index in last else mine[index] + value


def read_slab(path: Path) -> Totals:
    """Read a slab of this version; unknown families are skipped.

    Raises: ValueError if the file is not a metrics slab, OSError as open does.
    """
    data = path.read_bytes()
    if len(data) != FILE_BYTES or data[:8] != MAGIC:
        raise ValueError(f"{path.name} is not a metrics slab")
    (length,) = struct.unpack_from("<Q", data, 8)
    totals = Totals()
    for line in data[HEADER_BYTES : HEADER_BYTES + length].decode().splitlines():
        index, *key = line.split("\x1f")
        metric = CATALOGUE.get(key[0])
        if metric is None:
            continue
        start = HEADER_BYTES + DIRECTORY_BYTES + int(index) * 8
        totals.cells[tuple(key)] = list(struct.unpack_from(f"<{width(metric)}d", data, start))
    return totals


def read_beats(path: Path) -> int:
    """How often the owner of a slab has called `beat`; 0 if there is no such slab."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return 0
    if len(header) != HEADER_BYTES or header[:8] != MAGIC:
        return 0
    (beats,) = struct.unpack_from("<Q", header, _BEATS_OFFSET)
    return int(beats)


def render(totals: Totals) -> bytes:
    """The Prometheus text exposition of `totals`, families in catalogue order."""
    by_name: dict[str, list[tuple[str, ...]]] = {}
    for key in sorted(totals.cells):
        by_name.setdefault(key[0], []).append(key)
    lines: list[str] = []
    for name, metric in CATALOGUE.items():
        if name not in by_name or metric.kind is Kind.RECORD:
            continue
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind.value}"]
        for key in by_name[name]:
            lines += _samples(metric, key[1:], totals.cells[key])
    return ("\n".join(lines) + "\n").encode()


def _samples(metric: Metric, labels: tuple[str, ...], cells: list[float]) -> Iterable[str]:
    pairs = [f'{k}="{_escape(v)}"' for k, v in zip(metric.labels, labels, strict=True)]
    if metric.kind is not Kind.HISTOGRAM:
        yield f"{metric.name}{_braces(pairs)} {cells[0]:.17g}"
        return
    seen = 0.0
    for edge, count in zip((*metric.buckets, float("inf")), cells, strict=False):
        seen += count
        bound = "+Inf" if edge == float("inf") else f"{edge:g}"
        edges = _braces([*pairs, f'le="{bound}"'])
        yield f"{metric.name}_bucket{edges} {seen:.17g}"
    yield f"{metric.name}_sum{_braces(pairs)} {cells[-1]:.17g}"
    yield f"{metric.name}_count{_braces(pairs)} {seen:.17g}"


def _braces(pairs: Sequence[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
