"""The profile API for those who make models: `driftgate model push`, training code."""

from monitor.core.multivariate.reference_rows import REFERENCE_ROWS
from monitor.core.profile import (
    FeatureKind,
    FeatureProfile,
    FeatureSpec,
    LossReference,
    PredictionKind,
    PredictionSpec,
    ProfileError,
    ReferenceProfile,
)
from monitor.core.profile_fit import build_profile
from monitor.core.season_reference import HOURS, hours_of

__all__ = [
    "HOURS",
    "REFERENCE_ROWS",
    "FeatureKind",
    "FeatureProfile",
    "FeatureSpec",
    "LossReference",
    "PredictionKind",
    "PredictionSpec",
    "ProfileError",
    "ReferenceProfile",
    "build_profile",
    "hours_of",
]
