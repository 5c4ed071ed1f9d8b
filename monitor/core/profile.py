"""The reference profile: what a version's data looked like when it was made.

Laws:
- it is fitted once, on reference rows, and never changes afterwards; its bytes
  are canonical, so equal profiles have equal digests;
- at most 50 distinct numbers are categories unless declared continuous;
- at most 255 categories are told apart; what else the reference held is one
  bin `other`, and what it never held is unseen.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import (
    BINS,
    SLOTS,
    AnyArray,
    Counts,
    Floats,
    count_slots,
    quantile_starts,
)
from monitor.core.mixing import mixed
from monitor.core.multivariate.reference_rows import ReferenceRows
from monitor.core.outliers.reference import OutlierReference
from monitor.core.season_reference import SeasonReference
from monitor.core.segment_reference import SegmentReference

FORMAT = "driftgate.reference.v1"
DISCRETE_VALUES_MAX = 50
CATEGORIES_MAX = BINS - 1  # one bin is kept for `other`
COUNT_MAX = 2**53  # rows; the largest that a float still tells from the next
INDEX_MAX = 2**31 - 1  # of an element in a row
RARE_MAX = 10_000  # rare reference categories remembered by name; beyond, unseen


class ProfileError(ValueError):
    """The reference, or its stored form, cannot be used; the message says why."""


class FeatureKind(StrEnum):
    CONTINUOUS = "continuous"
    DISCRETE = "discrete"
    CATEGORICAL = "categorical"


class PredictionKind(StrEnum):
    CLASS = "class"  # one label per row
    SCORES = "scores"  # one score per class; the largest wins
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One element of a row of an input tensor.

    tensor: ""  the model's only input.
    index:  None  this feature's place among the columns that are fitted.
    kind:   one of FeatureKind, or its word; None: decided by the values.
    """

    name: str
    tensor: str = ""
    index: int | None = None
    kind: FeatureKind | str | None = None
    datatype: str = "FP32"


@dataclass(frozen=True, slots=True)
class PredictionSpec:
    """Where a version's answer stands; output "": found by its shape."""

    kind: PredictionKind
    output: str = ""
    classes: tuple[str, ...] = ()  # names of the scores' columns; empty: 0, 1, ...


@dataclass(frozen=True, slots=True, eq=False)
class FeatureProfile:
    """Bins of one feature and how many reference rows each holds."""

    name: str
    kind: FeatureKind
    tensor: str
    index: int
    datatype: str
    starts: Floats  # (m,), rising, m <= 256
    high: float  # the last bin's inclusive end
    counts: Counts  # (SLOTS,)
    categories: tuple[str, ...] = ()  # of the bins, for text; the last may be `other`
    rare: tuple[str, ...] = ()  # text that falls into `other`
    held: int = 0  # proper values in the half of the reference that was held out ...
    novel: int = 0  # ... and how many of them the other half lacks; see `unseen_bound`
    effective: float = 1.0  # independent rows that a row is worth, by what its error is
    distinct: int = 0  # different values, where they are more than are named; 0: they are not

    @property
    def exact(self) -> bool:
        return self.kind is not FeatureKind.CONTINUOUS

    @property
    def is_text(self) -> bool:
        return bool(self.categories)

    @property
    def is_number(self) -> bool:
        """Whether its values have an order and distances; else each is one of its own."""
        return not self.is_text and self.kind is not FeatureKind.CATEGORICAL

    @property
    def named(self) -> int:
        """Bins of one value each; `other` is not one."""
        return self.starts.size - bool(self.rare) if self.exact else 0

    @property
    def distinct_values(self) -> int | None:
        """How many different values the reference held; None of a continuous feature."""
        if not self.exact:
            return None
        return self.distinct or self.named + len(self.rare)

    def codes(self) -> dict[str, float]:
        """Text -> bin number; what is absent is unseen."""
        other = float(len(self.categories) - 1)
        table = {text: float(code) for code, text in enumerate(self.categories)}
        return table | dict.fromkeys(self.rare, other)


@dataclass(frozen=True, slots=True)
class LossReference:
    """Mean loss on reference rows; every loss lies in [0, 1] after `scale` (1 for classes)."""

    mean: float
    standard_error: float
    rows: int
    scale: float = 1.0


# How often a row may come, and how many kinds of rows come so often.
Multiplicities = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceProfile:
    """One version's reference: inputs, predictions, loss.

    samples:        rows of the inputs; segments: what was answered where; season: when.
    multiplicities: of rows that are alike in all features; empty: not known.
    outliers:       how unlike the others a row is; None: not known.
    """

    rows: int
    features: tuple[FeatureProfile, ...]
    predictions: tuple[FeatureProfile, ...] = ()
    prediction: PredictionSpec | None = None
    loss: LossReference | None = None
    samples: tuple[ReferenceRows, ...] = ()
    segments: SegmentReference | None = None
    multiplicities: Multiplicities = ()
    season: SeasonReference | None = None
    outliers: OutlierReference | None = None

    @property
    def loss_scale(self) -> float | None:
        """The error that costs all: 1 for a class; None where no range is known."""
        if self.loss is not None:
            return self.loss.scale
        if self.prediction is None or self.prediction.kind is not PredictionKind.NUMBER:
            return None
        answers = self.predictions[0] if self.predictions else None
        if answers is None or not answers.starts.size or answers.high <= answers.starts[0]:
            return None
        return float(answers.high - answers.starts[0])

    def to_bytes(self) -> bytes:
        """Canonical JSON; floats are written so that they read back exactly."""
        return json.dumps(_to_tree(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ReferenceProfile":
        """Raises ProfileError when the bytes are not a profile of this format."""
        try:
            return _from_tree(json.loads(data))
        except ProfileError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            raise ProfileError(f"not a reference profile: {exc}") from exc
        except RecursionError as exc:
            raise ProfileError("not a reference profile: nested too deeply") from exc


def fit_feature(spec: FeatureSpec, values: AnyArray) -> FeatureProfile:
    """Fit one column of n reference values (numbers, or text as str or bytes).

    Raises: ProfileError for a kind that is none.
    """
    if values.dtype.kind in "OSU":
        return _fit_text(spec, values)
    column = as_column(values, spec.datatype)
    finite = column[np.isfinite(column)]
    distinct = np.unique(finite)
    kind = _kind_of(spec.kind, distinct.size)
    starts = quantile_starts(finite) if kind is FeatureKind.CONTINUOUS and finite.size else distinct
    high = float(distinct[-1]) if distinct.size else 0.0
    counts = count_slots(column, starts, high, kind is not FeatureKind.CONTINUOUS)
    fitted = FeatureProfile(
        spec.name, kind, spec.tensor, spec.index or 0, spec.datatype, starts, high, counts
    )
    if kind is FeatureKind.CONTINUOUS:
        return fitted  # any finite value is below, above or in a bin
    known, held = column[held_out(column.size)], column[~held_out(column.size)]
    held = held[np.isfinite(held)]
    return replace(fitted, held=held.size, novel=int(np.count_nonzero(~np.isin(held, known))))


def held_out(rows: int) -> NDArray[np.bool_]:
    """Which half of the rows each belongs to: by chance, the same in every run.

    A hash of the place, since references come sorted.
    """
    half: NDArray[np.bool_] = (mixed(np.arange(1, rows + 1)) >> np.uint64(63)).astype(np.bool_)
    return half


def as_column(values: AnyArray, datatype: str) -> Floats:
    """Numbers as float64, rounded to the precision that live rows will have."""
    if datatype in ("FP32", "FP16", "BF16"):
        return values.astype(np.float32).astype(np.float64)
    return values.astype(np.float64)


def text_of(value: object) -> str:
    """The canonical text of a class or category: 3, 3.0, "3" and b"3" are one; true is 1."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | np.bool_):
        return str(int(value))  # a label `true` is a number when it arrives
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _kind_of(declared: FeatureKind | str | None, distinct: int) -> FeatureKind:
    if distinct > BINS:
        return FeatureKind.CONTINUOUS
    if declared is not None:
        try:
            return FeatureKind(declared)
        except ValueError as exc:
            known = ", ".join(kind.value for kind in FeatureKind)
            raise ProfileError(f"feature kind {declared!r}; known are {known}") from exc
    return FeatureKind.DISCRETE if distinct <= DISCRETE_VALUES_MAX else FeatureKind.CONTINUOUS


def _fit_text(spec: FeatureSpec, values: AnyArray) -> FeatureProfile:
    is_held = held_out(len(values)).tolist()
    halves: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for value, half in zip(values, is_held, strict=True):
        if value is not None:
            halves[half][text_of(value)] += 1
    known, held = halves
    names = ranked(known + held)
    categories = tuple(names[:CATEGORIES_MAX])
    # If some must be forgotten, then by the known half alone: what that half kept
    # is kept, so the held out half is a fair sample of what is not.
    kept = ranked(known)[:RARE_MAX]
    rare = tuple(dict.fromkeys([*kept, *names]))
    rare = tuple(name for name in rare if name not in set(categories))[:RARE_MAX]
    distinct = len(names) if len(names) > len(categories) + len(rare) else 0
    novel = sum(count for name, count in held.items() if name not in set(kept))
    if rare:
        categories = (*categories, "other")
    starts = np.arange(len(categories), dtype=np.float64)
    high = float(max(len(categories) - 1, 0))
    empty = FeatureProfile(
        spec.name,
        FeatureKind.CATEGORICAL,
        spec.tensor,
        spec.index or 0,
        "BYTES",
        starts,
        high,
        np.zeros(0, dtype=np.int64),
        categories or ("",),
        rare,
        sum(held.values()),
        novel,
        distinct=distinct,
    )
    column = encode_text(values, empty.codes())
    return replace(empty, counts=count_slots(column, starts, high, exact=True))


def ranked(shares: Counter[str]) -> list[str]:
    """The commonest first; of equals by name."""
    return sorted(shares, key=lambda name: (-shares[name], name))


def encode_text(values: AnyArray, codes: Mapping[str, float]) -> Floats:
    """Text -> bin number as float64; None is NaN (missing), unknown text is unseen."""
    unseen = float(BINS)  # above every bin of an exact feature, hence unseen
    coded = [
        float("nan") if value is None else codes.get(text_of(value), unseen) for value in values
    ]
    return np.array(coded, dtype=np.float64)


def numbers_of(column: AnyArray, feature: FeatureProfile) -> Floats:
    """A column's values as the feature's bins take them; text as its code."""
    if feature.is_text:
        return encode_text(column, feature.codes())
    return as_column(column, feature.datatype)


def _to_tree(profile: ReferenceProfile) -> dict[str, Any]:
    prediction, loss = profile.prediction, profile.loss
    return {
        "format": FORMAT,
        "rows": profile.rows,
        "features": [_feature_tree(feature) for feature in profile.features],
        "predictions": [_feature_tree(feature) for feature in profile.predictions],
        "prediction": prediction
        and {
            "kind": prediction.kind.value,
            "output": prediction.output,
            "classes": list(prediction.classes),
        },
        "loss": loss
        and {
            "mean": loss.mean,
            "standard_error": loss.standard_error,
            "rows": loss.rows,
            "scale": loss.scale,
        },
        **({"samples": [rows.to_tree() for rows in profile.samples]} if profile.samples else {}),
        **({"segments": profile.segments.to_tree()} if profile.segments else {}),
        **(
            {"multiplicities": [list(item) for item in profile.multiplicities]}
            if profile.multiplicities
            else {}
        ),
        **({"season": profile.season.to_tree()} if profile.season else {}),
        **({"outliers": profile.outliers.to_tree()} if profile.outliers else {}),
    }


def _feature_tree(feature: FeatureProfile) -> dict[str, Any]:
    used = np.flatnonzero(feature.counts)
    return {
        "name": feature.name,
        "kind": feature.kind.value,
        "tensor": feature.tensor,
        "index": feature.index,
        "datatype": feature.datatype,
        "starts": feature.starts.tolist(),
        "high": feature.high,
        "counts": {str(slot): int(feature.counts[slot]) for slot in used},
        "categories": list(feature.categories),
        "rare": list(feature.rare),
        "held": feature.held,
        "novel": feature.novel,
        **({} if feature.effective == 1.0 else {"effective": feature.effective}),
        **({"distinct": feature.distinct} if feature.distinct else {}),
    }


def _from_tree(tree: Any) -> ReferenceProfile:
    if tree["format"] != FORMAT:
        raise ProfileError(f"format is {tree['format']!r}, expected {FORMAT!r}")
    prediction, loss = tree["prediction"], tree["loss"]
    rows = int(tree["rows"])
    if not 0 <= rows <= COUNT_MAX:
        raise ProfileError(f"rows is {rows}, expected 0 to 2^53")
    features, predictions = _features_from(tree["features"]), _features_from(tree["predictions"])
    return ReferenceProfile(
        rows=rows,
        features=features,
        predictions=predictions,
        prediction=prediction
        and PredictionSpec(
            PredictionKind(prediction["kind"]),
            str(prediction["output"]),
            _texts("prediction", prediction["classes"]),
        ),
        loss=loss and _loss_from(loss),
        samples=tuple(ReferenceRows.from_tree(item) for item in tree.get("samples", ())),
        segments=SegmentReference.from_tree(tree["segments"], len(tree["features"]))
        if "segments" in tree
        else None,
        multiplicities=_multiplicities_from(tree.get("multiplicities", []), rows),
        season=SeasonReference.from_tree(
            tree["season"], [_last_place(feature) for feature in (*features, *predictions)]
        )
        if "season" in tree
        else None,
        outliers=OutlierReference.from_tree(
            tree["outliers"], [feature.is_number for feature in features]
        )
        if "outliers" in tree
        else None,
    )


def _multiplicities_from(items: Any, rows: int) -> Multiplicities:
    found = tuple((int(times), int(kinds)) for times, kinds in items)
    sound = all(times > 0 and kinds > 0 for times, kinds in found)
    if found and not (sound and sum(times * kinds for times, kinds in found) == rows):
        raise ProfileError(f"multiplicities of rows are positive and make {rows} rows")
    return found


def _last_place(feature: FeatureProfile) -> int:
    """Of what can be asked: a category, else an edge, one more than there are bins."""
    return feature.starts.size - (feature.kind is FeatureKind.CATEGORICAL)


def _loss_from(tree: Mapping[str, Any]) -> LossReference:
    mean, error, scale = (float(tree[name]) for name in ("mean", "standard_error", "scale"))
    rows = int(tree["rows"])
    sound = 0 <= mean <= 1 and 0 <= error <= 1 and 0 < scale < np.inf and 1 <= rows <= COUNT_MAX
    if not sound:
        raise ProfileError(
            f"loss: mean {mean} and standard error {error} lie in [0, 1], "
            f"scale {scale} and rows {rows} are positive"
        )
    return LossReference(mean, error, rows, scale)


def _features_from(trees: Sequence[Mapping[str, Any]]) -> tuple[FeatureProfile, ...]:
    return tuple(_feature_from(tree) for tree in trees)


def _feature_from(tree: Mapping[str, Any]) -> FeatureProfile:
    name, index, high = str(tree["name"]), int(tree["index"]), float(tree["high"])
    starts = np.array(tree["starts"], dtype=np.float64)
    if starts.ndim != 1 or starts.size > BINS or not np.all(np.isfinite(starts)):
        raise ProfileError(f"feature {name!r}: bin starts are a list of at most {BINS} numbers")
    if np.any(np.diff(starts) <= 0) or not np.max(starts, initial=-np.inf) <= high < np.inf:
        raise ProfileError(f"feature {name!r}: bin starts must rise, up to `high` ({high})")
    # The kernel reads this column of a row without looking.
    if not 0 <= index <= INDEX_MAX:
        raise ProfileError(f"feature {name!r}: index is {index}, expected 0 to {INDEX_MAX}")
    counts = np.zeros(SLOTS, dtype=np.int64)
    for slot, count in tree["counts"].items():
        if not 0 <= int(slot) < SLOTS or not 0 <= int(count) <= COUNT_MAX // SLOTS:
            raise ProfileError(f"feature {name!r}: slot {slot} holds {count}")
        counts[int(slot)] = int(count)
    held, novel = int(tree["held"]), int(tree["novel"])
    if not 0 <= novel <= held <= COUNT_MAX:
        raise ProfileError(f"feature {name!r}: {novel} of {held} values were novel")
    effective = float(tree.get("effective", 1.0))
    if not 0 <= effective <= 1:
        raise ProfileError(f"feature {name!r}: a row is worth {effective} rows, expected 0 to 1")
    distinct = int(tree.get("distinct", 0))
    if not 0 <= distinct <= COUNT_MAX:
        raise ProfileError(f"feature {name!r}: {distinct} distinct values, expected 0 to 2^53")
    return FeatureProfile(
        name,
        FeatureKind(tree["kind"]),
        str(tree["tensor"]),
        index,
        str(tree["datatype"]),
        starts,
        high,
        counts,
        _texts(name, tree["categories"]),
        _texts(name, tree["rare"]),
        held,
        novel,
        effective,
        distinct,
    )


def _texts(name: str, items: Any) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ProfileError(f"{name!r}: categories and classes are lists of text")
    return tuple(items)
