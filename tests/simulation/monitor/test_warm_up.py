"""A version without a reference: its first traffic becomes one, by the engine over a log."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eventlog import MemoryLog
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.profile import ReferenceProfile
from monitor.core.settings import WarmUpSettings
from monitor.engine import Closed, Engine
from tests.monitor_world import (
    BLOCK_NS,
    CODEC,
    MODEL,
    SETTINGS,
    START_NS,
    Traffic,
    Version,
    profile_of,
)

FIRST, SECOND, BAD = Version("1"), Version("2"), Version("3", accuracy=0.5)
SKIPPED, SPAN, ROWS = 5, 330, 8_000
NEEDS = WarmUpSettings(ROWS, SPAN * BLOCK_NS, SKIPPED * BLOCK_NS)


class Watch:
    """An engine to which no reference was pushed, unless it is given."""

    def __init__(
        self, log: MemoryLog, *, pushed: ReferenceProfile | None = None, **needs: Any
    ) -> None:
        self.log, self.pushed, self.pages = log, pushed, {}
        self.settings = replace(SETTINGS, warm_up=replace(NEEDS, **needs))
        self.said: list[tuple[Kind, str]] = []
        self.raised: list[Kind] = []
        self.engine = self.open(None)

    def open(self, state: bytes | None) -> Engine:
        return Engine(
            self.log,
            CODEC.decode,
            lambda *_: self.pushed,
            self.settings,
            load_page=self.pages.get,
            state=state,
        )

    def closed(self, closed: Closed) -> None:
        verdict = closed.summary.verdict
        self.said.append((verdict.kind, verdict.reason))
        if closed.summary.raised:
            self.raised.append(verdict.kind)

    def catch_up(self, limit: int = 100) -> "Watch":
        while self.engine.read(limit):
            self.engine.close_blocks(self.closed)
        self.pages |= self.engine.book.dirty()
        return self

    @property
    def state(self) -> ModelState:
        return self.engine.models[MODEL]


def warm(log: MemoryLog, **more: Any) -> Traffic:
    return Traffic(log, stable=FIRST, rows_per_block=40, **more).run(SKIPPED + SPAN + 1)


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """A warm-up, a while of watching, then a shift that costs accuracy."""
    log = MemoryLog()
    traffic = warm(log)
    traffic.run(20)
    traffic.shift, traffic.harm = 1.0, 0.4
    traffic.run(40)
    return log


@pytest.fixture(scope="module")
def watch(log: MemoryLog) -> Watch:
    return Watch(log).catch_up()


def test_own_traffic_becomes_the_reference_and_drift_from_it_is_found(watch: Watch) -> None:
    assert watch.raised[-1] is Kind.RETRAIN
    stable = watch.state.stable
    assert stable is not None
    learned = stable.yardstick.learned
    assert learned is not None
    assert learned.caveat == ""
    assert stable.rests_on_ns == learned.since_ns == START_NS
    first = START_NS + SKIPPED * BLOCK_NS
    assert (learned.from_ns, learned.to_ns) == (first, first + SPAN * BLOCK_NS)
    assert stable.judged_ns == learned.to_ns
    profile = stable.yardstick.profile
    assert len(profile.features) == 6
    assert [feature.name for feature in profile.features][:2] == ["x[0]", "x[1]"]
    assert profile.rows >= ROWS
    assert profile.loss is not None
    assert profile.loss.mean == pytest.approx(0.05, abs=0.01)


def test_meanwhile_it_is_said_how_far_it_is_and_nothing_is_raised(watch: Watch) -> None:
    during = watch.said[: SKIPPED + SPAN]
    assert {kind for kind, _ in during} == {Kind.HEALTHY}
    assert during[0][1] == "warming up: 0 of 8,000 rows, 0 of 330 s"
    assert during[200][1].startswith("warming up: 5,")
    assert watch.said[SKIPPED + SPAN][1] == "evidence is within the budget"


def test_a_crash_at_any_block_leaves_no_trace(log: MemoryLog, watch: Watch) -> None:
    broken = Watch(log)
    blocks = 0
    while broken.engine.read(40):
        broken.engine.close_blocks(broken.closed)
        broken.pages |= broken.engine.book.dirty()
        broken.engine = broken.open(broken.engine.to_bytes())
        blocks += 1
    assert blocks > 30
    assert broken.engine.to_bytes() == watch.engine.to_bytes()
    assert broken.said == watch.said


def test_the_order_in_which_records_are_read_is_immaterial() -> None:
    states = []
    for producers in (("00000a", "00000b"), ("00000b", "00000a")):
        log = MemoryLog()
        records: list = []
        Traffic(
            MemoryLog(),
            stable=FIRST,
            rows_per_block=40,
            append=lambda _, name, found, kept=records: kept.append((name, found)),
        ).run(SKIPPED + SPAN // 3)
        for name in producers:  # one producer's records whole, then the other's
            log.append([record for owner, found in records if owner == name for record in found])
        states.append(Watch(log).catch_up().engine.to_bytes())
    assert states[0] == states[1]


def test_a_new_version_warms_up_on_its_own_and_a_former_one_is_remembered() -> None:
    log = MemoryLog()
    traffic = warm(log).run(10)
    watch = Watch(log).catch_up()
    first = watch.state.stable
    traffic.stable = SECOND
    traffic.run(20)
    second = watch.catch_up().state.stable
    assert second is not None
    assert first is not None
    assert not second.yardstick.known
    assert watch.said[-1][1].startswith("warming up: ")
    traffic.stable = FIRST
    traffic.run(3)
    again = watch.catch_up().state.stable
    assert again is not None
    assert again.yardstick.learned == first.yardstick.learned
    assert watch.state.own.progress is None


def test_a_candidate_is_compared_with_a_version_that_warms_up() -> None:
    traffic = Traffic(MemoryLog(), stable=FIRST).run(30)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.3, "r1"
    traffic.run(100)
    watch = Watch(traffic.log).catch_up()
    assert watch.raised[-1] is Kind.ROLLBACK


def test_a_pushed_reference_goes_first_unless_the_settings_want_none() -> None:
    log = MemoryLog()
    Traffic(log, stable=FIRST, rows_per_block=40).run(20)
    pushed = profile_of(FIRST)
    by_default = Watch(log, pushed=pushed).catch_up().state
    assert by_default.stable is not None
    assert by_default.stable.yardstick.profile is pushed
    assert by_default.own.progress is None
    own = Watch(log, pushed=pushed, always=True).catch_up().state
    assert own.stable is not None
    assert not own.stable.yardstick.known
    assert own.own.progress is not None


def test_a_pushed_reference_that_comes_late_takes_over() -> None:
    traffic = warm(MemoryLog()).run(3)
    watch = Watch(traffic.log).catch_up()
    assert watch.state.stable is not None
    assert watch.state.stable.yardstick.learned is not None
    watch.pushed = profile_of(FIRST)
    traffic.run(3)
    watch.catch_up()
    assert watch.state.stable.yardstick.profile is watch.pushed


def test_what_moves_while_it_is_made_is_in_it() -> None:
    """A slow drift during the warm-up is normal afterwards: what the docs say it cannot see."""
    traffic = Traffic(MemoryLog(), stable=FIRST, rows_per_block=40).run(SKIPPED)
    for _ in range(SPAN + 1):
        traffic.shift += 1.0 / SPAN
        traffic.step()
    watch = Watch(traffic.log).catch_up()
    assert watch.state.stable is not None
    learned = watch.state.stable.yardstick.learned
    assert learned is not None
    assert "moved during the warm-up" in learned.caveat
    middle = np.array([f.starts[f.starts.size // 2] for f in learned.profile.features])
    assert np.all(middle > 0.05)
