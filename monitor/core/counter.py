"""Counting decoded rows against a profile: plans once, then adds blocks to counts.

Laws:
- counting reads the caller's arrays in place where they are float32 or float64
  and contiguous, and never keeps them;
- a block whose tensors do not have the profile's shape is refused whole, so
  that its caller can count the rows as mismatched;
- what a log's policy withheld is no mismatch: it is left out, and the rest is counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.core.bins import SLOTS, AnyArray, Counts
from monitor.core.count_kernel import Tables
from monitor.core.lookup import count, make_tables
from monitor.core.predictions import find_output, infer_spec, prediction_columns, rows_of
from monitor.core.profile import FeatureProfile, ReferenceProfile, encode_text

# "input:NAME" or "output:NAME" -> elements of a row; None: the whole tensor
Withheld = Mapping[str, tuple[int, ...] | None]
NOTHING_WITHHELD: Withheld = {}


def _tensor(inputs: Mapping[str, AnyArray], name: str) -> AnyArray | None:
    """The named tensor; the empty name is the only one's."""
    if name or len(inputs) != 1:
        return inputs.get(name)
    return next(iter(inputs.values()))


def _elements(
    name: str, inputs: Mapping[str, AnyArray], withheld: Withheld
) -> tuple[int, ...] | None:
    """Which elements of a tensor are withheld; None: all of it."""
    if not withheld:
        return ()
    if not name:  # the model's only input
        name = next(iter(inputs), "")
        if not name:
            return None
    return withheld.get(f"input:{name}", ())


class Counter:
    """Histograms of a profile's features, then of its predictions: (f + p, SLOTS)."""

    def __init__(self, profile: ReferenceProfile) -> None:
        self.profile = profile
        self.rows = len(profile.features) + len(profile.predictions)
        self._tensors: dict[str, list[int]] = {}
        for i, feature in enumerate(profile.features):
            self._tensors.setdefault(feature.tensor, []).append(i)
        self._tables: dict[tuple[str, type[Any], tuple[int, ...]], Tables] = {}
        self._codes = {i: f.codes() for i, f in enumerate(profile.features) if f.is_text}

    def empty(self) -> Counts:
        return np.zeros((self.rows, SLOTS), dtype=np.int64)

    def withheld(
        self,
        inputs: Mapping[str, AnyArray],
        outputs: Mapping[str, AnyArray],
        withheld: Withheld,
    ) -> set[str]:
        """The names of features and predictions that there is nothing to count of."""
        if not withheld:
            return set()
        names = {
            feature.name
            for feature in self.profile.features
            if self.is_withheld(feature, inputs, withheld)
        }
        spec = self.profile.prediction
        hidden = any(key.startswith("output:") for key in withheld)
        if hidden and (spec is None or find_output(outputs, spec) is None):
            names |= {watched.name for watched in self.profile.predictions}
        return names

    @staticmethod
    def is_withheld(
        feature: FeatureProfile, inputs: Mapping[str, AnyArray], withheld: Withheld
    ) -> bool:
        elements = _elements(feature.tensor, inputs, withheld)
        return elements is None or feature.index in elements

    @staticmethod
    def tensor(feature: FeatureProfile, inputs: Mapping[str, AnyArray]) -> AnyArray | None:
        """The (n, ...) tensor that holds a feature; None: there is none."""
        return _tensor(inputs, feature.tensor)

    def numbers(
        self, tensor: str, inputs: Mapping[str, AnyArray], rows: AnyArray
    ) -> AnyArray | None:
        """Those rows of one of the profile's tensors as (k, w) floats; None: it does not fit."""
        found = _tensor(inputs, tensor)
        return None if found is None else self._block(tensor, found[rows])

    def count(
        self,
        inputs: Mapping[str, AnyArray],
        outputs: Mapping[str, AnyArray],
        counts: Counts,
        withheld: Withheld = NOTHING_WITHHELD,
    ) -> bool:
        """Add rows to `counts`; False, and nothing added, when tensors do not fit.

        inputs, outputs: name -> (n, ...), borrowed. Outputs may be empty (failed rows).
        """
        absent = {name: _elements(name, inputs, withheld) for name in self._tensors}
        blocks = {
            name: self._block(name, _tensor(inputs, name))
            for name in self._tensors
            if absent[name] is not None
        }
        if any(block is None for block in blocks.values()):
            return False
        for name, block in blocks.items():
            assert block is not None
            count(block, self._tables_of(name, block.dtype.type, absent[name] or ()), counts)
        self._count_predictions(outputs, counts)
        return True

    def _count_predictions(self, outputs: Mapping[str, AnyArray], counts: Counts) -> None:
        profile = self.profile
        spec = profile.prediction or infer_spec(outputs)
        output = find_output(outputs, spec) if spec is not None else None
        if not profile.predictions or spec is None or output is None or not len(output):
            return
        block = prediction_columns(output, spec, profile.predictions)
        count(block, self._tables_of("", np.float64, predictions=True), counts)

    def _block(self, name: str, tensor: AnyArray | None) -> AnyArray | None:
        """The tensor as (n, w) floats; text features become their codes."""
        if tensor is None:
            return None
        members = self._tensors[name]
        flat = rows_of(tensor)
        if max(self.profile.features[i].index for i in members) >= flat.shape[1]:
            return None
        if tensor.dtype.kind in "OSU":
            return self._coded(flat, members)
        if self.profile.features[members[0]].datatype == "BF16" and tensor.dtype == np.uint16:
            return (flat.astype(np.uint32) << 16).view(np.float32)
        if tensor.dtype == np.float16:
            return flat.astype(np.float32)
        if tensor.dtype not in (np.float32, np.float64):
            flat = flat.astype(np.float64)
        return np.ascontiguousarray(flat)

    def _coded(self, flat: AnyArray, members: list[int]) -> AnyArray | None:
        block = np.full(flat.shape, np.nan, dtype=np.float64)
        for i in members:
            if i not in self._codes:
                return None
            column = self.profile.features[i].index
            block[:, column] = encode_text(flat[:, column], self._codes[i])
        return block

    def _tables_of(
        self,
        name: str,
        dtype: type[Any],
        absent: tuple[int, ...] = (),
        *,
        predictions: bool = False,
    ) -> Tables:
        key = (name, dtype, absent) if not predictions else ("\0predictions", dtype, ())
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = self._make(name, dtype, absent, predictions)
        return found

    def _make(
        self, name: str, dtype: type[Any], absent: tuple[int, ...], predictions: bool
    ) -> Tables:
        offset = len(self.profile.features)
        if predictions:
            watched = list(self.profile.predictions)
            places = list(range(len(watched)))
            return make_tables(watched, places, [offset + i for i in places], dtype)
        members = [i for i in self._tensors[name] if self.profile.features[i].index not in absent]
        features = [self.profile.features[i] for i in members]
        return make_tables(features, [f.index for f in features], members, dtype)
