"""The whole engine over traffic with the hour, from the log to what is raised and stored."""

from dataclasses import replace

import numpy as np
import pytest

from eventlog import MemoryLog
from monitor.core.judge import Kind
from monitor.core.profile import ReferenceProfile
from monitor.core.season_reference import HOUR_NS, HOURS, hours_of
from monitor.core.settings import CoreSettings
from monitor.engine import Closed, Engine
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import (
    BLOCK_NS,
    CLASSES,
    CODEC,
    FEATURES,
    MODEL,
    SETTINGS,
    START_NS,
    Traffic,
    answers,
    inputs,
)

SEED = 20261130
ROWS_PER_HOUR = 400
SHIFT = 2.0
FIRST_BLOCK = (HOUR_NS - START_NS % HOUR_NS) // BLOCK_NS - 25  # 25 s before an hour
BLOCKS = 110


def shift_at(time_ns: int) -> float:
    """Every second hour of the week is another one."""
    return SHIFT * (int(hours_of(np.array([time_ns]))[0]) % 2)


def seasonal_profile() -> ReferenceProfile:
    random = np.random.default_rng(SEED)
    hours = np.repeat(np.arange(HOURS), ROWS_PER_HOUR)
    rows = inputs(hours.size, random) + SHIFT * (hours % 2)[:, None].astype(np.float32)
    truth = random.integers(0, CLASSES, hours.size)
    said = answers(truth, 0.95, random)
    specs = [FeatureSpec(f"f{i}", kind="continuous") for i in range(FEATURES)]
    # 1970 began 72 hours into a week.
    times_ns = (hours - 72) % HOURS * HOUR_NS
    return build_profile(rows, specs, said, (said != truth).astype(float), times_ns=times_ns)


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    print("seed", SEED)
    return ReferenceProfile.from_bytes(seasonal_profile().to_bytes())


def write(log: MemoryLog, *, as_other: bool = False) -> None:
    """Traffic over the end of an hour; as_other: like the hour that it is not."""
    traffic = Traffic(log, block=FIRST_BLOCK)
    for _ in range(BLOCKS):
        own = shift_at(traffic.now_ns)
        traffic.shift = SHIFT - own if as_other else own
        traffic.step()
    traffic.end()


class Watch:
    def __init__(
        self,
        log: MemoryLog,
        profile: ReferenceProfile,
        settings: CoreSettings = SETTINGS,
        state: bytes | None = None,
        pages: dict | None = None,
    ) -> None:
        self.pages = {} if pages is None else pages
        self.engine = Engine(
            log, CODEC.decode, lambda *_: profile, settings, load_page=self.pages.get, state=state
        )
        self.raised: list[Kind] = []

    def closed(self, closed: Closed) -> None:
        if closed.summary.raised:
            self.raised.append(closed.summary.verdict.kind)

    def catch_up(self, limit: int = 7) -> "Watch":
        while self.engine.read(limit):
            self.engine.close_blocks(self.closed)
        return self


def test_an_hour_that_is_as_it_always_is_raises_nothing(profile: ReferenceProfile) -> None:
    log = MemoryLog()
    write(log)
    assert Watch(log, profile).catch_up().raised == []
    whole = Watch(log, profile, replace(SETTINGS, seasonal=False)).catch_up()
    assert Kind.ANNOTATE in whole.raised


def test_an_hour_that_is_like_another_one_is_annotated(profile: ReferenceProfile) -> None:
    log = MemoryLog()
    write(log, as_other=True)
    assert Watch(log, profile).catch_up().raised[-1] is Kind.ANNOTATE


@pytest.mark.parametrize("spread", [1, 8])
def test_the_state_is_the_same_after_a_crash_at_every_commit(
    profile: ReferenceProfile, spread: int
) -> None:
    """spread: blocks that are bet on as one, so that some lie in both hours."""
    log = MemoryLog()
    write(log)
    settings = replace(SETTINGS, block_ns=BLOCK_NS)

    def lengthened(watch: Watch) -> None:
        stable = watch.engine.models[MODEL].stable if MODEL in watch.engine.models else None
        if stable is not None:
            stable.span = replace(stable.span, blocks=spread)

    once = Watch(log, profile, settings)
    while once.engine.read(5):
        once.engine.close_blocks(once.closed)
        lengthened(once)
    expected = once.engine.to_bytes()
    state, pages, commits = None, {}, 0
    while True:
        watch = Watch(log, profile, settings, state, dict(pages))
        if not watch.engine.read(5):
            break
        watch.engine.close_blocks(watch.closed)
        lengthened(watch)
        state, commits = watch.engine.to_bytes(), commits + 1
        pages |= watch.engine.book.dirty()
    assert commits > 20
    assert state == expected
