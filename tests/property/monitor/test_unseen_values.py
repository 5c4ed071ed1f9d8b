"""Values that no reference holds: a long tail is no drift, a flood of new ones is."""

import numpy as np
import pytest

from monitor.core.block import STABLE, Arm, ModelBlock, Part
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.profile import fit_feature
from monitor.core.reference_error import unseen_bound
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import SETTINGS
from tests.property.monitor.test_evidence_property import most_alarms

SEED = 20261129


def uniform_tail(random: np.random.Generator, rows: int) -> np.ndarray:
    """One value in 30 % of the rows, three thousand others in the rest."""
    return np.where(random.random(rows) < 0.3, 0, 1 + random.integers(0, 3000, rows))


def zipf(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.zipf(1.3, rows) % 200_000


def few(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.integers(0, 12, rows) ** 2


def as_text(values: np.ndarray) -> np.ndarray:
    return np.array([str(value).encode() for value in values], dtype=object)


@pytest.mark.parametrize("draw", [uniform_tail, zipf, few])
@pytest.mark.parametrize("kind", ["text", "discrete"])
def test_the_bound_on_unseen_values_is_above_their_share(draw, kind) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    truth, failed, alpha = draw(random, 50_000), 0, 0.05
    for _ in range(40):
        seen = draw(random, 300)
        if kind == "discrete":
            seen, live = seen % 199, truth % 199
            feature = fit_feature(FeatureSpec("x", kind="discrete"), seen.astype(float))
            unseen = np.mean(~np.isin(live, feature.starts))
        else:
            feature = fit_feature(FeatureSpec("x"), as_text(seen))
            unseen = np.mean(~np.isin(truth, seen))
        assert 0 < feature.held < 300
        failed += unseen > unseen_bound(feature.novel, feature.held, 1, alpha)
    assert failed <= most_alarms(40, alpha)


def test_the_bound_is_near_what_was_seen_where_that_is_much() -> None:
    assert unseen_bound(0, 0, 5) == 1.0
    assert unseen_bound(7, 7, 5) == 1.0
    assert 0.0 < unseen_bound(0, 50_000, 300) < 0.0005
    assert 0.5 < unseen_bound(25_000, 50_000, 300) < 0.52


def test_names_beyond_what_is_remembered_are_expected_to_be_unseen() -> None:
    """Thirty thousand names, each twice: the kept ones are a third."""
    names = as_text(np.repeat(np.arange(30_000), 2))
    feature = fit_feature(FeatureSpec("x"), names)
    codes = feature.codes()
    forgotten = np.mean([name.decode() not in codes for name in names])
    assert unseen_bound(feature.novel, feature.held, 300) > forgotten > 0.6


def run(draw, rows: int, blocks: int, live=None):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    profile = build_profile(as_text(draw(random, rows))[:, None], [FeatureSpec("c")])
    state, kinds = ModelState("m", SETTINGS), []
    for index in range(blocks):
        made = ModelBlock(index)
        arm = made.arm(Arm("d", "1", STABLE, ""))
        arm.add(index * 10**9, index * 10**9, 100, 0)
        arm.parts.append(Part({"x": as_text((live or draw)(random, 100))[:, None]}, {}))
        summary = state.close(made, lambda version, digest: profile)
        kinds += [summary.verdict.kind] if summary.raised else []
    return kinds


@pytest.mark.parametrize(("draw", "rows"), [(uniform_tail, 2000), (zipf, 20_000), (few, 1000)])
def test_a_long_tail_raises_nothing(draw, rows) -> None:  # type: ignore[no-untyped-def]
    assert run(draw, rows, 150) == []


def test_a_flood_of_new_values_does() -> None:
    def flood(random: np.random.Generator, rows: int) -> np.ndarray:
        return np.where(random.random(rows) < 0.3, 10**6, few(random, rows))

    assert run(few, 1000, 60, flood)[-1] is Kind.UPSTREAM
