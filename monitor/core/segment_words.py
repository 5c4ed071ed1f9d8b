"""Groups of a feature's values, as a person reads them."""

import numpy as np

from monitor.core.profile import FeatureProfile
from monitor.core.segments import groups_of, named_slots

OTHER, ANY, NO_PLACE = "other values", "any value", "missing or not finite"


def name_of(feature: FeatureProfile, group: int, values: int) -> str:
    """Which values a group of `groups_of(feature, values)` holds."""
    if group == values:
        return NO_PLACE
    return _category(feature, group, values) if feature.exact else _range(feature, group, values)


def _category(feature: FeatureProfile, group: int, values: int) -> str:
    named = named_slots(feature, values)
    if group >= len(named):
        return OTHER
    slot = named[group]
    return feature.categories[slot] if feature.is_text else f"{feature.starts[slot]:g}"


def _range(feature: FeatureProfile, group: int, values: int) -> str:
    bins = feature.starts.size
    slots = np.flatnonzero(groups_of(feature, values)[:bins] == group)
    if not slots.size:
        return OTHER
    first, end = int(slots[0]), int(slots[-1]) + 1
    low = "" if first == 0 else f"{feature.starts[first]:.4g}"
    high = "" if end == bins else f"{feature.starts[end]:.4g}"
    if low and high:
        return f"{low} to {high}"
    if low:
        return f"{low} and more"
    return f"below {high}" if high else ANY
