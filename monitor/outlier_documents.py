"""Rows unlike the reference's, in JSON."""

from collections.abc import Callable
from math import isfinite
from typing import Any

from monitor.core.model_state import ModelState
from monitor.core.outliers.live import Outlier, Value
from monitor.core.outliers.reference import FEATURES_MAX, HELD_MIN
from monitor.core.watched import Stable

Document = dict[str, Any]
# Time in ms, producer and first sequence number of a request -> its prediction id; None
# where there are no keys to make it with.
EncodeId = Callable[[int, str, int], str | None]


def no_ids(ts_ms: int, producer: str, sequence: int) -> None:
    """For whom rows need no names."""


def outlier_counts(stable: Stable) -> Document:
    """How many of the live window's rows are unlike the reference's.

    off:       why no row is looked at; empty: rows are.
    share:     of the rows looked at; None: there are none. of_rows: of so many of the window.
    reference: what share of rows like its own is above the threshold, and its upper bound.
    bound:     what the share may be before it is evidence.
    """
    of_rows, looked_at, outliers = stable.outliers.live.tolist()
    reference = stable.yardstick.profile.outliers
    return {
        "off": _off(stable),
        "share": outliers / looked_at if looked_at else None,
        "outliers": outliers,
        "looked_at": looked_at,
        "of_rows": of_rows,
        "bound": stable.yardstick.outlier_bound if reference else None,
        "reference": {
            "share": reference.share,
            "share_max": reference.share_max,
            "threshold": reference.threshold,
            "rows": reference.held,
        }
        if reference
        else None,
    }


def outliers_document(state: ModelState, encode_id: EncodeId) -> Document:
    """The same with the strongest rows of the last hour or two, by their prediction ids."""
    stable = state.stable
    document: Document = {"model": state.model, "version": "", "off": "no row has been seen"}
    if stable is None:
        return {**document, "strongest": []}
    return {
        "model": state.model,
        "version": stable.version,
        **outlier_counts(stable),
        "strongest": [_outlier(item, stable, encode_id) for item in stable.outliers.shown],
    }


def _off(stable: Stable) -> str:
    yardstick = stable.yardstick
    if yardstick.learned is not None:
        return "the reference is the version's own traffic, of which no rows are kept"
    if not yardstick.known:
        return "the version has no reference"
    if len(yardstick.profile.features) > FEATURES_MAX:
        return f"the reference has more than {FEATURES_MAX} features"
    if yardstick.scorer is None:
        return (
            f"the reference has fewer than about {2 * HELD_MIN} rows, or was pushed by a "
            "driftgate that did not look for outliers; push the version again"
        )
    return "the log's policy withholds a feature" if stable.outliers.withheld else ""


def _outlier(item: Outlier, stable: Stable, encode_id: EncodeId) -> Document:
    name = encode_id(item.ts_ns // 10**6, item.producer, item.sequence)
    return {
        "prediction_id": None if name is None else f"{name}.{item.row}",
        "ts_ns": item.ts_ns,
        "score": item.score,
        "times": item.times,
        "features": [
            {
                "name": stable.yardstick.profile.features[shown.feature].name,
                "value": _value(shown.value),
                "expected": _value(shown.expected),
                "drop": shown.drop,
            }
            for shown in item.features
        ],
    }


def _value(value: Value) -> Value:
    """JSON has no infinity: as text."""
    return str(value) if isinstance(value, float) and not isfinite(value) else value
