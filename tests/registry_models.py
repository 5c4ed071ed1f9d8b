"""Small ONNX models for tests of registries, made with the `onnx` package."""

import onnx
from onnx import TensorProto, helper

OPSET = [helper.make_opsetid("", 17)]
WIDTH = 4


def external_tensor(
    location: str | None, name: str = "w", offset: str | None = None, length: str | None = None
) -> onnx.TensorProto:
    """A (4, 4) float tensor whose bytes are said to live in `location`."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return tensor


def inline_tensor(name: str = "w", value: float = 1.0) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [WIDTH, WIDTH], [value] * WIDTH * WIDTH)


def model_with(
    *initializers: onnx.TensorProto,
    nodes: list[onnx.NodeProto] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> onnx.ModelProto:
    """`y = x @ w` with the given initializers."""
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=OPSET, ir_version=10, functions=functions or [])


def plain_model(value: float = 1.0) -> bytes:
    return bytes(model_with(inline_tensor(value=value)).SerializeToString())


def external_model(location: str | None, **keys: str) -> bytes:
    return bytes(model_with(external_tensor(location, **keys)).SerializeToString())


def nested_graph(tensor: onnx.TensorProto, depth: int) -> onnx.GraphProto:
    """A graph whose tensor sits `depth` If branches deep."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["out"])],
        "leaf",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [tensor],
    )
    for _ in range(depth):
        branch = helper.make_node("If", ["c"], ["out"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([branch], "level", [], graph.output)
        # One branch is enough to go deep, and keeps the size linear.
        del branch.attribute[1:]
        graph.node[0].CopyFrom(branch)
    return graph
