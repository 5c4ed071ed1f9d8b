"""Bins and reference from own traffic: what a sample keeps, what its rows are worth."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.core.bins import UNSEEN
from monitor.core.block import LossSum, Part
from monitor.core.correlation import BLOCKS_MIN
from monitor.core.events import make_events
from monitor.core.learned_bins import FEATURES_MAX, SAMPLE_ROWS, LearnedBins
from monitor.core.profile import FeatureKind, PredictionKind, ReferenceProfile
from monitor.core.settings import WarmUpSettings
from monitor.core.tree import pack, unpack
from monitor.core.warm_up import Gathered, Progress, WarmUp
from tests.monitor_world import BLOCK_NS, SETTINGS

SEED = 20261128
BLOCKS = 800


def part(random: np.random.Generator, rows: int = 40, shift: float = 0.0) -> Part:
    inputs = {
        "x": (random.normal(size=(rows, 2)) + shift).astype(np.float32),
        "city": random.choice(np.array([b"Ulm", b"Bern", b"Graz"], dtype=object), rows),
    }
    return Part(inputs, {"label": random.integers(0, 3, rows)})


def learned(blocks: int = 400) -> LearnedBins:
    random, bins = np.random.default_rng(SEED), LearnedBins()
    for _ in range(blocks):
        bins.add([part(random)], continuous=False)
    return bins


def test_bins_are_of_every_element_and_of_the_answers_in_the_form_of_a_pushed_profile() -> None:
    profile = learned().profile()
    kinds = {feature.name: feature.kind for feature in profile.features}
    assert kinds == {
        "city": FeatureKind.CATEGORICAL,
        "x[0]": FeatureKind.CONTINUOUS,
        "x[1]": FeatureKind.CONTINUOUS,
    }
    assert set(profile.features[0].categories) == {"Bern", "Graz", "Ulm"}
    assert profile.prediction is not None
    assert profile.prediction.kind is PredictionKind.CLASS
    assert ReferenceProfile.from_bytes(profile.to_bytes()).to_bytes() == profile.to_bytes()


def test_the_sample_is_bounded_and_spread_over_its_whole_time() -> None:
    random, bins = np.random.default_rng(SEED), LearnedBins()
    for block in range(3000):
        bins.add([part(random, shift=block / 1000)], continuous=False)
        assert bins.rows <= SAMPLE_ROWS
    assert bins.rows >= SAMPLE_ROWS // 2
    first = bins.inputs[1].values
    assert SAMPLE_ROWS // 4 < first.size <= SAMPLE_ROWS
    assert np.quantile(first, 0.5) == pytest.approx(1.5, abs=0.15)


def test_neither_the_order_of_a_block_s_records_nor_how_it_was_cut_shows() -> None:
    random = np.random.default_rng(SEED)
    whole, cut = LearnedBins(), LearnedBins()
    for _ in range(200):
        one, two = part(random), part(random)
        whole.add([one, two], continuous=False)
        order = random.permutation(80)
        rows = {n: np.concatenate([one.inputs[n], two.inputs[n]])[order] for n in one.inputs}
        said = np.concatenate([one.outputs["label"], two.outputs["label"]])[order]
        pieces = [slice(0, 7), slice(7, 50), slice(50, 80)]
        parts = [Part({n: v[p] for n, v in rows.items()}, {"label": said[p]}) for p in pieces]
        cut.add(parts, continuous=False)
    assert pack(whole.to_tree()) == pack(cut.to_tree())
    again = LearnedBins.from_tree(unpack(pack(whole.to_tree())))
    assert pack(again.to_tree()) == pack(whole.to_tree())


def test_tensors_that_are_no_set_of_features_are_left_out_by_name() -> None:
    random, bins = np.random.default_rng(SEED), LearnedBins()
    image = random.normal(size=(4, FEATURES_MAX + 1))
    bins.add([Part({"image": image, "x": image[:, :1]}, {})], continuous=False)
    assert bins.left_out == ("image",)
    assert [column.spec.name for column in bins.inputs] == ["x"]


def test_what_the_log_withholds_is_no_feature() -> None:
    random, bins = np.random.default_rng(SEED), LearnedBins()
    bins.add([part(random)._replace(withheld={"input:x": (0,)})], continuous=False)
    assert [column.spec.name for column in bins.inputs] == ["city", "x[1]"]


def gathered(kind: str) -> ReferenceProfile:
    """40 rows a block: independent, or five at a time the same, or alike from block to block."""
    random = np.random.default_rng([SEED, 1])
    found = Gathered(learned().profile().to_bytes(), SETTINGS.coarse_edges)
    level = 0.0
    for _ in range(BLOCKS):
        rows = part(random)
        if kind == "sessions":
            rows = Part({n: np.repeat(v[:8], 5, axis=0) for n, v in rows.inputs.items()}, {})
        if kind == "correlated":
            level = 0.9 * level + np.sqrt(1 - 0.81) * random.normal()
            rows.inputs["x"][:] += np.float32(0.5 * level)
        counts, taken = found.count([rows])
        found.add(counts, taken, LossSum())
    return found.profile(1)


def test_independent_rows_are_worth_nearly_a_row_each_and_dependent_ones_less() -> None:
    print("seed", SEED)
    worth = {
        kind: gathered(kind).features[1].effective
        for kind in ("independent", "sessions", "correlated")
    }
    print(worth)
    assert worth["independent"] > 0.5
    assert 0.08 < worth["sessions"] < 0.25  # a fifth
    assert worth["correlated"] < 0.06  # some twenty blocks are as good as one


def test_what_rows_are_worth_is_in_the_reference_error() -> None:
    profile = gathered("sessions")
    plain = replace(profile, features=tuple(replace(f, effective=1.0) for f in profile.features))
    stretch = make_events(profile, 12).error / make_events(plain, 12).error
    of_inputs = make_events(profile, 12).feature < len(profile.features)
    assert np.all(stretch[of_inputs] > 1.8)
    assert ReferenceProfile.from_bytes(profile.to_bytes()).to_bytes() == profile.to_bytes()


def test_values_that_came_after_the_bins_are_the_sample_of_what_it_lacks() -> None:
    found = Gathered(learned().profile().to_bytes(), SETTINGS.coarse_edges)
    rows = part(np.random.default_rng(SEED), 40)
    rows.inputs["city"][:10] = b"Paris"
    counts, taken = found.count([rows])
    found.add(counts, taken, LossSum())
    city = found.profile(1).features[0]
    assert (city.held, city.novel, int(city.counts[UNSEEN])) == (40, 10, 10)


def test_few_labels_are_no_loss_reference() -> None:
    found = Gathered(learned().profile().to_bytes(), SETTINGS.coarse_edges)
    for _ in range(BLOCKS_MIN):
        counts, taken = found.count([part(np.random.default_rng(SEED), 5)])
        found.add(counts, taken, LossSum(1, 1 << 29))
    assert found.profile(BLOCKS_MIN + 1).loss is None
    loss = found.profile(BLOCKS_MIN).loss
    assert loss is not None
    assert loss.mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (
            Progress(12_000, 20_000, 3 * 3600 * 10**9, 30 * 3600 * 10**9, 9000),
            "warming up: 12,000 of 20,000 rows, 3 of 30 h",
        ),
        (Progress(30, 20, 90 * 10**9, 60 * 10**9, 9), "20 of 20 rows, 60 of 60 s, 9 of 256 blocks"),
    ],
)
def test_progress_reads_as_a_sentence(progress: Progress, words: str) -> None:
    assert progress.in_words().endswith(words)


def test_the_first_seconds_of_a_version_are_skipped() -> None:
    needs = WarmUpSettings(rows=100, span_ns=BLOCK_NS, skip_ns=10 * BLOCK_NS)
    warm_up = WarmUp(since_ns=5 * BLOCK_NS)
    random = np.random.default_rng(SEED)
    for block in range(5, 17):
        warm_up.add(block * BLOCK_NS, [part(random)], [], SETTINGS, needs)
    assert warm_up.from_ns == 15 * BLOCK_NS
