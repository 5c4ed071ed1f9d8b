"""A rolling reference by the engine over a log: killed anywhere, read in any pieces."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from eventlog import MemoryLog
from monitor.core.rolling import Rolling
from monitor.core.settings import RollingSettings, WarmUpSettings
from monitor.engine import Closed, Engine
from tests.monitor_world import BLOCK_NS, CODEC, MODEL, SETTINGS, START_NS, Traffic, Version

FIRST = Version("1")
GUARD, PARTS, WARM_UP = 150, 2, 330  # blocks
AFTER = 5 * GUARD
ROLLING = replace(
    SETTINGS,
    multivariate_rows=0,
    rolling=RollingSettings(
        (MODEL,),
        PARTS,
        GUARD * BLOCK_NS,
        WarmUpSettings(5000, WARM_UP * BLOCK_NS, 0, always=True),
    ),
)


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """Calm traffic for some renewals, then a step."""
    log = MemoryLog()
    traffic = Traffic(log, stable=FIRST, rows_per_block=20).run(WARM_UP + AFTER)
    traffic.shift = 1.0
    traffic.run(GUARD)
    return log


class Watch:
    def __init__(self, log: MemoryLog) -> None:
        self.log, self.pages = log, {}
        self.engine = self.open(None)
        self.spans: list[tuple[int, int]] = []

    def open(self, state: bytes | None) -> Engine:
        return Engine(
            self.log, CODEC.decode, lambda *_: None, ROLLING, load_page=self.pages.get, state=state
        )

    @property
    def rolling(self) -> Rolling | None:
        return self.engine.models[MODEL].own.rolling(FIRST.digest)

    def closed(self, closed: Closed) -> None:
        rolling = self.rolling
        span = (rolling.learned.from_ns, rolling.learned.to_ns) if rolling else None
        if span and self.spans[-1:] != [span]:
            self.spans.append(span)

    def catch_up(self, limit: int, after: Callable[[], None] = lambda: None) -> "Watch":
        while self.engine.read(limit):
            self.engine.close_blocks(self.closed)
            self.pages |= self.engine.book.dirty()
            after()
        return self


def test_killed_anywhere_and_read_in_other_pieces_it_ends_in_the_same_state(
    log: MemoryLog,
) -> None:
    whole = Watch(log).catch_up(1000)
    broken = Watch(log)

    def kill() -> None:
        broken.engine = broken.open(broken.engine.to_bytes())

    broken.catch_up(307, kill)
    assert broken.engine.to_bytes() == whole.engine.to_bytes()
    assert broken.spans == whole.spans
    assert len(whole.spans) >= 3
    assert all(to % (GUARD * BLOCK_NS) == 0 for _, to in whole.spans[1:])
    assert whole.rolling is not None
    assert whole.rolling.is_frozen
    assert whole.rolling.learned.to_ns <= START_NS + (WARM_UP + AFTER) * BLOCK_NS
