"""Bins from a version's own traffic, where nobody gave a reference to take them from.

They are cut by a sample that is spread evenly over the time in which it is drawn. What
the reference holds is counted afterwards, on rows that had no say in the bins.

Laws:
- the sample is bounded, whatever the traffic, by halving it and the rate it is drawn at;
- each column is kept sorted, and thinned by rank, so neither the order of a block's
  records nor how they were read shows in it;
- which columns there are follows from the first block with rows, and does not change.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np

from eventlog.core.predictions import DATATYPES
from monitor.core.bins import AnyArray
from monitor.core.block import Part
from monitor.core.predictions import find_output, infer_spec, rows_of
from monitor.core.profile import (
    FeatureKind,
    FeatureSpec,
    PredictionKind,
    PredictionSpec,
    ReferenceProfile,
    as_column,
    fit_feature,
    text_of,
)
from monitor.core.profile_fit import prediction_features, prediction_values
from monitor.core.tree import Tree

SAMPLE_ROWS = 2048  # at most; 4 to 8 for each of 256 bins
BLOCK_ROWS = 16  # of one block, so that the sample is of 64 blocks or more
FEATURES_MAX = 256  # of a row; an image or an embedding is no set of features
TEXT_MAX = 256  # characters; longer text is no category

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Column:
    """Values of one feature, sorted: float64, or object where they are text. Mutable."""

    spec: FeatureSpec
    values: AnyArray

    @classmethod
    def empty(cls, spec: FeatureSpec) -> "Column":
        return cls(spec, np.zeros(0, dtype=np.float64 if is_number(spec) else object))

    def add(self, values: Sequence[AnyArray]) -> None:
        """Take BLOCK_ROWS of a block's values, in whatever order they come."""
        if not values:
            return
        taken = _thinned(_sorted(self.spec, np.concatenate(values)), BLOCK_ROWS)
        self.values = np.sort(np.concatenate([self.values, taken]))

    def halve(self) -> None:
        self.values = self.values[1::2]

    def to_tree(self) -> Tree:
        spec = self.spec
        kind = None if spec.kind is None else FeatureKind(spec.kind).value
        values = self.values if is_number(spec) else self.values.tolist()
        return [[spec.name, spec.tensor, spec.index, kind, spec.datatype], values]

    @classmethod
    def from_tree(cls, tree: Tree) -> "Column":
        (name, tensor, index, kind, datatype), values = tree
        spec = FeatureSpec(name, tensor, index, kind and FeatureKind(kind), datatype)
        return cls(spec, np.array(values, dtype=np.float64 if is_number(spec) else object))


def is_number(spec: FeatureSpec) -> bool:
    return spec.datatype != "BYTES" and spec.kind is not FeatureKind.CATEGORICAL


@dataclass(slots=True)
class LearnedBins:
    """The sample so far. Mutable.

    blocks:   with rows; every `stride`th of them is drawn from.
    left_out: input tensors that are too wide to be features.
    """

    inputs: list[Column] = field(default_factory=list)
    answers: list[Column] = field(default_factory=list)
    prediction: PredictionSpec | None = None
    left_out: tuple[str, ...] = ()
    rows: int = 0
    blocks: int = 0
    stride: int = 1

    def add(self, parts: Sequence[Part], *, continuous: bool) -> None:
        """Draw from a block; continuous: numbers are ranges, however few values they have."""
        rows = sum(_rows(part) for part in parts)
        if not rows:
            return
        if not self.blocks:
            specs, self.left_out = _features(parts, continuous)
            self.inputs = [Column.empty(spec) for spec in specs]
        self.blocks += 1
        if (self.blocks - 1) % self.stride:
            return
        for column in self.inputs:
            column.add([v for part in parts if (v := _values(column.spec, part)) is not None])
        self._add_answers(parts)
        self.rows += min(rows, BLOCK_ROWS)
        if self.rows > SAMPLE_ROWS:
            self._halve()

    def _add_answers(self, parts: Sequence[Part]) -> None:
        if self.prediction is None:
            self.prediction = _most(_answers(parts))
            watched = prediction_features(self.prediction) if self.prediction else ()
            self.answers = [Column.empty(spec) for spec in watched]
        spec = self.prediction
        if spec is None:
            return
        outputs = (find_output(part.outputs, spec) for part in parts)
        values = [prediction_values(out, spec) for out in outputs if out is not None and len(out)]
        for place, column in enumerate(self.answers):
            column.add([found[place] for found in values])

    def _halve(self) -> None:
        for column in (*self.inputs, *self.answers):
            column.halve()
        self.rows //= 2
        self.stride *= 2

    def profile(self) -> ReferenceProfile:
        """The bins, with the sample in them."""
        inputs = tuple(fit_feature(column.spec, column.values) for column in self.inputs)
        answers = tuple(fit_feature(column.spec, column.values) for column in self.answers)
        return ReferenceProfile(self.rows, inputs, answers, self.prediction)

    def to_tree(self) -> Tree:
        spec = self.prediction
        return {
            "inputs": [column.to_tree() for column in self.inputs],
            "answers": [column.to_tree() for column in self.answers],
            "prediction": spec and [spec.kind.value, spec.output],
            "left_out": list(self.left_out),
            "rows": self.rows,
            "blocks": self.blocks,
            "stride": self.stride,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "LearnedBins":
        spec = tree["prediction"]
        return cls(
            [Column.from_tree(item) for item in tree["inputs"]],
            [Column.from_tree(item) for item in tree["answers"]],
            PredictionSpec(PredictionKind(spec[0]), spec[1]) if spec else None,
            tuple(tree["left_out"]),
            tree["rows"],
            tree["blocks"],
            tree["stride"],
        )


def _rows(part: Part) -> int:
    return len(next(iter(part.inputs.values()), ()))


def _sorted(spec: FeatureSpec, values: AnyArray) -> AnyArray:
    if is_number(spec):
        return np.sort(as_column(values, spec.datatype))
    texts = (text_of(value) for value in values if value is not None)
    return np.array(sorted(text for text in texts if len(text) <= TEXT_MAX), dtype=object)


def _thinned(ordered: AnyArray, most: int) -> AnyArray:
    """Of n sorted values those in the middle of each of `most` equal parts."""
    if ordered.size <= most:
        return ordered
    return ordered[(2 * np.arange(most) + 1) * ordered.size // (2 * most)]


def _most(items: Iterable[tuple[int, Key]]) -> Key | None:
    """What most rows have; among equals the same in any order."""
    rows: Counter[Key] = Counter()
    for count, key in items:
        rows[key] += count
    return max(rows, key=lambda key: (rows[key], repr(key)), default=None)


def _answers(parts: Iterable[Part]) -> Iterator[tuple[int, PredictionSpec]]:
    for part in parts:
        spec = infer_spec(part.outputs)
        if spec is not None:
            yield len(part.outputs[spec.output]), spec


def _features(parts: Sequence[Part], continuous: bool) -> tuple[list[FeatureSpec], tuple[str, ...]]:
    """The features of the commonest tensors, and the names of those that are too wide."""
    shapes: Mapping[Any, Part] = {_signature(part): part for part in parts}
    signature = _most((_rows(part), _signature(part)) for part in parts)
    assert signature is not None
    part = shapes[signature]
    found: list[FeatureSpec] = []
    left_out = []
    for name in sorted(part.inputs):
        tensor = part.inputs[name]
        if len(found) + prod(tensor.shape[1:]) > FEATURES_MAX:
            left_out.append(name)
            continue
        hidden = part.withheld.get(f"input:{name}", ()) or ()
        found += [spec for spec in _specs(name, tensor, continuous) if spec.index not in hidden]
    return found, tuple(left_out)


def _signature(part: Part) -> Hashable:
    hidden = sorted((name, elements or ()) for name, elements in part.withheld.items())
    tensors = sorted(
        (name, array.dtype.str, array.shape[1:]) for name, array in part.inputs.items()
    )
    return (*tensors, *hidden)


def _specs(name: str, tensor: AnyArray, continuous: bool) -> Iterator[FeatureSpec]:
    datatype = DATATYPES.get(tensor.dtype, "BYTES" if tensor.dtype.kind in "OSU" else "FP64")
    kind = FeatureKind.CONTINUOUS if continuous and datatype != "BYTES" else None
    shape = tensor.shape[1:]
    for index, place in enumerate(np.ndindex(*shape)):
        element = f"{name}[{','.join(map(str, place))}]" if prod(shape) > 1 else name
        yield FeatureSpec(element, name, index, kind, datatype)


def _values(spec: FeatureSpec, part: Part) -> AnyArray | None:
    """(n,) of a part that has the feature; None where it has not, or not as it was."""
    tensor = part.inputs.get(spec.tensor)
    if tensor is None or spec.index is None:
        return None
    flat = rows_of(tensor)
    is_text = tensor.dtype.kind in "OSU"
    hidden = part.withheld.get(f"input:{spec.tensor}", ()) or ()
    if spec.index in hidden or spec.index >= flat.shape[1] or is_text is is_number(spec):
        return None
    return flat[:, spec.index]
