"""Slices and fairness: from a log and a configuration to what a person reads."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from eventlog import Label, MemoryLog, encode_labels, encode_predictions
from eventlog.core.marks import heartbeat_record
from monitor.core.slice import Slice
from monitor.documents import block_document, state_document
from monitor.engine import Engine
from monitor.fairness_documents import fairness_document
from monitor.metrics import expose, make_registry
from monitor.performance_documents import performance_document
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline, render
from monitor.segment_documents import SHOWN, live_segments, segments_document
from tests.monitor_served import served
from tests.monitor_world import (
    BLOCK_NS,
    CODEC,
    MODEL,
    SETTINGS,
    START_NS,
    Profiles,
    Traffic,
    Version,
    prediction_rows,
)

SEED = 20261129
ROWS = 3000
PRODUCER = "00000a"
AGE = Slice("age", "x[0]", edges=(30.0, 60.0))
GROUP = Slice("group", "x[1]", values=("0", "1"), protected=True)
SLICED = replace(SETTINGS, slices=((MODEL, (AGE, GROUP)),))


def world() -> tuple[MemoryLog, np.ndarray, np.ndarray, np.ndarray]:
    """Two blocks: group 1 gets the positive answer far less often, the old are answered worse.

    Every other row is labelled. Returns: the log, inputs, answers, truth.
    """
    print("seed", SEED)
    random, log = np.random.default_rng(SEED), MemoryLog()
    age = random.uniform(0, 90, ROWS)
    group = random.integers(0, 2, ROWS)
    seen = np.stack([age, group], axis=1).astype(np.float32)
    truth = (random.random(ROWS) < np.where(group == 1, 0.1, 0.7)).astype(np.int64)
    wrong = random.random(ROWS) < np.where(age >= 60, 0.4, 0.1)
    said = np.where(wrong, 1 - truth, truth)
    log.append([heartbeat_record(PRODUCER, 0, START_NS)])
    half = ROWS // 2
    ts_ns = START_NS + np.arange(2)[:, None] * BLOCK_NS + np.arange(half)
    for block in range(2):
        part = slice(block * half, (block + 1) * half)
        version = Version("7")
        rows = prediction_rows(
            version, "stable", "", part.start, ts_ns[block], seen[part], said[part]
        )
        log.append([encode_predictions(rows, PRODUCER, START_NS + block * BLOCK_NS)])
    ids = [CODEC.encode(int(ts) // 10**6, PRODUCER, i) for i, ts in enumerate(ts_ns.flat)]
    labels = [Label(ids[i], 0, 0, float(truth[i])) for i in range(0, ROWS, 2)]
    for block in range(2):
        at_ns, first = START_NS + (5 + block) * BLOCK_NS, block * half // 2
        mine = labels[first : first + half // 2]
        log.append([encode_labels(MODEL, mine, PRODUCER, first, at_ns, arrived_ns=at_ns)])
    log.append([heartbeat_record(PRODUCER, ROWS, START_NS + 9 * BLOCK_NS)])
    return log, seen, said, truth


def engine_over(log: MemoryLog, state: bytes | None = None) -> Engine:
    pages: dict[Any, bytes] = {}
    return Engine(log, CODEC.decode, lambda *_: None, SLICED, load_page=pages.get, state=state)


def run(engine: Engine) -> Engine:
    while engine.read(64):
        pass
    engine.close_blocks(lambda _: None)
    return engine


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    state = run(engine_over(world()[0])).models[MODEL]
    return Snapshot(
        ready=True,
        performance={MODEL: performance_document(state)},
        fairness={MODEL: fairness_document(state), "plain": []},
    )


@pytest.fixture(scope="module")
def url(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("m")
    with served(Published(snapshot), folder / "none.db") as url:
        yield url


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(["monitor", *words, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_each_part_has_the_measures_of_its_own_labelled_rows(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, seen, said, truth = world()
    (version,) = ask(capsys, "performance", MODEL, "--by", "age", "--url", url)["versions"]
    parts = [part["part"] for part in version["parts"]]
    assert parts == ["below 30", "30 to 60", "60 and more", "missing"]
    places = np.searchsorted([30.0, 60.0], seen[:, 0], side="right")
    labelled = np.arange(ROWS) % 2 == 0
    for place, part in enumerate(version["parts"][:3]):
        mine, span = places == place, part["spans"]["since"]
        assert span["rows"] == mine.sum()
        assert span["labels"] == (mine & labelled).sum()
        assert span["coverage"] == pytest.approx((mine & labelled).sum() / mine.sum())
        assert span["delay_s"]["median"] == pytest.approx(5.0, rel=0.04)
        found = {item["name"]: item["value"] for item in span["measures"]}
        right = (said == truth)[mine & labelled]
        assert found["accuracy"] == pytest.approx(right.mean())
    assert version["parts"][3]["spans"]["since"]["rows"] == 0
    (plain,) = ask(capsys, "performance", MODEL, "--url", url)["versions"]
    assert "parts" not in plain
    assert "slices" not in plain
    assert plain["spans"] == version["spans"]


def test_a_person_reads_a_row_for_each_part_and_which_slices_there_are(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "performance", MODEL, "--by", "age", "--url", url]) == 0
    out = capsys.readouterr().out
    (head,) = {line for line in out.splitlines() if line.startswith("age ")}
    assert head.split()[:6] == ["age", "rows", "labels", "coverage", "delay", "Accuracy"]
    assert "60 and more" in out
    assert main(["monitor", "performance", MODEL, "--by", "region", "--url", url]) == 1
    assert "no slice 'region'; known: age, group" in capsys.readouterr().err


def test_a_group_that_gets_the_advantage_far_less_often_is_beyond_the_limits(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, seen, said, truth = world()
    (version,) = ask(capsys, "fairness", MODEL, "--url", url)["versions"]
    (item,) = version["slices"]
    assert item["slice"] == "group"
    labelled = np.arange(ROWS) % 2 == 0
    for place, group in enumerate(item["criteria"]["parity"]):
        mine = seen[:, 1] == place
        assert group["rows"] == mine.sum()
        assert group["share"]["value"] == pytest.approx(said[mine].mean())
    for place, group in enumerate(item["criteria"]["opportunity"]):
        mine = (seen[:, 1] == place) & labelled & (truth == 1)
        assert group["rows"] == mine.sum()
        assert group["share"]["value"] == pytest.approx(said[mine].mean())
    standings = [group["standing"] for group in item["criteria"]["parity"]]
    assert standings == ["within the limits", "beyond a limit"]
    assert item["criteria"]["opportunity"][1]["standing"] == "cannot say yet"
    assert main(["monitor", "fairness", MODEL, "--url", url]) == 0
    out = capsys.readouterr().out
    assert "parity: the share of rows that got the positive answer, 95% at all times" in out
    assert "cannot say yet" in out
    assert main(["monitor", "fairness", "plain", "--url", url]) == 0
    assert "no slice of plain is protected" in capsys.readouterr().out
    assert main(["monitor", "fairness", "nobody", "--url", url]) == 1


def test_the_metrics_have_the_parts_of_the_arms_alone(snapshot: Snapshot) -> None:
    text = expose(make_registry(Published(snapshot))).decode()
    of_part = 'arm="stable",model="m",part="1",slice="group"'
    assert f"driftgate_monitor_slice_labelled_rows{{{of_part}}}" in text
    assert f"driftgate_monitor_slice_label_coverage_ratio{{{of_part}}}" in text
    assert 'driftgate_monitor_slice_performance{arm="stable",measure="accuracy"' in text
    assert 'measure="recall",model="m",part' not in text
    unfair = [line for line in text.splitlines() if line.startswith("driftgate_monitor_unfair{")]
    assert [line[-3:] for line in unfair if 'criterion="parity"' in line] == ["0.0", "1.0"]
    (version,) = snapshot.performance[MODEL]
    gone = Snapshot(ready=True, performance={MODEL: [{**version, "role": ""}]})
    assert 'slice="' not in expose(make_registry(Published(gone))).decode()


def test_killed_anywhere_it_comes_out_the_same() -> None:
    log, *_ = world()
    whole = run(engine_over(log)).to_bytes()
    for records in range(1, 6):
        killed = engine_over(log)
        killed.read(records)
        killed.close_blocks(lambda _: None)
        assert run(engine_over(log, killed.to_bytes())).to_bytes() == whole


def test_the_report_has_a_table_of_each_slice_and_of_each_criterion(snapshot: Snapshot) -> None:
    engine, timeline = engine_over(world()[0]), Timeline(BLOCK_NS)
    engine.read(64)
    engine.close_blocks(lambda closed: timeline.add(block_document(closed.summary)))
    page = render(
        Content(
            state_document(engine.models[MODEL], None, {}),
            [],
            timeline,
            performance=snapshot.performance[MODEL],
            fairness=snapshot.fairness[MODEL],
        )
    )
    assert "Version 7, by age" in page
    assert "60 and more" in page
    assert "Parity by group, version 7" in page
    assert "Equal opportunity by group, version 7" in page
    assert "beyond a limit" in page


# -- segments ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched() -> Engine:
    """Stationary traffic of a version with a reference."""
    log, version = MemoryLog(), Version("1")
    Traffic(log, stable=version).run(12)
    engine = Engine(log, CODEC.decode, Profiles(version), SETTINGS, load_page={}.get)
    return run(engine)


def test_segments_of_traffic_are_shown_and_without_a_reference_it_is_said_why(
    watched: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = run(engine_over(world()[0]))
    segments = {
        MODEL: live_segments(watched.models[MODEL]),
        "bare": live_segments(bare.models[MODEL]),
        "new": None,
    }
    shown = Published(Snapshot(ready=True, segments=segments))
    with served(shown, tmp_path / "none.db") as url:
        document = ask(capsys, "slices", MODEL, "--url", url)
        assert document["looked_at"] > 30
        assert len(document["segments"]) == SHOWN
        assert not any(item["named"] for item in document["segments"])
        assert main(["monitor", "slices", MODEL, "--url", url]) == 0
        out = capsys.readouterr().out
        assert f"{document['looked_at']} segments looked at, none of those shown moved" in out
        assert "where" in out
        for name, reason in (("bare", "the version has no reference"), ("new", "no row")):
            assert main(["monitor", "slices", name, "--url", url]) == 0
            assert f"segments of {name} are not compared: {reason}" in capsys.readouterr().out
        assert main(["monitor", "slices", "nobody", "--url", url]) == 1


def test_the_report_shows_segments_or_says_why_there_are_none(watched: Engine) -> None:
    state = watched.models[MODEL]
    content = Content(state_document(state, None, {}), [], Timeline(BLOCK_NS))
    assert "Only a running monitor compares them" in render(content)
    document = segments_document(MODEL, live_segments(state))
    page = render(replace(content, segments=document))
    assert f"{document['looked_at']} segments, of one feature" in page
