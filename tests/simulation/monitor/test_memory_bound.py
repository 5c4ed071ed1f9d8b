"""What is kept of a model does not grow with its rows: 72 h at 10,000 rows a second."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from sys import getsizeof
from types import FunctionType, ModuleType

import numpy as np
import pytest

from monitor.core.model_state import ModelState
from monitor.core.tree import pack
from tests.long_run_world import BLOCK_S, LONG_RUN, LongRun

SEED = 20261129
HOURS, SETTLED_HOURS = 72, 24  # four cycles: more versions than are kept
LOOK_BLOCKS = 3600 // BLOCK_S
# Rare bins, digits and how many labels came move the size by as much; eight bytes that were
# kept of each block would move it by more.
NOISE = 0.02
ATOMS = (type, ModuleType, FunctionType)
SHORT_HOURS = 2


@dataclass(frozen=True, slots=True)
class Look:
    """stored: bytes that are written to disk; held: bytes of all objects of the state."""

    hour: float
    stored: int
    held: int


def held_bytes(root: object) -> int:
    """Of every object that can be reached, each once."""
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, ATOMS):
            continue
        seen.add(id(item))
        total += getsizeof(item)
        if isinstance(item, np.ndarray):
            if item.base is not None:
                waiting.append(item.base)
        elif not isinstance(item, (str, bytes, array)):
            waiting.extend(_within(item))
    return total


def _within(item: object) -> Iterator[object]:
    if isinstance(item, dict):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    yield from vars(item).values() if hasattr(item, "__dict__") else ()
    for kind in type(item).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(item, name):
                yield getattr(item, name)


def run(world: LongRun, hours: float) -> tuple[ModelState, list[Look]]:
    state, looks = ModelState("m", LONG_RUN), []
    for block in world.blocks(hours):
        state.close(block, world.profiles)
        if state.blocks % LOOK_BLOCKS == 0:
            hour = state.blocks * BLOCK_S / 3600
            looks.append(Look(hour, len(pack(state.to_tree())), held_bytes(state)))
    return state, looks


def growth(looks: list[Look]) -> tuple[float, float]:
    """Of what is stored and held, the second half of the settled time against the first."""
    middle = (SETTLED_HOURS + HOURS) / 2
    first = [look for look in looks if SETTLED_HOURS < look.hour <= middle]
    second = [look for look in looks if look.hour > middle]
    print("first", first[-1], "second", second[-1])
    return (
        mean(look.stored for look in second) / mean(look.stored for look in first) - 1.0,
        mean(look.held for look in second) / mean(look.held for look in first) - 1.0,
    )


@pytest.mark.ci
@pytest.mark.parametrize(("classes", "promotes"), [(2, True), (3, False), (1, True), (1, False)])
def test_three_days_of_10000_rows_a_second_leave_no_more_than_one(
    classes: int, *, promotes: bool
) -> None:
    print("seed", SEED)
    state, looks = run(LongRun(classes, SEED, promotes=promotes), HOURS)
    assert state.rows > HOURS * 3600 * 10_000
    stored, held = growth(looks)
    print(f"grew by {stored:.3%} stored, {held:.3%} held")
    assert stored < NOISE
    assert held < NOISE


@pytest.mark.ci
def test_a_version_that_is_never_forgotten_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.core.performance.book.VERSIONS_MAX", 1000)
    stored, held = growth(run(LongRun(2, SEED, promotes=True), HOURS)[1])
    assert stored > 10 * NOISE
    assert held > 10 * NOISE


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_hundred_times_the_rows_take_no_more_room(classes: int) -> None:
    print("seed", SEED)
    few, many = (
        run(LongRun(classes, SEED, promotes=True, rows_per_s=rows), SHORT_HOURS)[1][-1]
        for rows in (100, 10_000)
    )
    print(few, many)
    assert many.stored < few.stored * (1 + NOISE)
    assert many.held < few.held * (1 + NOISE)
