"""What one event-time block of one model holds, before it is folded into the state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from monitor.core.bins import AnyArray, Counts
from monitor.core.counter import NOTHING_WITHHELD, Withheld
from monitor.core.performance.answers import Answer
from monitor.core.predictions import LOSS_UNITS

STABLE = "stable"
CANDIDATE = "candidate"
NO_LOSS = float("nan")
NOT_NUMBERED: AnyArray = np.zeros(0, dtype=np.int64)  # rows of no log: none is sampled


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """Rows that one version answered in one role, as the records' headers say."""

    digest: str
    version: str
    role: str
    rollout: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in the log, and how many rows of traffic they are a sample of."""

    rows: int = 0
    stands_for: int = 0


class Part(NamedTuple):
    """Rows of one record, as borrowed views; withheld: see `PredictionRows.withheld`.

    sequences: (n,) the numbers that `producer` gave the rows.
    ts_ns:     (n,) when their requests arrived, Unix time; rows: (n,) their places in those.
    """

    inputs: Mapping[str, AnyArray]
    outputs: Mapping[str, AnyArray]
    withheld: Withheld = NOTHING_WITHHELD
    producer: str = ""
    sequences: AnyArray = NOT_NUMBERED
    ts_ns: AnyArray = NOT_NUMBERED
    rows: AnyArray = NOT_NUMBERED


@dataclass(slots=True)
class ArmRows:
    """The rows of an arm in a block.

    stands_for: how many rows of traffic they are a sample of.
    counts:     of rows that are counted already, on the bins of stable's reference.
    """

    rows: int = 0
    stands_for: int = 0
    failed: int = 0  # rows that we failed to answer; the client's own mistakes are not ours
    first_ns: int = 0
    last_ns: int = 0
    parts: list[Part] = field(default_factory=list)
    counts: Counts | None = None

    def add(
        self, first_ns: int, last_ns: int, rows: int, failed: int, stands_for: int | None = None
    ) -> None:
        """stands_for: as many, unless it is said."""
        self.stands_for += rows if stands_for is None else stands_for
        self.first_ns = min(self.first_ns, first_ns) if self.rows else first_ns
        self.last_ns = max(self.last_ns, last_ns)
        self.rows += rows
        self.failed += failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """A label that found its row: when the row was predicted, by which version, how wrong.

    is_number:  the error is in the answer's own unit; else 0 or 1.
    arrived_ns: when the label came.
    answer:     what was said beside what is true, where that is known.
    parts:      which part of each of the model's slices the row is in.
    """

    digest: str
    predicted_ns: int
    error: float
    is_number: bool = False
    version: str = ""
    arrived_ns: int = 0
    answer: Answer | None = None
    parts: tuple[int, ...] = ()


@dataclass(slots=True)
class LossSum:
    """A sum of losses in 2^-30, exact in any order."""

    rows: int = 0
    units: int = 0

    def add(self, units: int) -> None:
        self.add_many(1, units)

    def add_many(self, rows: int, units: int) -> None:
        self.rows += rows
        self.units += units

    @property
    def mean(self) -> float:
        return self.units / LOSS_UNITS / self.rows if self.rows else NO_LOSS


@dataclass(slots=True)
class ModelBlock:
    """Everything that counts for one model in block `index`.

    losses: of stable rows whose losses are known without an outcome for each.
    """

    index: int
    arms: dict[Arm, ArmRows] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    losses: LossSum = field(default_factory=LossSum)
    lost: int = 0  # rows known to be missing, sampling by policy excepted

    def arm(self, arm: Arm) -> ArmRows:
        return self.arms.setdefault(arm, ArmRows())

    def rows(self, role: str) -> int:
        return sum(rows.rows for arm, rows in self.arms.items() if arm.role == role)
