"""The Parquet export where versions differ, rows are wide, labels err, and traffic goes on."""

import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eventlog import (
    Label,
    LogSettings,
    MemoryLog,
    Position,
    PredictionIds,
    PredictionRows,
    PredictionWriter,
    SqliteLog,
    StoredRecord,
    encode_labels,
    encode_predictions,
    fake_rows,
)
from eventlog import export as export_module
from eventlog.core.predictions import Hashed
from eventlog.export import Exported, Selection, export_parquet
from eventlog.export_labels import LabelShelf

A = "aaaaaa"
TS_NS = 1_700_000_000_123_456_789
MIB = 1024 * 1024


@pytest.fixture
def ids(tmp_path: Path) -> PredictionIds:
    return PredictionIds.load(tmp_path)


def export(
    tmp_path: Path, ids: PredictionIds, batches: list[PredictionRows], **selected: Any
) -> Any:
    log = MemoryLog()
    log.append([encode_predictions(rows, A, 0) for rows in batches])
    path = tmp_path / "out.parquet"
    export_parquet(log, path, Selection(**selected), ids.codec)
    return pq.read_table(path)


def versions(*inputs: np.ndarray[Any, Any], bfloat: int = -1) -> list[PredictionRows]:
    """A version per array, each with input `x`; two rows each."""
    made = []
    for index, array in enumerate(inputs):
        rows = fake_rows(2 * index, 2, version=str(index + 1), ts_ns=TS_NS, inputs={"x": array})
        made.append(replace(rows, datatypes={"input:x": "BF16"}) if index == bfloat else rows)
    return made


def values(table: Any, prefix: str = "input.x") -> Mapping[str, list[Any]]:
    names = [name for name in table.column_names if name.startswith(prefix)]
    return {name: table.column(name).to_pylist() for name in names}


def words(*items: bytes) -> np.ndarray[Any, Any]:
    return np.array(items, dtype=np.object_)


def test_narrow_and_wide_numbers_of_one_kind_share_a_column(
    tmp_path: Path, ids: PredictionIds
) -> None:
    big = 2**62 + 1
    table = export(
        tmp_path, ids, versions(np.array([1, -2], np.int8), np.array([big, 3], np.int64))
    )
    assert values(table) == {"input.x": [1, -2, big, 3]}
    table = export(
        tmp_path, ids, versions(np.array([0.1, 2], np.float32), np.array([0.1, 4], np.float64))
    )
    assert values(table) == {"input.x": [float(np.float32(0.1)), 2.0, 0.1, 4.0]}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            np.array([2**60 + 1, 2], np.int64),
            np.array([0.5, 1], np.float32),
            {"input.x.int64": [2**60 + 1, 2, None, None], "input.x.float": [None, None, 0.5, 1]},
        ),
        (
            np.array([2**63 + 1, 2], np.uint64),
            np.array([-1, 1], np.int64),
            {"input.x.uint64": [2**63 + 1, 2, None, None], "input.x.int64": [None, None, -1, 1]},
        ),
        (
            np.array([1, 2], np.int64),
            words(b"cat", b"\xff"),
            {"input.x.int64": [1, 2, None, None], "input.x.binary": [None, None, b"cat", b"\xff"]},
        ),
        (
            np.array([1, 2], np.float32),
            np.array([[[1, 2]], [[3, 4]]], np.float32),
            {
                "input.x.float": [1, 2, None, None],
                "input.x.list_float": [None, None, [1, 2], [3, 4]],
            },
        ),
    ],
    ids=["integers and floats", "signed and unsigned", "numbers and words", "scalars and images"],
)  # fmt: skip
def test_what_one_type_cannot_hold_has_a_column_per_type(
    tmp_path: Path, ids: PredictionIds, first: Any, second: Any, expected: Any
) -> None:
    assert values(export(tmp_path, ids, versions(first, second))) == expected


def test_lists_widen_as_scalars_do(tmp_path: Path, ids: PredictionIds) -> None:
    first, second = np.array([[1, 2]] * 2, np.int16), np.array([[3, 4]] * 2, np.int32)
    table = export(tmp_path, ids, versions(first, second), wide_max=0)
    assert values(table) == {"input.x": [[1, 2], [1, 2], [3, 4], [3, 4]]}


def test_sixteen_bit_floats_are_exported_by_value(tmp_path: Path, ids: PredictionIds) -> None:
    bits = np.array([0x3F80, 0xC000], np.uint16)
    table = export(tmp_path, ids, versions(bits, np.array([0.5, 2], np.float16), bfloat=0))
    assert values(table) == {"input.x": [1.0, -2.0, 0.5, 2.0]}


def test_empty_tensors_and_digests_have_columns(tmp_path: Path, ids: PredictionIds) -> None:
    writer = PredictionWriter(tmp_path / "log", A, LogSettings(record_bytes_max=4096))
    inputs = {"big": np.ones((2, 3000), np.float32), "none": np.zeros((2, 0), np.float32)}
    writer.offer(fake_rows(writer.assign(2), 2, ts_ns=TS_NS, inputs=inputs))
    assert writer.close(30)
    with closing(SqliteLog(tmp_path / "log")) as log:
        export_parquet(log, tmp_path / "out.parquet", Selection(), ids.codec)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("input.none").to_pylist() == [[], []]
    assert table.column("input.big.sha256").type == pa.string()


def labelled(
    tmp_path: Path, ids: PredictionIds, labels: Mapping[str, list[Label]], **selected: Any
) -> tuple[Exported, list[Any]]:
    """Three requests: rows 0 and 1, row 2, row 3 of model `m`. labels: by model."""
    rows = fake_rows(0, 4, ts_ns=TS_NS)
    rows = replace(rows, row=np.array([0, 1, 0, 0], np.uint32))
    log = MemoryLog()
    log.append([encode_predictions(rows, A, 0)])
    for model, items in labels.items():
        log.append([encode_labels(model, items, A, 0, 0)])
    path = tmp_path / "out.parquet"
    exported = export_parquet(log, path, Selection(labels=True, **selected), ids.codec)
    return exported, pq.read_table(path).column("label").to_pylist()


def test_a_label_of_a_row_that_its_request_did_not_have_is_an_orphan(
    tmp_path: Path, ids: PredictionIds
) -> None:
    first, second = (ids.encode(TS_NS // 1_000_000, A, number) for number in (0, 2))
    labels = [Label(first, 1, 5, 1.0), Label(first, 2, 5, 99.0), Label(second, 1, 5, 99.0)]
    assert labelled(tmp_path, ids, {"m": labels}) == (Exported(4, 1, 2), [None, 1.0, None, None])


@pytest.mark.parametrize("model", [None, "m"])
def test_a_label_sent_for_another_model_is_not_joined(
    tmp_path: Path, ids: PredictionIds, model: str | None
) -> None:
    label = Label(ids.encode(TS_NS // 1_000_000, A, 2), 0, 5, 99.0)
    exported, found = labelled(tmp_path, ids, {"other": [label]}, model=model)
    assert (exported.labelled, found) == (0, [None] * 4)


def test_the_truth_that_became_known_last_counts(tmp_path: Path, ids: PredictionIds) -> None:
    request = ids.encode(TS_NS // 1_000_000, A, 2)
    labels = [Label(request, 0, 7, 2.0), Label(request, 0, 6, 1.0)]
    assert labelled(tmp_path, ids, {"m": labels})[1] == [None, None, 2.0, None]


def test_classes_and_numbers_together_are_text(tmp_path: Path, ids: PredictionIds) -> None:
    labels = [
        Label(ids.encode(TS_NS // 1_000_000, A, number), 0, 5, value)
        for number, value in ((2, "cat"), (3, 1.5))
    ]
    assert labelled(tmp_path, ids, {"m": labels})[1] == [None, None, "cat", "1.5"]


class BusyLog(MemoryLog):
    """With every read comes another record, of another model and other columns."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        self.reads += 1
        assert self.reads < 100, "the reader runs after the writer for ever"
        inputs = {"other": np.zeros(1, np.float32)}
        rows = fake_rows(1000 + self.reads, 1, model="other", ts_ns=TS_NS, inputs=inputs)
        self.append([encode_predictions(rows, A, 0), encode_predictions(rows, "bbbbbb", 0)])
        return super().read(after, limit)


def test_an_export_ends_while_traffic_goes_on_and_holds_what_was_there(
    tmp_path: Path, ids: PredictionIds
) -> None:
    log = BusyLog()
    log.append([encode_predictions(fake_rows(i, 1, ts_ns=TS_NS), A, 0) for i in range(40)])
    path = tmp_path / "out.parquet"
    assert export_parquet(log, path, Selection(), ids.codec).rows == 40
    table = pq.read_table(path)
    assert table.column("output.y").to_pylist() == list(range(40))
    assert set(table.column("model").to_pylist()) == {"m"}


class WideLog(MemoryLog):
    """Many records of the same wide rows, made when they are read."""

    def __init__(self, records: int) -> None:
        super().__init__()
        inputs = {"x": np.zeros((2, 64 * 1024), np.float32)}
        self._record = encode_predictions(fake_rows(0, 2, ts_ns=TS_NS, inputs=inputs), A, 0)
        self._records = records

    def end(self) -> dict[str, int]:
        return {A: self._records}

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        first = after.get(A, 0) + 1
        stop = min(first + limit, self._records + 1)
        return [StoredRecord(A, offset, self._record) for offset in range(first, stop)]


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_wide_rows_are_written_in_groups_of_bounded_bytes(
    tmp_path: Path, ids: PredictionIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "ROW_GROUP_BYTES", 4 * MIB)
    path = tmp_path / "out.parquet"
    exported = export_parquet(WideLog(64), path, Selection(), ids.codec)
    assert exported.rows == 128
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [16] * 8
    assert tracemalloc.get_traced_memory()[1] < 24 * MIB


@pytest.mark.usefixtures("traced")
def test_many_labels_do_not_fill_the_memory(ids: PredictionIds) -> None:
    text = ids.encode(TS_NS // 1_000_000, A, 0)
    with closing(LabelShelf()) as shelf:
        for first in range(0, 100_000, 1000):
            shelf.put("m", [(A, n, Label(text, n, 5, 1.0)) for n in range(first, first + 1000)])
        assert shelf.count() == 100_000
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB


def test_what_a_policy_left_out_or_hashed_and_traces_have_their_columns(
    tmp_path: Path, ids: PredictionIds
) -> None:
    whole, masked = versions(np.float32([[1, 2, 3]] * 2), np.float32([[1, 0, 3]] * 2))
    trace = np.zeros((2, 25), np.uint8)
    trace[1] = np.arange(1, 26)
    digests = np.stack([np.full(16, 0xAB, np.uint8), np.full(16, 0xCD, np.uint8)])
    masked = replace(
        masked,
        masked={"input:x": (1,)},
        dropped=("input:ssn",),
        hashed={"input:id": Hashed("BYTES", (1,), "00ff00ff", digests)},
        traces=trace,
    )
    table = export(tmp_path, ids, [whole, masked])
    assert values(table, "input.x.1") == {"input.x.1": [2, 2, None, None]}
    assert values(table, "input.x.2") == {"input.x.2": [3, 3, 3, 3]}
    assert values(table, "input.id") == {"input.id.hmac": [None, None, "ab" * 16, "cd" * 16]}
    assert values(table, "input.ssn") == {}
    written = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-19"
    assert table.column("traceparent").to_pylist() == [None, None, None, written]
    lists = export(tmp_path, ids, [masked], wide_max=0)
    assert values(lists) == {"input.x": [[1, None, 3], [1, None, 3]]}
