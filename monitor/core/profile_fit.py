"""Build a reference profile from reference rows, their predictions and losses."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from monitor.core.bins import AnyArray
from monitor.core.multivariate.reference_rows import (
    REFERENCE_ROWS,
    REFERENCE_VALUES_MAX,
    ReferenceRows,
    as_rows,
    drawn,
    rows_within,
)
from monitor.core.multivariate.spaces import spaces_of
from monitor.core.outliers.fit import outliers_of_reference
from monitor.core.predictions import (
    PREDICTION,
    TOP_SCORE,
    class_texts,
    infer_spec,
    prediction_columns,
    rows_of,
)
from monitor.core.profile import (
    FeatureKind,
    FeatureProfile,
    FeatureSpec,
    LossReference,
    Multiplicities,
    PredictionKind,
    PredictionSpec,
    ProfileError,
    ReferenceProfile,
    as_column,
    fit_feature,
)
from monitor.core.repeated_rows import multiplicities_of
from monitor.core.season import season_of
from monitor.core.segment_reference import SegmentReference
from monitor.core.segments import segments_of_reference


def build_profile(
    inputs: AnyArray,
    features: Sequence[FeatureSpec],
    predictions: AnyArray | None = None,
    losses: AnyArray | None = None,
    *,
    prediction: PredictionSpec | None = None,
    continuous: bool = False,
    sample_rows: int = REFERENCE_ROWS,
    times_ns: AnyArray | None = None,
) -> ReferenceProfile:
    """Fit every feature once on n reference rows.

    inputs:      (n, f), one column per spec, in the specs' order; numbers or objects.
    predictions: (n,) classes or numbers, or (n, c) scores, of the same rows.
    losses:      (n,) 0/1 for classes, absolute errors for numbers, measured on
                 rows that the model was not trained on.
    prediction:  where the answer stands among the outputs; None: by its shape.
    continuous:  numeric features that declare no kind are continuous.
    sample_rows: at most so many of the rows are kept, for what features do together; 0: none.
    times_ns:    (n,) when each row was, Unix time: to judge each hour of the week by itself.
    Raises:      ProfileError when shapes disagree or there is no row.
    """
    if inputs.ndim != 2 or inputs.shape[0] == 0:
        raise ProfileError(f"inputs have shape {inputs.shape}, expected (rows >= 1, features)")
    if inputs.shape[1] != len(features):
        raise ProfileError(f"{inputs.shape[1]} input columns for {len(features)} features")
    fitted = tuple(
        fit_feature(_declared(spec, i, inputs[:, i], continuous), _plain(inputs[:, i]))
        for i, spec in enumerate(features)
    )
    spec = prediction
    watched: tuple[FeatureProfile, ...] = ()
    if predictions is not None:
        spec = prediction or _spec_of(predictions)
        watched = _fit_predictions(predictions, spec, len(inputs))
    profile = ReferenceProfile(
        len(inputs),
        fitted,
        watched,
        spec,
        _loss_reference(losses, predictions, spec),
        _samples(inputs, fitted, sample_rows),
        _segments(inputs, fitted, predictions, spec, watched),
        _multiplicities(inputs, fitted),
    )
    columns = [_plain(inputs[:, place]) for place in range(len(fitted))]
    profile = replace(profile, outliers=outliers_of_reference(profile, columns))
    if times_ns is None:
        return profile
    if predictions is not None and spec is not None:
        columns += prediction_values(predictions, spec)
    return replace(profile, season=season_of(profile, columns, times_ns))


def _multiplicities(inputs: AnyArray, features: Sequence[FeatureProfile]) -> Multiplicities:
    columns = [_plain(inputs[:, place]) for place in range(len(features))]
    return multiplicities_of(
        [
            column if column.dtype.kind in "OSU" else as_column(column, feature.datatype)
            for column, feature in zip(columns, features, strict=True)
        ]
    )


def _segments(
    inputs: AnyArray,
    features: Sequence[FeatureProfile],
    predictions: AnyArray | None,
    spec: PredictionSpec | None,
    watched: Sequence[FeatureProfile],
) -> SegmentReference | None:
    """None where there is nothing to tell rows apart by, or nothing was answered."""
    if not features or predictions is None or spec is None:
        return None
    columns = [_plain(inputs[:, place]) for place in range(len(features))]
    answers = prediction_columns(predictions, spec, tuple(watched[:1]))[:, 0]
    return segments_of_reference(columns, features, answers, watched[0])


def _samples(
    inputs: AnyArray, features: Sequence[FeatureProfile], rows: int
) -> tuple[ReferenceRows, ...]:
    spaces = [space for space in spaces_of(features) if not space.too_wide]
    width = sum(len(space.members) for space in spaces)
    chosen = drawn(len(inputs), rows_within(width, rows, REFERENCE_VALUES_MAX))
    if not chosen.size:
        return ()
    return tuple(
        ReferenceRows(
            space.name,
            space.members,
            as_rows(
                [
                    as_column(_plain(inputs[chosen, member]), features[member].datatype)
                    for member in space.members
                ]
            ),
        )
        for space in spaces
    )


def _declared(spec: FeatureSpec, place: int, values: AnyArray, continuous: bool) -> FeatureSpec:
    """The spec with its defaults filled in."""
    placed = replace(spec, index=place if spec.index is None else spec.index)
    if placed.kind is not None or not continuous or _plain(values).dtype.kind in "OSU":
        return placed
    return replace(placed, kind=FeatureKind.CONTINUOUS)


def _plain(values: AnyArray) -> AnyArray:
    """Object columns that hold only numbers, as numbers."""
    if values.dtype.kind != "O" or any(isinstance(v, str | bytes) for v in values):
        return values
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _spec_of(predictions: AnyArray) -> PredictionSpec:
    found = infer_spec({"": predictions})
    if found is None:
        raise ProfileError(f"predictions of dtype {predictions.dtype} are not understood")
    return PredictionSpec(found.kind)


def _fit_predictions(
    predictions: AnyArray, spec: PredictionSpec, rows: int
) -> tuple[FeatureProfile, ...]:
    if predictions.shape[0] != rows:
        raise ProfileError(f"{predictions.shape[0]} predictions for {rows} rows")
    columns = prediction_values(predictions, spec)
    watched = prediction_features(spec)
    return tuple(fit_feature(*pair) for pair in zip(watched, columns, strict=True))


def prediction_features(spec: PredictionSpec) -> tuple[FeatureSpec, ...]:
    """What answers are watched by: the class, with its score if there is one, or the number."""
    if spec.kind is PredictionKind.NUMBER:
        return (FeatureSpec(PREDICTION, spec.output, 0, FeatureKind.CONTINUOUS, "FP64"),)
    named = FeatureSpec(PREDICTION, spec.output, 0, FeatureKind.CATEGORICAL)
    if spec.kind is PredictionKind.CLASS:
        return (named,)
    return (named, FeatureSpec(TOP_SCORE, spec.output, 0, FeatureKind.CONTINUOUS))


def prediction_values(predictions: AnyArray, spec: PredictionSpec) -> list[AnyArray]:
    """The values of `prediction_features`, each (n,)."""
    flat = rows_of(predictions)
    if spec.kind is PredictionKind.NUMBER:
        return [flat[:, 0]]
    classes = class_texts(predictions, spec)
    if spec.kind is PredictionKind.CLASS:
        return [classes]
    return [classes, np.max(flat, axis=1)]


def _loss_reference(
    losses: AnyArray | None, predictions: AnyArray | None, spec: PredictionSpec | None
) -> LossReference | None:
    if losses is None or len(losses) == 0:
        return None
    scale = 1.0
    if spec is not None and spec.kind is PredictionKind.NUMBER and predictions is not None:
        scale = _range(predictions)
    # What is not finite costs all, as it will in live rows.
    finite = np.nan_to_num(losses.astype(np.float64), nan=np.inf, posinf=np.inf, neginf=np.inf)
    bounded = np.clip(finite / scale, 0.0, 1.0)
    error = float(np.std(bounded, ddof=1) / np.sqrt(bounded.size)) if bounded.size > 1 else 1.0
    return LossReference(float(np.mean(bounded)), error, int(bounded.size), scale)


def _range(predictions: AnyArray) -> float:
    finite = predictions[np.isfinite(predictions)].astype(np.float64)
    return (float(np.ptp(finite)) if finite.size else 0.0) or 1.0
