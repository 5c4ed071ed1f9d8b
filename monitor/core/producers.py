"""Who writes the log, how far each has come, and which rows were already seen.

Laws:
- a producer is known from its first record and lives until its END record;
- the watermark is the minimum over living producers; with none alive, the
  latest of the ended: a block is over only when time is known to have passed it;
- a producer's watermark never falls, whatever its records say;
- which rows were seen is kept as intervals, at most INTERVALS_MAX per stream of
  a producer; beyond, the lowest hole is closed.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from eventlog.core.intervals import Intervals
from eventlog.core.record import Run
from monitor.core.tree import Tree

INTERVALS_MAX = 1024
# Ended producers are remembered this long, for records that come twice.
REMEMBERED_NS = 7 * 86_400 * 10**9
REMEMBERED_MAX = 10_000


@dataclass(slots=True)
class Producer:
    watermark_ns: int = 0
    live: bool = True
    seen: dict[str, Intervals] = field(default_factory=dict)  # per stream

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
    """Mutable; owned by the engine."""

    def __init__(self) -> None:
        self.known: dict[str, Producer] = {}

    def note(self, name: str, watermark_ns: int, ended: bool) -> Producer:
        """A record of `name` was read."""
        producer = self.known.setdefault(name, Producer())
        producer.watermark_ns = max(producer.watermark_ns, watermark_ns)
        if ended:
            producer.live = False
            self._forget()
        return producer

    def watermark_ns(self) -> int | None:
        """Everything older has been read; None while nobody has written."""
        live = [p.watermark_ns for p in self.known.values() if p.live]
        if live:
            return min(live)
        return max((p.watermark_ns for p in self.known.values()), default=None)

    def slowest(self) -> str | None:
        """The living producer that holds the watermark."""
        live = [(p.watermark_ns, name) for name, p in self.known.items() if p.live]
        return min(live)[1] if live else None

    def _forget(self) -> None:
        newest = max(p.watermark_ns for p in self.known.values())
        ended = sorted((p.watermark_ns, name) for name, p in self.known.items() if not p.live)
        surplus = len(ended) - REMEMBERED_MAX
        for place, (watermark_ns, name) in enumerate(ended):
            if place < surplus or watermark_ns < newest - REMEMBERED_NS:
                del self.known[name]

    def to_tree(self) -> Tree:
        return {
            name: {
                "watermark_ns": producer.watermark_ns,
                "live": producer.live,
                "seen": {stream: seen.runs() for stream, seen in producer.seen.items()},
            }
            for name, producer in self.known.items()
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Producers":
        producers = cls()
        for name, item in tree.items():
            seen = {s: Intervals((a, b) for a, b in runs) for s, runs in item["seen"].items()}
            producers.known[name] = Producer(item["watermark_ns"], item["live"], seen)
        return producers
