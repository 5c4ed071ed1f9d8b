"""History in few enough steps to draw: blocks in, at most BUCKETS_MAX buckets kept.

Laws:
- a bucket covers a whole number of blocks, twice as many whenever there would be too
  many buckets, so memory is bounded whatever the span and nothing of it need be
  known before;
- of evidence a bucket keeps the highest, since that is what pages; of rows and
  losses it keeps sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKETS_MAX = 480


@dataclass(slots=True)
class Losses:
    """Labelled rows and the sum of their losses, each in [0, 1]."""

    rows: int = 0
    total: float = 0.0

    def add(self, other: "Losses") -> None:
        self.rows += other.rows
        self.total += other.total

    @property
    def mean(self) -> float:
        """Only of one row or more."""
        return self.total / self.rows


@dataclass(slots=True)
class Bucket:
    """stable, candidate: rows by version; lost: rows that are in no statistic."""

    evidence_s: float = 0.0
    stable: dict[str, int] = field(default_factory=dict)
    candidate: dict[str, int] = field(default_factory=dict)
    stable_loss: Losses = field(default_factory=Losses)
    candidate_loss: Losses = field(default_factory=Losses)
    lost: int = 0

    @property
    def rows(self) -> int:
        return sum(self.stable.values()) + sum(self.candidate.values())

    def add(self, other: "Bucket") -> None:
        self.evidence_s = max(self.evidence_s, other.evidence_s)
        for mine, others in ((self.stable, other.stable), (self.candidate, other.candidate)):
            for version, rows in others.items():
                mine[version] = mine.get(version, 0) + rows
        self.stable_loss.add(other.stable_loss)
        self.candidate_loss.add(other.candidate_loss)
        self.lost += other.lost


class Timeline:
    """Mutable; takes block documents in any order, best in that of time."""

    def __init__(self, block_ns: int) -> None:
        self.width_ns = block_ns
        self.start_ns: int | None = None
        self.end_ns = 0
        self._block_ns = block_ns
        self._buckets: dict[int, Bucket] = {}

    def add(self, block: Mapping[str, Any]) -> None:
        """One block as `block_document` gives it."""
        start_ns = int(block["start_ns"])
        self.start_ns = start_ns if self.start_ns is None else min(self.start_ns, start_ns)
        self.end_ns = max(self.end_ns, start_ns + self._block_ns)
        self._put(self._buckets, start_ns // self.width_ns, _bucket(block))
        while len(self._buckets) > BUCKETS_MAX:
            self._widen()

    def _widen(self) -> None:
        self.width_ns *= 2
        wider: dict[int, Bucket] = {}
        for index, bucket in self._buckets.items():
            self._put(wider, index // 2, bucket)
        self._buckets = wider

    @staticmethod
    def _put(buckets: dict[int, Bucket], index: int, bucket: Bucket) -> None:
        if index in buckets:
            buckets[index].add(bucket)
        else:
            buckets[index] = bucket

    def buckets(self, wanted: int = BUCKETS_MAX) -> tuple[int, list[tuple[int, Bucket]]]:
        """The width in ns, and the start and content of each bucket, at most `wanted`."""
        times = 1
        while len({index // times for index in self._buckets}) > wanted:
            times += 1
        coarse: dict[int, Bucket] = {}
        for index, bucket in sorted(self._buckets.items()):
            into = coarse.setdefault(index // times, Bucket())
            into.add(bucket)
        width_ns = self.width_ns * times
        return width_ns, [(index * width_ns, bucket) for index, bucket in coarse.items()]

    def total(self) -> Bucket:
        """Everything in one."""
        found = Bucket()
        for bucket in self._buckets.values():
            found.add(bucket)
        return found


def _bucket(block: Mapping[str, Any]) -> Bucket:
    rows, version = block["rows"], {"stable": block["stable"], "candidate": block["candidate"]}
    losses = {arm: _losses(block["labelled"][arm], block["loss"][arm]) for arm in version}
    of_arm = {arm: {version[arm]: rows[arm]} if rows[arm] else {} for arm in version}
    return Bucket(
        block["evidence_s"],
        of_arm["stable"],
        of_arm["candidate"],
        losses["stable"],
        losses["candidate"],
        block["lost"],
    )


def _losses(rows: int, mean: float | None) -> Losses:
    return Losses(rows, mean * rows) if rows and mean is not None else Losses()
