"""The reference: rows of the data that a model is meant for, from a file.

Formats: .npz (arrays named after the inputs), .parquet and .csv (a column per
feature, or per input). One array or column may hold the labels, and
one the times.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from driftgate.errors import CliError
from driftgate.packing.graph import NUMPY_TYPES, Arrays, Graph, first_line
from driftgate.packing.times import read_times
from registry_client import TensorSpec

LABEL = "label"
CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows as the model takes them.

    inputs:  input name -> array (n, ...) of the input's datatype.
    columns: names of the features of the one matrix input, () if the file has none.
    labels:  (n,), or None.
    times_ns: (n,) Unix time of each row, or None.
    """

    inputs: Arrays
    columns: tuple[str, ...] = ()
    labels: npt.NDArray[Any] | None = None
    times_ns: npt.NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


def read_reference(
    path: Path, specs: tuple[TensorSpec, ...], label: str = LABEL, time: str | None = None
) -> Reference:
    """Read a file against a model's inputs. Raises: CliError naming expected and got.

    time: the column that says when each row was; it is no feature.
    """
    readers = {".npz": _read_npz, ".parquet": _read_parquet, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CliError(
            f"reference {path} has an unknown format", hint=f"use one of {', '.join(readers)}"
        )
    try:
        table = reader(path)
    except Exception as exc:  # three libraries, each with errors of its own
        raise CliError(f"reference {path} cannot be read", first_line(exc)) from exc
    labels = None if label in {spec.name for spec in specs} else table.pop(label, None)
    times_ns = None if time is None else read_times(path, time)
    if time is not None and time not in {spec.name for spec in specs}:
        del table[time]
    reference = replace(_arrange(path, table, specs, labels), times_ns=times_ns)
    sizes = {len(array) for array in reference.inputs.values()}
    if labels is not None:
        sizes.add(len(labels))
    if times_ns is not None:
        sizes.add(len(times_ns))
    if len(sizes) != 1 or 0 in sizes:
        raise CliError(
            f"reference {path} has no rows, or not the same number everywhere",
            f"lengths {sorted(sizes)}",
        )
    return reference


def predict(graph: Graph, reference: Reference, max_batch_size: int | None) -> Arrays:
    """The model's outputs for every reference row. Raises: CliError."""
    step = graph.fixed_rows or min(CHUNK_ROWS, max_batch_size or CHUNK_ROWS)
    parts: dict[str, list[npt.NDArray[Any]]] = {spec.name: [] for spec in graph.outputs}
    for start in range(0, reference.rows, step):
        chunk = {name: array[start : start + step] for name, array in reference.inputs.items()}
        rows = min(step, reference.rows - start)
        if graph.fixed_rows:
            chunk = {name: _padded(array, step) for name, array in chunk.items()}
        try:
            outputs = graph.run(chunk)
        except Exception as exc:
            raise CliError("the model does not run on the reference", first_line(exc)) from exc
        for name, array in outputs.items():
            parts[name].append(array[:rows])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _padded(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Repeat the last row until there are `rows`."""
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    import pyarrow.parquet

    return _columns(pyarrow.parquet.read_table(path))


def _read_csv(path: Path) -> dict[str, npt.NDArray[Any]]:
    import pyarrow.csv

    return _columns(pyarrow.csv.read_csv(path))


def _columns(table: Any) -> dict[str, npt.NDArray[Any]]:
    """Arrow columns as arrays; missing numbers become NaN, missing texts empty."""
    columns = {}
    for name in table.column_names:
        array = table.column(name).to_numpy()
        if array.dtype.kind == "O":
            array = np.array([b"" if item is None else str(item).encode() for item in array])
        columns[name] = array
    return columns


def _arrange(
    path: Path,
    table: Mapping[str, npt.NDArray[Any]],
    specs: tuple[TensorSpec, ...],
    labels: npt.NDArray[Any] | None,
) -> Reference:
    """Match what the file holds to the inputs: by name, else as the one matrix."""
    if all(spec.name in table for spec in specs):
        inputs = {spec.name: _fit(path, table[spec.name], spec) for spec in specs}
        return Reference(inputs, (), labels)
    if len(specs) == 1 and len(table) == 1:
        (array,) = table.values()
        return Reference({specs[0].name: _fit(path, array, specs[0])}, (), labels)
    columns = [name for name, array in table.items() if array.ndim == 1]
    if len(specs) == 1 and len(columns) == len(table) == math.prod(specs[0].shape[1:]):
        matrix = np.stack([table[name] for name in columns], axis=1)
        return Reference({specs[0].name: _fit(path, matrix, specs[0])}, tuple(columns), labels)
    wanted = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
    raise CliError(
        f"reference {path} does not fit the model's inputs",
        f"expected {wanted}; got {len(table)} columns {', '.join(list(table)[:12])}",
        "name arrays after inputs, or give one column per feature; --label names the label",
    )


def _fit(path: Path, array: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    """Bring an array to an input's shape and datatype, losing nothing."""
    kind = NUMPY_TYPES.get(spec.datatype)
    is_text = spec.datatype == "BYTES"
    if kind is None or is_text != (array.dtype.kind in "SU"):
        raise CliError(
            f"reference {path} cannot give input {spec.name}",
            f"expected {spec.datatype}, got {array.dtype}",
        )
    row = spec.shape[1:]
    if array.ndim and array.shape[1:] != row and math.prod(array.shape[1:]) == math.prod(row):
        array = array.reshape(len(array), *row)
    if array.ndim != len(spec.shape) or any(
        dim not in (-1, got) for dim, got in zip(row, array.shape[1:], strict=True)
    ):
        raise CliError(
            f"reference {path} cannot give input {spec.name}",
            f"expected shape {list(spec.shape)}, got {list(array.shape)}",
        )
    if is_text:
        return array if array.dtype.kind == "S" else np.char.encode(array, "utf-8")
    converted = array.astype(kind)
    if converted.dtype.kind in "iub" and not np.array_equal(converted, array):
        raise CliError(
            f"reference {path} cannot give input {spec.name}",
            f"values are not whole numbers that {spec.datatype} holds",
        )
    return converted
