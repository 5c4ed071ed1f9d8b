"""Which part of each configured slice a row is in, from the row's own inputs.

Laws:
- the answer depends on the row, its version's reference and the settings alone;
- what the log's policy withheld is in no part, and neither is a row whose tensors
  lack the feature: ABSENT.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eventlog.core.predictions import float32_of_bf16
from monitor.core.bins import AnyArray
from monitor.core.block import Part
from monitor.core.counter import Withheld
from monitor.core.predictions import class_texts, find_output, infer_spec, rows_of
from monitor.core.profile import PredictionKind, ReferenceProfile, text_of
from monitor.core.slice import Slice

ABSENT = -1
_ELEMENT = re.compile(r"(.+)\[(\d+(?:,\d+)*)\]")

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SliceCounts:
    """Of one slice's parts, in their order: (parts,) each.

    rows:     that were answered or failed; said: with an answer.
    positive: with the answer that is an advantage.
    """

    rows: Places
    said: Places
    positive: Places


def places_of(
    item: Slice,
    inputs: Mapping[str, AnyArray],
    withheld: Withheld,
    profile: ReferenceProfile | None,
) -> Places | None:
    """The part of each row: int64 (n,); None where they have no such feature.

    inputs: name -> (n, ...), borrowed.
    """
    column = _column(item.feature, inputs, withheld, profile)
    if column is None:
        return None
    last = len(item.parts) - 1
    if column.dtype.kind in "OSU":
        codes = {value: code for code, value in enumerate(item.values)}
        texts = (last if value is None else codes.get(text_of(value), last) for value in column)
        return np.fromiter(texts, dtype=np.int64, count=len(column))
    numbers = column if column.dtype.kind == "f" else column.astype(np.float64)
    if item.edges:
        places = np.searchsorted(np.array(item.edges), numbers, side="right").astype(np.int64)
        places[np.isnan(numbers)] = last
        return places
    places = np.full(len(numbers), last, dtype=np.int64)
    for code, value in enumerate(item.values):
        number = _number(value)
        if number is not None:
            # In the column's precision: a configured 0.1 is a float32's 0.1.
            places[numbers == numbers.dtype.type(number)] = code
    return places


def places_of_row(
    slices: Sequence[Slice],
    inputs: Mapping[str, AnyArray],
    withheld: Withheld,
    profile: ReferenceProfile | None,
    row: int,
) -> tuple[int, ...]:
    """The part of one row in each slice, or ABSENT."""
    alone = {name: tensor[row : row + 1] for name, tensor in inputs.items()} if slices else {}
    found = (places_of(item, alone, withheld, profile) for item in slices)
    return tuple(ABSENT if places is None else int(places[0]) for places in found)


def count_slices(
    slices: Sequence[Slice], parts: Iterable[Part], profile: ReferenceProfile | None
) -> tuple[SliceCounts, ...]:
    """Rows by part of each slice; parts: of one version."""
    counts = tuple(
        SliceCounts(*(np.zeros(len(item.parts), dtype=np.int64) for _ in range(3)))
        for item in slices
    )
    for part in parts:
        for item, count in zip(slices, counts, strict=True):
            places = places_of(item, part.inputs, part.withheld, profile)
            if places is None:
                continue
            size = len(item.parts)
            count.rows[:] += np.bincount(places, minlength=size)
            positive = _positive(item, part, profile) if item.protected else None
            if positive is not None:
                count.said[:] += np.bincount(places, minlength=size)
                count.positive[:] += np.bincount(places[positive], minlength=size)
    return counts


def _positive(
    item: Slice, part: Part, profile: ReferenceProfile | None
) -> NDArray[np.bool_] | None:
    """Which rows have the answer that is an advantage; None: they have no answer."""
    spec = (profile.prediction if profile else None) or infer_spec(part.outputs)
    output = find_output(part.outputs, spec) if spec else None
    if spec is None or output is None or not len(output):
        return None
    if spec.kind is PredictionKind.NUMBER:
        positive: NDArray[np.bool_] = rows_of(output)[:, 0] >= item.positive_from
    else:
        positive = class_texts(output, spec) == item.positive
    return positive


def _column(
    feature: str,
    inputs: Mapping[str, AnyArray],
    withheld: Withheld,
    profile: ReferenceProfile | None,
) -> AnyArray | None:
    """(n,) of the feature; None where the rows do not have it."""
    known = next((f for f in profile.features if f.name == feature), None) if profile else None
    if known is not None:
        name, index = known.tensor or next(iter(inputs), ""), known.index
    else:
        name, index = _element(feature, inputs)
    tensor = inputs.get(name)
    hidden = withheld.get(f"input:{name}", ())
    if tensor is None or hidden is None or index in hidden:
        return None
    flat = rows_of(tensor)
    if not 0 <= index < flat.shape[1]:
        return None
    column: AnyArray = flat[:, index]
    is_bf16 = known is not None and known.datatype == "BF16" and column.dtype == np.uint16
    return float32_of_bf16(column) if is_bf16 else column


def _element(feature: str, inputs: Mapping[str, AnyArray]) -> tuple[str, int]:
    """The tensor and the place in its rows that `NAME` or `NAME[i,j]` means; -1: none."""
    if feature in inputs:
        return feature, 0 if rows_of(inputs[feature]).shape[1] == 1 else -1
    match = _ELEMENT.fullmatch(feature)
    if match is None or match[1] not in inputs:
        return feature, -1
    shape = inputs[match[1]].shape[1:]
    place = tuple(map(int, match[2].split(",")))
    if len(place) != len(shape) or any(i >= size for i, size in zip(place, shape, strict=True)):
        return feature, -1
    return match[1], int(np.ravel_multi_index(place, shape))


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
