"""What one event-time block of one model holds, before it is folded into the state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor.core.bins import AnyArray
from monitor.core.counter import NOTHING_WITHHELD, Withheld

STABLE = "stable"
CANDIDATE = "candidate"


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
    """Rows of one record, as borrowed views; withheld: see `PredictionRows.withheld`."""

    inputs: Mapping[str, AnyArray]
    outputs: Mapping[str, AnyArray]
    withheld: Withheld = NOTHING_WITHHELD


@dataclass(slots=True)
class ArmRows:
    """The rows of an arm in a block.

    stands_for: how many rows of traffic they are a sample of.
    """

    rows: int = 0
    stands_for: int = 0
    failed: int = 0  # rows that we failed to answer; the client's own mistakes are not ours
    first_ns: int = 0
    last_ns: int = 0
    parts: list[Part] = field(default_factory=list)

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

    is_number: the error is in the answer's own unit; else 0 or 1.
    """

    digest: str
    predicted_ns: int
    error: float
    is_number: bool = False


@dataclass(slots=True)
class ModelBlock:
    """Everything that counts for one model in block `index`."""

    index: int
    arms: dict[Arm, ArmRows] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    lost: int = 0  # rows known to be missing, sampling by policy excepted

    def arm(self, arm: Arm) -> ArmRows:
        return self.arms.setdefault(arm, ArmRows())

    def rows(self, role: str) -> int:
        return sum(rows.rows for arm, rows in self.arms.items() if arm.role == role)
