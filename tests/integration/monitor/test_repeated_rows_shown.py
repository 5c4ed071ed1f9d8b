"""Rows that repeat one of their block, from the log to the command line, metrics and report."""

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
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline
from monitor.report.feature_sections import quality_section
from monitor.report.words import count, share
from tests.monitor_served import served
from tests.monitor_world import BLOCK_NS, MODEL, Traffic
from tests.simulation.monitor.test_monitor_in_virtual_time import Watch


def replayed(seen: np.ndarray) -> np.ndarray:
    """The last fifth of a record's rows is the first fifth again."""
    again = seen.copy()
    again[-(len(seen) // 5) :] = seen[: len(seen) // 5]
    return again


def snapshot_of(traffic: Traffic) -> Snapshot:
    state = Watch(traffic.run(11).log).catch_up().engine.models[MODEL]
    return Snapshot(
        ready=True,
        effects={MODEL: effects(state)},
        models={MODEL: state_document(state, None, {})},
    )


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return snapshot_of(Traffic(MemoryLog(), spoil=replayed))


def report_of(snapshot: Snapshot) -> str:
    content = Content(snapshot.models[MODEL], snapshot.effects[MODEL], Timeline(BLOCK_NS))
    return str(quality_section(content))


def test_the_command_line_and_the_api_show_both_shares(
    snapshot: Snapshot, tmp_path: Path, capsys: Any
) -> None:
    with served(Published(snapshot), tmp_path / "none.db") as url:
        assert main(["monitor", "drift", MODEL, "--url", url, "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)["repeated_rows"]
        rows = found.pop("rows")
        assert rows == snapshot.models[MODEL]["stable"]["rows"]
        assert found == {"live": 0.2, "reference": 0.0}
        assert main(["monitor", "drift", MODEL, "--url", url]) == 0
        line = f"rows that repeat one of their block: 20.00% of {rows}, 0.00% if drawn"
        assert line in capsys.readouterr().out


def test_metrics_have_both_shares(snapshot: Snapshot) -> None:
    text = expose(make_registry(Published(snapshot))).decode()
    name = "driftgate_monitor_repeated_rows_ratio"
    assert f'{name}{{model="{MODEL}",of="live"}} 0.2\n' in text
    assert f'{name}{{model="{MODEL}",of="reference"}} 0.0\n' in text


def test_a_report_says_it_where_there_are_any(snapshot: Snapshot) -> None:
    rows = snapshot.models[MODEL]["repeated_rows"]["rows"]
    assert f"{share(0.2)} of {count(rows)} rows repeat another of their block" in report_of(
        snapshot
    )
    sound = snapshot_of(Traffic(MemoryLog()))
    assert sound.models[MODEL]["repeated_rows"]["live"] == 0.0
    assert "repeat another of their block" not in report_of(sound)
