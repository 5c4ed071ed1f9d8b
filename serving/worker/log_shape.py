"""What a batch's tensors look like in the log: all of them, or what a policy keeps.

Laws:
- a policy that keeps everything costs nothing: arrays go to the log by reference;
- what a policy leaves out never reaches the log's buffer, and what it hashes
  reaches it as digests alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eventlog.core.predictions import Hashed
from eventlog.hash_key import HashKey
from serving.core.datatypes import Array, Datatype
from serving.core.log_policy import Kept, LogPolicy
from serving.core.signature import Signature, TensorSpec


class LogShape:
    """Of one loaded version."""

    def __init__(self, signature: Signature, policy: LogPolicy, key: HashKey | None) -> None:
        """key: needed where the policy hashes."""
        assert key is not None or not policy.hashes
        self._inputs, self._outputs = signature.inputs, signature.outputs
        self._batched = signature.max_batch_size > 0
        self._policy, self._key = None if policy.is_full else policy, key
        bfloats = _bfloats("input", signature.inputs) | _bfloats("output", signature.outputs)
        valued = {kept.key for kept in (*policy.inputs, *policy.outputs) if kept.values}
        self._datatypes = {key: word for key, word in bfloats.items() if key in valued}
        self._masked = {
            kept.key: kept.masked
            for kept in (*policy.inputs, *policy.outputs)
            if kept.values and kept.masked
        }

    def columns(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Mapping[str, Any]:
        """The fields of `PredictionRows` that hold tensors. outputs: empty for failed rows."""
        if self._policy is None:
            return {
                "inputs": self._all(self._inputs, inputs),
                "outputs": self._all(self._outputs, outputs),
                "datatypes": self._datatypes,
            }
        hashed: dict[str, Hashed] = {}
        masked = self._masked
        if not outputs:
            masked = {key: those for key, those in masked.items() if key.startswith("input:")}
        return {
            "inputs": self._kept(self._policy.inputs, self._inputs, inputs, hashed),
            "outputs": self._kept(self._policy.outputs, self._outputs, outputs, hashed),
            "datatypes": self._datatypes,
            "hashed": hashed,
            "dropped": self._policy.dropped,
            "masked": masked,
        }

    def _all(self, specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> dict[str, Array]:
        """Arrays with a first dimension of rows; an unbatched request is one row."""
        if not arrays:
            return {}
        if self._batched:
            return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
        return {spec.name: array[None] for spec, array in zip(specs, arrays, strict=True)}

    def _kept(
        self,
        those: Sequence[Kept],
        specs: Sequence[TensorSpec],
        arrays: Sequence[Array],
        hashed: dict[str, Hashed],
    ) -> dict[str, Array]:
        """The values that are kept, by name; digests go into `hashed`."""
        values: dict[str, Array] = {}
        for kept in those if arrays else ():
            spec = specs[kept.index]
            array = arrays[kept.index] if self._batched else arrays[kept.index][None]
            if kept.whole:
                hashed[kept.key] = self._digests(spec, array)
            for element in kept.hashed:
                flat = array.reshape(len(array), -1)
                hashed[f"{kept.key}.{element}"] = self._digests(
                    spec, flat[:, element : element + 1], shape=()
                )
            if kept.values:
                values[spec.name] = _masked(array, kept.masked) if kept.masked else array
        return values

    def _digests(
        self, spec: TensorSpec, array: Array, shape: tuple[int, ...] | None = None
    ) -> Hashed:
        assert self._key is not None
        shape = array.shape[1:] if shape is None else shape
        return Hashed(spec.datatype.wire, shape, self._key.name, self._key.digests(array))


def _masked(array: Array, elements: Sequence[int]) -> Array:
    """A copy whose rows hold nothing at these places."""
    copy = np.array(array, order="C")
    flat = copy.reshape(len(copy), -1)
    inside = [element for element in elements if element < flat.shape[1]]
    flat[:, inside] = b"" if copy.dtype.hasobject else 0
    return copy


def _bfloats(kind: str, specs: Sequence[TensorSpec]) -> dict[str, str]:
    return {f"{kind}:{spec.name}": "BF16" for spec in specs if spec.datatype is Datatype.BF16}
