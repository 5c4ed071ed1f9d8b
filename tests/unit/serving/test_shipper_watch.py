"""The shipper on the metrics port: shown where there should be one, and what is wrong with it."""

from pathlib import Path

from eventlog.kafka.figures import STALE_NS, Figures, read_figures, write_figures
from serving import metrics
from serving.metrics import Metric
from serving.supervisor.shipping import ShipperWatch

NOW_NS = 10**18


def shown(watch: ShipperWatch) -> dict[str, float]:
    found: dict[str, float] = {}

    def put(metric: Metric, value: float, *labels: str) -> None:
        found[" ".join((metric.name, *labels))] = value

    watch.put(put)
    return found


def watch(folder: Path, *, expected: bool = True, labels_topic: str = "") -> ShipperWatch:
    return ShipperWatch(folder, expected=expected, labels_topic=labels_topic, clock=lambda: NOW_NS)


def test_where_the_log_stays_here_nothing_is_said(tmp_path: Path) -> None:
    assert shown(watch(tmp_path, expected=False)) == {}
    assert watch(tmp_path, expected=False).problem() == ""


def test_a_shipper_that_is_missing_or_dead_is_named(tmp_path: Path) -> None:
    assert shown(watch(tmp_path))[metrics.SHIPPER_UP.name] == 0
    assert "no shipper runs" in watch(tmp_path).problem()
    write_figures(tmp_path, Figures(rows=7, at_ns=NOW_NS - STALE_NS))
    assert shown(watch(tmp_path))[metrics.SHIPPER_UP.name] == 0
    assert shown(watch(tmp_path))[metrics.SHIPPER_ROWS.name] == 7  # a counter does not fall
    assert "no shipper runs" in watch(tmp_path).problem()


def test_kafka_being_away_is_named_with_what_waits(tmp_path: Path) -> None:
    figures = Figures(at_ns=NOW_NS, away="gone", away_since_ns=NOW_NS - 61 * 10**9, lag_rows=5)
    write_figures(tmp_path, figures)
    assert watch(tmp_path).problem() == (
        "kafka has taken nothing for 61 s, 5 rows wait in the spool: gone"
    )
    assert shown(watch(tmp_path))[metrics.SHIPPER_UP.name] == 0
    assert shown(watch(tmp_path))[metrics.SHIPPER_LAG_ROWS.name] == 5


def test_a_shipper_that_ships_is_no_problem(tmp_path: Path) -> None:
    write_figures(tmp_path, Figures(at_ns=NOW_NS, rows=5))
    assert watch(tmp_path).problem() == ""
    assert shown(watch(tmp_path))[metrics.SHIPPER_UP.name] == 1


def test_labels_that_cannot_be_taken_are_named_where_there_is_a_topic_of_them(
    tmp_path: Path,
) -> None:
    figures = Figures(
        at_ns=NOW_NS,
        labels=7,
        labels_refused=3,
        labels_dropped=2,
        labels_expired=1,
        labels_lag=5,
        labels_away="no gateway",
        labels_away_since_ns=NOW_NS - 9 * 10**9,
    )
    write_figures(tmp_path, figures)
    assert watch(tmp_path).problem() == ""
    assert not any("label" in name for name in shown(watch(tmp_path)))
    found = watch(tmp_path, labels_topic="truth")
    assert found.problem() == "no labels were taken from kafka for 9 s: no gateway"
    assert {name: value for name, value in shown(found).items() if "label" in name} == {
        metrics.SHIPPER_LABELS_UP.name: 0,
        metrics.SHIPPER_LABELS.name: 7,
        f"{metrics.SHIPPER_LABEL_MESSAGES.name} refused": 3,
        f"{metrics.SHIPPER_LABEL_MESSAGES.name} dropped": 2,
        f"{metrics.SHIPPER_LABEL_MESSAGES.name} expired": 1,
        metrics.SHIPPER_LABEL_LAG.name: 5,
    }
    write_figures(tmp_path, Figures(at_ns=NOW_NS))
    assert found.problem() == ""
    assert shown(found)[metrics.SHIPPER_LABELS_UP.name] == 1


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "shipper.json").write_text('{"rows": 1, "of a later version": 2}')
    assert read_figures(tmp_path) is None
