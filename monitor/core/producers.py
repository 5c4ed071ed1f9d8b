"""Who writes the log, how far each has come, and which rows were already seen.

Laws:
- everything is kept per partition and producer: a producer is known in a partition
  from its first record there, and lives in it until its END record there;
- the watermark is the minimum over living producers; with none alive, the
  latest of the ended: a block is over only when time is known to have passed it;
- a producer's watermark never falls, whatever its records say;
- which rows were seen is kept as intervals, at most INTERVALS_MAX per stream of
  a producer; beyond, the lowest hole is closed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from eventlog.core.intervals import Intervals
from eventlog.core.record import Run
from monitor.core.tree import Tree

INTERVALS_MAX = 1024
# Ended producers are remembered this long, for records that come twice.
REMEMBERED_NS = 7 * 86_400 * 10**9
REMEMBERED_MAX = 10_000

PartitionAndName = tuple[str, str]
Key = TypeVar("Key", str, PartitionAndName)


@dataclass(slots=True)
class Producer:
    watermark_ns: int = 0
    live: bool = True
    seen: dict[str, Intervals] = field(default_factory=dict)  # per stream
    heard_ns: int = 0  # of its partition's elapsed time, when its last record came; see there

    def first_time(self, stream: str, runs: tuple[Run, ...]) -> list[bool] | None:
        """Note rows; which of them are new, or None when all are (the usual case)."""
        seen = self.seen.setdefault(stream, Intervals())
        fresh = all(first >= seen.end for first, _ in runs) and _rising(runs)
        new = None if fresh else _new_rows(seen, runs)
        seen.update(runs)
        if len(seen) > INTERVALS_MAX:
            (first, _), (second, _) = seen.runs()[:2]
            seen.add(first, second - first)
        return None if new is None or all(new) else new

    def to_tree(self) -> Tree:
        return {
            "watermark_ns": self.watermark_ns,
            "live": self.live,
            "seen": {stream: seen.runs() for stream, seen in self.seen.items()},
            "heard_ns": self.heard_ns,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Producer":
        seen = {s: Intervals((a, b) for a, b in runs) for s, runs in tree["seen"].items()}
        return cls(tree["watermark_ns"], tree["live"], seen, tree["heard_ns"])


def _rising(runs: tuple[Run, ...]) -> bool:
    return all(a[0] + a[1] <= b[0] for a, b in pairwise(runs))


def _new_rows(seen: Intervals, runs: tuple[Run, ...]) -> list[bool]:
    own: set[int] = set()
    new = []
    for first, count in runs:
        for sequence in range(first, first + count):
            new.append(sequence not in seen and sequence not in own)
            own.add(sequence)
    return new


class Producers:
    """Those of a log in which each partition has a producer of its own.

    Mutable; owned by the engine. `PartitionTimes` is its sibling.
    """

    def __init__(self) -> None:
        self.known: dict[PartitionAndName, Producer] = {}

    def note(self, partition: str, name: str, watermark_ns: int, ended: bool) -> Producer:
        """A record of `name` was read from `partition`."""
        producer = self.known.setdefault((partition, name), Producer())
        producer.watermark_ns = max(producer.watermark_ns, watermark_ns)
        if ended:
            producer.live = False
            forget(self.known, [key for key, p in self.known.items() if not p.live])
        return producer

    def watermark_ns(self) -> int | None:
        """Everything older has been read; None while nobody has written."""
        live = [p.watermark_ns for p in self.known.values() if p.live]
        if live:
            return min(live)
        return max((p.watermark_ns for p in self.known.values()), default=None)

    def floor_ns(self, partition: str) -> int | None:  # noqa: ARG002 - as its sibling's
        """None: whether a row is late depends on nothing but whether its block is closed."""
        return None

    def holding(self) -> set[str]:
        """The partition whose living producer holds the watermark."""
        slowest = self._slowest()
        return {slowest[0]} if slowest else set()

    def slowest(self) -> str | None:
        """The living producer that holds the watermark."""
        slowest = self._slowest()
        return slowest[1] if slowest else None

    def _slowest(self) -> PartitionAndName | None:
        live = [(p.watermark_ns, key) for key, p in self.known.items() if p.live]
        return min(live)[1] if live else None

    @property
    def silent(self) -> int:
        """None is ever: whoever runs the gateway ends its dead producers."""
        return 0

    @property
    def live(self) -> int:
        return sum(producer.live for producer in self.known.values())

    def to_tree(self) -> Tree:
        return [[*key, producer.to_tree()] for key, producer in sorted(self.known.items())]

    def restore(self, tree: Tree) -> None:
        self.known = {(p, name): Producer.from_tree(item) for p, name, item in tree}


def forget(known: dict[Key, Producer], gone: Iterable[Key]) -> None:
    """Drop those of `gone` that went long ago, or are too many."""
    newest = max(p.watermark_ns for p in known.values())
    ended = sorted((known[key].watermark_ns, key) for key in gone)
    surplus = len(ended) - REMEMBERED_MAX
    for place, (watermark_ns, key) in enumerate(ended):
        if place < surplus or watermark_ns < newest - REMEMBERED_NS:
            del known[key]
