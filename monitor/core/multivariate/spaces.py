"""Which features are compared together, as rows: an embedding by itself, the rest as one.

Laws:
- a space is made of numbers; text has no distance;
- what rows may take is bounded: SPACES_MAX spaces of WIDTH_MAX features in all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor.core.profile import FeatureProfile

FEATURES = "features"  # the space of all tensors that are not wide
WIDE_MIN = 65  # elements of a row; a tensor of more is compared by itself, as an embedding is
SPACES_MAX = 4
WIDTH_MAX = 2048  # features of all spaces together


@dataclass(frozen=True, slots=True)
class Space:
    """name: `features` or `input:TENSOR`; members: places in the profile's features, two or more.

    too_wide: there was no room for it, so there are no rows of it.
    """

    name: str
    members: tuple[int, ...]
    too_wide: bool = False


def spaces_of(features: Sequence[FeatureProfile]) -> tuple[Space, ...]:
    """The spaces of a profile, that of the narrow tensors first."""
    tensors: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        if not feature.is_text:
            tensors.setdefault(feature.tensor, []).append(place)
    narrow = [p for members in tensors.values() if len(members) < WIDE_MIN for p in members]
    wide = {name: members for name, members in tensors.items() if len(members) >= WIDE_MIN}
    return _bounded({FEATURES: narrow, **{_name(name): found for name, found in wide.items()}})


def _name(tensor: str) -> str:
    return f"input:{tensor}" if tensor else "input"


def _bounded(members: Mapping[str, list[int]]) -> tuple[Space, ...]:
    found: list[Space] = []
    width = 0
    for name, places in members.items():
        if len(places) < 2:
            continue  # of one feature its histogram says everything
        too_wide = width + len(places) > WIDTH_MAX or len(found) >= SPACES_MAX
        width += 0 if too_wide else len(places)
        found.append(Space(name, tuple(places), too_wide))
    return tuple(found)
