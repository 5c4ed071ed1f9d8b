"""Slices: which part a row is in, what is counted of it, and that parts add up to the whole."""

import json
from dataclasses import replace

import numpy as np
import pytest

from monitor.core.block import STABLE, Arm, ModelBlock, Outcome, Part
from monitor.core.model_state import ModelState
from monitor.core.performance.answers import ClassAnswer
from monitor.core.profile import ReferenceProfile
from monitor.core.settings import ANY_MODEL
from monitor.core.slice import Slice
from monitor.core.slicing import ABSENT, count_slices, places_of, places_of_row
from monitor.core.tree import pack, unpack
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import BLOCK_NS, MODEL, SETTINGS

REGION = Slice("region", "region", values=("eu", "us"))
AGE = Slice("age", "age", edges=(25.0, 65.0))
NOTHING: dict[str, tuple[int, ...] | None] = {}


def places(item: Slice, inputs: dict[str, np.ndarray], **more: object) -> list[int] | None:
    found = places_of(item, inputs, more.get("withheld", NOTHING), more.get("profile"))  # type: ignore[arg-type]
    return None if found is None else found.tolist()


def named_profile() -> ReferenceProfile:
    specs = [FeatureSpec("income", "x", 0), FeatureSpec("age", "x", 1)]
    return build_profile(np.random.default_rng(1).normal(size=(50, 2)), specs)


def test_texts_of_every_form_are_in_the_part_of_their_value_and_all_else_in_the_last() -> None:
    texts = np.array([b"eu", "us", b"mars", None, "eu"], dtype=object)
    assert places(REGION, {"region": texts[:, None]}) == [0, 1, 2, 2, 0]


def test_numbers_are_held_against_values_in_their_own_precision() -> None:
    item = Slice("dose", "dose", values=("0.1", "3", "high"))
    for dtype in (np.float32, np.float64):
        column = np.array([0.1, 3.0, 0.3, np.nan], dtype=dtype)
        assert places(item, {"dose": column}) == [0, 1, 3, 3]
    assert places(item, {"dose": np.array([3, 0], dtype=np.int32)}) == [1, 3]
    flag = Slice("flag", "flag", values=("1", "0"))
    assert places(flag, {"flag": np.array([True, False])}) == [0, 1]


def test_ranges_hold_their_lower_edge_and_what_has_no_place_is_missing() -> None:
    ages = np.array([24.9, 25.0, 64.9, 65.0, np.nan, np.inf, -np.inf], dtype=np.float32)
    assert places(AGE, {"age": ages}) == [0, 1, 1, 2, 3, 2, 0]
    assert AGE.parts == ("below 25", "25 to 65", "65 and more", "missing")
    assert Slice("a", "a", edges=(0.5,)).parts == ("below 0.5", "0.5 and more", "missing")


def test_a_feature_is_found_by_its_reference_name_or_by_its_place_in_an_input() -> None:
    wide = {"x": np.array([[30.0, 20.0], [10.0, 70.0]], dtype=np.float32)}
    assert places(AGE, wide) is None  # no reference knows it
    assert places(AGE, wide, profile=named_profile()) == [0, 2]
    assert places(replace(AGE, feature="x[1]"), wide) == [0, 2]
    for nowhere in ("x", "x[2]", "x[0,1]", "y[0]"):
        assert places(replace(AGE, feature=nowhere), wide) is None
    square = {"x": np.arange(8.0).reshape(2, 2, 2) * 10}
    assert places(replace(AGE, feature="x[1,0]"), square) == [0, 1]


def test_what_the_log_withholds_is_in_no_part() -> None:
    wide = {"x": np.zeros((2, 2), dtype=np.float32)}
    item = replace(AGE, feature="x[1]")
    assert places(item, wide, withheld={"input:x": (1,)}) is None
    assert places(item, wide, withheld={"input:x": (0,)}) == [0, 0]
    assert places_of_row([item, REGION], wide, {"input:x": None}, None, 1) == (ABSENT, ABSENT)


def test_rows_by_part_and_their_positive_answers_are_counted_of_protected_slices_alone() -> None:
    inputs = {"region": np.array([b"eu", b"us", b"us", b"mars"], dtype=object)}
    parts = [Part(inputs, {"label": np.array([1, 0, 1, 1])}), Part(inputs, {})]  # rows that failed
    protected = replace(REGION, protected=True)
    plain, watched = count_slices([REGION, protected], parts, None)
    assert plain.rows.tolist() == watched.rows.tolist() == [2, 4, 2]
    assert plain.said.tolist() == [0, 0, 0]
    assert watched.said.tolist() == [1, 2, 1]
    assert watched.positive.tolist() == [1, 1, 1]
    numbers = [Part(inputs, {"score": np.array([0.5, 0.49, np.nan, 0.9], dtype=np.float32)})]
    assert count_slices([protected], numbers, None)[0].positive.tolist() == [1, 0, 1]


def test_a_models_own_slices_stand_in_place_of_everybodys() -> None:
    settings = replace(SETTINGS, slices=((ANY_MODEL, (AGE,)), ("m", (REGION,))))
    assert settings.slices_of("m") == (REGION,)
    assert settings.slices_of("other") == (AGE,)
    assert SETTINGS.slices_of("m") == ()


# -- in the state of a model -------------------------------------------------------

SEED = 20261129
SLICED = replace(SETTINGS, slices=((MODEL, (REGION, replace(AGE, protected=True))),))
ROWS = 60


def blocks(count: int = 3) -> list[ModelBlock]:
    """Blocks of rows in all parts, and labels of some of the first."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    found = []
    for index in range(count):
        block = ModelBlock(100 + index)
        arm = block.arm(Arm("d", "1", STABLE, ""))
        arm.add(0, 0, ROWS, 0)
        region = random.choice(np.array([b"eu", b"us", b"mars"], dtype=object), ROWS)
        age = random.integers(0, 100, ROWS).astype(np.float32)
        arm.parts.append(
            Part({"region": region, "age": age}, {"label": random.integers(0, 2, ROWS)})
        )
        for _ in range(20):
            truth, said = random.integers(0, 2, 2).astype(str)
            at = 100 * BLOCK_NS
            answer = ClassAnswer(said, truth)
            place = (int(random.integers(0, 3)), int(random.integers(-1, 4)))
            block.outcomes.append(
                Outcome("d", at, float(said != truth), False, "1", at + 9, answer, place)
            )
        found.append(block)
    return found


def state_after(*, stored_between: bool = False, count: int = 3) -> ModelState:
    state = ModelState(MODEL, SLICED)
    for block in blocks(count):
        state.close(block, lambda *_: None)
        if stored_between:
            tree = unpack(pack(state.to_tree()))
            state = ModelState.from_tree(MODEL, tree, SLICED, lambda *_: None)
    return state


def test_parts_add_up_to_the_whole_and_each_row_is_in_one() -> None:
    measured = state_after().performance.versions["d"]
    whole, (region, age) = measured.whole.since, measured.slices
    assert sum(part.spans.since.answered for part in region) == whole.answered == 3 * ROWS
    assert sum(part.spans.since.rows for part in region) == whole.rows == 60
    assert sum(part.spans.since.covered for part in region) == whole.covered
    assert sum(part.spans.since.classes.right for part in region) == whole.classes.right
    assert sum(part.spans.since.rows for part in age) < whole.rows  # some are in no part
    assert sum(part.advantages.said for part in age) == 3 * ROWS
    assert all(part.advantages.said == 0 for part in region)
    assert sum(part.advantages.true for part in age) > 0


def test_stored_and_read_back_between_blocks_the_state_is_the_same_to_the_bit() -> None:
    one, other = state_after(stored_between=True), state_after()
    assert pack(one.to_tree()) == pack(other.to_tree())
    assert json.dumps(one.performance.to_tree())


def test_what_is_kept_does_not_grow_with_rows() -> None:
    sizes = [len(pack(state_after(count=count).performance.to_tree())) for count in (50, 150)]
    assert sizes[1] < 1.1 * sizes[0]  # the digits of the counts


@pytest.mark.parametrize("rollout", [False, True])
def test_parts_have_the_same_spans_as_the_whole(rollout: bool) -> None:
    book = state_after().performance
    if rollout:
        book.follow("r", 101 * BLOCK_NS)
    measured = book.versions["d"]
    spans = [set(item.of(rollout=rollout)) for item in measured.all_spans()]
    assert all(found == spans[0] for found in spans)
