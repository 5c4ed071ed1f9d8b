"""The models of the suite: small ONNX graphs in a Triton repository.

    python tests/conformance/graphs.py FOLDER [--python-backend]

writes them for another server, which must then serve that folder. With the flag a
Triton without its ONNX Runtime backend can: each model is run by `python_backend.py`.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAX_BATCH_SIZE = 8
FEATURES = 30
WIDE = 500_000
ONNX_TYPES = {
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
DATATYPES = tuple(ONNX_TYPES)

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # name -> datatype, shape without the batch


@dataclass(frozen=True)
class Model:
    """One graph. max_batch_size 0: shapes are whole, and config.pbtxt says no more."""

    nodes: list[onnx.NodeProto]
    inputs: Tensors
    outputs: Tensors
    constants: dict[str, np.ndarray]
    max_batch_size: int = MAX_BATCH_SIZE

    def graph(self) -> bytes:
        made = helper.make_graph(
            self.nodes,
            "graph",
            self._values(self.inputs),
            self._values(self.outputs),
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        # Old enough for every ONNX Runtime that a server may have.
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(made, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def _values(self, tensors: Tensors) -> list[onnx.ValueInfoProto]:
        batch = ("n",) if self.max_batch_size else ()
        return [
            helper.make_tensor_value_info(
                name,
                ONNX_TYPES[datatype],
                (*batch, *(d if d >= 0 else f"{name}{i}" for i, d in enumerate(shape))),
            )
            for name, (datatype, shape) in tensors.items()
        ]

    def config(self, name: str) -> str:
        lines = [
            f'name: "{name}"',
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {self.max_batch_size}",
        ]
        if self.max_batch_size:
            for what, tensors in (("input", self.inputs), ("output", self.outputs)):
                entries = [
                    f'  {{ name: "{tensor}" data_type: {_config_type(datatype)} '
                    f"dims: [ {', '.join(map(str, shape))} ] }}"
                    for tensor, (datatype, shape) in tensors.items()
                ]
                lines.append(f"{what} [\n" + ",\n".join(entries) + "\n]")
        return "\n".join(lines) + "\n"


def _config_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def identity(datatype: str, shape: tuple[int, ...], max_batch_size: int = MAX_BATCH_SIZE) -> Model:
    node = helper.make_node("Identity", ["x"], ["y"])
    named = (datatype, shape)
    return Model([node], {"x": named}, {"y": named}, {}, max_batch_size)


def many(datatype: str) -> Model:
    """Three inputs of three ranks, three outputs that are none of them alone."""
    return Model(
        [
            helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
            helper.make_node("Transpose", ["c"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("Concat", ["c", "c"], ["twice"], axis=2),
        ],
        {"a": (datatype, (2,)), "b": (datatype, (1,)), "c": (datatype, (2, 3))},
        {"ab": (datatype, (3,)), "turned": (datatype, (3, 2)), "twice": (datatype, (2, 6))},
        {},
    )


def pair() -> Model:
    named = ("FP32", (4,))
    return Model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["gap"]),
        ],
        {"a": named, "b": named},
        {"sum": named, "gap": named},
        {},
    )


def perceptron(seed: int = 11) -> Model:
    chance = np.random.default_rng(seed)
    return Model(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
        ],
        {"x": ("FP32", (FEATURES,))},
        {"p": ("FP32", (3,))},
        {
            "w1": chance.standard_normal((FEATURES, 16)).astype(np.float32),
            "b1": chance.standard_normal(16).astype(np.float32),
            "w2": chance.standard_normal((16, 3)).astype(np.float32),
            "b2": chance.standard_normal(3).astype(np.float32),
        },
    )


def lookup() -> Model:
    """y = table[x]; an index beyond 3 cannot run, and says so at run time only."""
    table = np.array([0, 10, 20, 30], dtype=np.float32)
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return Model([node], {"x": ("INT64", (1,))}, {"y": ("FP32", (1,))}, {"table": table})


def models() -> dict[str, Model]:
    """Everything that is served, by name."""
    found = {
        "pair": pair(),
        "perceptron": perceptron(),
        "lookup": lookup(),
        "wide": identity("FP32", (WIDE,)),
    }
    for datatype in DATATYPES:
        found[f"one_{datatype}"] = identity(datatype, (3,))
        found[f"open_{datatype}"] = identity(datatype, (-1,))
        found[f"many_{datatype}"] = many(datatype)
        found[f"scalar_{datatype}"] = identity(datatype, (), max_batch_size=0)
    return found


def write_repository(folder: Path, *, python_backend: bool = False) -> None:
    """`NAME/config.pbtxt` and `NAME/1/model.onnx` of every model.

    Left out with python_backend: BF16, which numpy has not, and tensors of rank 0.
    """
    for name, model in models().items():
        config = model.config(name)
        if python_backend:
            if name.startswith("scalar") or name.endswith("BF16"):
                continue
            config = config.replace('platform: "onnxruntime_onnx"', 'backend: "python"')
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(model.graph())
        (folder / name / "config.pbtxt").write_text(config)
        if python_backend:
            shutil.copy(Path(__file__).parent / "python_backend.py", version / "model.py")


if __name__ == "__main__":
    write_repository(Path(sys.argv[1]), python_backend="--python-backend" in sys.argv[2:])
