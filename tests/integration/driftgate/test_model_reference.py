"""Reference data from files, into profiles, through `driftgate model push`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper

from driftgate.errors import CliError
from driftgate.packing.pack import Pack, pack_model
from driftgate.packing.reference import read_reference
from monitor.profile import PredictionKind, ReferenceProfile
from registry_client import FileRole, TensorSpec
from tests.registry_models import OPSET, plain_model

SPECS = (TensorSpec("x", "FP32", (-1, 4)),)
ROWS = 300


@pytest.fixture
def rows() -> np.ndarray:
    generator = np.random.default_rng(5)
    values = generator.standard_normal((ROWS, 4)).astype(np.float32)
    values[:, 3] = generator.integers(0, 5, ROWS)
    return values


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(plain_model())
    return path


def table(rows: np.ndarray, **more: object) -> pa.Table:
    names = ("age", "income", "debt", "cards")
    return pa.table({name: rows[:, index] for index, name in enumerate(names)} | more)


def profile_of(pack: Pack) -> ReferenceProfile:
    role, data = pack.files["reference.json"]
    assert role is FileRole.REFERENCE
    assert isinstance(data, bytes)
    return ReferenceProfile.from_bytes(data)


def test_every_format_gives_the_same_rows(rows: np.ndarray, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(rows), tmp_path / "r.parquet")
    pyarrow.csv.write_csv(table(rows), tmp_path / "r.csv")
    np.savez(tmp_path / "r.npz", x=rows)
    np.savez(tmp_path / "one.npz", anything=rows.astype(np.float64))
    for name in ("r.parquet", "r.csv", "r.npz", "one.npz"):
        reference = read_reference(tmp_path / name, SPECS)
        np.testing.assert_allclose(reference.inputs["x"], rows, rtol=1e-6)
        assert reference.inputs["x"].dtype == np.float32
        assert reference.labels is None


def test_columns_name_the_features_and_the_profile_fixes_their_kinds(
    rows: np.ndarray, plain: Path, tmp_path: Path
) -> None:
    pyarrow.parquet.write_table(table(rows), tmp_path / "r.parquet")
    pack = pack_model(plain, reference=tmp_path / "r.parquet")
    kinds = [(feature.name, str(feature.kind)) for feature in pack.features]
    assert kinds == [
        ("age", "continuous"),
        ("income", "continuous"),
        ("debt", "continuous"),
        ("cards", "discrete"),
    ]
    profile = profile_of(pack)
    assert profile.rows == ROWS
    assert [(f.name, f.tensor, f.index) for f in profile.features] == [
        (f.name, "x", f.index) for f in pack.features
    ]
    assert profile.loss is None
    assert pack.notes == ()


def test_continuous_overrides_the_kinds(rows: np.ndarray, plain: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=rows)
    pack = pack_model(plain, reference=tmp_path / "r.npz", continuous=True)
    assert {str(feature.kind) for feature in pack.features} == {"continuous"}


def test_labels_give_the_loss_that_the_monitor_compares_with(
    rows: np.ndarray, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
    )
    path = tmp_path / "argmax.onnx"
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=10)
    path.write_bytes(model.SerializeToString())
    labels = rows.argmax(axis=1)
    labels[:30] = (labels[:30] + 1) % 4
    pyarrow.csv.write_csv(table(rows, truth=labels), tmp_path / "r.csv")
    profile = profile_of(pack_model(path, reference=tmp_path / "r.csv", label="truth"))
    assert profile.prediction is not None
    assert profile.prediction.kind is PredictionKind.CLASS
    assert profile.prediction.output == "y"
    assert profile.loss is not None
    assert profile.loss.mean == pytest.approx(0.1)
    assert len(profile.features) == 4


def test_golden_samples_are_drawn_from_the_reference(
    rows: np.ndarray, plain: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "r.npz", x=rows)
    pack = pack_model(plain, reference=tmp_path / "r.npz", max_batch_size=3)
    data = pack.files["golden.npz"][1]
    assert isinstance(data, bytes)
    (tmp_path / "g.npz").write_bytes(data)
    with np.load(tmp_path / "g.npz") as archive:
        samples = archive["input:x"]
    assert samples.shape == (3, 4)
    known = {row.tobytes() for row in rows}
    assert all(sample.tobytes() in known for sample in samples)


@pytest.mark.parametrize("batch", [1, 7])
def test_a_model_with_a_fixed_batch_is_profiled_in_runs_of_that_size(
    rows: np.ndarray, tmp_path: Path, batch: int
) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 1])],
    )
    path = tmp_path / "fixed.onnx"
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=10)
    path.write_bytes(model.SerializeToString())
    np.savez(tmp_path / "r.npz", x=rows)
    pack = pack_model(path, reference=tmp_path / "r.npz")
    profile = profile_of(pack)
    assert profile.rows == ROWS
    assert profile.predictions[0].counts.sum() == ROWS
    assert "golden.npz" in pack.files


@pytest.mark.parametrize(
    ("name", "arrays", "expected"),
    [
        ("r.npz", {"x": np.zeros((5, 3), np.float32)}, "expected shape [-1, 4], got [5, 3]"),
        ("r.npz", {"x": np.zeros((0, 4), np.float32)}, "has no rows"),
        ("r.npz", {"x": np.zeros((5, 4)), "label": np.zeros(4)}, "not the same number"),
        ("r.npz", {"x": np.array([["a"] * 4])}, "expected FP32, got <U1"),
        ("r.npz", {"a": np.zeros(4), "b": np.zeros(4)}, "got 2 columns a, b"),
        ("r.npz", {"x": np.array([[None] * 4], dtype=object)}, "cannot be read"),
        ("r.txt", {"x": np.zeros((5, 4))}, "unknown format"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_with_expected_and_got(
    tmp_path: Path, name: str, arrays: dict[str, np.ndarray], expected: str
) -> None:
    with open(tmp_path / name, "wb") as stream:
        np.savez(stream, **arrays)
    with pytest.raises(CliError) as error:
        read_reference(tmp_path / name, SPECS)
    assert expected in str(error.value)


def test_numbers_that_an_input_cannot_hold_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", i=np.array([[1.5], [2.0]]))
    with pytest.raises(CliError, match="cannot give input i"):
        read_reference(tmp_path / "r.npz", (TensorSpec("i", "INT64", (-1, 1)),))


@pytest.mark.parametrize("name", ["r.parquet", "r.csv", "r.npz"])
def test_a_column_of_times_gives_answers_by_the_hour_of_the_week(
    rows: np.ndarray, plain: Path, tmp_path: Path, name: str
) -> None:
    """Half past each hour of three weeks; 1970 began on a Thursday."""
    seconds = 1800 + 3600 * np.arange(ROWS)
    moments = seconds.astype("datetime64[s]")
    if name == "r.parquet":
        pyarrow.parquet.write_table(table(rows, at=moments), tmp_path / name)
    elif name == "r.csv":
        pyarrow.csv.write_csv(table(rows, at=moments), tmp_path / name)
    else:
        np.savez(tmp_path / name, x=rows, at=seconds)
    pack = pack_model(plain, reference=tmp_path / name, time="at")
    profile = profile_of(pack)
    assert len(profile.features) == 4
    assert profile.season is not None
    expected = np.bincount((np.arange(ROWS) + 72) % 168, minlength=168)
    assert profile.season.rows.tolist() == expected.tolist()
    (note,) = pack.notes
    assert "less than two weeks" in note
    assert "in 168 of 168 hours it has fewer than 100 rows" in note


@pytest.mark.parametrize(
    ("column", "said"), [("when", "has no column 'when'"), ("word", "is no time")]
)
def test_times_that_are_none_are_refused(
    rows: np.ndarray, plain: Path, tmp_path: Path, column: str, said: str
) -> None:
    words = np.array(["noon"] * ROWS)
    pyarrow.parquet.write_table(table(rows, word=words), tmp_path / "r.parquet")
    with pytest.raises(CliError) as error:
        pack_model(plain, reference=tmp_path / "r.parquet", time=column)
    assert said in f"{error.value} {error.value.__dict__}"
