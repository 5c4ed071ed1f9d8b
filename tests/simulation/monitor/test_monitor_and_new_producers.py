"""Producers that appear while the monitor reads: no row of theirs is late, whatever the race."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from eventlog import LogError, MemoryLog, Position, Record, StoredRecord
from eventlog.core.marks import heartbeat_record
from monitor.engine import Engine
from tests.monitor_world import CODEC, MODEL, SETTINGS, Traffic
from tests.simulation.monitor.test_monitor_in_virtual_time import PROFILES, Watch

BLOCKS = 24


def commits(seed: int) -> Iterator[list[Record]]:
    """What producers commit, in the order in which they do; some appear and end on the way.

    A newcomer's heartbeat is committed before its rows arrive; the rows
    themselves may be committed after others have stated a later watermark.
    """
    random = np.random.default_rng(seed)
    made: list[Record] = []
    at_once = {"append": lambda log, producer, records: made.extend(records)}
    old = Traffic(MemoryLog(), producers=("00000a", "00000b"), rows_per_block=20, **at_once)  # type: ignore[arg-type]
    guests: list[Traffic] = []
    for block in range(BLOCKS):
        if random.random() < 0.8:
            name = f"0000{block + 16:02x}"
            guests.append(Traffic(MemoryLog(), seed + block, (name,), 5, block=block, **at_once))  # type: ignore[arg-type]
            yield [heartbeat_record(name, 0, guests[-1].now_ns)]
        for traffic in (old, *guests):
            made.clear()
            traffic.step()
            for record in made:
                yield [record]
        if guests and random.random() < 0.3:
            made.clear()
            guests.pop(0).end()
            yield list(made)
    for traffic in (old, *guests):
        made.clear()
        traffic.end()
        yield list(made)


class RacingLog(MemoryLog):
    """Commits go on while a read is under way, after it has listed the partitions."""

    def __init__(self, seed: int, *, fails: bool = False) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._coming = deque(commits(seed))
        self._fails = fails

    @property
    def complete(self) -> bool:
        return not self._coming

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        listed = set(self._partitions)
        for _ in range(min(int(self._random.integers(0, 20)), len(self._coming))):
            self.append(self._coming.popleft())
        if self._fails and self._random.random() < 0.2:
            raise LogError("a disk that stutters")
        return [item for item in super().read(after, limit) if item.partition in listed]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("limit", "fails"), [(100, False), (100, True), (3, True)])
def test_a_producer_that_appears_meanwhile_loses_no_row_to_a_closed_block(
    seed: int, limit: int, fails: bool
) -> None:
    log = RacingLog(seed, fails=fails)
    watch = Watch(log)
    quiet = 0
    while quiet < 20:
        try:
            count = watch.engine.read(limit)
        except LogError:
            count = 0
        watch.engine.close_blocks(watch.closed)
        quiet = quiet + 1 if not count and log.complete else 0
    assert watch.engine.counters.late == 0
    plain = MemoryLog()
    for records in commits(seed):
        plain.append(records)
    expected = Watch(plain).catch_up(10_000).engine
    assert watch.engine.to_bytes() == expected.to_bytes()
    assert expected.models[MODEL].rows == sum(expected.consumed().delivered.values())


def test_no_block_closes_before_the_log_was_listed_once_more() -> None:
    """A log that fails when it is listed again: what was read so far closes nothing."""
    log = MemoryLog()
    Traffic(log, producers=("00000a",), label_delay_blocks=1000).run(5)

    class Stutters(MemoryLog):
        reads = 0

        def read(self, after: Position, limit: int) -> list[StoredRecord]:
            self.reads += 1
            if self.reads == 2:
                raise LogError("not now")
            return log.read(after, limit)

    stutters = Stutters()
    engine = Engine(stutters, CODEC.decode, PROFILES, SETTINGS, load_page={}.get)
    with pytest.raises(LogError):
        engine.read(100)
    engine.close_blocks(lambda closed: None)
    assert MODEL not in engine.models
    engine.read(100)
    engine.close_blocks(lambda closed: None)
    assert engine.models[MODEL].blocks == 5
