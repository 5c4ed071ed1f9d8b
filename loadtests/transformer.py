"""A small transformer encoder with a real attention mask, for traffic of mixed lengths.

Positions that the mask leaves out get no attention and no part in the mean, so they
change nothing but the time of a run.
"""

from typing import Any

import numpy as np

VOCABULARY = 1000
HEADS = 4
TAGS = 4  # of every position
CLASSES = 2  # of a row
LENGTH_MAX = 128
_FAR = 1e4  # taken from a masked score: its weight is zero in float32


def transformer(layers: int = 2, hidden: int = 128, seed: int = 0) -> bytes:
    """The model as ONNX bytes. hidden: a multiple of 4.

    `ids` and `mask` INT64 (rows, sequence) to `tags` FP32 (rows, sequence, 4) and
    `label` FP32 (rows, 2).
    """
    from onnx import TensorProto, helper

    graph = _Graph(np.random.default_rng(seed), hidden)
    mask = graph.add("Cast", "mask", to=TensorProto.FLOAT)
    bias = graph.attention_bias(mask)
    value = graph.embedded()
    for _ in range(layers):
        value = graph.layer(value, bias)
    graph.add("MatMul", value, graph.weight(hidden, TAGS), out="tags")
    graph.mean_label(value, mask)
    shape = ["rows", "sequence"]
    made = helper.make_graph(
        graph.nodes,
        "transformer",
        [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("ids", "mask")],
        [
            helper.make_tensor_value_info("tags", TensorProto.FLOAT, [*shape, TAGS]),
            helper.make_tensor_value_info("label", TensorProto.FLOAT, ["rows", CLASSES]),
        ],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes and weights as they come."""

    def __init__(self, random: np.random.Generator, hidden: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random, self._hidden = random, hidden

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, rows: int, columns: int) -> str:
        drawn = self._random.normal(0.0, rows**-0.5, (rows, columns))
        return self.constant(drawn.astype(np.float32))

    def whole(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def attention_bias(self, mask: str) -> str:
        """(rows, 1, 1, sequence): zero where the mask is one, else far below any score."""
        less = self.add("Sub", mask, self.constant(np.float32(1.0)))
        far = self.add("Mul", less, self.constant(np.float32(_FAR)))
        return self.add("Unsqueeze", far, self.whole(1, 2))

    def embedded(self) -> str:
        """(rows, sequence, hidden), of the ids and their positions."""
        words = self.add("Gather", self.weight(VOCABULARY, self._hidden), "ids")
        length = self.add("Shape", "ids", start=1, end=2)
        places = self.add(
            "Slice", self.weight(LENGTH_MAX, self._hidden), self.whole(0), length, self.whole(0)
        )
        return self.norm(self.add("Add", words, places))

    def norm(self, value: str) -> str:
        scale, shift = np.ones(self._hidden, np.float32), np.zeros(self._hidden, np.float32)
        return self.add("LayerNormalization", value, self.constant(scale), self.constant(shift))

    def layer(self, value: str, bias: str) -> str:
        attended = self.norm(self.add("Add", value, self._attention(value, bias)))
        wide = self.add(
            "Relu", self.add("MatMul", attended, self.weight(self._hidden, 4 * self._hidden))
        )
        narrow = self.add("MatMul", wide, self.weight(4 * self._hidden, self._hidden))
        return self.norm(self.add("Add", attended, narrow))

    def _heads(self, value: str, order: tuple[int, ...]) -> str:
        projected = self.add("MatMul", value, self.weight(self._hidden, self._hidden))
        split = self.add("Reshape", projected, self.whole(0, 0, HEADS, self._hidden // HEADS))
        return self.add("Transpose", split, perm=order)

    def _attention(self, value: str, bias: str) -> str:
        query, key = self._heads(value, (0, 2, 1, 3)), self._heads(value, (0, 2, 3, 1))
        scores = self.add("MatMul", query, key)
        scaled = self.add("Mul", scores, self.constant(np.float32((self._hidden // HEADS) ** -0.5)))
        weights = self.add("Softmax", self.add("Add", scaled, bias), axis=-1)
        mixed = self.add("MatMul", weights, self._heads(value, (0, 2, 1, 3)))
        back = self.add("Transpose", mixed, perm=(0, 2, 1, 3))
        flat = self.add("Reshape", back, self.whole(0, 0, self._hidden))
        return self.add("MatMul", flat, self.weight(self._hidden, self._hidden))

    def mean_label(self, value: str, mask: str) -> None:
        """`label`, of the mean over the positions that the mask keeps."""
        kept = self.add("Mul", value, self.add("Unsqueeze", mask, self.whole(2)))
        total = self.add("ReduceSum", kept, self.whole(1), keepdims=0)
        count = self.add("ReduceSum", mask, self.whole(1), keepdims=1)
        self.add(
            "MatMul", self.add("Div", total, count), self.weight(self._hidden, CLASSES), out="label"
        )
