"""The metrics slab: what a writer counts is what a reader in another process sees."""

import subprocess

import pytest

from serving import metrics
from serving.metrics import MetricsSlab, Totals, read_slab, render


@pytest.fixture
def slab(tmp_path):
    return MetricsSlab(tmp_path / "a.metrics")


def read(tmp_path):
    return read_slab(tmp_path / "a.metrics")


def test_a_new_child_reads_as_zero_before_its_first_count(slab, tmp_path):
    slab.counter(metrics.REQUESTS, "m", "1", "http", "200")
    assert read(tmp_path).cells == {(metrics.REQUESTS.name, "m", "1", "http", "200"): [0.0]}


def test_counts_of_one_child_add_up_whoever_holds_it(slab, tmp_path):
    for _ in range(3):
        slab.counter(metrics.EXECUTIONS, "m", "1").inc(2)
    assert read(tmp_path).cells[(metrics.EXECUTIONS.name, "m", "1")] == [6.0]


def test_a_histogram_counts_an_edge_in_its_own_bucket(slab, tmp_path):
    histogram = slab.histogram(metrics.BATCH_ROWS, "m")
    for value in (1.0, 1.5, 2.0, 5000.0):
        histogram.observe(value)
    lines = render(read(tmp_path)).decode().splitlines()
    assert 'driftgate_batch_rows_bucket{model="m",le="1"} 1' in lines
    assert 'driftgate_batch_rows_bucket{model="m",le="2"} 3' in lines
    assert 'driftgate_batch_rows_bucket{model="m",le="+Inf"} 4' in lines
    assert 'driftgate_batch_rows_count{model="m"} 4' in lines
    assert 'driftgate_batch_rows_sum{model="m"} 5004.5' in lines


def test_observing_all_values_at_once_counts_as_one_after_the_other(slab, tmp_path):
    values = [0.0, 1.0, 1.5, 2.0, 5000.0]
    one_by_one = slab.histogram(metrics.BATCH_ROWS, "a")
    for value in values:
        one_by_one.observe(value)
    slab.histogram(metrics.BATCH_ROWS, "b").observe_all(values)
    cells = read(tmp_path).cells
    assert cells[metrics.BATCH_ROWS.name, "a"] == cells[metrics.BATCH_ROWS.name, "b"]


def test_wrong_labels_are_refused(slab):
    with pytest.raises(ValueError, match="has labels"):
        slab.counter(metrics.EXECUTIONS, "m")


def test_a_full_slab_counts_on_under_other(slab, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "DIRECTORY_BYTES", 200)
    monkeypatch.setattr(metrics, "SPARE_DIRECTORY_BYTES", 60)
    for index in range(50):
        slab.counter(metrics.EXECUTIONS, f"model-{index}", "1").inc()
    monkeypatch.undo()
    cells = read(tmp_path).cells
    assert len(cells) < 10
    assert sum(values[0] for values in cells.values()) == 50


def test_folding_a_dead_worker_keeps_counters_and_forgets_gauges(slab, tmp_path):
    slab.counter(metrics.EXECUTIONS, "m", "1").inc(5)
    slab.gauge(metrics.QUEUE_ROWS, "m").set(7)
    slab.histogram(metrics.BATCH_ROWS, "m").observe(1.0)
    folded = Totals()
    for _ in range(2):
        folded.add(read(tmp_path), kinds=(metrics.Kind.COUNTER, metrics.Kind.HISTOGRAM))
    assert folded.cells[(metrics.EXECUTIONS.name, "m", "1")] == [10.0]
    assert (metrics.QUEUE_ROWS.name, "m") not in folded.cells


def test_a_file_that_is_no_slab_is_refused(tmp_path):
    (tmp_path / "a.metrics").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a metrics slab"):
        read(tmp_path)


def test_label_values_are_escaped(slab, tmp_path):
    slab.gauge(metrics.QUEUE_ROWS, 'a"b\\c').set(1)
    assert 'model="a\\"b\\\\c"' in render(read(tmp_path)).decode()


def test_every_metric_of_the_catalogue_is_clean_under_promtool(slab, tmp_path, promtool):
    for metric in metrics.CATALOGUE.values():
        make = {
            metrics.Kind.COUNTER: slab.counter,
            metrics.Kind.GAUGE: slab.gauge,
            metrics.Kind.HISTOGRAM: slab.histogram,
            metrics.Kind.RECORD: slab.record,
        }[metric.kind]
        make(metric, *("x" for _ in metric.labels))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=render(read(tmp_path)), capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_beats_are_seen_by_others_and_nothing_else_beats(slab, tmp_path):
    path = tmp_path / "a.metrics"
    assert metrics.read_beats(path) == 0
    slab.beat()
    slab.beat()
    assert metrics.read_beats(path) == 2
    assert read(tmp_path).cells == {}
    assert metrics.read_beats(tmp_path / "none.metrics") == 0
    (tmp_path / "short").write_bytes(metrics.MAGIC)
    assert metrics.read_beats(tmp_path / "short") == 0
    (tmp_path / "old").write_bytes(b"dgmetr01" + bytes(range(64)))
    assert metrics.read_beats(tmp_path / "old") == 0


def test_a_slab_has_its_place_on_the_disk_before_it_is_used(slab, tmp_path):
    stat = (tmp_path / "a.metrics").stat()
    assert stat.st_size == metrics.FILE_BYTES
    assert stat.st_blocks * 512 >= metrics.FILE_BYTES
