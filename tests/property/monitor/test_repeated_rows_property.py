"""Rows that repeat one of their block: against plain tuples in a dict, and what is left out."""

from collections import Counter as Tally
from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.block import STABLE, Arm, ModelBlock, Part
from monitor.core.counter import Counter
from monitor.core.model_state import ModelState
from monitor.core.profile import ProfileError, ReferenceProfile
from monitor.core.repeated_rows import count_repeats, live_share, reference_share
from monitor.core.tree import pack, unpack
from monitor.documents import repeated_document
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import BLOCK_NS, SETTINGS

SEED = 20261129
FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-40, 3.5])
WORDS = st.sampled_from(["", "a", "b", None, "new", "newer"])
WHOLES = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**62)])
ROWS = st.lists(st.tuples(FLOATS, FLOATS, WHOLES, WORDS), min_size=1, max_size=60)

Row = tuple[float, float, int, str | None]


def profile() -> ReferenceProfile:
    table = np.empty((4, 4), dtype=object)
    table[:] = [[0.5, 1.0, 1, "a"], [1.5, 2.0, 2, "b"], [2.5, 3.0, 3, "a"], [3.5, 4.0, 4, "b"]]
    specs = [
        FeatureSpec("left", "x", 0),
        FeatureSpec("right", "x", 2),  # what is between them is no feature
        FeatureSpec("id", "id", 0, datatype="INT64"),
        FeatureSpec("word", "word", 0),
    ]
    return build_profile(table, specs)


def part_of(rows: list[Row], dtype: type = np.float32) -> Part:
    noise = np.random.default_rng(SEED).normal(size=len(rows))
    x = np.array([[a, n, b] for (a, b, _, _), n in zip(rows, noise, strict=True)], dtype=dtype)
    ids = np.array([[row[2]] for row in rows], dtype=np.int64)
    words = np.array([[row[3]] for row in rows], dtype=object)
    return Part({"x": x, "id": ids, "word": words}, {})


def slow_repeats(rows: list[Row]) -> int:
    def plain(value: float) -> object:
        return "no number" if isnan(value) else value + 0.0

    kinds = Tally((plain(a), plain(b), whole, word) for a, b, whole, word in rows)
    return sum(times - 1 for times in kinds.values())


@given(ROWS, st.integers(0, 60), st.sampled_from([np.float16, np.float32, np.float64]))
def test_repeats_are_those_of_plain_tuples_however_the_block_is_cut(
    rows: list[Row], cut: int, dtype: type
) -> None:
    if dtype is np.float16:  # which has no number as small
        rows = [(0.0 if a == 1e-40 else a, 0.0 if b == 1e-40 else b, *rest) for a, b, *rest in rows]
    counter = Counter(profile())
    parts = [part_of(part, dtype) for part in (rows[cut:], rows[:cut]) if part]
    assert count_repeats(parts, counter).tolist() == [
        len(rows),
        slow_repeats(rows),
        len(rows) ** 2,
    ]


def test_of_many_rows_that_differ_a_little_none_is_taken_for_another() -> None:
    """In one bit of one feature each, the highest of a float, a sign, included."""
    base = np.random.default_rng(SEED).normal(size=20).astype(np.float32)
    counter = Counter(build_profile(base[None], [FeatureSpec(f"f{i}") for i in range(20)]))
    rows = np.repeat(base[None], 1 + 20 * 32, axis=0)
    bits = rows.view(np.uint32)
    for place in range(20 * 32):
        bits[1 + place, place // 32] ^= np.uint32(1 << (place % 32))
    assert count_repeats([Part({"x": rows}, {})], counter)[1] == 0
    swapped = np.stack([base, base[::-1]])
    assert count_repeats([Part({"x": swapped}, {})], counter)[1] == 0
    random = np.random.default_rng(SEED).normal(size=(200_000, 20)).astype(np.float32)
    assert count_repeats([Part({"x": random}, {})], counter)[1] == 0


def test_what_is_withheld_or_does_not_fit_is_not_counted() -> None:
    counter, rows = Counter(profile()), [(0.5, 1.0, 1, "a")] * 5
    part = part_of(rows)
    assert count_repeats([part], counter)[:2].tolist() == [5, 4]
    assert not count_repeats([part._replace(withheld={"input:word": None})], counter).any()
    assert not count_repeats([part._replace(withheld={"input:x": (2,)})], counter).any()
    assert count_repeats([part._replace(withheld={"input:x": (1,)})], counter)[0] == 5
    narrow = {**part.inputs, "x": part.inputs["x"][:, :2]}
    assert not count_repeats([part._replace(inputs=narrow)], counter).any()
    texts = {**part.inputs, "id": part.inputs["word"]}
    assert not count_repeats([part._replace(inputs=texts)], counter).any()
    gone = {name: part.inputs[name] for name in ("x", "id")}
    assert not count_repeats([part._replace(inputs=gone)], counter).any()
    nothing = Counter(ReferenceProfile(rows=0, features=()))
    assert not count_repeats([part], nothing).any()
    assert live_share(count_repeats([], counter)) is None


def test_bfloats_are_read_as_the_numbers_that_they_are() -> None:
    counter = Counter(build_profile(np.ones((3, 1)), [FeatureSpec("b", "b", 0, datatype="BF16")]))
    zeros = np.array([[0x0000], [0x8000], [0x3F80]], dtype=np.uint16)  # 0, -0 and 1
    assert count_repeats([Part({"b": zeros}, {})], counter)[:2].tolist() == [3, 1]


@pytest.mark.parametrize("size", [1, 7, 40, 90])
def test_a_references_share_is_what_blocks_drawn_from_it_have(size: int) -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    values = np.minimum(random.geometric(0.08, 90), 30).astype(float)[:, None]
    found = build_profile(values, [FeatureSpec("v")])
    again = ReferenceProfile.from_bytes(found.to_bytes())
    assert again.multiplicities == found.multiplicities
    shares = []
    for _ in range(2000):
        kinds = set(random.permutation(values[:, 0])[:size].tolist())
        shares.append(1 - len(kinds) / size)
    counted = np.array([3 * size, 0, 3 * size * size])  # three blocks
    expected = reference_share(found.multiplicities, counted)
    assert expected == pytest.approx(np.mean(shares), abs=5 * np.std(shares) / 2000**0.5 + 1e-9)


def test_what_the_reference_cannot_say_is_not_said() -> None:
    found = profile()
    assert found.multiplicities == ((1, 4),)
    assert reference_share((), np.array([5, 0, 25])) is None
    assert reference_share(found.multiplicities, np.zeros(3, dtype=np.int64)) is None
    # Of more rows than it has: as of all that it has.
    assert reference_share(((2, 2),), np.array([100, 0, 10_000])) == 0.5
    data = found.to_bytes()
    assert not ReferenceProfile.from_bytes(
        replace(found, multiplicities=()).to_bytes()
    ).multiplicities
    for damaged in (b"[[1,5]]", b"[[-1,-4]]", b"[[1]]", b'[["a",4]]', b"7"):
        with pytest.raises(ProfileError):
            ReferenceProfile.from_bytes(data.replace(b"[[1,4]]", damaged))


def test_a_model_shows_the_share_of_its_live_window_and_keeps_it_over_a_restart() -> None:
    known, stable = profile(), Arm("d" * 64, "1", STABLE, "")
    rows = [(float(i), 1.0, i, "a") for i in range(6)]
    blocks = [rows, rows + rows[:3], rows[:1] * 4]
    state = ModelState("m", SETTINGS)
    for index, content in enumerate(blocks):
        block = ModelBlock(index)
        arm = block.arm(stable)
        arm.add(index * BLOCK_NS, index * BLOCK_NS, len(content), 0)
        arm.parts.append(part_of(content))
        state.close(block, lambda *_: known)
        state = ModelState.from_tree("m", unpack(pack(state.to_tree())), SETTINGS, lambda *_: known)
    assert state.stable is not None
    assert repeated_document(state.stable) == {
        "live": (0 + 3 + 3) / (6 + 9 + 4),
        "reference": 0.0,
        "rows": 19,
    }
    late = ModelBlock(10 * SETTINGS.window_blocks)
    late.arm(stable).add(0, 0, 1, 0)
    late.arm(stable).parts.append(part_of(rows[:1]))
    state.close(late, lambda *_: known)
    assert repeated_document(state.stable)["live"] == 0.0
