"""One ONNX Runtime session: loaded from verified descriptors, run on arrays.

Foreign types end here: strings are `bytes` outside and `str` inside, BF16 is
`uint16` outside, and ONNX Runtime's exceptions become ours.
"""

import ctypes
import mmap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from serving.core.datatypes import BY_ONNX, Array, Datatype
from serving.core.errors import ModelFailed
from serving.core.signature import TensorSpec

BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
ERROR_CHARACTERS_MAX = 200


class LoadError(Exception):
    """A model that may not serve; the message is one line for an operator."""


class OnnxSession:
    """A model ready to run. One run at a time; `run` releases the GIL."""

    def __init__(
        self,
        model_fd: int,
        external_fds: Mapping[str, int],
        threads: int,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        """Load from descriptors; they may be closed afterwards.

        external_fds: name in the model -> descriptor of its external data.
        Raises: LoadError.
        """
        options = _options(threads)
        _add_external(options, external_fds)
        try:
            self._session = ort.InferenceSession(
                f"/proc/self/fd/{model_fd}",
                options,
                providers=list(providers),
                # A provider swap inside a session that others are using is worse
                # than an error (it is on by default).
                enable_fallback=0,
            )
        except Exception as error:
            raise LoadError(f"ONNX Runtime refused the model: {explain(error)}") from error
        self.inputs = _specs(self._session.get_inputs(), "input")
        self.outputs = _specs(self._session.get_outputs(), "output")
        self.input_axes = _axes(self._session.get_inputs())
        self.output_axes = _axes(self._session.get_outputs())
        self._names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        specs = (*self.inputs, *self.outputs)
        self._needs_values = any(spec.datatype is Datatype.BF16 for spec in specs)
        self._text_in = [i for i, s in enumerate(self.inputs) if s.datatype is Datatype.BYTES]
        self._text_out = [i for i, s in enumerate(self.outputs) if s.datatype is Datatype.BYTES]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Outputs in the order of `outputs`, owned by the caller.

        arrays: in the order of `inputs`, C-contiguous; only read.
        Raises: ModelFailed.
        """
        try:
            if self._needs_values:
                return self._run_values(arrays)
            if self._text_in or self._text_out:
                return self._run_text(arrays)
            feed = dict(zip(self._names, arrays, strict=True))
            outputs: list[Array] = self._session.run(self._output_names, feed)
        except Exception as error:
            raise ModelFailed(f"the model could not run this input: {explain(error)}") from error
        return outputs

    def _run_text(self, arrays: Sequence[Array]) -> list[Array]:
        feed = dict(zip(self._names, arrays, strict=True))
        for index in self._text_in:
            feed[self._names[index]] = _to_str(arrays[index])
        outputs: list[Array] = self._session.run(self._output_names, feed)
        for index in self._text_out:
            outputs[index] = _to_bytes(outputs[index])
        return outputs

    def _run_values(self, arrays: Sequence[Array]) -> list[Array]:
        feed = {}
        for spec, array in zip(self.inputs, arrays, strict=True):
            if spec.datatype is Datatype.BF16:
                value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
            else:
                source = _to_str(array) if spec.datatype is Datatype.BYTES else array
                value = ort.OrtValue.ortvalue_from_numpy(source)
            feed[spec.name] = value
        values = self._session.run_with_ort_values(self._output_names, feed)
        return [
            _bits(value) if spec.datatype is Datatype.BF16 else _own(spec, value.numpy())
            for spec, value in zip(self.outputs, values, strict=True)
        ]


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # its errors reach us as exceptions
    # A spinning pool burns the cores that other workers live on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _add_external(options: Any, external_fds: Mapping[str, int]) -> None:
    if not external_fds:
        return
    maps = [mmap.mmap(fd, 0, prot=mmap.PROT_READ) for fd in external_fds.values()]
    options.add_external_initializers_from_files_in_memory(
        list(external_fds), [bytes(view) for view in maps], [len(view) for view in maps]
    )


def _specs(nodes: Sequence[Any], what: str) -> tuple[TensorSpec, ...]:
    specs = []
    for node in nodes:
        datatype = BY_ONNX.get(node.type)
        if datatype is None:
            raise LoadError(
                f"{what} '{node.name}' has type {node.type}, which no client can send or receive; "
                "export plain tensors (for scikit-learn classifiers: zipmap=False)"
            )
        shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
        specs.append(TensorSpec(node.name, datatype, shape))
    return tuple(specs)


def _axes(nodes: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """The graph's names of the dimensions; "" for one that has a size, or no name."""
    return tuple(tuple(d if isinstance(d, str) else "" for d in node.shape) for node in nodes)


def explain(error: Exception) -> str:
    """What a foreign exception says, in one line and without places of this machine."""
    text = " ".join(str(error).rsplit("Status Message:", 1)[-1].split())
    if not text or "/" in text:
        text = type(error).__name__
    return text[:ERROR_CHARACTERS_MAX]


def _to_str(array: Array) -> Array:
    text = np.empty(array.size, dtype=object)
    text[:] = [item.decode() for item in array.reshape(-1)]
    return text.reshape(array.shape)


def _to_bytes(array: Array) -> Array:
    data = np.empty(array.size, dtype=object)
    data[:] = [str(item).encode() for item in array.reshape(-1)]
    return data.reshape(array.shape)


def _own(spec: TensorSpec, array: Array) -> Array:
    return _to_bytes(array) if spec.datatype is Datatype.BYTES else array


def _bits(value: Any) -> Array:
    """A copy of a bfloat16 value's bits; numpy cannot take it over itself."""
    shape = tuple(value.shape())
    bits = np.empty(shape, dtype=np.uint16)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits
