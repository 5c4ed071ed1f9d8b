"""An ONNX file as ONNX Runtime sees it: its session, inputs and outputs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from driftgate.errors import CliError
from registry_client import Corrupt, TensorSpec
from registry_client.core.onnx_wire import OnnxSummary, check_locations, scan_onnx
from registry_client.core.signature import ONNXRUNTIME_TYPES
from registry_client.verified import scan_file

Arrays = Mapping[str, npt.NDArray[Any]]

NUMPY_TYPES: Mapping[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.bytes_,
}


@dataclass(frozen=True, slots=True)
class Graph:
    """A loaded model. `run` takes and gives arrays, BYTES as fixed-width byte strings."""

    session: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def fixed_rows(self) -> int | None:
        """Rows that every run must have, where the graph fixes its first dimension."""
        fixed = [spec.shape[0] for spec in self.inputs if spec.shape and spec.shape[0] > 0]
        return min(fixed) if fixed else None

    def run(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """One execution. Raises: whatever ONNX Runtime raises for inputs it cannot take."""
        feeds = {name: _to_runtime(array) for name, array in arrays.items()}
        names = [spec.name for spec in self.outputs]
        results = self.session.run(names, feeds)
        return {name: _from_runtime(array) for name, array in zip(names, results, strict=True)}


def load_graph(model: Path | bytes, external: Mapping[str, Path]) -> Graph:
    """Load a model with just the external files that were listed.

    model:    the file, or its contents.
    external: location as the graph spells it -> file.
    Raises: CliError for external data that is not listed, a file that is no model,
            or inputs and outputs that no tensor can carry.
    """
    onnxruntime = _runtime()
    shown = str(model) if isinstance(model, Path) else "the model given"
    _check_listed(model, external)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        contents = [_mapped(file) for file in external.values()]
        if external:
            options.add_external_initializers_from_files_in_memory(
                list(external), contents, [content.size for content in contents]
            )
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
    except Exception as exc:  # ONNX Runtime's errors share no base class
        raise CliError(f"{shown} cannot be loaded", first_line(exc)) from exc
    return Graph(
        session,
        tuple(_spec("input", value) for value in session.get_inputs()),
        tuple(_spec("output", value) for value in session.get_outputs()),
    )


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as exc:
        raise CliError(
            "a model cannot be read without ONNX Runtime",
            str(exc),
            'pip install "driftgate[cpu]", or "driftgate[gpu]"',
        ) from exc
    return onnxruntime


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def first_line(exc: Exception) -> str:
    """The first line of a foreign error, for a cause."""
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def _check_listed(model: Path | bytes, external: Mapping[str, Path]) -> None:
    locations = check_locations(_scan(model))
    missing = [location for location in locations if location not in external]
    if missing:
        folder = model.parent if isinstance(model, Path) else Path()
        flags = " ".join(f"--external {folder / location}" for location in missing[:8])
        raise CliError(
            f"the model keeps tensors in {len(missing)} files that were not given",
            f"external data in {', '.join(missing[:8])}",
            f"add {flags}",
        )


def _scan(model: Path | bytes) -> OnnxSummary:
    if isinstance(model, bytes):
        return scan_onnx(model)
    if model.is_dir():
        raise CliError(f"{model} is a folder", hint="name the .onnx file in it")
    try:
        descriptor = os.open(model, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise CliError(f"{model} cannot be read", exc.strerror) from exc
    try:
        return scan_file(descriptor)
    except Corrupt as exc:
        hint = "export it again; `driftgate model push NAME FILE.onnx` takes the file as exported"
        raise CliError(f"{model} is not an ONNX file, or a damaged one", str(exc), hint) from exc
    finally:
        os.close(descriptor)


def _spec(what: str, value: Any) -> TensorSpec:
    datatype = ONNXRUNTIME_TYPES.get(value.type)
    if datatype is None:
        raise CliError(
            f"{what} {value.name!r} has the type {value.type}, which no request can carry",
            hint="export plain tensors (with skl2onnx: options={'zipmap': False})",
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in value.shape)
    return TensorSpec(value.name, datatype, shape)


def _to_runtime(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind != "S":
        return array
    return np.char.decode(array, "utf-8").astype(object)


def _from_runtime(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "OU":
        return array
    return np.char.encode(array.astype(str), "utf-8")
