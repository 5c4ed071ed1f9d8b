"""A reference that could not be had at first: watched without it, judged by it from then on."""

import pytest

from eventlog import MemoryLog
from monitor.core.judge import Kind
from monitor.core.profile import ReferenceProfile
from monitor.engine import Engine
from tests.monitor_world import BLOCK_NS, CODEC, MODEL, SETTINGS, START_NS, Traffic
from tests.simulation.monitor.test_monitor_in_virtual_time import GOOD, PROFILES


class Late:
    """No answer until `known`."""

    known = False

    def __call__(self, model: str, version: str, digest: str) -> ReferenceProfile | None:
        return PROFILES(model, version, digest) if self.known else None


class Watch:
    """Reads all there is; `crash` loses everything that was not stored."""

    def __init__(self, log: MemoryLog) -> None:
        self.log, self.profiles, self.pages = log, Late(), {}
        self.engine = self._open(None)
        self.raised: list[Kind] = []

    def _open(self, state: bytes | None) -> Engine:
        return Engine(
            self.log, CODEC.decode, self.profiles, SETTINGS, load_page=self.pages.get, state=state
        )

    def catch_up(self) -> None:
        while self.engine.read(100):
            self.engine.close_blocks(lambda closed: self.raised.append(closed.summary.verdict.kind))
        self.pages |= self.engine.book.dirty()

    def crash(self) -> None:
        self.engine = self._open(self.engine.to_bytes())


@pytest.mark.parametrize("crash", [False, True])
def test_a_version_is_judged_by_its_reference_from_the_block_on_at_which_it_is_known(
    crash: bool,
) -> None:
    traffic = Traffic(MemoryLog(), stable=GOOD)
    watch = Watch(traffic.log)
    traffic.run(20)
    watch.catch_up()
    stable = watch.engine.models[MODEL].stable
    assert stable is not None
    assert not stable.yardstick.known
    watch.profiles.known = True
    if crash:  # between the registry's answer and the next block
        watch.crash()
    traffic.run(20)
    watch.catch_up()
    stable = watch.engine.models[MODEL].stable
    assert stable is not None
    assert stable.yardstick.known
    assert (stable.since_ns, stable.judged_ns) == (START_NS, START_NS + 20 * BLOCK_NS)
    assert stable.rows == 40 * traffic.rows_per_block
    assert set(watch.raised) == {Kind.HEALTHY}
    traffic.shift, traffic.harm = 1.0, 0.4
    traffic.run(60)
    watch.catch_up()
    assert watch.raised[-1] is Kind.RETRAIN
