"""Where the rows of a batch lie side by side, until the log has copied them.

A slab has one owner at a time: the batcher that fills it, then the log, which
gives it back from its own thread. The pool is bounded; when every slab is out,
`claim` says so and the batch goes unlogged, with a gap record.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from serving.core.datatypes import Array, Datatype
from serving.core.signature import TensorSpec

SLAB_BYTES = 1024 * 1024  # several batches lie in one slab
POOL_BYTES = 64 * 1024 * 1024
SLABS_MIN = 4


class Slab:
    """Rows of every input of one version."""

    __slots__ = ("arrays", "out", "used")

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.used = 0  # rows handed out
        self.out = 0  # leases not yet given back


class BufferPool:
    """The slabs of one version. Claimed on the loop, released from any thread."""

    def __init__(self, specs: Sequence[TensorSpec], batch_rows: int) -> None:
        """specs: inputs of fixed-size rows; batch_rows: rows of the largest batch."""
        row_bytes = sum(_row_bytes(spec) for spec in specs)
        self._specs = specs
        self._rows = max(batch_rows, SLAB_BYTES // max(row_bytes, 1))
        self._rows = min(self._rows, max(batch_rows, 65_536))
        slab_bytes = max(1, self._rows * row_bytes)
        self._slabs_max = max(SLABS_MIN, POOL_BYTES // slab_bytes)
        self._returned: deque[Slab] = deque()  # append and popleft are atomic
        self._slabs: list[Slab] = []
        self._current: Slab | None = None

    @staticmethod
    def fits(specs: Sequence[TensorSpec]) -> bool:
        """Whether the rows of these inputs have one size, known in advance."""
        return all(
            spec.datatype is not Datatype.BYTES and all(dim >= 0 for dim in spec.shape[1:])
            for spec in specs
        )

    def claim(self, rows: int) -> tuple[list[Array], Callable[[], None]] | None:
        """Room for `rows` rows of each input and the call that gives it back."""
        returned = self._returned
        while returned:
            returned.popleft().out -= 1
        slab = self._current
        if slab is None or slab.used + rows > self._rows:
            slab = self._current = self._next_slab()
            if slab is None:
                return None
        start = slab.used
        slab.used = stop = start + rows
        slab.out += 1
        return [array[start:stop] for array in slab.arrays], partial(returned.append, slab)

    def _next_slab(self) -> Slab | None:
        for slab in self._slabs:
            if not slab.out:
                slab.used = 0
                return slab
        if len(self._slabs) >= self._slabs_max:
            return None
        slab = Slab([_room(spec, self._rows) for spec in self._specs])
        self._slabs.append(slab)
        return slab

    @property
    def leased(self) -> int:
        """Leases not yet given back."""
        return sum(slab.out for slab in self._slabs) - len(self._returned)


def _row_bytes(spec: TensorSpec) -> int:
    size = spec.datatype.itemsize
    for dim in spec.shape[1:]:
        size *= dim
    return size


def _room(spec: TensorSpec, rows: int) -> Array:
    return np.empty((rows, *spec.shape[1:]), dtype=spec.datatype.dtype)
