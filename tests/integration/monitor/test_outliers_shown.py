"""Rows unlike the reference's, from the log to the command line, metrics and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from eventlog import MemoryLog
from monitor.core.effects import effects
from monitor.documents import state_document
from monitor.metrics import expose, make_registry
from monitor.outlier_documents import no_ids, outliers_document
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline
from monitor.report.outliers import outliers_section
from tests.monitor_served import served
from tests.monitor_world import BLOCK_NS, CODEC, MODEL, Traffic
from tests.simulation.monitor.test_monitor_in_virtual_time import Watch


def far(seen: np.ndarray) -> np.ndarray:
    """One row of each record has a value that the reference has nowhere."""
    spoilt = seen.copy()
    spoilt[0, 3] = 40.0
    return spoilt


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    state = Watch(Traffic(MemoryLog(), spoil=far).run(11).log).catch_up().engine.models[MODEL]
    return Snapshot(
        ready=True,
        effects={MODEL: effects(state)},
        models={MODEL: state_document(state, None, {})},
        outliers={MODEL: outliers_document(state, CODEC.encode)},
    )


def content_of(snapshot: Snapshot, outliers: Any) -> Content:
    return Content(
        snapshot.models[MODEL],
        snapshot.effects[MODEL],
        Timeline(BLOCK_NS),
        outliers=outliers,
    )


def test_the_command_line_and_the_api_name_predictions_and_why(
    snapshot: Snapshot, tmp_path: Path, capsys: Any
) -> None:
    with served(Published(snapshot), tmp_path / "none.db") as url:
        assert main(["monitor", "outliers", MODEL, "--url", url, "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["looked_at"] == found["of_rows"] == 2200
        assert found["outliers"] >= 20
        first = found["strongest"][0]
        assert CODEC.decode(first["prediction_id"].split(".")[0]).producer in ("00000a", "00000b")
        assert (first["features"][0]["name"], first["features"][0]["value"]) == ("f3", 40.0)
        assert main(["monitor", "outliers", MODEL, "--url", url]) == 0
        lines = capsys.readouterr().out
        assert "of 2200 rows looked at (of 2200) are outliers" in lines
        assert f"{first['prediction_id']}  {first['score']:.1f}" in lines
        assert "f3 40 (expected" in lines
        assert main(["monitor", "outliers", "nobody", "--url", url]) == 1


def test_the_state_has_counts_and_no_row(snapshot: Snapshot) -> None:
    found = snapshot.models[MODEL]["outliers"]
    assert found["share"] > found["reference"]["share_max"] > found["reference"]["share"]
    assert "strongest" not in found


def test_metrics_have_the_shares(snapshot: Snapshot) -> None:
    text = expose(make_registry(Published(snapshot))).decode()
    found = snapshot.models[MODEL]["outliers"]
    name = "driftgate_monitor_outlier_rows_ratio"
    assert f'{name}{{model="{MODEL}",of="live"}} {found["share"]}\n' in text
    assert f'{name}{{model="{MODEL}",of="bound"}} {found["bound"]}\n' in text
    assert f'driftgate_monitor_outlier_rows_looked_at_ratio{{model="{MODEL}"}} 1.0\n' in text


def test_a_report_shows_the_strongest_or_why_there_are_none(snapshot: Snapshot) -> None:
    found = snapshot.outliers[MODEL]
    text = str(outliers_section(content_of(snapshot, found)))
    assert found["strongest"][0]["prediction_id"] in text
    assert "f3 40 (expected" in text
    assert "only a running monitor" in str(outliers_section(content_of(snapshot, None)))
    off = {**found, "off": "the version has no reference"}
    assert "the version has no reference" in str(outliers_section(content_of(snapshot, off)))


def test_without_keys_rows_have_no_names() -> None:
    state = Watch(Traffic(MemoryLog(), spoil=far).run(3).log).catch_up().engine.models[MODEL]
    strongest = outliers_document(state, no_ids)["strongest"]
    assert strongest
    assert all(item["prediction_id"] is None for item in strongest)
