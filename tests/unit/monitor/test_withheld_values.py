"""What a log's policy keeps out of the log: no statistics, no alarm, and the status says so."""

from dataclasses import replace

import numpy as np
import pytest

from eventlog import PredictionRows, decode_predictions, encode_predictions, fake_rows
from eventlog.core.predictions import Hashed
from monitor.core.block import ModelBlock
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.open_blocks import OpenBlocks, fill
from monitor.documents import state_document
from monitor.outlier_documents import no_ids, outliers_document
from tests.monitor_world import BLOCK_NS, FEATURES, SETTINGS, START_NS, Version, answers, inputs
from tests.monitor_world import profile_of as reference

SEED = 20261129
BLOCKS, ROWS = 40, 400
FIRST = START_NS // BLOCK_NS
NAMES = {f"f{i}" for i in range(FEATURES)}
DIGESTS = Hashed("FP32", (FEATURES,), "00ff00ff", np.zeros((ROWS, 16), np.uint8))


def masked(rows: PredictionRows) -> PredictionRows:
    x = rows.inputs["x"].copy()
    x[:, [0, 2]] = 0
    return replace(rows, inputs={"x": x}, masked={"input:x": (0, 2)})


def without(rows: PredictionRows, *dropped: str) -> PredictionRows:
    return replace(
        rows,
        inputs={n: a for n, a in rows.inputs.items() if f"input:{n}" not in dropped},
        outputs={n: a for n, a in rows.outputs.items() if f"output:{n}" not in dropped},
        dropped=dropped,
    )


POLICIES = {
    "full": (lambda rows: rows, set()),
    "masked": (masked, {"f0", "f2"}),
    "hashed": (
        lambda rows: replace(rows, inputs={}, hashed={"input:x": DIGESTS}),
        NAMES,
    ),
    "inputs": (lambda rows: without(rows, "input:x"), NAMES),
    "features": (lambda rows: without(rows, "output:label"), {"prediction"}),
    "off": (lambda rows: without(rows, "input:x", "output:label"), {*NAMES, "prediction"}),
}


def run(policy, shift=0.0, weight=1.0, lost=0):
    """The state after some blocks of traffic, by way of real records."""
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    version = Version("1")
    state, kinds = ModelState("m", SETTINGS), set()
    for index in range(FIRST, FIRST + BLOCKS):
        said = answers(random.integers(0, 4, ROWS), 0.95, random)
        rows = replace(
            fake_rows(index * ROWS, ROWS, ts_ns=index * BLOCK_NS, outputs={"label": said}),
            digest=version.digest,
            inputs={"x": inputs(ROWS, random, shift)},
            weight=np.full(ROWS, weight, np.float32),
        )
        open_blocks = OpenBlocks(BLOCK_NS, None)
        record = encode_predictions(policy(rows), "0a0b0c", 0)
        open_blocks.add_rows(decode_predictions(record), None)
        block = ModelBlock(index, lost=lost)
        fill(block, open_blocks.close(index)["m"])
        summary = state.close(block, lambda _, __: reference(version))
        kinds.add(summary.verdict.kind)
    return state, kinds


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_withheld_raises_nothing_and_is_named(name):
    policy, withheld = POLICIES[name]
    state, kinds = run(policy)
    assert kinds == {Kind.HEALTHY}
    assert state.stable.mismatched == 0
    document = state_document(state, None, {})
    assert set(document["stable"]["withheld"]) == withheld
    restored = ModelState.from_tree(
        "m", state.to_tree(), SETTINGS, lambda *_: reference(Version("1"))
    )
    assert restored.stable.withheld == state.stable.withheld


def test_what_is_not_withheld_is_watched_as_ever():
    whole, _ = run(lambda rows: rows)
    part, _ = run(masked)
    counted = part.stable.window.live
    expected = whole.stable.window.live.copy()
    expected[[0, 2]] = 0
    assert (counted == expected).all()
    _, kinds = run(masked, shift=1.0)
    assert kinds - {Kind.HEALTHY, Kind.WARN}


@pytest.mark.parametrize("name", POLICIES)
def test_no_value_of_a_row_is_kept_or_shown_where_a_feature_is_withheld(name):
    policy, withheld = POLICIES[name]
    state, _ = run(policy, shift=1.0)
    found = outliers_document(state, no_ids)
    if withheld <= {"prediction"}:  # the score is of inputs alone
        assert found["off"] == ""
        assert found["strongest"]
        return
    assert found["off"] == "the log's policy withholds a feature"
    assert (found["looked_at"], found["strongest"]) == (0, [])
    assert state.stable.outliers.to_tree()["strongest"] == [[], []]


def test_predictions_are_watched_where_inputs_are_withheld():
    state, _ = run(lambda rows: without(rows, "input:x"))
    assert state.stable.window.live[FEATURES:].sum() > 0


def test_rows_of_a_sample_stand_for_the_traffic_that_they_are_of():
    """Of 4,000 rows a block 400 are logged and 40 are lost: 1 %, not 9 %."""
    state, kinds = run(lambda rows: rows, weight=10.0, lost=40)
    assert kinds == {Kind.HEALTHY}
    assert state.evidence().unseen_share == pytest.approx(40 / 4040)
    _, kinds = run(lambda rows: rows, weight=1.0, lost=40)
    assert Kind.BLIND in kinds
