"""What of a model's rows can be compared with its reference's, and why the rest cannot."""

from dataclasses import dataclass

from monitor.core.multivariate.compare import LIVE_MIN, REFERENCE_MIN
from monitor.core.multivariate.live_rows import LiveRows, SpaceRows
from monitor.core.multivariate.reference_rows import Rows
from monitor.core.multivariate.row_sample import RowSample
from monitor.core.multivariate.spaces import WIDTH_MAX, Space, spaces_of
from monitor.core.profile import ReferenceProfile


@dataclass(frozen=True, slots=True, eq=False)
class SpaceStanding:
    """reference: (m, w), the profile's rows; off: why nothing is compared, empty if it is.

    window: which live window is under way.
    """

    space: Space
    reference: Rows
    live: RowSample
    window: int
    off: str


def comparable(profile: ReferenceProfile) -> list[Space]:
    """The spaces that the profile holds rows enough of."""
    return [space for space in spaces_of(profile.features) if not _lacks(profile, space)]


def standings(profile: ReferenceProfile, live: LiveRows, *, learned: bool) -> list[SpaceStanding]:
    """All spaces of a version; learned: its reference is of its own traffic."""
    of_space = {rows.space: rows for rows in live.spaces}
    found = []
    for space in spaces_of(profile.features):
        rows = of_space.get(space)
        sample = live.live(rows) if rows else RowSample.empty(len(space.members))
        off = _lacks(profile, space, learned=learned) or _off(rows, sample, live.most)
        found.append(SpaceStanding(space, _rows_of(profile, space), sample, live.half, off))
    return found


def _off(rows: SpaceRows | None, sample: RowSample, most: int) -> str:
    if most == 0 or rows is None:
        return "monitor.multivariate_rows is 0"
    if rows.withheld:
        return "the log's policy withholds a part of it"
    if len(sample) < LIVE_MIN:
        return f"{len(sample)} live rows so far, {LIVE_MIN} are needed"
    return ""


def _lacks(profile: ReferenceProfile, space: Space, *, learned: bool = False) -> str:
    if space.too_wide:
        return f"it is too wide: there is room for {WIDTH_MAX:,} features in all"
    if learned:
        return "the reference is the version's own traffic, of which no rows are kept"
    rows = len(_rows_of(profile, space))
    if rows < REFERENCE_MIN:
        return f"the reference was pushed with {rows} rows of it, {REFERENCE_MIN} are needed"
    return ""


def _rows_of(profile: ReferenceProfile, space: Space) -> Rows:
    for sample in profile.samples:
        if (sample.space, sample.features) == (space.name, space.members):
            return sample.values
    return RowSample.empty(len(space.members)).values
