"""Parts of a rolling reference add up: however time is cut, they hold what the whole would."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.block import LossSum, Part
from monitor.core.distinct_values import sketch
from monitor.core.tree import pack
from monitor.core.warm_up import Gathered
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import SETTINGS

SEED = 20261203
NAMES = np.array([b"a", b"b", b"c", b"new", b"newer"], dtype=object)


def base() -> Gathered:
    random = np.random.default_rng(SEED)
    x, names = random.normal(size=300), NAMES[random.integers(0, 3, 300)]
    specs = [FeatureSpec("x", "x", 0, "continuous"), FeatureSpec("n", "n", 0, datatype="BYTES")]
    rows = np.stack([x.astype(object), names], axis=1)
    profile = build_profile(rows, specs, random.integers(0, 2, 300), sample_rows=0)
    return Gathered(profile.to_bytes(), SETTINGS.coarse_edges)


BASE = base()


def fill(into: Gathered, block: int) -> None:
    random = np.random.default_rng([SEED, block])
    rows = int(random.integers(0, 20))
    inputs = {
        "x": random.normal(size=rows).astype(np.float32),
        "n": NAMES[random.integers(0, NAMES.size, rows)],
    }
    part = Part(inputs, {"label": random.integers(0, 2, rows)})
    counts = into.counter.empty()
    assert into.counter.count(part.inputs, part.outputs, counts)
    into.distinct = sketch(into.distinct, [part], counts, into.counter)
    into.add(counts, rows, LossSum(1, int(random.integers(0, 1 << 30))))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_merged_parts_hold_what_one_part_of_all_their_blocks_holds(
    lengths: list[int], random: object
) -> None:
    whole, parts, block = BASE.fresh(), [], 0
    for length in lengths:
        part = BASE.fresh()
        for _ in range(length):
            fill(part, block)
            fill(whole, block)
            block += 1
        parts.append(part)
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = BASE.fresh()
    for part in parts:
        merged.take(part)
    found, wanted = merged.amounts(), whole.amounts()
    # Between two parts no pair of blocks is made, so of how blocks vary only their number is left.
    assert found.pop("means")["blocks"] == wanted.pop("means")["blocks"]
    assert pack(found) == pack(wanted)
    again = BASE.fresh().filled(merged.amounts())
    assert pack(again.amounts()) == pack(merged.amounts())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_differences_within_parts_add_up(lengths: list[int]) -> None:
    """Blocks in pairs, counted by hand."""
    merged, pairs, squares, block = BASE.fresh(), 0, 0.0, 0
    for length in lengths:
        part, losses = BASE.fresh(), []
        for _ in range(length):
            before = part.losses.units
            fill(part, block)
            losses.append((part.losses.units - before) / (1 << 30))
            block += 1
        merged.take(part)
        for one, two in zip(losses[::2], losses[1::2], strict=False):
            pairs, squares = pairs + 1, squares + ((two - one) / 2) ** 2
    assert merged.means.pairs[0, -1] == pairs
    assert np.isclose(merged.means.squares[0, -1], squares)
