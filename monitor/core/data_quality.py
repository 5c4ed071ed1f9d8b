"""Data that broke before it reached the model, and what broke.

Absent, impossible, unknown or stuck values, values beyond everything that the reference
held, and another unit. A descriptive guard, not a promise: it decides which action a page
leads to, and keeps a retraining away from garbage.
"""

from collections.abc import Sequence

import numpy as np

from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, UNSEEN, Counts, Floats
from monitor.core.profile import FeatureProfile, ReferenceProfile
from monitor.core.reference_error import share_error, unseen_bound
from monitor.core.unit_change import unit_change

NAMES = {MISSING: "missing", NONFINITE: "not finite", UNSEEN: "unknown"}
STUCK_SHARE = 0.99  # one bin holds nearly everything ...
VARIED_SHARE = 0.5  # ... of a feature whose commonest reference bin held less than this
ROWS_MIN = 100  # fewer rows say nothing about a stuck value, a range or a unit
BEYOND_SHARE = 0.9  # inputs drift out of a range row by row; broken ones are outside at once
NAMED_MAX = 3  # of what is broken, in a sentence


def broken_features(
    profile: ReferenceProfile, live: Counts, tolerance: float, usual: Floats | None = None
) -> tuple[str, ...]:
    """What is wrong with which feature, in words; live: (f + p, SLOTS).

    usual: (f + p, 3) up to which shares of values that are missing, not finite or unknown are
           usual, tolerance included; None: as the whole reference says.
    """
    statements = max(len(profile.features) * len(NAMES), 1)
    found: list[str] = []
    for f, (feature, counts) in enumerate(zip(profile.features, live, strict=False)):
        limits = _limits(feature, tolerance, statements) if usual is None else usual[f].tolist()
        found += _bad_values(feature, counts, limits, statements)
        if int(counts.sum()) >= ROWS_MIN and int(feature.counts.sum()):
            found += _bad_places(feature, counts, tolerance, statements)
    return tuple(found)


def in_words(broken: Sequence[str]) -> str:
    """The first of them in one sentence."""
    more = len(broken) - NAMED_MAX
    named = "; ".join(broken[:NAMED_MAX])
    return f"{named}; and {more} more" if more > 0 else named


def _bad_places(
    feature: FeatureProfile, counts: Counts, tolerance: float, statements: int
) -> list[str]:
    """At most one statement: where values are tells a unit, a stuck value or a range."""
    rows, reference = int(counts.sum()), int(feature.counts.sum())
    worth = int(reference * feature.effective)
    no_change = tolerance + share_error(rows, statements) + share_error(worth, statements)
    is_stuck, is_one_bin = _is_stuck(feature, counts), int(counts.max()) >= STUCK_SHARE * rows
    # A feature that nearly always has one value tells nothing when it always has it.
    change = None if is_one_bin and not is_stuck else unit_change(feature, counts, no_change)
    if change is not None and is_stuck:
        return [f"{feature.name} is stuck near 0, or {change}, as by another unit"]
    if change is not None:
        return [f"{feature.name} is as if {change}, as by another unit"]
    below, above = int(counts[BELOW]) / rows, int(counts[ABOVE]) / rows
    usual = int(feature.counts[BELOW] + feature.counts[ABOVE]) / reference
    if below + above > usual + BEYOND_SHARE:
        where = "below" if above == 0 else "above" if below == 0 else "outside"
        share = f"{below + above:.0%}"
        return [f"{feature.name} is {where} the reference's range in {share} of the rows"]
    return [f"{feature.name} is stuck at one value"] if is_stuck else []


def _limits(feature: FeatureProfile, tolerance: float, statements: int) -> list[float]:
    """Of the values in NAMES, the largest shares that the reference lets expect."""
    reference, worth = int(feature.counts.sum()), feature.effective
    if reference == 0:
        return [1.0] * len(NAMES)
    error = share_error(int(reference * worth), statements)
    found = [int(feature.counts[slot]) / reference + error for slot in NAMES]
    if feature.exact:
        new_ones = unseen_bound(feature.novel * worth, feature.held * worth, statements)
        found[list(NAMES).index(UNSEEN)] = new_ones
    return [usual + tolerance for usual in found]


def _bad_values(
    feature: FeatureProfile, counts: Counts, limits: Sequence[float], statements: int
) -> list[str]:
    rows = int(counts.sum())
    if rows == 0:
        return []
    chance, found = share_error(rows, statements), []
    for (slot, name), limit in zip(NAMES.items(), limits, strict=True):
        share = int(counts[slot]) / rows
        if share > limit + chance:
            found.append(f"{feature.name} is {name} in {share:.0%} of the rows")
    return found


def _is_stuck(feature: FeatureProfile, counts: Counts) -> bool:
    rows, reference = int(counts.sum()), int(feature.counts.sum())
    varied = int(np.max(feature.counts)) / reference < VARIED_SHARE
    return varied and int(np.max(counts)) / rows >= STUCK_SHARE
