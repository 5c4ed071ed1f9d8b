"""Counts of a model's requests, from the cells of metrics."""

import pytest

from serving import metrics
from serving.explained import below, counted_of_model, counted_of_versions
from serving.metrics import Totals, width


def totals(**cells):
    """metric's name in the catalogue -> {labels: cells}"""
    found = Totals()
    for name, children in cells.items():
        metric = getattr(metrics, name)
        for labels, values in children.items():
            padded = [*map(float, values), *[0.0] * (width(metric) - len(values))]
            found.cells[metric.name, *labels] = padded
    return found


def test_a_model_counts_refusals_that_were_by_reason_and_no_other_models():
    found = totals(
        REJECTED={("m", "overload"): [3], ("m", "invalid"): [0], ("n", "overload"): [9]},
        CANCELLED={("m",): [2]},
    )
    counted = counted_of_model(found, "m")
    assert counted["refused"] == {"overload": 3}
    assert counted["cancelled"] == 2
    assert counted["wait_s_max"] == {"p50": None, "p99": None}


def test_a_version_counts_its_runs_waits_errors_and_batches():
    found = totals(
        MODEL_STATISTICS={("m", "1"): [4, 0, 0, 0, 400, 0, 0, 0, 12, 3]},
        BATCH_STATISTICS={
            ("m", "1", "10"): [1, 0, 50],
            ("m", "1", "2"): [2, 0, 30],
            ("m", "1", "other"): [9, 0, 90],
            ("m", "2", "1"): [7, 0, 70],
        },
        REQUESTS={
            ("m", "1", "http", "200"): [4],
            ("m", "1", "http", "504"): [2],
            ("m", "1", "grpc", "504"): [1],
            ("m", "unknown", "http", "503"): [8],
        },
    )
    one = counted_of_versions(found, "m", ["1"])["1"]
    assert (one["requests"], one["rows"], one["runs"], one["mean_wait_ns"]) == (4, 12, 3, 100)
    assert one["failed"] == {"504": 3}
    assert one["batches"] == [
        {"rows": 2, "runs": 2, "mean_run_ns": 15},
        {"rows": 10, "runs": 1, "mean_run_ns": 50},
    ]


def test_a_version_that_nobody_asked_counts_nothing():
    assert counted_of_versions(Totals(), "m", ["1"])["1"]["runs"] == 0


@pytest.mark.parametrize(
    ("counts", "share", "edge"),
    [
        ([1, 0, 0, 0], 0.5, 1.0),
        ([1, 1, 0, 0], 0.5, 1.0),
        ([1, 2, 0, 0], 0.5, 2.0),
        ([0, 0, 5, 0], 0.99, 3.0),
        ([0, 0, 0, 5], 0.5, None),
        ([98, 0, 0, 2], 0.99, None),
        ([0, 0, 0, 0], 0.5, None),
        ([], 0.5, None),
    ],
)
def test_a_share_of_a_histogram_lies_below_an_edge(counts, share, edge):
    assert below([*counts, 7.0] if counts else [], (1.0, 2.0, 3.0), share) == edge
