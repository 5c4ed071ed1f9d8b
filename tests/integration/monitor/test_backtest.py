"""The monitor over files: the same verdicts as over a log, and what it says to bad files."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from driftgate.cli import main
from eventlog import LABELS, MemoryLog, RecordKind, decode_labels, decode_predictions
from monitor.backtest import Columns, Result, backtest
from monitor.core.effects import effects
from monitor.documents import block_document
from monitor.engine import Closed, Engine
from tests.monitor_world import (
    CLASSES,
    CODEC,
    FEATURES,
    MODEL,
    REFERENCE_ROWS,
    SETTINGS,
    Profiles,
    Traffic,
    Version,
    answers,
    inputs,
)

SEED = 20261128
VERSION = Version("1")
COLUMNS = Columns(labels="truth", predictions="said", time="at")


def table_of(seen: np.ndarray, said: np.ndarray, truth: np.ndarray, at: np.ndarray) -> pa.Table:
    features = {f"f{i}": seen[:, i] for i in range(FEATURES)}
    return pa.table({**features, "said": said, "truth": truth, "at": at})


def reference_table() -> pa.Table:
    """The rows that `profile_of` is fitted to."""
    random = np.random.default_rng(3)
    truth = random.integers(0, CLASSES, REFERENCE_ROWS)
    said = answers(truth, VERSION.promised, random)
    at = np.zeros(REFERENCE_ROWS, dtype=np.int64)
    return table_of(inputs(REFERENCE_ROWS, random), said, truth, at)


def rows_of(log: MemoryLog) -> pa.Table:
    """All rows of a log in the order of time, each with its label."""
    truths: dict[str, float] = {}
    parts = []
    for stored in log.read({}, 100_000):
        record = stored.record
        if record.kind is not RecordKind.DATA:
            continue
        if record.stream == LABELS:
            truths |= {label.prediction_id: label.value for label in decode_labels(record)[1]}
        else:
            parts.append((record.producer, decode_predictions(record)))
    rows = []
    for producer, part in parts:
        for place, sequence in enumerate(part.sequences()):
            ts_ns = int(part.ts_ns[place])
            label = truths[CODEC.encode(ts_ns // 10**6, producer, int(sequence))]
            said = int(next(iter(part.outputs.values()))[place])
            rows.append((ts_ns, next(iter(part.inputs.values()))[place], said, int(label)))
    rows.sort(key=lambda row: row[0])
    at, seen, said, truth = (np.array(column) for column in zip(*rows, strict=True))
    return table_of(seen.reshape(len(at), FEATURES), said, truth, at)


@pytest.fixture(scope="module")
def traffic() -> MemoryLog:
    log = MemoryLog()
    writer = Traffic(log, seed=SEED, label_delay_blocks=0).run(30)
    writer.shift, writer.harm = 0.6, 0.3
    writer.run(25).step()  # the last one's heartbeat closes the one before
    return log


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, traffic: MemoryLog) -> Path:
    home: Path = tmp_path_factory.mktemp("backtest")
    pa.parquet.write_table(reference_table(), home / "reference.parquet")
    table = rows_of(traffic)
    pa.parquet.write_table(table, home / "data.parquet")
    pa.csv.write_csv(table, home / "data.csv")
    return home


def run(files: Path, data: str = "data.parquet", **more: Any) -> Result:
    return backtest(
        files / data,
        files / "reference.parquet",
        COLUMNS,
        SETTINGS,
        model=MODEL,
        block_rows=100,
        continuous=True,
        **more,
    )


def test_files_give_what_the_engine_gives_over_a_log_with_the_same_rows(
    files: Path, traffic: MemoryLog
) -> None:
    closed: list[Closed] = []
    engine = Engine(traffic, CODEC.decode, Profiles(VERSION), SETTINGS, load_page=lambda _: None)
    while engine.read(500):
        engine.close_blocks(closed.append)
    state = engine.models[MODEL]
    found = run(files)
    assert found.rows == state.rows == 56 * 200
    assert found.labelled == found.rows
    log_live = {effect.feature.name: effect.live for effect in effects(state)}
    file_live = {effect.feature.name: effect.live for effect in found.content.effects}
    assert {n: c.tolist() for n, c in file_live.items()} == {
        n: c.tolist() for n, c in log_live.items()
    }
    raised = [item.summary for item in closed if item.summary.raised]
    assert [verdict["kind"] for verdict in found.verdicts] == [s.verdict.kind for s in raised]
    assert [v["block_start_ns"] for v in found.verdicts] == [s.start_ns for s in raised]
    assert "retrain" in {verdict["kind"] for verdict in found.verdicts}
    last = block_document(closed[-1].summary)
    # Of files no rows are at hand when a block is folded, so outliers are not looked for.
    of_files, of_log = found.content.state["groups_s"], last["groups_s"]
    assert of_log.pop("outliers") > of_files.pop("outliers")
    assert of_files == of_log
    assert found.content.state["loss"]["stable"] is not None


def text_of(result: Result) -> str:
    return json.dumps([result.verdicts, dict(result.content.state)])


def test_neither_the_format_nor_how_it_is_read_makes_a_difference(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = text_of(run(files))
    assert text_of(run(files, "data.csv")) == expected
    # Blocks of 200 rows from batches of 256 at most: blocks begin and end inside of them.
    monkeypatch.setattr("monitor.backtest.table_file.BATCH_VALUES", 1)
    done: list[float] = []
    assert text_of(run(files, progress=done.append)) == expected
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert len(done) > 20


def command(files: Path, *words: str, data: str = "data.parquet") -> int:
    reference = str(files / "reference.parquet")
    return main(["monitor", "backtest", str(files / data), "--reference", reference, *words])


ANSWERS = ("--predictions", "said", "--labels", "truth")


def test_verdicts_are_printed_with_their_times(files: Path, capsys: Any) -> None:
    assert command(files, "--time", "at", "--block", "1s", *ANSWERS) == 0
    said = capsys.readouterr()
    assert "11,200 rows in 56 blocks, 11,200 with a label; budget 90 d" in said.out
    assert "2023-11-14 22:1" in said.out
    assert "retrain" in said.out
    assert said.err == ""  # no bar where nobody sees one


def test_without_a_time_blocks_are_of_rows_and_times_count_from_the_start(
    files: Path, capsys: Any
) -> None:
    words = ("--exclude", "at", "--block", "1m", "--block-rows", "500", *ANSWERS)
    assert command(files, *words, "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["blocks"] == 23  # 11,200 rows
    assert document["verdicts"][0]["block_end_ns"] % (60 * 10**9) == 0
    assert document["verdicts"][0]["block_end_ns"] <= 23 * 60 * 10**9


def test_reports_are_written_and_are_the_same_each_time(
    files: Path, tmp_path: Path, capsys: Any
) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    words = ["--time", "at", "--block", "1s", *ANSWERS]
    for name in range(1, FEATURES):  # every feature of a report takes its while
        words += ["--exclude", f"f{name}"]
    for page in pages:
        assert command(files, *words, "-o", str(page)) == 0
        assert f"report: {page}" in capsys.readouterr().out
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert b"Retrain the model." in pages[0].read_bytes()
    document = tmp_path / "a.json"
    assert command(files, "--time", "at", "-o", str(document)) == 0
    assert json.loads(document.read_text())["rows"] == 11_200


def test_a_terminal_shows_a_bar_and_is_left_clean(
    files: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert command(files, "--time", "at") == 0
    said = capsys.readouterr().err
    assert "reading data.parquet ░" in said or "reading data.parquet █" in said
    assert said.endswith("\r\x1b[K")


def small(tmp_path: Path, reference: dict[str, Any], data: dict[str, Any]) -> Path:
    for name, columns in (("reference", reference), ("data", data)):
        pa.parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return tmp_path


FINE = {"x": [0.5, 1.5, 2.5] * 50, "colour": ["red", "green", None] * 50}


def test_text_missing_values_and_columns_of_nulls_are_counted(tmp_path: Path, capsys: Any) -> None:
    data = {"x": pa.nulls(300), "colour": ["red", "violet", None] * 100, "extra": [1] * 300}
    assert command(small(tmp_path, FINE, data), "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unwatched"] == ["extra"]
    features = {item["name"]: item for item in document["state"]["features"]}
    assert features["x"]["rows"] == features["colour"]["rows"] == 300
    assert document["state"]["verdict"] == "healthy"  # one block of evidence, however bad
    assert features["colour"]["psi"] > 1
    assert features["x"]["psi"] > 1


def test_booleans_categories_and_whole_numbers_of_any_type_are_the_same_classes(
    tmp_path: Path, capsys: Any
) -> None:
    reference = {"x": [1.0] * 100, "p": [True, False] * 50, "y": [1, 0] * 50}
    labels = pa.array([1.0, 0.0, None, 1.0] * 25)
    said = pa.array(["1", "0", "1", "0"] * 25).dictionary_encode()
    words = ("--predictions", "p", "--labels", "y", "-o", "json")
    assert (
        command(small(tmp_path, reference, {"x": [1.0] * 100, "p": said, "y": labels}), *words) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["labelled"] == 75
    assert document["state"]["loss"]["stable"] == pytest.approx(25 / 75)
    assert document["state"]["loss"]["reference"] == 0.0


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([1_700_000_000, 1_700_003_600]), 1_700_000_000),
        (pa.array([1_700_000_000_000, 1_700_003_600_000]), 1_700_000_000),
        (pa.array([1.7e9, 1.7e9 + 3600]), 1_700_000_000),
        (pa.array([1_700_000_000 * 10**9, 1_700_003_600 * 10**9]), 1_700_000_000),
        (pa.array(["2023-11-14T22:13:20", "2023-11-14T23:13:20"]), 1_700_000_000),
        (pa.array(["2023-11-14T23:13:20+01:00", "2023-11-15T00:13:20+01:00"]), 1_700_000_000),
        (pa.array([19_675, 19_676], pa.int32()).cast(pa.date32()), 19_675 * 86_400),
        (pa.array([1_700_000_000, 1_700_003_600], pa.timestamp("s", "Asia/Tokyo")), 1_700_000_000),
    ],
)
def test_a_time_may_be_written_in_many_ways(
    tmp_path: Path, capsys: Any, times: pa.Array, expected: int
) -> None:
    data = {"x": [1.0, 2.0], "at": times}
    words = ("--time", "at", "--block", "100s", "-o", "json")
    assert command(small(tmp_path, {"x": [1.0, 2.0] * 50}, data), *words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["blocks"] == 2
    last_s = expected + (86_400 if expected % 86_400 == 0 else 3600)
    assert document["state"]["end_ns"] == (last_s // 100 + 1) * 100 * 10**9


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        ({"x": [1.0]}, (), "lacks column 'colour'"),
        ({"x": ["a"], "colour": ["red"]}, (), "column 'x' is text, but in the reference"),
        (FINE, ("--predictions", "p"), "reference.parquet lacks column 'p'"),
        (FINE, ("--time", "when"), "data.parquet lacks column 'when'"),
        (FINE, ("--exclude", "typo"), "lacks column 'typo'"),
        (FINE | {"t": [None] * 150}, ("--time", "t"), "150 rows have no time"),
        (FINE | {"t": ["soon"] * 150}, ("--time", "t"), "is no time"),
        (FINE | {"t": [-5] * 150}, ("--time", "t"), "before 1970"),
        (FINE | {"t": [9e9] * 100 + [5e3] * 50}, ("--time", "t"), "row 101 is of an earlier block"),
        ({"x": pa.array([], pa.float64()), "colour": pa.array([], pa.string())}, (), "has no row"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(
    tmp_path: Path, capsys: Any, data: dict[str, Any], words: tuple[str, ...], said: str
) -> None:
    assert command(small(tmp_path, FINE, data), *words) == 1
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"x": pa.array([], pa.float64())}, "has no row"),
        ({"x": [[1.0, 2.0]]}, "of type list<element: double>, which cannot be counted"),
        ({"x": pa.array([1], pa.timestamp("s"))}, "--exclude x"),
    ],
)
def test_what_is_wrong_with_a_reference_too(
    tmp_path: Path, capsys: Any, reference: dict[str, Any], said: str
) -> None:
    assert command(small(tmp_path, reference, FINE)) == 1
    assert said in capsys.readouterr().err


def test_files_that_are_none_are_refused(tmp_path: Path, capsys: Any) -> None:
    small(tmp_path, FINE, FINE)
    assert command(tmp_path, data="none.parquet") == 1
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "data.xlsx").write_text("x")
    assert command(tmp_path, data="data.xlsx") == 1
    assert "use one of .parquet, .csv" in capsys.readouterr().err
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and nothing more")
    assert command(tmp_path, data="torn.parquet") == 1
    assert "torn.parquet cannot be read" in capsys.readouterr().err
    (tmp_path / "torn.csv").write_text("x,colour\n1,red\n2\n")
    assert command(tmp_path, data="torn.csv") == 1
    assert "torn.csv cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("-o", "report.pdf"),
        ("--labels", "y"),
        ("--time", "t", "--block-rows", "5"),
        ("--block-rows", "0"),
        ("--block", "0s"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    tmp_path: Path, capsys: Any, words: tuple[str, ...]
) -> None:
    assert command(small(tmp_path, FINE, FINE), *words) == 2
    assert capsys.readouterr().err.startswith("error: ")
