"""What a dead worker counted stays, once."""

from pathlib import Path

from serving import metrics
from serving.metrics import MetricsSlab, render
from serving.supervisor.metrics_server import DeadTotals, collect

ROWS = (metrics.ROWS.name, "digits", "1")


def slab(path: Path, rows: int) -> Path:
    made = MetricsSlab(path)
    made.counter(metrics.ROWS, "digits", "1").inc(rows)
    made.gauge(metrics.QUEUE_ROWS, "digits").set(5)
    made.histogram(metrics.BATCH_ROWS, "digits").observe(3.0)
    return path


def test_counters_and_histograms_are_folded_and_gauges_are_not(tmp_path: Path) -> None:
    dead = DeadTotals(tmp_path / "totals.json")
    dead.fold(slab(tmp_path / "a.metrics", 7))
    assert dead.totals.cells[ROWS] == [7.0]
    assert (metrics.BATCH_ROWS.name, "digits") in dead.totals.cells
    assert (metrics.QUEUE_ROWS.name, "digits") not in dead.totals.cells
    assert not (tmp_path / "a.metrics").exists()


def test_a_slab_that_a_crash_left_behind_is_not_folded_twice(tmp_path: Path) -> None:
    dead = DeadTotals(tmp_path / "totals.json")
    path = slab(tmp_path / "a.metrics", 7)
    copy = path.read_bytes()
    dead.fold(path)
    path.write_bytes(copy)  # the crash came between the fold and the removal
    again = DeadTotals(tmp_path / "totals.json")
    again.fold(path)
    assert again.totals.cells[ROWS] == [7.0]
    assert not path.exists()


def test_totals_outlive_the_supervisor_and_add_to_the_living(tmp_path: Path) -> None:
    DeadTotals(tmp_path / "totals.json").fold(slab(tmp_path / "a.metrics", 7))
    dead = DeadTotals(tmp_path / "totals.json")
    living = slab(tmp_path / "b.metrics", 4)
    text = render(collect(dead, [living, tmp_path / "gone.metrics"])).decode()
    assert 'driftgate_inference_rows_total{model="digits",version="1"} 11' in text
    assert 'driftgate_queue_rows{model="digits"} 5' in text


def test_a_damaged_file_of_totals_or_slab_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "totals.json").write_text("{")
    (tmp_path / "x.metrics").write_bytes(b"not a slab")
    dead = DeadTotals(tmp_path / "totals.json")
    dead.fold(tmp_path / "x.metrics")
    dead.fold(slab(tmp_path / "a.metrics", 2))
    assert dead.totals.cells[ROWS] == [2.0]


def test_a_disk_that_refuses_for_a_while_costs_no_count(tmp_path: Path) -> None:
    dead = DeadTotals(tmp_path / "run" / "totals.json")  # there is no such folder yet
    first, second = slab(tmp_path / "a.metrics", 7), slab(tmp_path / "b.metrics", 2)
    dead.fold(first)
    assert dead.totals.cells[ROWS] == [7.0]
    assert first.exists()  # for the next supervisor, should this one die now
    (tmp_path / "run").mkdir()
    dead.fold(second)
    assert not first.exists()
    assert not second.exists()
    assert DeadTotals(tmp_path / "run" / "totals.json").totals.cells[ROWS] == [9.0]
