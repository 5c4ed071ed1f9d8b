"""From records to outliers: found where no feature moves by itself, silent where nothing does."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from eventlog import MemoryLog, decode_predictions
from monitor.core.block import STABLE, Arm, ModelBlock, Part
from monitor.core.events import Group
from monitor.core.evidence import NOTHING
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.reference_error import ALPHA
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.tree import pack
from monitor.engine import Engine
from monitor.outlier_documents import outlier_counts, outliers_document
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile
from tests.monitor_world import BLOCK_NS, CODEC, MODEL, SETTINGS, Traffic
from tests.property.monitor.test_evidence_property import most_alarms
from tests.simulation.monitor.test_monitor_in_virtual_time import Watch, doubled, restarted

SEED = 20261129
FEATURES, CORRELATION = 6, 0.95
SPECS = [FeatureSpec(f"f{i}", kind="continuous") for i in range(FEATURES)]


def rows_of(random: np.random.Generator, rows: int) -> np.ndarray:
    """The first two go together; the third has a heavy tail."""
    seen = random.normal(size=(rows, FEATURES))
    seen[:, 1] = CORRELATION * seen[:, 0] + np.sqrt(1 - CORRELATION**2) * seen[:, 1]
    seen[:, 2] = random.standard_cauchy(rows)
    return seen.astype(np.float32)


def contaminated(random: np.random.Generator, rows: int, share: float) -> np.ndarray:
    """In that share of the rows, those with large values first, two features are at odds."""
    seen = rows_of(random, rows)
    large = np.flatnonzero(np.abs(seen[:, 0]) > 1.2)
    chosen = large[random.random(len(large)) < share * rows / max(len(large), 1)]
    seen[chosen, 1] *= -1
    return seen


@cache
def reference(rows: int) -> ReferenceProfile:
    return build_profile(rows_of(np.random.default_rng(SEED), rows), SPECS)


def block_of(index: int, seen: np.ndarray) -> ModelBlock:
    made = ModelBlock(index)
    arm = made.arm(Arm("d" * 64, "1", STABLE, ""))
    arm.add(index * BLOCK_NS, index * BLOCK_NS, len(seen), 0)
    sequences = index * 10_000 + np.arange(len(seen))
    arm.parts.append(Part({"x": seen}, {}, {}, "00000a", sequences, sequences, 0 * sequences))
    return made


def watched(share: float, blocks: int) -> tuple[ModelState, set[Kind]]:
    print("seed", SEED)
    random, kinds = np.random.default_rng(SEED + 1), set[Kind]()
    state = ModelState("m", SETTINGS)
    for index in range(blocks):
        block = block_of(index, contaminated(random, 500, share))
        kinds.add(state.close(block, lambda *_: reference(40_000)).verdict.kind)
    return state, kinds


def test_one_row_in_a_hundred_at_odds_is_found_and_annotated_though_no_feature_moves() -> None:
    state, kinds = watched(0.01, 200)
    assert kinds <= {Kind.HEALTHY, Kind.WARN, Kind.ANNOTATE}
    assert Kind.ANNOTATE in kinds
    groups = state.groups()
    assert groups[Group.OUTLIERS] >= SETTINGS.page - np.log(WEIGHTS[Group.OUTLIERS])
    assert groups[Group.FEATURES] < SETTINGS.warn
    found = outliers_document(state, lambda *name: "-".join(map(str, name)))
    assert found["off"] == ""
    assert 0.008 < found["share"] < 0.014
    strongest = found["strongest"]
    assert len(strongest) == 20
    named = [{feature["name"] for feature in item["features"][:2]} for item in strongest]
    assert named.count({"f0", "f1"}) >= 15  # the others are of the heavy tail


def test_rows_like_the_reference_are_no_evidence() -> None:
    state, kinds = watched(0.0, 200)
    assert kinds == {Kind.HEALTHY}
    assert state.stable is not None
    counts = outlier_counts(state.stable)
    assert counts["share"] <= counts["reference"]["share_max"] < counts["bound"]


TIGHT: CoreSettings = replace(SETTINGS, outlier_tolerance=0.0005, budget_s=300.0, warn_budget_s=200)


@pytest.mark.parametrize("alike", [1, 5])
def test_small_references_and_rows_that_come_together_page_no_more_than_the_budget(
    alike: int,
) -> None:
    """alike: rows of a session, which are the same."""
    print("seed", SEED + alike)
    random, pages, references, blocks = np.random.default_rng(SEED + alike), 0, 40, 100
    for _ in range(references):
        profile = build_profile(rows_of(random, 600), SPECS, sample_rows=0)
        state = ModelState("m", TIGHT)
        evidence = NOTHING
        for index in range(blocks):
            seen = np.repeat(rows_of(random, 60 // alike), alike, axis=0)
            state.close(block_of(index, seen), lambda *_, p=profile: p)
            evidence = max(evidence, state.groups()[Group.OUTLIERS])
        pages += evidence >= np.log(TIGHT.budget_s)
    assert pages <= most_alarms(references, blocks / TIGHT.budget_s + ALPHA)


def at_odds(seen: np.ndarray) -> np.ndarray:
    """One row of each record far from the others."""
    spoilt = seen.copy()
    spoilt[len(seen) // 2] *= 6
    return spoilt


def outliers(engine: Engine) -> bytes:
    stable = engine.models[MODEL].stable
    assert stable is not None
    return pack(stable.outliers.to_tree())


def test_outliers_are_the_same_after_kills_with_copies_and_in_another_order() -> None:
    plain = Traffic(MemoryLog(), spoil=at_odds).run(30)
    twice = Traffic(MemoryLog(), spoil=at_odds, append=doubled).run(30)
    whole = outliers(Watch(plain.log).catch_up(10_000).engine)
    assert outliers(Watch(twice.log).catch_up().engine) == whole
    assert outliers(restarted(plain.log).engine) == whole


def test_a_shown_prediction_id_names_the_row_in_the_log() -> None:
    log = MemoryLog()
    Traffic(log, spoil=at_odds).run(12)
    state = Watch(log).catch_up().engine.models[MODEL]
    (first, *_) = outliers_document(state, CODEC.encode)["strongest"]
    name, row = first["prediction_id"].split(".")
    request = CODEC.decode(name)
    sequence = request.sequence + int(row)
    stored = log.locate(request.producer, sequence, request.ts_ms)
    assert stored is not None
    rows = decode_predictions(stored.record)
    place = rows.index_of(sequence)
    assert place is not None
    assert int(rows.ts_ns[place]) == first["ts_ns"]
    values = {f"f{i}": float(value) for i, value in enumerate(rows.inputs["x"][place])}
    assert first["features"]
    assert all(values[shown["name"]] == shown["value"] for shown in first["features"])
