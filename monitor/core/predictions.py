"""What a row's outputs say: a class, scores, or a number; and what that costs.

Laws:
- a loss lies in [0, 1]: 0 or 1 for a class, the absolute error over the
  reference range (clipped) for a number; both arms of a rollout by one range;
- losses are summed as integers of 2^-30, so the order of addition is
  immaterial, to the bit.
"""

from collections.abc import Mapping
from math import inf, prod

import numpy as np

from monitor.core.bins import AnyArray, Floats
from monitor.core.profile import (
    FeatureProfile,
    PredictionKind,
    PredictionSpec,
    encode_text,
    text_of,
)

LOSS_UNITS = 1 << 30

# Names of the columns that predictions are watched by.
PREDICTION = "prediction"
TOP_SCORE = "top score"

Outputs = Mapping[str, AnyArray]


def infer_spec(outputs: Outputs) -> PredictionSpec | None:
    """Guess where the answer stands: labels before scores before numbers.

    outputs: name -> (n, ...) arrays of one record.
    """
    for kind in PredictionKind:
        for name in sorted(outputs):
            if fits(kind, outputs[name]):
                return PredictionSpec(kind, name)
    return None


def rows_of(tensor: AnyArray) -> AnyArray:
    """(n, ...) as (n, w); also for n = 0, where numpy cannot infer w."""
    return tensor.reshape(tensor.shape[0], prod(tensor.shape[1:]))


def find_output(outputs: Outputs, spec: PredictionSpec) -> AnyArray | None:
    """The array that `spec` names, or, unnamed, the first that fits its kind."""
    if spec.output:
        return outputs.get(spec.output)
    return next((outputs[n] for n in sorted(outputs) if fits(spec.kind, outputs[n])), None)


def fits(kind: PredictionKind, output: AnyArray) -> bool:
    """Whether an output, (n, ...), may hold answers of this kind."""
    width = prod(output.shape[1:])
    if kind is PredictionKind.CLASS:
        return width == 1 and output.dtype.kind in "iubOSU"
    if kind is PredictionKind.SCORES:
        return width > 1 and output.dtype.kind == "f"
    return width == 1 and output.dtype.kind == "f"


def class_texts(output: AnyArray, spec: PredictionSpec) -> AnyArray:
    """The class of each row as canonical text: object[n]."""
    flat = rows_of(output)
    if spec.kind is PredictionKind.SCORES:
        values: AnyArray = np.argmax(np.nan_to_num(flat, nan=-np.inf), axis=1)
    else:
        values = flat[:, 0]
    distinct, inverse = np.unique(values, return_inverse=True)
    named = [_class_name(value, spec) for value in distinct]
    return np.array(named, dtype=object)[inverse.reshape(-1)]


def class_of(answer: AnyArray, spec: PredictionSpec) -> str:
    """The class of one row's output."""
    flat = np.ravel(answer)
    if spec.kind is PredictionKind.SCORES:
        return _class_name(int(np.argmax(np.nan_to_num(flat, nan=-np.inf))), spec)
    return _class_name(flat[0], spec)


def _class_name(value: object, spec: PredictionSpec) -> str:
    if spec.kind is PredictionKind.SCORES and spec.classes:
        index = int(str(value))  # numpy's and Python's integers alike
        return spec.classes[index] if index < len(spec.classes) else str(index)
    return text_of(value)


def prediction_columns(
    output: AnyArray, spec: PredictionSpec, watched: tuple[FeatureProfile, ...]
) -> Floats:
    """The columns that predictions are counted by: float64 (n, len(watched))."""
    columns = [_column(output, spec, feature) for feature in watched]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def _column(output: AnyArray, spec: PredictionSpec, feature: FeatureProfile) -> Floats:
    flat = rows_of(output)
    if feature.is_text:
        texts = class_texts(output, spec)
        names, inverse = np.unique(texts.astype(str), return_inverse=True)
        codes: Floats = encode_text(names.astype(object), feature.codes())[inverse.reshape(-1)]
        return codes
    if feature.name == TOP_SCORE:
        return np.asarray(np.max(flat, axis=1), dtype=np.float64)
    return np.asarray(flat[:, 0], dtype=np.float64)


def error_of(output: AnyArray, spec: PredictionSpec, row: int, label: float | str) -> float | None:
    """How wrong one row is: 0 or 1 for a class; for a number |error|, infinite if not finite.

    None when a number meets a label that is none.
    """
    if spec.kind is not PredictionKind.NUMBER:
        return 0.0 if class_of(output[row], spec) == text_of(label) else 1.0
    try:
        error = abs(float(rows_of(output)[row, 0]) - float(label))
    except ValueError:
        return None
    return error if np.isfinite(error) else inf


def loss_units(error: float, scale: float) -> int:
    """The loss in 2^-30; scale > 0: the error that costs all, 1 for a class."""
    return round(min(error / scale, 1.0) * LOSS_UNITS)
