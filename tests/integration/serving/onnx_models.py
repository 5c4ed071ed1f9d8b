"""Small ONNX models made in the test, so that nothing binary is in the tree."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int | str | None, ...]
ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def build(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[str, Shape]],
    outputs: dict[str, tuple[str, Shape]],
    constants: dict[str, np.ndarray] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, ELEMENTS[t], s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, ELEMENTS[t], s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def identity(datatype: str = "FP32", width: int = 3) -> bytes:
    """y = x, batchable."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return build([node], {"x": (datatype, ("n", width))}, {"y": (datatype, ("n", width))})


def scale(factor: float, width: int = 3) -> bytes:
    """y = factor * x: versions of a model that can be told apart."""
    node = helper.make_node("Mul", ["x", "k"], ["y"])
    return build(
        [node],
        {"x": ("FP32", ("n", width))},
        {"y": ("FP32", ("n", width))},
        {"k": np.array([factor], dtype=np.float32)},
    )


def heavy(megabytes: int) -> bytes:
    """y = x, batchable, with so many MB of weights."""
    table = np.ones((megabytes * 250_000,), dtype=np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["none"]),
        helper.make_node("Cast", ["none"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["one"]),
        helper.make_node("Mul", ["x", "one"], ["y"]),
    ]
    constants = {"zero": np.zeros((1,), dtype=np.float32), "table": table}
    return build(nodes, {"x": ("FP32", ("n", 3))}, {"y": ("FP32", ("n", 3))}, constants)


def two_inputs() -> bytes:
    """s = a + b and d = a - b."""
    nodes = [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Sub", ["a", "b"], ["d"])]
    shape = ("n", 4)
    return build(
        nodes,
        {"a": ("FP32", shape), "b": ("FP32", shape)},
        {"s": ("FP32", shape), "d": ("FP32", shape)},
    )


def not_batchable() -> bytes:
    """Softmax over the rows: what a row gets depends on its company."""
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    return build([node], {"x": ("FP32", ("n", 2))}, {"y": ("FP32", ("n", 2))})


def fixed_shape() -> bytes:
    """One row, no batch dimension of any size."""
    node = helper.make_node("Neg", ["x"], ["y"])
    return build([node], {"x": ("FP32", (2, 2))}, {"y": ("FP32", (2, 2))})


def logarithm() -> bytes:
    """y = log(x): NaN for negative inputs, -inf for zero."""
    node = helper.make_node("Log", ["x"], ["y"])
    return build([node], {"x": ("FP32", ("n", 3))}, {"y": ("FP32", ("n", 3))})


def table_lookup() -> bytes:
    """y = table[x]; an index beyond 3 cannot run, and says so at run time only."""
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    table = np.array([0.0, 10.0, 20.0, 30.0], dtype=np.float32)
    return build([node], {"x": ("INT64", ("n", 1))}, {"y": ("FP32", ("n", 1))}, {"table": table})


def slow(steps: int = 150_000) -> bytes:
    """y = x after a loop of so many additions: tens to hundreds of milliseconds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["carried", "zero"], ["sum"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, ("n", 1)),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ("n", 1)),
        ],
    )
    loop = helper.make_node("Loop", ["steps", "yes", "x"], ["y"], body=body)
    return build(
        [loop],
        {"x": ("FP32", ("n", 1))},
        {"y": ("FP32", ("n", 1))},
        {
            "steps": np.array(steps, dtype=np.int64),
            "yes": np.array(True),
            "zero": np.array([0.0], dtype=np.float32),
        },
    )


def mlp(features: int = 30, hidden: int = 32, classes: int = 2, seed: int = 0) -> bytes:
    """A two-layer perceptron with a softmax, the shape of a small tabular model."""
    chance = np.random.default_rng(seed)
    constants = {
        "w1": chance.standard_normal((features, hidden)).astype(np.float32) / features**0.5,
        "b1": np.zeros(hidden, dtype=np.float32),
        "w2": chance.standard_normal((hidden, classes)).astype(np.float32) / hidden**0.5,
        "b2": np.zeros(classes, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    return build(
        nodes, {"x": ("FP32", ("n", features))}, {"p": ("FP32", ("n", classes))}, constants
    )
