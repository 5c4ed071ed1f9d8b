"""Data that broke before it reached the model: absent, impossible, unknown or stuck values.

A descriptive guard, not a promise: it decides which action a page leads to, and
keeps a retraining away from garbage.
"""

import numpy as np

from monitor.core.bins import MISSING, NONFINITE, UNSEEN, Counts
from monitor.core.profile import FeatureProfile, ReferenceProfile
from monitor.core.reference_error import share_error, unseen_bound

NAMES = {MISSING: "missing", NONFINITE: "not finite", UNSEEN: "unknown"}
STUCK_SHARE = 0.99  # one bin holds nearly everything ...
VARIED_SHARE = 0.5  # ... of a feature whose commonest reference bin held less than this
ROWS_MIN = 100  # fewer rows say nothing about a stuck value


def broken_features(profile: ReferenceProfile, live: Counts, tolerance: float) -> tuple[str, ...]:
    """What is wrong with which feature, in words; live: (f + p, SLOTS)."""
    statements = max(len(profile.features) * len(NAMES), 1)
    found: list[str] = []
    for feature, counts in zip(profile.features, live, strict=False):
        found += _bad_values(feature, counts, tolerance, statements)
        if _is_stuck(feature, counts):
            found.append(f"{feature.name} is stuck at one value")
    return tuple(found)


def _bad_values(
    feature: FeatureProfile, counts: Counts, tolerance: float, statements: int
) -> list[str]:
    rows, reference = int(counts.sum()), int(feature.counts.sum())
    if rows == 0 or reference == 0:
        return []
    chance, error = share_error(rows, statements), share_error(reference, statements)
    found = []
    for slot, name in NAMES.items():
        share = int(counts[slot]) / rows
        usual = int(feature.counts[slot]) / reference + error
        if slot == UNSEEN and feature.exact:
            usual = unseen_bound(feature.novel, feature.held, statements)
        if share > usual + tolerance + chance:
            found.append(f"{feature.name} is {name} in {share:.0%} of the rows")
    return found


def _is_stuck(feature: FeatureProfile, counts: Counts) -> bool:
    rows, reference = int(counts.sum()), int(feature.counts.sum())
    if rows < ROWS_MIN or reference == 0:
        return False
    varied = int(np.max(feature.counts)) / reference < VARIED_SHARE
    return varied and int(np.max(counts)) / rows >= STUCK_SHARE
