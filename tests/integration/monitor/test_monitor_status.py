"""`driftgate monitor status`, and the metrics of the promise: from a state to what is shown."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from driftgate.commands.monitor_status import model_lines
from monitor.core.block import Arm, ModelBlock, Part
from monitor.core.correlation import Span
from monitor.core.model_state import ModelState
from monitor.core.settings import WarmUpSettings
from monitor.core.watched import Stable, Yardstick
from monitor.documents import state_document
from monitor.metrics import expose, make_registry
from monitor.published import Published, Snapshot
from tests.monitor_served import served
from tests.monitor_world import SETTINGS, Version, profile_of
from tests.seasonal_world import reference

GOOD = Version("1")


NEEDS = WarmUpSettings(rows=20_000, span_ns=30 * 3600 * 10**9, skip_ns=0)


def warming() -> dict[str, Any]:
    """Two blocks into a warm-up."""
    found = ModelState("young", replace(SETTINGS, warm_up=NEEDS))
    inputs = {"x": np.zeros((3, 2)), "image": np.zeros((3, 40, 40))}
    for index in range(2):
        block = ModelBlock(index)
        arm = block.arm(Arm("d" * 64, "1", "stable", ""))
        arm.add(index * 10**9, index * 10**9, 3, 0)
        arm.parts.append(Part(inputs, {}))
        summary = found.close(block, lambda *_: None)
    return state_document(found, summary, {})


def state(model: str, span: Span, *, known: bool = True) -> dict[str, Any]:
    found = ModelState(model, replace(SETTINGS, block_ns=2 * 10**9))
    yardstick = Yardstick(profile_of(GOOD) if known else None, found.settings)
    found.stable = Stable.start("1", GOOD.digest, 0, yardstick)
    found.stable.span = span
    return state_document(found, None, {})


@pytest.fixture(scope="module")
def published() -> Published:
    models = {
        "calm": state("calm", Span(1)),
        "slow": state(
            "slow", Span(64, "traffic is correlated for longer than 300 blocks can show")
        ),
        "bare": state("bare", Span(1), known=False),
        "young": warming(),
    }
    return Published(Snapshot(ready=True, models=models))


@pytest.fixture(scope="module")
def url(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("m")
    with served(published, folder / "none.db") as url:
        yield url


def test_every_model_shows_its_budget_and_whether_it_is_covered(url: str, capsys: Any) -> None:
    assert main(["monitor", "status", "--url", url]) == 0
    out = capsys.readouterr().out
    assert out.count("pages 1 per 90d, warnings 1 per 1w") == 4
    assert "promise   covered; blocks of 2 s" in out
    assert "not covered: traffic is correlated" in out
    assert "blocks of 128 s" in out
    assert "not covered: the version has no reference" in out
    assert "reference pushed, 4,000 rows" in out
    assert "reference none" in out
    said = "warming up: 0 of 20,000 rows, 0 of 30 h"
    assert f"young: healthy ({said})" in out
    assert f"reference {said}; too wide to watch: image" in out
    assert f"not covered: {said}" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("    loss")] == [
        "25%"
    ] * 4


def test_one_model_in_json_has_the_split_of_the_budget(url: str, capsys: Any) -> None:
    assert main(["monitor", "status", "calm", "--url", url, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)["calm"]
    assert sum(g["weight"] for g in document["budget"]["groups"].values()) == pytest.approx(1.0)
    assert document["promise"] == {"covered": True, "reason": "", "block_s": 2.0, "blocks_seen": 0}


def test_a_model_that_is_not_watched_is_an_error_that_names_those_that_are(
    url: str, capsys: Any
) -> None:
    assert main(["monitor", "status", "other", "--url", url]) == 1
    assert "bare, calm, slow, young" in capsys.readouterr().err


def test_metrics_say_whether_the_promise_holds(published: Published) -> None:
    text = expose(make_registry(published)).decode()
    assert 'driftgate_monitor_promise_covered{model="calm"} 1.0' in text
    assert 'driftgate_monitor_promise_covered{model="slow"} 0.0' in text
    assert 'driftgate_monitor_evidence_block_seconds{model="slow"} 128.0' in text
    assert 'driftgate_monitor_warm_up_ratio{model="young"} 0.0' in text
    assert 'driftgate_monitor_warm_up_ratio{model="calm"}' not in text


def test_a_version_that_is_judged_by_the_hour_of_the_week_shows_its_tolerance() -> None:
    random = np.random.default_rng(1)
    settings = replace(SETTINGS, tolerance=0.02)
    found = ModelState("weekly", settings)
    found.stable = Stable.start("1", "d" * 64, 0, Yardstick(reference(random, 300), settings))
    document = state_document(found, None, {})
    season = document["stable"]["reference"]["season"]
    assert season["hours"] == 168
    assert season["rows_least"] < 300 < season["rows_most"]
    assert 0.5 < season["row_worth"] <= 1.0
    assert 0.02 < season["tolerance_least"] < season["tolerance_most"] < 0.3
    (line,) = [line for line in model_lines(document) if "reference" in line]
    assert "pushed, 50,400 rows; by hour of the week: 168 of 168 hours" in line
    found.stable = Stable.start("1", "d" * 64, 0, Yardstick(profile_of(GOOD), settings))
    assert state_document(found, None, {})["stable"]["reference"]["season"] is None
