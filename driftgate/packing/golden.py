"""Golden samples: a few inputs with the outputs that a loaded version must repeat.

The file is an .npz without pickles: arrays `input:<name>` and `output:<name>`,
which together are one request. A worker that cannot repeat them within the
tolerance does not serve the version.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from driftgate.errors import CliError
from driftgate.packing.graph import NUMPY_TYPES, Arrays, Graph, first_line, load_graph
from registry_client import TensorSpec

SAMPLES = 8  # enough to tell a transposed or truncated model, small in every manifest
SEED = 20
TOLERANCE = 1e-5
SAMPLE_ELEMENTS_MAX = 4_000_000  # of one input; images stay far below


def make_golden(graph: Graph, rows: Arrays | None, max_batch_size: int | None) -> bytes | str:
    """Golden samples from reference rows, or from seeded random inputs.

    rows: input name -> array (n, ...), or None.
    Returns: the file; or, where the model cannot have any, one line that says why.
    """
    count = graph.fixed_rows or min(SAMPLES, max_batch_size or SAMPLES)
    generator = np.random.default_rng(SEED)
    try:
        inputs = _pick(rows, count, generator) if rows else _draw(graph, count, generator)
        outputs = graph.run(inputs)
        repeated = graph.run(inputs)
    except Exception as exc:
        return f"no golden samples: the model does not take made-up inputs ({first_line(exc)})"
    if _differences(outputs, repeated):
        return "no golden samples: the model's outputs are not repeatable"
    return _to_npz(inputs, outputs)


def golden_of(model: Path | bytes, inputs: Arrays) -> bytes:
    """The samples file for given inputs (name -> array) of a model without external data."""
    return _to_npz(inputs, load_graph(model, {}).run(inputs))


def read_golden(path: Path, graph: Graph) -> bytes:
    """Read given samples and check them against the model.

    Outputs that the file leaves out are filled in. Raises: CliError.
    """
    try:
        arrays = _from_npz(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as exc:
        hint = "give an .npz file, as numpy.savez writes it"
        raise CliError(f"golden samples {path} cannot be read", first_line(exc), hint) from exc
    inputs = {spec.name: arrays.get(f"input:{spec.name}") for spec in graph.inputs}
    missing = [name for name, array in inputs.items() if array is None]
    if missing:
        raise CliError(
            f"golden samples {path} lack inputs {', '.join(missing)}",
            f"the file holds {', '.join(sorted(arrays)) or 'nothing'}",
            "name the arrays input:<name> and output:<name>",
        )
    given = {name: array for name, array in inputs.items() if array is not None}
    try:
        outputs = graph.run(given)
    except Exception as exc:
        raise CliError(f"golden samples {path} do not run", first_line(exc)) from exc
    wanted = {name: arrays[f"output:{name}"] for name in outputs if f"output:{name}" in arrays}
    different = _differences(wanted, outputs)
    if different:
        raise CliError(
            f"golden samples {path} do not match the model",
            f"outputs {', '.join(different)} differ by more than {TOLERANCE}",
        )
    return _to_npz(given, outputs)


def _from_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as stream:  # numpy would leave a damaged archive open
        loaded = np.load(stream, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        return {name: loaded[name] for name in loaded.files}


def _pick(rows: Arrays, count: int, generator: np.random.Generator) -> Arrays:
    size = min(len(array) for array in rows.values())
    chosen = np.sort(generator.choice(size, size=min(count, size), replace=False))
    return {name: array[chosen] for name, array in rows.items()}


def _draw(graph: Graph, count: int, generator: np.random.Generator) -> Arrays:
    return {spec.name: _random(spec, count, generator) for spec in graph.inputs}


def _random(spec: TensorSpec, count: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Inputs that most models take: normal floats, small whole numbers, one letter."""
    open_dims = [count, *(1 for _ in spec.shape[1:])]
    shape = [chosen if dim < 0 else dim for dim, chosen in zip(spec.shape, open_dims, strict=False)]
    if math.prod(shape) > SAMPLE_ELEMENTS_MAX:
        raise ValueError(f"input {spec.name} has {math.prod(shape)} elements")
    kind = NUMPY_TYPES.get(spec.datatype)
    if kind is None:
        raise ValueError(f"datatype {spec.datatype} of input {spec.name} has no numpy type")
    if spec.datatype.startswith("FP"):
        return generator.standard_normal(shape).astype(kind)
    if spec.datatype == "BYTES":
        return np.full(shape, b"a")
    return generator.integers(0, 2, size=shape).astype(kind)


def _differences(wanted: Arrays, got: Arrays) -> list[str]:
    return [name for name, array in wanted.items() if not _is_close(array, got[name])]


def _is_close(wanted: npt.NDArray[Any], got: npt.NDArray[Any]) -> bool:
    if wanted.shape != got.shape:
        return False
    if got.dtype.kind in "fc":
        return bool(np.allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(got, wanted))


def _to_npz(inputs: Arrays, outputs: Arrays) -> bytes:
    arrays = {f"input:{name}": array for name, array in inputs.items()}
    arrays |= {f"output:{name}": array for name, array in outputs.items()}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
