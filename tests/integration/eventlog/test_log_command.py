"""`driftgate log` and the Parquet export, on a real log directory."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from driftgate.errors import CliError
from eventlog import (
    GapReason,
    Label,
    LogSettings,
    PredictionIds,
    PredictionWriter,
    Status,
    fake_rows,
)
from tests.integration.eventlog.log_commands import run

A = "aaaaaa"
TS_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Ten rows of `digits` a second apart, two of them failed, three of `other`, labels, gaps."""
    ids = PredictionIds.load(tmp_path)
    writer = PredictionWriter(tmp_path / "log", A, LogSettings())
    for index in range(10):
        first = writer.assign(1)
        failed = index in (3, 4)
        writer.offer(
            fake_rows(
                first,
                1,
                model="digits",
                version="2" if index > 6 else "1",
                ts_ns=TS_NS + index * SECOND_NS,
                outputs={} if failed else {"label": np.array([index], dtype=np.int64)},
                status=Status.FAILED if failed else Status.OK,
            )
        )
    writer.skip(writer.assign(4), 4, GapReason.SAMPLED, "digits")
    words = np.array([[b"a"], [b"\xff"], [b"c"]], dtype=np.object_)
    writer.offer(fake_rows(writer.assign(3), 3, model="other", ts_ns=TS_NS, inputs={"w": words}))
    labels = [
        Label(ids.encode((TS_NS + i * SECOND_NS) // 1_000_000, A, i), 0, 5, float(i))
        for i in (1, 2)
    ]
    labels.append(Label(labels[0].prediction_id, 0, 6, 42.0))  # a correction
    labels.append(Label(ids.encode(TS_NS // 1_000_000, A, 900), 0, 5, 0.0))
    writer.offer_labels("digits", labels, lambda error: None)
    assert writer.close(30)
    return tmp_path


def test_tail_prints_the_last_rows_oldest_first(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state_dir, "tail", "--model", "digits", "--json", "-n", "4") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [row for row in said if row["kind"] == "prediction"]
    assert [row["outputs"]["label"] for row in rows] == [7, 8, 9]
    assert [row["version"] for row in rows] == ["2", "2", "2"]
    assert rows[0]["inputs"]["x"] == [7.0, 7.0, 7.0]
    ids = PredictionIds.load(state_dir)
    assert ids.decode(rows[0]["prediction_id"]).sequence == 7


def test_tail_is_readable(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state_dir, "tail", "-n", "100") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 14
    assert "gap: 4 rows, sampled" in out
    assert "digits 1 stable  failed  1.50 ms" in out
    assert "22:13:29.123" in out


def test_stats_balance(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state_dir, "stats", "--verify", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["total"] == {
        "acknowledged": 17,
        "delivered": 0,
        "elsewhere": 0,
        "spooled": 13,
        "unexplained": 0,
        "gaps": {"sampled": 4},
    }
    assert run(state_dir, "stats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "incarnation",
        "acknowledged",
        "delivered",
        "spooled",
        "gaps",
        "unexplained",
    ]
    assert lines[1].split() == [A, "17", "0", "13", "sampled=4", "0"]


def test_verify_fails_when_rows_are_unexplained(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((state_dir / "log").glob("*.db")).unlink()
    assert run(state_dir, "stats", "--verify") == 1
    assert "17 rows are not accounted for" in capsys.readouterr().err


def test_export_has_a_row_per_prediction_and_a_column_per_element(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.parquet"
    assert run(state_dir, "export", "--output", str(output), "--model", "digits", "--labels") == 0
    assert "10 rows, 2 labelled, 1 labels without a row" in capsys.readouterr().out
    table = pq.read_table(output).sort_by("ts")
    assert table.column("input.x.2").to_pylist() == [float(i) for i in range(10)]
    expected = [i if i not in (3, 4) else None for i in range(10)]
    assert table.column("output.label").to_pylist() == expected
    assert table.column("status").to_pylist()[2:5] == ["ok", "failed", "failed"]
    assert table.column("label").to_pylist() == [None, 42.0, 2.0, *[None] * 7]
    ids = PredictionIds.load(state_dir)
    numbers = [ids.decode(text).sequence for text in table.column("prediction_id").to_pylist()]
    assert numbers == list(range(10))
    assert table.column("latency_ms").to_pylist() == [1.5] * 10


def test_export_selects_by_time(state_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    words = ("export", "--output", str(output), "--model", "digits")
    since, until = "2023-11-14T22:13:22Z", "2023-11-14T22:13:25Z"
    assert run(state_dir, *words, "--since", since, "--until", until) == 0
    assert sorted(pq.read_table(output).column("input.x.0").to_pylist()) == [2.0, 3.0, 4.0]


def test_export_in_lists_keeps_bytes(state_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    assert run(state_dir, "export", "--output", str(output), "--model", "other", "--lists") == 0
    assert pq.read_table(output).column("input.w").to_pylist() == [[b"a"], [b"\xff"], [b"c"]]


def test_export_of_several_models_asks_for_one(state_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="nothing was exported") as caught:
        run(state_dir, "export", "--output", str(tmp_path / "out.parquet"))
    assert "digits, other" in str(caught.value)
    assert not list(tmp_path.glob("out.parquet*"))


@pytest.mark.parametrize(
    "words",
    [
        ("export", "--output", "x.parquet", "--model", "nobody"),
        ("export", "--output", "x.parquet", "--since", "yesterday"),
    ],
)
def test_what_cannot_be_exported_is_said(state_dir: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(CliError):
        run(state_dir, *words)


def test_without_a_log_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="no prediction log"):
        run(tmp_path, "stats")


def test_export_takes_its_file_by_either_spelling_and_no_folder(
    state_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "short.parquet"
    assert run(state_dir, "export", "-o", str(output), "--model", "digits") == 0
    assert output.exists()
    with pytest.raises(CliError, match="not a file's name"):
        run(state_dir, "export", "--output", ".", "--model", "digits")
