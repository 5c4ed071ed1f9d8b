"""The monitor's metrics: one catalogue, filled from the published snapshot.

Label values come from closed sets: models and features of the registry, kinds,
groups and fates of this package. Features beyond FEATURES_MAX per model, those
with least evidence, have no series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.core.judge import Kind
from monitor.core.performance.fairness import Standing
from monitor.core.statistics import HEADLINE
from monitor.performance_documents import HEADLINE_MEASURES
from monitor.published import Published, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FEATURES_MAX = 100
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Entry:
    """name: without the prefix; a counter's `_total` is added by the exposition."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    counter: bool = False


BLOCKS = Entry("blocks_closed", "Event-time blocks folded into the statistics.", ("model",), True)
ROWS = Entry("rows", "Rows of predictions in closed blocks.", ("model",), True)
LOST = Entry("rows_lost", "Rows known to be missing from the log.", ("model",), True)
LATE = Entry("rows_late", "Rows and labels that came after their block was closed.", (), True)
DUPLICATES = Entry("rows_duplicate", "Rows and labels that were read twice.", (), True)
UNDECODABLE = Entry("rows_undecodable", "Rows in records that could not be decoded.", (), True)
LABELS = Entry("labels", "Labels by what became of them.", ("model", "fate"), True)
VERDICT = Entry("verdict", "1 for the verdict that stands, else 0.", ("model", "verdict"))
EVIDENCE = Entry("evidence_seconds", "Evidence of the whole model, an e-detector.", ("model",))
GROUP_EVIDENCE = Entry("group_evidence_seconds", "Evidence of one group.", ("model", "group"))
THRESHOLD = Entry("evidence_threshold_seconds", "Evidence that raises a tier.", ("model", "tier"))
COVERED = Entry("promise_covered", "1 while traffic allows the false-alarm promise.", ("model",))
WARM_UP = Entry("warm_up_ratio", "How much there is of a reference from own traffic.", ("model",))
REFERENCE_SPAN = Entry(
    "reference_span_seconds", "Length of the traffic in a rolling reference.", ("model",)
)
REFERENCE_AGE = Entry(
    "reference_age_seconds", "From the end of a rolling reference to now.", ("model",)
)
REFERENCE_FROZEN = Entry(
    "reference_frozen", "1 while a verdict keeps a rolling reference as it is.", ("model",)
)
BLOCK = Entry("evidence_block_seconds", "Length of the blocks that are bet on.", ("model",))
LOSS = Entry(
    "loss_ratio", "Mean loss of labelled rows; estimated: of all, without labels.", ("model", "of")
)
PERFORMANCE = Entry(
    "performance", "Realised performance in the last window.", ("model", "arm", "measure")
)
ESTIMATED = Entry(
    "estimated_performance",
    "Performance in the last window, estimated without labels.",
    ("model", "arm", "measure"),
)
ESTIMATE_WITHHELD = Entry(
    "estimate_withheld", "1 for the reason why nothing is estimated.", ("model", "arm", "reason")
)
LABELLED = Entry("labelled_rows", "Labelled rows in the last window.", ("model", "arm"))
COVERAGE = Entry(
    "label_coverage_ratio", "Share of the last window's rows that have a label.", ("model", "arm")
)
DELAY = Entry("label_delay_seconds", "From an answer to its label.", ("model", "arm", "statistic"))
SLICE_PERFORMANCE = Entry(
    "slice_performance",
    "As performance, of one part of a slice.",
    ("model", "arm", "slice", "part", "measure"),
)
SLICE_LABELLED = Entry(
    "slice_labelled_rows", "As labelled_rows, of one part.", ("model", "arm", "slice", "part")
)
SLICE_COVERAGE = Entry(
    "slice_label_coverage_ratio",
    "As label_coverage_ratio, of one part.",
    ("model", "arm", "slice", "part"),
)
UNFAIR = Entry(
    "unfair",
    "1 where a part is surely beyond a limit, 0 where surely not; else none.",
    ("model", "arm", "slice", "part", "criterion"),
)
EFFECT = Entry(
    "feature_effect", "Effect size against the reference.", ("model", "feature", "statistic")
)
DISTINCT = Entry(
    "feature_distinct_values",
    "Different values of a categorical or discrete feature.",
    ("model", "feature", "of"),
)
REPEATED = Entry(
    "repeated_rows_ratio", "Share of rows that repeat one of their block.", ("model", "of")
)
OUTLIERS = Entry(
    "outlier_rows_ratio",
    "Share of rows unlike the reference's; `bound`: evidence gathers above it.",
    ("model", "of"),
)
LOOKED_AT = Entry(
    "outlier_rows_looked_at_ratio", "Share of rows that outliers are looked for in.", ("model",)
)
TOGETHER = Entry(
    "multivariate_effect", "Effect size of features together.", ("model", "space", "statistic")
)
BY_CHANCE = Entry(
    "multivariate_by_chance", "What chance alone makes of it.", ("model", "space", "statistic")
)
ARM_ROWS = Entry("arm_rows", "Rows of an arm since its version took it.", ("model", "arm"))
OPEN_ROWS = Entry("open_rows", "Rows and labels in blocks that are not over.")
LAG = Entry("lag_seconds", "Age of the newest statistics, by the records' time.")
UNREADABLE = Entry("log_unreadable", "1 while the log, or a part of it, cannot be read.")
PRODUCERS = Entry("producers_live", "Producers that have not ended.")
SILENT = Entry("producers_silent", "Producers without an end that hold nothing back any more.")
PASSED_OVER = Entry("records_passed_over", "Records that a partition does not hold.", (), True)
SEEN = Entry("seen_ratio", "Share of the rows that the statistics hold.", ("model",))
PARTITION_EPOCH = Entry("partition_epoch", "Epoch of this monitor's claim.", ("partition",))
PARTITION_LAG = Entry("partition_lag_seconds", "As lag_seconds, of one.", ("partition",))
PARTITION_POSITION = Entry("partition_position", "Offset that is read next.", ("partition",))
PARTITION_SEEN = Entry("partition_seen_ratio", "As seen_ratio, of one.", ("partition",))
POISON = Entry("poison", "Messages that are no records.", ("partition",), True)
KAFKA_UP = Entry("kafka_up", "1 while a member of the group that can read its partitions.")
PARTITIONS = Entry("partitions_owned", "Partitions that this monitor owns.")
REBALANCES = Entry("rebalances", "Times that the group gave out its partitions.", (), True)
DEAD_LETTERS = Entry("dead_letters", "Dead letters by what became of them.", ("fate",), True)
ACTIONS = Entry("actions", "Actions by where they stand.", ("model", "action", "state"))

CATALOGUE = (
    BLOCKS, ROWS, LOST, LATE, DUPLICATES, UNDECODABLE, LABELS, VERDICT, EVIDENCE, GROUP_EVIDENCE,
    THRESHOLD, LOSS, EFFECT, ARM_ROWS, OPEN_ROWS, LAG, UNREADABLE, PRODUCERS, ACTIONS,
    SILENT, PASSED_OVER, SEEN, PARTITION_EPOCH, PARTITION_LAG, PARTITION_POSITION, PARTITION_SEEN,
    POISON, KAFKA_UP, PARTITIONS, REBALANCES, DEAD_LETTERS, COVERED, BLOCK,
    WARM_UP,
    REFERENCE_SPAN,
    REFERENCE_AGE,
    REFERENCE_FROZEN,
    PERFORMANCE, LABELLED, COVERAGE, DELAY,
    TOGETHER, BY_CHANCE, DISTINCT, REPEATED, OUTLIERS, LOOKED_AT,
    SLICE_PERFORMANCE, SLICE_LABELLED, SLICE_COVERAGE, UNFAIR,
    ESTIMATED, ESTIMATE_WITHHELD,
)  # fmt: skip


class SnapshotCollector(Collector):
    """A view of the snapshot of the moment; holds no numbers of its own."""

    def __init__(self, published: Published) -> None:
        self._published = published

    def collect(self) -> Iterator[Metric]:
        snapshot = self._published.snapshot
        samples = _samples(snapshot)
        samples |= _together(self._published)
        for entry in CATALOGUE:
            yield _family(entry, samples.get(entry, ()))


def make_registry(published: Published) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(published))
    return registry


def expose(registry: CollectorRegistry) -> bytes:
    return bytes(generate_latest(registry))


def _family(entry: Entry, samples: Iterable[Sample]) -> Metric:
    kind = CounterMetricFamily if entry.counter else GaugeMetricFamily
    family = kind(f"driftgate_monitor_{entry.name}", entry.help, labels=entry.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _samples(snapshot: Snapshot) -> dict[Entry, list[Sample]]:
    overall: Mapping[str, Any] = snapshot.overall
    found: dict[Entry, list[Sample]] = {
        LATE: [((), overall.get("late", 0))],
        DUPLICATES: [((), overall.get("duplicates", 0))],
        UNDECODABLE: [((), overall.get("undecodable", 0))],
        OPEN_ROWS: [((), overall.get("open_rows", 0))],
        LAG: [((), overall.get("lag_s", 0.0))],
        UNREADABLE: [((), float(bool(overall.get("log_unreadable"))))],
        PRODUCERS: [((), overall.get("producers_live", 0))],
        ACTIONS: [((m, a, s), count) for m, a, s, count in overall.get("actions", ())],
        SILENT: [((), overall.get("producers_silent", 0))],
        PASSED_OVER: [((), overall.get("passed_over", 0))],
        **(_group_samples(overall["kafka"]) if "kafka" in overall else {}),
    }
    for model, document in snapshot.models.items():
        for entry, samples in _model_samples(model, document).items():
            found.setdefault(entry, []).extend(samples)
    for model, versions in snapshot.performance.items():
        for version in versions:
            for entry, samples in _performance_samples(model, version).items():
                found.setdefault(entry, []).extend(samples)
    for model, versions in snapshot.fairness.items():
        for version in versions:
            found.setdefault(UNFAIR, []).extend(_fairness_samples(model, version))
    return found


def _together(published: Published) -> dict[Entry, list[Sample]]:
    """As it was computed last; nothing is for a scrape."""
    rows = [
        ((model, space["space"], item["name"]), item)
        for model, spaces in published.snapshot.spaces.items()
        for space in published.comparisons.known(model, spaces)
        for item in space["statistics"]
        if item["effect"] is not None
    ]
    return {
        TOGETHER: [(labels, item["effect"]) for labels, item in rows],
        BY_CHANCE: [(labels, item["null_mean"]) for labels, item in rows],
    }


def _group_samples(kafka: Mapping[str, Any]) -> dict[Entry, list[Sample]]:
    partitions = [((str(item["number"]),), item) for item in kafka["partitions"]]
    letters = (("sent", "dead_letters"), ("dropped", "dead_letters_dropped"))
    return {
        KAFKA_UP: [((), float(kafka["member"] and not kafka["failure"]))],
        PARTITIONS: [((), len(partitions))],
        REBALANCES: [((), kafka["rebalances"])],
        DEAD_LETTERS: [((fate,), kafka[name]) for fate, name in letters],
        PARTITION_EPOCH: [(labels, item["epoch"]) for labels, item in partitions],
        PARTITION_LAG: [(labels, item["lag_s"]) for labels, item in partitions],
        PARTITION_POSITION: [(labels, item["position"]) for labels, item in partitions],
        PARTITION_SEEN: [
            (labels, item["seen_share"])
            for labels, item in partitions
            if item["seen_share"] is not None
        ],
        POISON: [(labels, item["poison"]) for labels, item in partitions],
    }


def _performance_samples(model: str, version: Mapping[str, Any]) -> dict[Entry, list[Sample]]:
    """Of the arms alone: by version there would be ever more series."""
    arm, window = version["role"], version["spans"]["window"]
    if not arm:
        return {}
    delays, estimated = window["delay_s"].items(), version["estimated"]
    return {
        ESTIMATED: [
            ((model, arm, item["name"]), item["value"])
            for item in estimated["measures"]
            if item["value"] is not None
        ],
        ESTIMATE_WITHHELD: (
            [((model, arm, estimated["reason"]), 1.0)] if estimated["reason"] else []
        ),
        PERFORMANCE: [
            ((model, arm, item["name"]), item["value"])
            for item in window["measures"]
            if item["value"] is not None
        ],
        LABELLED: [((model, arm), window["labels"])],
        COVERAGE: [((model, arm), window["coverage"])] if window["coverage"] is not None else [],
        DELAY: [((model, arm, name), value) for name, value in delays if value is not None],
        **_slice_samples(model, arm, version["slices"]),
    }


def _slice_samples(model: str, arm: str, slices: Mapping[str, Any]) -> dict[Entry, list[Sample]]:
    """Bounded by the configured parts, of which there are few."""
    windows = [
        ((model, arm, name, part["part"]), part["spans"]["window"])
        for name, parts in slices.items()
        for part in parts
    ]
    return {
        SLICE_PERFORMANCE: [
            ((*labels, item["name"]), item["value"])
            for labels, window in windows
            for item in window["measures"]
            if item["name"] in HEADLINE_MEASURES and item["value"] is not None
        ],
        SLICE_LABELLED: [(labels, window["labels"]) for labels, window in windows],
        SLICE_COVERAGE: [
            (labels, window["coverage"])
            for labels, window in windows
            if window["coverage"] is not None
        ],
    }


def _fairness_samples(model: str, version: Mapping[str, Any]) -> Iterator[Sample]:
    known = {Standing.UNFAIR.value: 1.0, Standing.FAIR.value: 0.0}
    if not version["role"]:
        return
    for item in version["slices"]:
        for criterion, groups in item["criteria"].items():
            for group in groups:
                if group["standing"] in known:
                    labels = (model, version["role"], item["slice"], group["part"], criterion)
                    yield labels, known[group["standing"]]


def _model_samples(model: str, document: Mapping[str, Any]) -> dict[Entry, list[Sample]]:
    features = [*document["features"][:FEATURES_MAX], *document["predictions"]]
    promise = document["promise"]
    arms = [(arm, document[arm]) for arm in ("stable", "candidate") if document[arm]]
    return {
        BLOCKS: [((model,), document["blocks"])],
        ROWS: [((model,), document["rows"])],
        LOST: [((model,), document["lost"])],
        SEEN: [] if document["seen_share"] is None else [((model,), document["seen_share"])],
        LABELS: [((model, fate), count) for fate, count in document["labels"].items()],
        VERDICT: [((model, k.value), float(k.value == document["verdict"])) for k in Kind],
        EVIDENCE: [((model,), document["evidence_s"])],
        GROUP_EVIDENCE: [((model, group), value) for group, value in document["groups_s"].items()],
        THRESHOLD: [
            ((model, "page"), document["threshold_s"]),
            ((model, "warn"), document["warn_threshold_s"]),
        ],
        COVERED: [((model,), float(promise["covered"]))] if promise else [],
        BLOCK: [((model,), promise["block_s"])] if promise else [],
        WARM_UP: _warm_up(model, document["stable"]),
        **_rolling(model, document["stable"]),
        LOSS: [
            ((model, name), value)
            for name, value in _shown_losses(document).items()
            if value is not None
        ],
        EFFECT: [
            ((model, feature["name"], name), feature[name])
            for feature in features
            for name in HEADLINE
            if feature[name] is not None
        ],
        DISTINCT: [
            ((model, feature["name"], of), values)
            for feature in features
            for of, values in (feature["distinct"] or {}).items()
            if values is not None
        ],
        REPEATED: [
            ((model, of), document["repeated_rows"][of])
            for of in ("live", "reference")
            if document["repeated_rows"] and document["repeated_rows"][of] is not None
        ],
        **_outliers(model, document["outliers"]),
        ARM_ROWS: [((model, arm), found["rows"]) for arm, found in arms],
    }


def _shown_losses(document: Mapping[str, Any]) -> dict[str, float | None]:
    shown = {name: document["loss"][name] for name in ("reference", "stable", "candidate")}
    return {**shown, "estimated": (document["estimated_loss"] or {}).get("value")}


def _outliers(model: str, found: Mapping[str, Any] | None) -> dict[Entry, list[Sample]]:
    """None where no row is looked at."""
    if found is None or found["off"] or found["share"] is None:
        return {}
    shares = {
        "live": found["share"],
        "reference": found["reference"]["share"],
        "bound": found["bound"],
    }
    return {
        OUTLIERS: [((model, of), value) for of, value in shares.items()],
        LOOKED_AT: [((model,), found["looked_at"] / found["of_rows"])],
    }


def _warm_up(model: str, stable: Mapping[str, Any] | None) -> list[Sample]:
    """None where a reference was pushed, or none is wanted."""
    reference = stable["reference"] if stable else {"warming_up": None, "from": None}
    if reference["warming_up"]:
        return [((model,), reference["warming_up"]["ratio"])]
    return [((model,), 1.0)] if reference["from"] in ("warm-up", "rolling") else []


def _rolling(model: str, stable: Mapping[str, Any] | None) -> dict[Entry, list[Sample]]:
    found = stable["reference"]["rolling"] if stable else None
    if found is None:
        return {}
    return {
        REFERENCE_SPAN: [((model,), found["span_s"])],
        REFERENCE_AGE: [((model,), found["age_s"])],
        REFERENCE_FROZEN: [((model,), float(found["frozen"]))],
    }
