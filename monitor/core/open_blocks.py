"""Rows and labels of blocks that are not over yet.

Laws:
- a row belongs to the block of its arrival, a label to the block of its own
  arrival, a gap to the block of its record's watermark;
- a block that has been closed takes nothing more: its rows are late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventlog.core.labels import Label
from eventlog.core.predictions import PredictionRows
from monitor.core.block import Arm, ModelBlock, Part

OURS = 5  # status // 10 of a row that we failed


@dataclass(frozen=True, slots=True)
class ArrivedLabel:
    """A label, when it came, and its place in the log, by which a block's are put in order."""

    producer: str
    sequence: int
    label: Label
    arrived_ns: int


@dataclass(slots=True)
class OpenModel:
    segments: list[tuple[PredictionRows, NDArray[Any] | None, str]] = field(default_factory=list)
    labels: list[ArrivedLabel] = field(default_factory=list)
    lost: int = 0


class OpenBlocks:
    """Mutable; owned by the engine. `frontier`: the lowest block that is still open."""

    def __init__(self, block_ns: int, frontier: int | None) -> None:
        self._block_ns = block_ns
        self.frontier = frontier
        self._open: dict[int, dict[str, OpenModel]] = {}
        self.rows = 0

    def index_of(self, at_ns: int) -> int:
        return at_ns // self._block_ns

    def _model(self, index: int, model: str) -> OpenModel:
        return self._open.setdefault(index, {}).setdefault(model, OpenModel())

    def _is_closed(self, index: int, floor: int | None = None) -> bool:
        if floor is not None and index < floor:
            return True
        return self.frontier is not None and index < self.frontier

    def add_rows(
        self,
        rows: PredictionRows,
        new: Sequence[bool] | None,
        floor: int | None = None,
        producer: str = "",
    ) -> tuple[int, int]:
        """Keep rows for their blocks; `new`: which are no repetition (None: all).

        floor: blocks below it are closed to these rows, whoever else may still fill them.
        Returns: the last block concerned, and how many rows were late.
        """
        indexes = rows.ts_ns // self._block_ns
        keep = np.ones(len(rows), dtype=np.bool_) if new is None else np.array(new)
        late, last = 0, -1
        for index in np.unique(indexes):
            chosen = (indexes == index) & keep
            count = int(chosen.sum())
            if self._is_closed(int(index), floor):
                late += count
            elif count:
                part = None if count == len(rows) else np.flatnonzero(chosen)
                self._model(int(index), rows.model).segments.append((rows, part, producer))
                self.rows += count
                last = max(last, int(index))
        return last, late

    def add_labels(
        self, index: int, model: str, labels: list[ArrivedLabel], floor: int | None = None
    ) -> bool:
        """Keep labels for block `index`; False: it is closed to them, they are late."""
        if self._is_closed(index, floor):
            return False
        self._model(index, model).labels += labels
        self.rows += len(labels)
        return True

    def add_lost(self, index: int, model: str, rows: int) -> bool:
        """Note rows that were never seen; model "": of any model. False: late."""
        if self._is_closed(index):
            return False
        self._model(index, model).lost += rows
        return True

    def oldest(self) -> int | None:
        return min(self._open, default=None)

    def close(self, index: int) -> dict[str, OpenModel]:
        """Take block `index`, the oldest; later rows of it will be late."""
        content = self._open.pop(index)
        for model in content.values():
            self.rows -= sum(
                len(rows) if part is None else len(part) for rows, part, _ in model.segments
            )
            self.rows -= len(model.labels)
        self.frontier = index + 1
        return content

    def advance(self, index: int) -> None:
        """Blocks below `index` are over, whether they held anything or not."""
        self.frontier = index if self.frontier is None else max(self.frontier, index)


def fill(block: ModelBlock, content: OpenModel) -> None:
    """Sort a model's rows into the arms of its block; arrays stay borrowed."""
    block.lost += content.lost
    for rows, part, producer in content.segments:
        arm = block.arm(Arm(rows.digest, rows.version, rows.role, rows.rollout))
        ts_ns, status = _take(rows.ts_ns, part), _take(rows.status, part)
        failed = int(np.count_nonzero(status // 10 == OURS))
        # Whole rows: sums of integers do not depend on their order.
        stands_for = round(float(_take(rows.weight, part).sum(dtype=np.float64)))
        arm.add(int(ts_ns.min()), int(ts_ns.max()), len(ts_ns), failed, stands_for)
        inputs = {name: _take(array, part) for name, array in rows.inputs.items()}
        outputs = {name: _take(array, part) for name, array in rows.whole_outputs.items()}
        sequences = _take(rows.sequences(), part)
        places = _take(rows.row, part)
        arm.parts.append(Part(inputs, outputs, rows.withheld, producer, sequences, ts_ns, places))


def _take(array: NDArray[Any], part: NDArray[Any] | None) -> NDArray[Any]:
    return array if part is None else array[part]
