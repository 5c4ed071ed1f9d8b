"""`driftgate monitor performance` and what else shows it: from a log to what a person reads."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from driftgate.commands.monitor_performance import performance_lines
from eventlog import Label, MemoryLog, encode_labels, encode_predictions
from eventlog.core.marks import heartbeat_record
from monitor.core.block import Outcome
from monitor.core.model_state import ModelState
from monitor.core.performance.answers import ClassAnswer, scores_of
from monitor.documents import block_document, state_document
from monitor.engine import Engine
from monitor.metrics import expose, make_registry
from monitor.performance_documents import performance_document
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline, render
from monitor.report.measures import measures_part
from tests.conftest import ROOT
from tests.estimation_world import Run, World
from tests.monitor_served import served
from tests.monitor_world import (
    BLOCK_NS,
    CODEC,
    MODEL,
    SETTINGS,
    START_NS,
    Traffic,
    Version,
    prediction_rows,
)

SEED = 20261128
ROWS = 400
PRODUCER = "00000a"
VERSION = Version("7")


def scored_log() -> tuple[MemoryLog, np.ndarray, np.ndarray]:
    """One block of ROWS rows of two classes with scores, half of them labelled 3 s later."""
    print("seed", SEED)
    random, log = np.random.default_rng(SEED), MemoryLog()
    scores = random.random(ROWS).astype(np.float32)
    truth = (random.random(ROWS) < scores).astype(int)
    ts_ns = START_NS + np.arange(ROWS, dtype=np.int64)
    said = (scores >= 0.5).astype(np.int64)
    rows = prediction_rows(VERSION, "stable", "", 0, ts_ns, np.zeros((ROWS, 1)), said)
    pair = np.stack([1 - scores, scores], axis=1)
    rows = replace(rows, outputs={**rows.outputs, "probabilities": pair})
    log.append(
        [heartbeat_record(PRODUCER, 0, START_NS), encode_predictions(rows, PRODUCER, START_NS)]
    )
    ids = [CODEC.encode(int(ts) // 10**6, PRODUCER, i) for i, ts in enumerate(ts_ns)]
    labels = [Label(ids[i], 0, 0, float(truth[i])) for i in range(0, ROWS, 2)]
    at_ns = START_NS + 3 * BLOCK_NS
    log.append([encode_labels(MODEL, labels, PRODUCER, 0, at_ns, arrived_ns=at_ns)])
    log.append([heartbeat_record(PRODUCER, ROWS, START_NS + 9 * BLOCK_NS)])
    return log, scores[::2], truth[::2]


def engine_over(log: MemoryLog, state: bytes | None = None) -> Engine:
    pages: dict[Any, bytes] = {}
    return Engine(log, CODEC.decode, lambda *_: None, SETTINGS, load_page=pages.get, state=state)


def run(engine: Engine) -> Engine:
    while engine.read(64):
        pass
    engine.close_blocks(lambda _: None)
    return engine


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    engine = run(engine_over(scored_log()[0]))
    unlabelled = MemoryLog()
    Traffic(unlabelled).run(2)
    silent = run(engine_over(unlabelled))
    return Snapshot(
        ready=True,
        performance={
            MODEL: performance_document(engine.models[MODEL]),
            "silent": performance_document(silent.models[MODEL]),
        },
    )


@pytest.fixture(scope="module")
def url(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("m")
    with served(Published(snapshot), folder / "none.db") as url:
        yield url


def test_measures_of_a_log_with_scores_are_those_of_its_labelled_rows(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, scores, truth = scored_log()
    capsys.readouterr()  # the seed
    assert main(["monitor", "performance", MODEL, "--url", url, "-o", "json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)["versions"]
    assert (version["version"], version["role"]) == ("7", "stable")
    assert set(version["spans"]) == {"window", "since"}
    for span in version["spans"].values():
        assert (span["rows"], span["labels"], span["scored"]) == (ROWS, ROWS // 2, ROWS // 2)
        assert span["coverage"] == 0.5
        assert span["delay_s"]["median"] == pytest.approx(3.0, rel=0.04)
        found = {item["name"]: item for item in span["measures"]}
        assert found["accuracy"]["value"] == np.mean((scores >= 0.5) == truth)
        assert found["brier"]["value"] == pytest.approx(np.mean((scores - truth) ** 2))
        above = scores[truth == 1][:, None] > scores[truth == 0][None]
        assert abs(found["roc_auc"]["value"] - above.mean()) <= found["roc_auc"]["binning"]
        assert all(item["low"] < item["value"] < item["high"] for item in found.values())
        assert [item["class"] for item in span["classes"]] == ["0", "1"]


def test_a_person_reads_a_table_and_of_a_model_without_labels_that_there_are_none(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "performance", MODEL, "--url", url, "--classes"]) == 0
    out = capsys.readouterr().out
    assert "version 7 (stable)" in out
    assert "in the last window: 200 labels, 400 rows answered, 50.0% of them labelled" in out
    assert "since it began to answer" in out
    assert "ROC AUC" in out
    assert "class  rows  answered  precision" in out
    assert main(["monitor", "performance", "silent", "--url", url]) == 0
    assert "no label of a row of silent has arrived" in capsys.readouterr().out
    assert main(["monitor", "performance", "nobody", "--url", url]) == 1
    assert "no prediction of a model 'nobody'" in capsys.readouterr().err


def test_the_metrics_have_the_arms_and_nothing_of_versions_that_are_gone(
    snapshot: Snapshot,
) -> None:
    (version,) = snapshot.performance[MODEL]
    text = expose(make_registry(Published(snapshot))).decode()
    assert 'driftgate_monitor_performance{arm="stable",measure="roc_auc",model="m"} 0.8' in text
    assert 'driftgate_monitor_labelled_rows{arm="stable",model="m"} 200.0' in text
    assert 'driftgate_monitor_label_coverage_ratio{arm="stable",model="m"} 0.5' in text
    assert 'driftgate_monitor_label_delay_seconds{arm="stable",model="m",statistic="p95"}' in text
    gone = Snapshot(ready=True, performance={MODEL: [{**version, "role": ""}]})
    assert 'arm="' not in expose(make_registry(Published(gone))).decode()


@pytest.fixture(scope="module")
def estimated_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Snapshot]]:
    """A version whose labels stopped coming two windows ago."""
    world = Run(SEED)
    world.run(World(), 40)
    world.run(World(mean=0.5), 40, labelled=0.0)
    snapshot = Snapshot(ready=True, performance={MODEL: performance_document(world.state)})
    folder: Path = tmp_path_factory.mktemp("estimated")
    with served(Published(snapshot), folder / "none.db") as url:
        yield url, snapshot


def test_without_new_labels_a_person_reads_estimates_and_where_there_are_none_why(
    estimated_url: tuple[str, Snapshot], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "performance", MODEL, "--url", estimated_url[0]]) == 0
    out = capsys.readouterr().out
    assert "estimated without labels, of 4000 rows answered, by 3900 labels from before:" in out
    table = out[out.index("estimated without labels") : out.index("since it began")].strip()
    page = (ROOT / "docs" / "model-performance.md").read_text()
    assert f"```text\n{table}\n```" in page, table
    assert main(["monitor", "performance", MODEL, "--url", url]) == 0
    assert "not estimated without labels: too few labels had come" in capsys.readouterr().out


def test_the_metrics_have_the_estimates_or_the_reason_why_there_are_none(
    estimated_url: tuple[str, Snapshot], snapshot: Snapshot
) -> None:
    text = expose(make_registry(Published(estimated_url[1]))).decode()
    name = "driftgate_monitor_estimated_performance"
    assert f'{name}{{arm="stable",measure="accuracy",model="m"}} 0.7' in text
    assert "estimate_withheld{" not in text
    withheld = expose(make_registry(Published(snapshot))).decode()
    assert f"{name}{{" not in withheld
    label = 'arm="stable",model="m",reason="too_few_labels"'
    assert f"driftgate_monitor_estimate_withheld{{{label}}} 1.0" in withheld


def test_killed_between_predictions_and_labels_it_comes_out_the_same() -> None:
    log, _, _ = scored_log()
    whole = run(engine_over(log)).to_bytes()
    for records in range(1, 5):
        killed = engine_over(log)
        killed.read(records)
        killed.close_blocks(lambda _: None)
        again = run(engine_over(log, killed.to_bytes()))
        assert again.to_bytes() == whole


def test_the_report_has_a_table_of_each_version(snapshot: Snapshot) -> None:
    engine, timeline = engine_over(scored_log()[0]), Timeline(BLOCK_NS)
    engine.read(64)
    engine.close_blocks(lambda closed: timeline.add(block_document(closed.summary)))
    content = Content(
        state_document(engine.models[MODEL], None, {}),
        [],
        timeline,
        performance=snapshot.performance[MODEL],
    )
    without_loss = render(replace(content, timeline=Timeline(BLOCK_NS)))
    assert "Version 7 (stable), by its labels" in without_loss  # also of earlier labels
    page = render(content)
    assert "Version 7 (stable), by its labels" in page
    assert "ROC AUC" in page
    assert "200 labels, of 50" in page


def test_why_a_measure_is_not_defined_is_said_to_people_and_in_json() -> None:
    state = ModelState(MODEL, SETTINGS)
    scores = scores_of([0.7, 0.2, 0.1], ("a", "b", "c"), "a", "a")
    outcomes = [Outcome("d", 0, 0.0, False, "1", 1, ClassAnswer("a", "a", "", scores))]
    state.performance.fold(0, 10**9, 10, {}, outcomes)
    versions = performance_document(state)
    measures = versions[0]["spans"]["since"]["measures"]
    (macro,) = (item for item in measures if item["name"] == "macro_roc_auc")
    reason = "the labelled rows with scores are all of one class"
    assert (macro["value"], macro["undefined"]) == (None, reason)
    document = {"model": MODEL, "versions": versions, "level": 0.95, "by": None}
    said = f"ROC AUC, macro is not defined: {reason}"
    assert said in performance_lines(document, classes=False)
    assert said in str(measures_part(versions))
