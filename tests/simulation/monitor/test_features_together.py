"""From records of the log to what features do together, and the same whatever comes between."""

import numpy as np
import pytest

from eventlog import MemoryLog
from monitor.core.multivariate.compare import compare
from monitor.core.tree import pack
from monitor.engine import Engine
from tests.monitor_world import MODEL, SETTINGS, Traffic
from tests.simulation.monitor.test_monitor_in_virtual_time import Watch, doubled, restarted

CORRELATION = 0.7


def turned(seen: np.ndarray) -> np.ndarray:
    """Two features that were independent go together; each keeps its distribution."""
    mixed = seen.copy()
    mixed[:, 1] = CORRELATION * seen[:, 0] + np.sqrt(1 - CORRELATION**2) * seen[:, 1]
    return mixed


def p_values(engine: Engine) -> dict[str, float]:
    stable = engine.models[MODEL].stable
    assert stable is not None
    (space,) = stable.spaces()
    assert space.off == ""
    assert len(space.live) == SETTINGS.multivariate_rows
    return {
        item.statistic.name: item.p_value for item in compare(space.reference, space.live.values)
    }


def sample(engine: Engine) -> bytes:
    stable = engine.models[MODEL].stable
    assert stable is not None
    return pack(stable.sampled.to_tree())


def test_a_correlation_that_turns_is_shown_though_no_histogram_moves() -> None:
    traffic = Traffic(MemoryLog()).run(60)
    before = p_values(Watch(traffic.log).catch_up().engine)
    assert min(before.values()) > 0.01
    traffic.spoil = turned
    traffic.run(60)
    watch = Watch(traffic.log).catch_up()
    after = p_values(watch.engine)
    assert after["covariance_shift"] == pytest.approx(1 / 200)
    assert after["mean_shift"] > 0.01
    assert watch.raised == []  # it informs; what pages looks at features one by one


def test_a_sample_is_the_same_after_kills_with_copies_and_in_another_order() -> None:
    plain = Traffic(MemoryLog()).run(50)
    twice = Traffic(MemoryLog(), append=doubled).run(50)
    whole = sample(Watch(plain.log).catch_up(10_000).engine)
    assert sample(Watch(twice.log).catch_up().engine) == whole
    assert sample(Watch(plain.log).catch_up(1).engine) == whole
    assert sample(restarted(plain.log).engine) == whole
