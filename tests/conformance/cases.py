"""The table: every datatype, one and many inputs, batches from one to the largest, the edges."""

import ctypes
import math

import numpy as np
import onnxruntime as ort

from tests.conformance.graphs import DATATYPES, FEATURES, MAX_BATCH_SIZE, Model
from tests.conformance.wire import NOT_IN_JSON, NUMPY, Case, Tensor, from_numpy, to_numpy

SEED = 20
BATCHES = (1, 2, 3, MAX_BATCH_SIZE)
BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
BF16_EDGES = (0x0000, 0x8000, 0x0001, 0x3F80, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0)
TEXT_EDGES = (b"", b"text", "\u20ac\x00\U0001f600".encode(), b'"\\\n', b"x" * 300)


def table() -> list[Case]:
    """The cases, without what is expected of them."""
    chance = np.random.default_rng(SEED)
    cases = []
    for datatype in DATATYPES:
        cases += _of(datatype, chance)
    for rows in BATCHES:
        x = chance.standard_normal((rows, FEATURES)).astype(np.float32)
        a, b = (chance.standard_normal((rows, 4)).astype(np.float32) for _ in "ab")
        cases += [
            Case(f"perceptron of {rows}", "perceptron", "FP32", {"x": from_numpy("FP32", x)}),
            Case(
                f"pair of {rows}",
                "pair",
                "FP32",
                {"a": from_numpy("FP32", a), "b": from_numpy("FP32", b)},
            ),
        ]
    return cases


def _of(datatype: str, chance: np.random.Generator) -> list[Case]:
    def case(name: str, model: str, shapes: dict[str, tuple[int, ...]]) -> Case:
        inputs = {name: _random(datatype, shape, chance) for name, shape in shapes.items()}
        return Case(
            name, f"{model}_{datatype}", datatype, inputs, in_json=datatype not in NOT_IN_JSON
        )

    cases = []
    for rows in BATCHES:
        many = {"a": (rows, 2), "b": (rows, 1), "c": (rows, 2, 3)}
        cases += [
            case(f"one of {rows}", "one", {"x": (rows, 3)}),
            case(f"many of {rows}", "many", many),
            case(f"empty of {rows}", "open", {"x": (rows, 0)}),
        ]
    cases.append(case("scalar", "scalar", {"x": ()}))
    edges = _edges(datatype)
    is_float = datatype.startswith(("FP", "BF"))
    return [
        *cases,
        Case(
            "edges",
            f"open_{datatype}",
            datatype,
            {"x": edges},
            in_json=datatype not in NOT_IN_JSON,
            finite=not is_float,
        ),
    ]


def _random(datatype: str, shape: tuple[int, ...], chance: np.random.Generator) -> Tensor:
    count = math.prod(shape)
    if datatype == "BYTES":
        texts = np.empty(count, dtype=object)
        texts[:] = [str(number).encode() for number in chance.integers(0, 10**6, count)]
        return from_numpy(datatype, texts.reshape(shape))
    if datatype.startswith("FP"):
        return from_numpy(datatype, chance.standard_normal(shape).astype(NUMPY[datatype]))
    if datatype == "BF16":  # the upper half of a float is one
        bits = chance.standard_normal(count).astype("<f4").view("<u4") >> 16
        return from_numpy(datatype, bits.astype("<u2").reshape(shape))
    if datatype == "BOOL":
        return from_numpy(datatype, chance.integers(0, 2, shape) == 1)
    limits = np.iinfo(NUMPY[datatype])
    return from_numpy(
        datatype, chance.integers(limits.min, limits.max, shape, NUMPY[datatype], endpoint=True)
    )


def _edges(datatype: str) -> Tensor:
    """One row with every value that has gone wrong somewhere."""
    if datatype == "BYTES":
        array = np.empty((1, len(TEXT_EDGES)), dtype=object)
        array[0] = TEXT_EDGES
    elif datatype == "BOOL":
        array = np.array([[True, False]])
    elif datatype == "BF16":
        array = np.array([BF16_EDGES], "<u2")
    elif datatype.startswith("FP"):
        limits = np.finfo(NUMPY[datatype])
        values = [0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal]
        array = np.array([[*values, np.nan, np.inf, -np.inf, 0.1]], NUMPY[datatype])
    else:
        limits = np.iinfo(NUMPY[datatype])
        array = np.array([[limits.min, 0, 1, limits.max]], NUMPY[datatype])
    return from_numpy(datatype, array)


def answer(model: Model, case: Case) -> dict[str, Tensor]:
    """What ONNX Runtime says to the same request."""
    session = ort.InferenceSession(model.graph(), providers=["CPUExecutionProvider"])
    names = list(model.outputs)
    if case.datatype == "BF16":  # numpy has no such type, so the runtime's own values
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(to_numpy(t).copy(), BFLOAT16)
            for name, t in case.inputs.items()
        }
        arrays = list(map(_bits, session.run_with_ort_values(names, values)))
    else:
        arrays = session.run(names, {name: _array(t) for name, t in case.inputs.items()})
    datatypes = [datatype for datatype, _ in model.outputs.values()]
    return dict(zip(names, map(from_numpy, datatypes, arrays), strict=True))


def _array(tensor: Tensor) -> np.ndarray:
    array = to_numpy(tensor)
    if tensor.datatype != "BYTES":
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [text.decode() for text in array.reshape(-1)]
    return texts.reshape(array.shape)


def _bits(value: ort.OrtValue) -> np.ndarray:
    bits = np.empty(tuple(value.shape()), "<u2")
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits
