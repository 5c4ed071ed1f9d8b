"""Rows that say the same as another row of their block, in every feature.

Retries that are logged twice, a job that replays a file, a cache that is stuck: no single
feature shows it, since the shares of all values may stay as they were.

Laws:
- rows are alike when all features of the reference are, as the log holds them; NaN is
  like NaN, and -0 like 0;
- a block's rows are at hand when it is folded, so all of them are counted and nothing of
  them is kept: the counts are exact but for two rows of one hash, whose chance is at most
  2^-32 for a pair that was not made for it;
- rows of which the log's policy withholds a feature, and rows that do not fit the
  reference, are not counted: whether they are alike is not known.

Source: the multilinear hash of Carter and Wegman 1979, "Universal classes of hash functions".
"""

from collections.abc import Sequence
from math import exp, lgamma

import numpy as np

from eventlog.core.predictions import float32_of_bf16
from monitor.core.bins import AnyArray, Counts
from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.hyperloglog import text_hashes
from monitor.core.mixing import Keys, mixed
from monitor.core.predictions import rows_of
from monitor.core.profile import FeatureProfile, Multiplicities, text_of
from monitor.core.row_key_kernel import FORMS, add_row_keys

COUNTED = 3  # rows, of them repeats, and the sum of the blocks' squared rows


def count_repeats(parts: Sequence[Part], counter: Counter) -> Counts:
    """(COUNTED,) of a block: every row but the first of its kind is a repeat."""
    found = [keys for part in parts if (keys := _part_keys(part, counter)) is not None]
    total = np.zeros(COUNTED, dtype=np.int64)
    if found:
        keys = np.sort(np.concatenate(found))  # several times as fast as np.unique
        rows, repeats = len(keys), int(np.count_nonzero(keys[1:] == keys[:-1]))
        total[:] = rows, repeats, rows * rows
    return total


def live_share(counted: Counts) -> float | None:
    """The share of rows that repeat one of their block; None: no row was counted."""
    rows, repeats, _ = (int(value) for value in counted)
    return repeats / rows if rows else None


def reference_share(multiplicities: Multiplicities, counted: Counts) -> float | None:
    """As `live_share`, of blocks as large that are drawn from the reference without order.

    None: it is not known how often the reference's rows repeat, or no row was counted.
    """
    rows, _, squares = (int(value) for value in counted)
    known = sum(times * kinds for times, kinds in multiplicities)
    if not known or not rows:
        return None
    drawn = min(round(squares / rows), known)  # the size of the block that a row is in, on average
    kinds = sum(kinds * (1.0 - _missed(known, times, drawn)) for times, kinds in multiplicities)
    return max(1.0 - kinds / drawn, 0.0)


def _missed(rows: int, times: int, drawn: int) -> float:
    """The chance that of `drawn` rows none is one of certain `times`: hypergeometric."""
    if drawn > rows - times:
        return 0.0
    left = rows - drawn
    return exp(
        lgamma(rows - times + 1) - lgamma(left - times + 1) + lgamma(left + 1) - lgamma(rows + 1)
    )


def multiplicities_of(columns: Sequence[AnyArray]) -> Multiplicities:
    """(how often, how many kinds of rows come so often), rising; columns: (n,) each."""
    if not columns:
        return ()
    keys = np.zeros(len(columns[0]), dtype=np.uint64)
    for place, column in enumerate(columns):
        _add(column[:, None], [0], [place], keys)
    _, times = np.unique(keys, return_counts=True)
    found, kinds = np.unique(times, return_counts=True)
    return tuple(zip(found.tolist(), kinds.tolist(), strict=True))


def _part_keys(part: Part, counter: Counter) -> Keys | None:
    """(n,) a hash of each row; None where they are not to be counted."""
    features = counter.profile.features
    if not features or any(counter.is_withheld(f, part.inputs, part.withheld) for f in features):
        return None
    by_tensor: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        by_tensor.setdefault(feature.tensor, []).append(place)
    total: Keys | None = None
    for places in by_tensor.values():
        keys = _tensor_keys(part, counter, [features[place] for place in places], places)
        if keys is None:
            return None
        total = keys if total is None else total + keys
    return total


def _tensor_keys(
    part: Part, counter: Counter, features: Sequence[FeatureProfile], places: Sequence[int]
) -> Keys | None:
    """What one tensor adds to the hashes of its rows; None where it does not fit."""
    tensor = counter.tensor(features[0], part.inputs)
    if tensor is None:
        return None
    flat, columns = rows_of(tensor), [feature.index for feature in features]
    is_text = tensor.dtype.kind in "OSU"
    if max(columns) >= flat.shape[1] or (is_text and not all(f.is_text for f in features)):
        return None
    if features[0].datatype == "BF16" and flat.dtype == np.uint16:
        flat = float32_of_bf16(flat)
    keys = np.zeros(len(flat), dtype=np.uint64)
    _add(flat, columns, places, keys)
    return keys


def _add(flat: AnyArray, columns: Sequence[int], places: Sequence[int], keys: Keys) -> None:
    """Add what these columns of (n, w) values say to the (n,) keys; places: of the features."""
    factors = _factors(places)
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    if flat.dtype in (np.float32, np.float64):
        bits = np.ascontiguousarray(flat).view(f"u{flat.itemsize}")
        at = np.array(columns, dtype=np.int64)
        add_row_keys(bits, at, factors, FORMS[flat.itemsize], keys)
        return
    for column, factor in zip(columns, factors, strict=True):
        keys += _words(flat[:, column]) * factor


def _factors(places: Sequence[int]) -> Keys:
    """(w,) odd, one for each feature, the same in every run."""
    return mixed(np.array(places, dtype=np.uint64) + np.uint64(1)) | np.uint64(1)


def _words(column: AnyArray) -> Keys:
    """(n,) integers or texts; different ones as different words."""
    if column.dtype.kind in "OSU":
        return _text_words(column.tolist())
    words = column.astype(np.int64).view(np.uint64)
    return words ^ (words >> np.uint64(32))


def _text_words(texts: Sequence[object]) -> Keys:
    kinds = [value for value in dict.fromkeys(texts) if value is not None]
    hashes = text_hashes(text_of(value) for value in kinds)
    table = dict(zip(kinds, hashes.tolist(), strict=True))
    words = (0 if value is None else table[value] for value in texts)
    return np.fromiter(words, dtype=np.uint64, count=len(texts))
