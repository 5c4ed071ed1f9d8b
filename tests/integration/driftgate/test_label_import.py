"""`driftgate label import`: a file's labels at a gateway, and what is said of them."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from driftgate.cli import main
from driftgate.labelling import sender
from driftgate.labelling.label_file import BATCH_ROWS
from eventlog import Label
from monitor.published import Published, Snapshot
from tests.broker.authority import Authority
from tests.label_gateway import ALIEN, Gateway, ids, label_gateway
from tests.monitor_served import served


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with label_gateway() as found:
        yield found


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PAUSE_S", 0.0)


def run(
    tmp_path: Path, url: str, columns: dict[str, Any], *words: str, suffix: str = "parquet"
) -> int:
    file, table = tmp_path / f"truth.{suffix}", pa.table(columns)
    if suffix == "csv":
        pa.csv.write_csv(table, file)
    else:
        pa.parquet.write_table(table, file)
    options = ("--url", url, "--state-dir", str(tmp_path / "state"))
    return main(["label", "import", str(file), "m", *options, *words])


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_files_labels_arrive_and_rows_without_one_are_passed_over(
    gateway: Gateway, tmp_path: Path, capsys: Any, suffix: str
) -> None:
    names = ids(4)
    rows = {"prediction_id": [*names[:3], f"{names[3]}.7"], "label": [1.5, None, 3.0, -2.0]}
    assert run(tmp_path, gateway.url, rows, suffix=suffix) == 0
    assert [(x.prediction_id, x.row, x.value) for x in gateway.labels] == [
        (names[0], 0, 1.5),
        (names[2], 0, 3.0),
        (names[3], 7, -2.0),
    ]
    out = capsys.readouterr().out
    assert "3 labels taken, 1 rows without one" in out
    assert "no monitor answers" in out


def test_over_tls_the_own_gateways_certificate_is_trusted_and_elsewhere_what_python_trusts(
    gateway: Gateway, tmp_path: Path, capsys: Any
) -> None:
    mine, key = Authority(tmp_path, "ca").create().issue("mine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)
    gateway.server.socket = context.wrap_socket(gateway.server.socket, server_side=True)
    file = tmp_path / "truth.csv"
    pa.csv.write_csv(pa.table({"prediction_id": ids(1), "label": [1.0]}), file)
    (tmp_path / "driftgate.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n[gateway]\nhttp_port = {gateway.server.server_port}\n'
        f'[tls]\ncertificate_file = "{mine}"\nkey_file = "{key}"\n'
    )
    words = ["label", "import", str(file), "m", "--config", str(tmp_path / "driftgate.toml")]
    assert main(words) == 0
    assert len(gateway.labels) == 1
    capsys.readouterr()
    assert main([*words, "--url", gateway.url.replace("http:", "https:")]) == 4
    assert "certificate verify failed" in capsys.readouterr().err
    assert len(gateway.labels) == 1


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_columns_are_named_and_texts_booleans_rows_and_times_are_understood(
    gateway: Gateway, tmp_path: Path, suffix: str
) -> None:
    known = [datetime(2026, 11, 21, 4, tzinfo=UTC)] * 2
    rows = {"id": ids(2), "truth": ["cat", "dog"], "sure": [True, False], "n": [5, 6], "at": known}
    words = ("--id", "id", "--row", "n")
    named = ("--label", "truth", "--time", "at")
    assert run(tmp_path, gateway.url, rows, *words, *named, suffix=suffix) == 0
    assert run(tmp_path, gateway.url, rows, *words, "--label", "sure", suffix=suffix) == 0
    assert [(x.row, x.value) for x in gateway.labels] == [
        (5, "cat"),
        (6, "dog"),
        (5, 1.0),
        (6, 0.0),
    ]
    assert [x.ts_ns for x in gateway.labels] == [int(known[0].timestamp()) * 10**9] * 2 + [0, 0]


def test_what_the_gateway_refuses_is_told_by_its_row_and_the_rest_is_taken(
    gateway: Gateway, tmp_path: Path, capsys: Any
) -> None:
    names = ids(BATCH_ROWS + 100)
    names[17], names[BATCH_ROWS + 3] = ids(1, ALIEN)[0], "what"
    values = [float(i) for i in range(len(names))]
    values[40] = float("inf")
    rows = {"prediction_id": names, "label": values}
    assert run(tmp_path, gateway.url, rows, "-o", "json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["taken"], document["refused"], document["unusable"]) == (5097, 2, 1)
    assert [item["row"] for item in document["reasons"]] == [17, 40, BATCH_ROWS + 3]
    assert "was not issued here" in document["reasons"][0]["reason"]
    assert sorted(x.value for x in gateway.labels) == [
        value for i, value in enumerate(values) if i not in (17, 40, BATCH_ROWS + 3)
    ]
    assert gateway.requests < 80  # halves, not one by one


def test_a_file_of_ids_from_elsewhere_is_given_up(
    gateway: Gateway, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REFUSED_MAX", 20)
    rows = {"prediction_id": ids(100, ALIEN), "label": [1.0] * 100}
    assert run(tmp_path, gateway.url, rows) == 1
    assert "stopped: the gateway refused 21 labels; --skip 0" in capsys.readouterr().out


def test_a_busy_gateway_is_asked_again_and_none_at_all_is_said(
    gateway: Gateway, tmp_path: Path, capsys: Any
) -> None:
    gateway.busy = 3
    rows = {"prediction_id": ids(2), "label": [1.0, 2.0]}
    assert run(tmp_path, gateway.url, rows) == 0
    assert (gateway.requests, len(gateway.labels)) == (4, 2)
    assert run(tmp_path, "http://127.0.0.1:1", rows) == 4
    err = capsys.readouterr().err
    assert "no gateway answers" in err
    assert "--skip 0" in err


def test_what_became_of_them_is_what_the_monitor_counted_since(
    gateway: Gateway, tmp_path: Path, capsys: Any
) -> None:
    fates = {"joined": 100, "orphan": 5}
    published = Published(Snapshot(ready=True, models={"m": {"labels": dict(fates)}}))

    def seen(labels: list[Label]) -> None:
        after = {**fates, "joined": 100 + len(labels) - 1, "duplicate": 1}
        published.snapshot = Snapshot(ready=True, models={"m": {"labels": after}})

    gateway.seen = seen
    rows = {"prediction_id": ids(3), "label": [1, 2, 3]}
    with served(published, tmp_path / "none.db") as url:
        (tmp_path / "state" / "monitor").mkdir(parents=True)
        (tmp_path / "state" / "monitor" / "address").write_text(url.removeprefix("http://"))
        assert run(tmp_path, gateway.url, rows) == 0
        assert "the monitor: 1 duplicate, 2 joined" in capsys.readouterr().out
        assert run(tmp_path, gateway.url, rows, "--skip", "2", "--wait", "0") == 0
    assert [x.value for x in gateway.labels] == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--label", "nothing"), "has no column 'nothing'"),
        (("--time", "label"), "is no time"),
        (("--skip", "-1"), "--skip and --wait are 0 or more"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_before_anything_is_sent(
    gateway: Gateway, tmp_path: Path, capsys: Any, words: tuple[str, ...], said: str
) -> None:
    rows = {"prediction_id": ids(2), "label": ["a", "b"]}
    assert run(tmp_path, gateway.url, rows, *words) in (1, 2)
    assert said in capsys.readouterr().err
    assert gateway.requests == 0
    assert main(["label", "import", str(tmp_path / "not.parquet"), "m"]) == 1
    assert "there is no file" in capsys.readouterr().err
