"""`monitor.dependence = "rows"`: sooner, and only where rows are independent."""

from dataclasses import replace

import numpy as np

from monitor.core.predictions import LOSS_UNITS
from monitor.core.watched import Stable, Yardstick
from tests.correlated_world import SETTINGS_CORRELATED, CorrelatedStream
from tests.monitor_world import Version, profile_of

SEED = 20261128


def blocks_to_page(*, independent: bool) -> int:
    """Of a loss that has doubled, in blocks of 50 labelled rows."""
    settings = replace(SETTINGS_CORRELATED, independent_rows=independent)
    yardstick = Yardstick(profile_of(Version("1", promised=0.9)), settings)
    stable = Stable.start("1", "d" * 64, 0, yardstick)
    random = np.random.default_rng(SEED)
    for block in range(500):
        wrong = int(random.binomial(50, 0.25))
        stable.step(yardstick.counter.empty(), wrong * LOSS_UNITS, 50, 1)
        if max(map(stable.evidence, stable.m)) >= settings.page:
            return block
    raise AssertionError("never")


def test_rows_find_what_blocks_find_and_sooner() -> None:
    print("seed", SEED)
    assert blocks_to_page(independent=True) < blocks_to_page(independent=False)


def test_rows_that_depend_on_each_other_are_not_covered() -> None:
    print("seed", SEED)
    stream = CorrelatedStream(SEED, "autoregressive", 0.9)
    stream.stable.yardstick.independent = True
    for _ in range(320):
        stream.step()
    assert "monitor.dependence" in stream.stable.span.reason
    assert stream.stable.span.blocks == 1
