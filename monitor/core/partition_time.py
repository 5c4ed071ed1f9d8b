"""Time in a log whose partitions are each shared by many producers: Kafka's.

Every partition has a clock: the minimum of the watermarks of its living producers,
which never falls. It is a function of that partition's records alone, in their order;
so is which of its rows are late. How the partitions are read against each other, and
how reads are cut, is immaterial: a block is closed when every clock has passed it, and
holds what was not late by the clock of its own partition.

- A row is late when it is older than the floor of its partition as it was before the
  row's record: the clock less `lateness_ns`. Late rows are in no statistics and
  count as unseen.
- A producer whose machine died has no END record. It holds the clock back until the
  partition's elapsed time has grown by `silence_ns` since its last record; what it
  sends after that and below the floor is late. Elapsed time is what single producers
  have stated between two records of their own, so it takes no clock but theirs and
  no two clocks that agree; one step counts for at most STEP_NS, so that a clock that
  is set forward silences nobody.
- A producer that holds back more than memory has room for is passed over like a silent
  one, until its next record. Its partition is then ahead of the others, and waits for
  them: what is open is bounded.
- A newcomer holds the clock from its first record on. What it had answered before
  that record was read is late if it is below the floor: `lateness_ns` is for the way
  from a newcomer's first record to the log.
"""

from collections.abc import Sequence

from monitor.core.producers import Producer, forget
from monitor.core.tree import Tree

# A producer states its watermark each second; a longer step is a gap or a clock that was set.
STEP_NS = 5 * 10**9


class PartitionTime:
    """Mutable. elapsed_ns: see the module; clock_ns: None until somebody has written."""

    def __init__(self, silence_ns: int) -> None:
        self._silence_ns = silence_ns
        self.known: dict[str, Producer] = {}
        self._live: dict[str, Producer] = {}  # of those: without an end
        self._elapsed_ns = 0
        self.clock_ns: int | None = None

    def note(self, name: str, watermark_ns: int, ended: bool) -> Producer:
        """A record of `name` was read."""
        producer = self.known.get(name)
        if producer is None:
            producer = self.known[name] = self._live[name] = Producer(watermark_ns)
        else:
            step_ns = max(0, watermark_ns - producer.watermark_ns)
            producer.watermark_ns += step_ns
            heard_ns = producer.heard_ns + min(step_ns, STEP_NS)
            self._elapsed_ns = max(self._elapsed_ns, heard_ns)
        producer.heard_ns = self._elapsed_ns
        if ended and producer.live:
            producer.live = False
            del self._live[name]
            self._forget()
        self._advance()
        return producer

    def _advance(self) -> None:
        now_ns = self._minimum()
        self.clock_ns = now_ns if self.clock_ns is None else max(self.clock_ns, now_ns)

    def pass_over(self) -> bool:
        """Treat the one that holds the clock as silent until its next record.

        False: nobody else would hold it.
        """
        living = self.living()
        if len(living) < 2:
            return False
        slowest = min(living, key=lambda name: (living[name].watermark_ns, name))
        living[slowest].heard_ns = self._elapsed_ns - self._silence_ns - 1
        self._advance()
        return True

    def is_silent(self, producer: Producer) -> bool:
        return self._elapsed_ns - producer.heard_ns > self._silence_ns

    def living(self) -> dict[str, Producer]:
        """Those that hold the clock."""
        return {name: p for name, p in self._live.items() if not self.is_silent(p)}

    def silent(self) -> list[str]:
        return [name for name, p in self._live.items() if self.is_silent(p)]

    def _minimum(self) -> int:
        held = min((p.watermark_ns for p in self.living().values()), default=None)
        return max(p.watermark_ns for p in self.known.values()) if held is None else held

    def _forget(self) -> None:
        """Those whose machines died have no end, and go with the ended ones."""
        gone = [*self.silent(), *(name for name in self.known if name not in self._live)]
        forget(self.known, gone)
        self._live = {name: p for name, p in self._live.items() if name in self.known}

    def to_tree(self) -> Tree:
        return {
            "known": {name: producer.to_tree() for name, producer in self.known.items()},
            "elapsed_ns": self._elapsed_ns,
            "clock_ns": self.clock_ns,
        }

    def restore(self, tree: Tree) -> None:
        self.known = {name: Producer.from_tree(item) for name, item in tree["known"].items()}
        self._live = {name: p for name, p in self.known.items() if p.live}
        self._elapsed_ns, self.clock_ns = tree["elapsed_ns"], tree["clock_ns"]


class PartitionTimes:
    """The clocks of a fixed set of partitions; has what `Producers` has.

    Mutable; owned by the engine.
    """

    def __init__(self, partitions: Sequence[str], lateness_ns: int, silence_ns: int) -> None:
        self._lateness_ns = lateness_ns
        self.times = {name: PartitionTime(silence_ns) for name in partitions}

    def note(self, partition: str, name: str, watermark_ns: int, ended: bool) -> Producer:
        """A record of `name` was read from `partition`."""
        return self.times[partition].note(name, watermark_ns, ended)

    def watermark_ns(self) -> int | None:
        """What every partition's clock has passed; None while one has none."""
        clocks = [time.clock_ns for time in self.times.values()]
        known = [clock for clock in clocks if clock is not None]
        return min(known) if len(known) == len(clocks) else None

    def floor_ns(self, partition: str) -> int | None:
        """Rows of `partition` in blocks that end before it are late; None: none is."""
        clock_ns = self.times[partition].clock_ns
        return None if clock_ns is None else clock_ns - self._lateness_ns

    def holding(self) -> set[str]:
        """The partitions that the others are ahead of."""
        clocks = {partition: time.clock_ns or 0 for partition, time in self.times.items()}
        return {partition for partition, clock in clocks.items() if clock == min(clocks.values())}

    def slowest(self) -> str | None:
        """The producer that holds the watermark."""
        found = [
            (producer.watermark_ns, name)
            for time in self.times.values()
            for name, producer in time.living().items()
        ]
        return min(found)[1] if found else None

    @property
    def live(self) -> int:
        """Producers that have not ended and are not silent, in any partition."""
        return len({name for time in self.times.values() for name in time.living()})

    @property
    def silent(self) -> int:
        """Producers without an end that hold nothing back any more."""
        return len({name for time in self.times.values() for name in time.silent()})

    def to_tree(self) -> Tree:
        return {partition: time.to_tree() for partition, time in self.times.items()}

    def restore(self, tree: Tree) -> None:
        """Raises: KeyError for a state of other partitions."""
        for partition, time in self.times.items():
            time.restore(tree[partition])


class Floors:
    """How a partition's floor rose: (offset, block), from that offset on it was that block."""

    def __init__(self) -> None:
        self.points: list[tuple[int, int | None]] = []

    def note(self, offset: int, floor: int | None) -> None:
        """With the record at `offset` the floor came to be `floor`."""
        if not self.points or self.points[-1][1] != floor:
            self.points.append((offset + 1, floor))

    def at(self, offset: int) -> int | None:
        """What the record at `offset` was judged by."""
        return next((block for at, block in reversed(self.points) if at <= offset), None)

    def cut(self, block: int) -> int | None:
        """The record with which the floor passed `block`; None: it has not yet."""
        return next((at - 1 for at, b in self.points if b is not None and b > block), None)

    def forget(self, restart: int, frontier: int) -> None:
        """Only records beyond `restart` are read again, only blocks from `frontier` on close."""
        points = self.points
        while len(points) > 1 and points[1][0] <= restart + 1 and (points[1][1] or 0) <= frontier:
            del points[0]
