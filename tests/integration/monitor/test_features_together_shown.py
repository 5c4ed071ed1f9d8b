"""Features compared together: the command, the API, the metrics and the report."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from eventlog import MemoryLog
from monitor.comparisons import Comparisons
from monitor.core.effects import effects
from monitor.core.multivariate.standing import SpaceStanding
from monitor.core.multivariate.statistics import MULTIVARIATE
from monitor.documents import state_document
from monitor.metrics import expose, make_registry
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline, render
from tests.monitor_served import served
from tests.monitor_world import BLOCK_NS, MODEL, Traffic
from tests.simulation.monitor.test_features_together import turned
from tests.simulation.monitor.test_monitor_in_virtual_time import Watch

WITHHELD = "the log's policy withholds a part of it"


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """A model whose correlations turned, and one that may not be looked at."""
    state = Watch(Traffic(MemoryLog(), spoil=turned).run(60).log).catch_up().engine.models[MODEL]
    assert state.stable is not None
    spaces = state.stable.spaces()
    hidden = [replace(space, off=WITHHELD) for space in spaces]
    return Snapshot(
        ready=True,
        effects={MODEL: effects(state), "hidden": []},
        models={MODEL: state_document(state, None, {})},
        spaces={MODEL: spaces, "hidden": hidden},
    )


@pytest.fixture
def published(snapshot: Snapshot) -> Published:
    return Published(replace(snapshot, models={}))


@pytest.fixture
def url(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(published, tmp_path_factory.mktemp("m") / "none.db") as url:
        yield url


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["monitor", "drift", *words, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_space_is_shown_with_every_statistic(url: str, capsys: Any) -> None:
    (space,) = asked(capsys, MODEL, "--url", url)["multivariate"]
    assert (space["space"], space["features"], space["off"]) == ("features", 6, None)
    assert (space["live_rows"], space["reference_rows"]) == (300, 1000)
    found = {item["name"]: item for item in space["statistics"]}
    assert set(found) == set(MULTIVARIATE)
    assert found["covariance_shift"]["p_value"] == pytest.approx(1 / 200)
    assert found["covariance_shift"]["effect"] > 3 * found["covariance_shift"]["null_mean"]
    assert main(["monitor", "drift", MODEL, "--url", url]) == 0
    out = capsys.readouterr().out
    assert "6 features together: 300 live rows against 1000 of the reference" in out
    assert all(f"\n{item.title} " in out for item in MULTIVARIATE.values())


def test_one_feature_alone_has_no_word_of_it(url: str, capsys: Any) -> None:
    assert "multivariate" not in asked(capsys, MODEL, "--feature", "f0", "--url", url)


def test_why_nothing_is_compared_is_said(url: str, capsys: Any) -> None:
    (space,) = asked(capsys, "hidden", "--url", url)["multivariate"]
    assert (space["off"], space["statistics"]) == (WITHHELD, [])


def test_metrics_have_what_was_computed_and_compute_nothing(published: Published) -> None:
    registry = make_registry(published)
    assert b"driftgate_monitor_multivariate_effect{" not in expose(registry)
    assert published.comparisons.refresh(published.snapshot.spaces)
    text = expose(registry).decode()
    for name in MULTIVARIATE:
        labels = f'{{model="{MODEL}",space="features",statistic="{name}"}}'
        assert f"driftgate_monitor_multivariate_effect{labels}" in text
        assert f"driftgate_monitor_multivariate_by_chance{labels}" in text
    assert 'model="hidden",space' not in text


def test_each_space_is_computed_once_in_a_window_and_for_the_same_rows_once(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (space,) = snapshot.spaces[MODEL]
    calls: list[int] = []

    def counted(reference: np.ndarray, live: np.ndarray) -> list[Any]:
        calls.append(len(live))
        return []

    monkeypatch.setattr("monitor.comparisons.compare", counted)
    comparisons = Comparisons()
    models = {MODEL: [space]}
    assert comparisons.refresh(models)
    assert not comparisons.refresh(models)
    comparisons.of(MODEL, [space])
    assert len(calls) == 1
    grown = replace(space, live=cut(space, 100))
    assert not comparisons.refresh({MODEL: [grown]})  # the window is the same
    comparisons.of(MODEL, [grown])  # who asks sees the rows of now
    assert calls == [300, 100]
    assert comparisons.refresh({MODEL: [replace(space, window=space.window + 1)]})
    assert len(calls) == 3


def cut(space: SpaceStanding, rows: int) -> Any:
    return replace(space.live, keys=space.live.keys[:rows], values=space.live.values[:rows])


def test_the_report_has_a_table_of_each_space_or_why_not(snapshot: Snapshot) -> None:
    comparisons = Comparisons()
    documents = comparisons.of(MODEL, snapshot.spaces[MODEL])
    hidden = comparisons.of("hidden", snapshot.spaces["hidden"])
    content = Content(
        snapshot.models[MODEL], [], Timeline(BLOCK_NS), multivariate=[*documents, *hidden]
    )
    page = render(content)
    assert "6 features together" in page
    assert all(item.title in page for item in MULTIVARIATE.values())
    assert "6 features: not compared, the log&#x27;s policy withholds a part of it." in page
    assert "no rows of two or more numeric features" in render(replace(content, multivariate=[]))
