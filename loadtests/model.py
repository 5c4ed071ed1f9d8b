"""The benchmarks' models: an MLP of 30 features, 64 and 32 hidden units, 2 outputs; larger ones.

Where every value is a whole number, a reply is the same to the last digit, whatever
ran beside it in its batch.
"""

import itertools

import numpy as np

FEATURES = 30
LAYERS = (FEATURES, 64, 32, 2)


def mlp(seed: int = 0, *, whole: bool = False) -> bytes:
    """The model as ONNX bytes: `x` FP32 (-1, 30) to `y` FP32 (-1, 2).

    whole: with whole numbers as weights.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(LAYERS)):
        weight = rng.normal(0.0, rows**-0.5, (rows, columns)).astype(np.float32)
        if whole:
            weight = rng.integers(-2, 3, (rows, columns)).astype(np.float32)
        bias = np.zeros(columns, np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{index}"),
            numpy_helper.from_array(bias, f"b{index}"),
        ]
        last = index == len(LAYERS) - 2
        out = "y" if last else f"h{index}"
        gemm = out if last else f"g{index}"
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"b{index}"], [gemm]))
        if not last:
            nodes.append(helper.make_node("Relu", [gemm], [out]))
        value = out
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", LAYERS[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def chain(layers: int = 16, width: int = 1000) -> bytes:
    """About a millisecond of work a row: `x` FP32 (-1, 30) to `y` FP32 (-1, 2), in whole numbers.

    Each layer only moves values around, which ONNX Runtime does not know.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = [(FEATURES, width), *[(width, width)] * layers, (width, 2)]
    nodes, weights, value = [], [], "x"
    for index, (rows, columns) in enumerate(shapes):
        weight = np.zeros((rows, columns), np.float32)
        weight[rng.permutation(rows), np.arange(rows) % columns] = 1.0
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        out = "y" if index == len(shapes) - 1 else f"h{index}"
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [out]))
        value = out
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def dense(megabytes: int) -> bytes:
    """One layer of so many MB: `x` FP32 (-1, 1000) to `y`."""
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = 1000, megabytes * 250
    weight = np.zeros((rows, columns), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
