"""Fitting the monitor's reference profile to a reference file and a model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from driftgate.errors import CliError
from driftgate.packing.graph import Arrays
from driftgate.packing.reference import Reference
from registry_client import Feature, TensorSpec


def fit_profile(
    reference: Reference,
    specs: Sequence[TensorSpec],
    features: Sequence[Feature],
    outputs: Arrays,
    *,
    continuous: bool,
    sample_rows: int | None,
) -> tuple[bytes, tuple[Feature, ...]]:
    """The profile's bytes, and the features with the kinds that were fitted.

    outputs:    what the model says of the reference rows.
    continuous: numeric features are ranges, however few values they have.
    sample_rows: of the reference's rows at most so many are kept in the profile; None: as
                many as is usual.
    Raises:     CliError if the reference cannot be profiled.
    """
    from monitor.core.predictions import find_output, infer_spec
    from monitor.profile import REFERENCE_ROWS, FeatureSpec, ProfileError, build_profile

    datatypes = {spec.name: spec.datatype for spec in specs}
    named = [
        FeatureSpec(feature.name, feature.tensor, feature.index, None, datatypes[feature.tensor])
        for feature in features
    ]
    answer = infer_spec(outputs)
    predictions = find_output(outputs, answer) if answer else None
    try:
        profile = build_profile(
            _matrix(reference, features),
            named,
            predictions,
            _losses(predictions, answer, reference.labels),
            prediction=answer,
            continuous=continuous,
            sample_rows=REFERENCE_ROWS if sample_rows is None else sample_rows,
            times_ns=reference.times_ns,
        )
    except ProfileError as exc:
        raise CliError("the reference cannot be profiled", str(exc)) from exc
    kinds = [fitted.kind.value for fitted in profile.features]
    return profile.to_bytes(), tuple(
        dataclasses.replace(feature, kind=kind)
        for feature, kind in zip(features, kinds, strict=True)
    )


def _matrix(reference: Reference, features: Sequence[Feature]) -> npt.NDArray[Any]:
    """(n, f): the features' columns; objects where texts and numbers are mixed."""
    tensors = list(dict.fromkeys(feature.tensor for feature in features))
    blocks = [reference.inputs[name].reshape(reference.rows, -1) for name in tensors]
    if not blocks:
        return np.zeros((reference.rows, 0))
    if len({block.dtype.kind == "S" for block in blocks}) > 1:
        blocks = [block.astype(object) for block in blocks]
    return np.concatenate(blocks, axis=1)


def _losses(
    predictions: npt.NDArray[Any] | None, answer: Any, labels: npt.NDArray[Any] | None
) -> npt.NDArray[np.float64] | None:
    """0/1 for classes, absolute errors for numbers; as the monitor will judge live rows."""
    from monitor.core.predictions import class_texts
    from monitor.core.profile import PredictionKind, text_of

    if predictions is None or labels is None:
        return None
    if answer.kind is PredictionKind.NUMBER:
        flat = predictions.reshape(len(labels), -1)[:, 0]
        return np.abs(flat.astype(np.float64) - labels.astype(np.float64))
    said = class_texts(predictions, answer)
    wrong = [one != text_of(label) for one, label in zip(said, labels.tolist(), strict=True)]
    return np.array(wrong, dtype=np.float64)
