"""A season: a reference's answers by hour of the week, and what the null then is in each hour.

Laws:
- an hour's bound is its own: its share, its own reference error, the tolerance. All bounds
  of all hours hold at once, so the null is known before a block begins and the e-detectors
  keep their promise;
- rows of one visit of an hour are alike: how many independent rows they are worth follows
  from how visits of the same hour differ, and the hour's reference error from that;
- where an hour has so few rows that a share could be anything, nothing is bet on it there;
- shares are drawn towards the whole's where an hour has few rows. That serves what is shown
  and how long traffic is found to be alike; no bound gets smaller by it, since how far an
  hour is from the others is what its own few rows alone can say.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import (
    MISSING,
    SLOTS,
    UNSEEN,
    AnyArray,
    Counts,
    Floats,
    ordered_counts,
    slots_of,
)
from monitor.core.events import Events, make_events
from monitor.core.profile import (
    RARE_MAX,
    FeatureProfile,
    ProfileError,
    ReferenceProfile,
    held_out,
    numbers_of,
    ranked,
    text_of,
)
from monitor.core.reference_error import share_bounds, share_errors
from monitor.core.season_reference import (
    HOUR_NS,
    HOURS,
    ROWS_MAX,
    WATCHED_MAX,
    Hours,
    SeasonReference,
    hours_between,
    hours_of,
)

EDGES = 12  # of each feature, as the monitor has by default
UNITS = 2**30  # of a bound, so that sums over blocks are whole and in no order
SHARE_MIN = 0.01  # as in a warm-up: rarer answers do not say how they come together
DRAWN_ROWS = 30  # of the whole, that an hour's share is drawn towards: about a tenth's error


def season_of(
    profile: ReferenceProfile, columns: Sequence[AnyArray], times_ns: AnyArray
) -> SeasonReference:
    """Count a reference's n rows by hour.

    columns:  (n,) of each feature, then of what answers are watched by, as they were fitted.
    times_ns: (n,) Unix time of each row.
    Raises:   ProfileError.
    """
    watched = (*profile.features, *profile.predictions)
    if times_ns.shape != (profile.rows,):
        raise ProfileError(f"times have shape {times_ns.shape}, expected ({profile.rows},)")
    if len(watched) > WATCHED_MAX:
        raise ProfileError(
            f"{len(watched)} features and answers by hour of the week, at most {WATCHED_MAX}"
        )
    hours = hours_of(times_ns)
    rows = np.bincount(hours, minlength=HOURS)
    if rows.max(initial=0) > ROWS_MAX:
        raise ProfileError(f"an hour of the week has more than {ROWS_MAX} rows")
    events = make_events(profile, EDGES)
    counts = np.zeros((len(watched), HOURS, SLOTS), dtype=np.int64)
    held, novel = np.zeros((2, HOURS, len(watched)), dtype=np.int64)
    effective = np.ones(len(watched))
    for f, (feature, column) in enumerate(zip(watched, columns, strict=True)):
        slots = slots_of(numbers_of(column, feature), feature.starts, feature.high, feature.exact)
        flat = np.bincount(hours * SLOTS + slots, minlength=HOURS * SLOTS)
        counts[f] = flat.reshape(HOURS, SLOTS)
        own = np.flatnonzero((events.feature == f) & ~events.of_all)
        effective[f] = _worth(slots, times_ns, events.place[own], events.cumulative[own])
        if feature.exact:
            is_held, is_novel = _novelty(column, feature)
            held[:, f] = np.bincount(hours[is_held], minlength=HOURS)
            novel[:, f] = np.bincount(hours[is_novel], minlength=HOURS)
    values = ordered_counts(counts).sum(axis=2) + counts[:, :, UNSEEN]
    yes = [events.answers(counts[:, hour])[0] for hour in range(HOURS)]
    small = np.uint32
    return SeasonReference(
        tuple(
            tuple(events.place[(events.feature == f) & ~events.of_all].tolist())
            for f in range(len(watched))
        ),
        rows.astype(small),
        values.T.astype(small),
        np.array(yes).astype(small).reshape(HOURS, events.size),
        held.astype(small),
        novel.astype(small),
        effective,
    )


def _worth(slots: Hours, times_ns: AnyArray, places: Hours, cumulative: NDArray[np.bool_]) -> float:
    """How many independent rows a feature's row of an hour is worth, 0 to 1.

    An hour that comes again is a little another one: customers, weather, what is on. So
    rows of one visit are alike, and an hour is known by its visits, not by its rows alone.
    By how much more shares differ between visits of an hour than those of independent rows
    would, taken over all hours; of the questions the largest. 1 where no hour came twice.
    """
    visits, visit = np.unique(times_ns.astype(np.int64) // HOUR_NS, return_inverse=True)
    flat = np.bincount(visit * SLOTS + slots, minlength=visits.size * SLOTS)
    counts = flat.reshape(visits.size, SLOTS)
    ordered = ordered_counts(counts)
    below = np.cumsum(ordered, axis=1)
    totals = ordered.sum(axis=1) + counts[:, UNSEEN]
    hours = hours_of(visits * HOUR_NS)
    more = max(1.0, _differing(counts[:, MISSING], counts.sum(axis=1), hours))  # faults last
    for place, is_cumulative in zip(places.tolist(), cumulative.tolist(), strict=True):
        yes = below[:, place] if is_cumulative else counts[:, place]
        more = max(more, _differing(yes, totals, hours))
    return 1.0 / more


def _differing(yes: Counts, totals: Counts, hours: Hours) -> float:
    """The variance of a share between visits of an hour, over that of independent rows.

    yes, totals, hours: of each visit. Shares too near 0 or 1 come too seldom to say.
    """
    rows = np.bincount(hours, totals, HOURS)
    share = np.bincount(hours, yes, HOURS) / np.maximum(rows, 1.0)
    again = np.bincount(hours, totals > 0, HOURS) - 1.0
    judged = (again > 0) & (share >= SHARE_MIN) & (share <= 1.0 - SHARE_MIN)
    apart = totals * (yes / np.maximum(totals, 1) - share[hours]) ** 2
    found = np.bincount(hours, apart, HOURS)[judged] / (share * (1.0 - share))[judged]
    return float(found.sum() / again[judged].sum()) if judged.any() else 1.0


def _novelty(
    column: AnyArray, feature: FeatureProfile
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows of the half that is held out and have a value; those whose value the other half lacks.

    The half that is known is chosen as in `fit_feature`, and forgets as text does there.
    """
    if not feature.is_text:
        values = numbers_of(column, feature)
        held = ~held_out(values.size) & np.isfinite(values)
        return held, held & ~np.isin(values, values[held_out(values.size)])
    texts = ["" if value is None else text_of(value) for value in column]
    has = np.array([value is not None for value in column], dtype=np.bool_)
    half = held_out(len(texts))
    held = half & has
    known = Counter(texts[row] for row in np.flatnonzero(~half & has))
    kept = set(ranked(known)[:RARE_MAX])
    return held, held & np.array([text not in kept for text in texts], dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Nulls:
    """What the answers to v questions may be in each hour: (HOURS, v).

    share:      in the reference, of few rows drawn towards the whole's; NaN where nothing
                is bet on.
    rise, fall: upper bounds on the share of yes and of no, tolerance included, in UNITS; a
                whole one where there is no room for a bet.
    tolerance:  (HOURS,) of a share of all rows near a half, the reference's error included,
                where rows are worth as much as those of the median feature.
    """

    share: Floats
    rise: NDArray[np.int32]
    fall: NDArray[np.int32]
    tolerance: Floats

    @classmethod
    def of(
        cls, profile: ReferenceProfile, season: SeasonReference, events: Events, tolerance: float
    ) -> "Nulls":
        """events: those of the profile, which is the season's."""
        yes = season.yes.astype(np.float64)
        totals = np.where(
            events.of_all, season.rows[:, None], season.values[:, events.feature]
        ).astype(np.float64)
        statements = _statements(events)
        worth = season.effective[events.feature]
        lower, upper = _bounds(yes * worth, totals * worth, events.cumulative, statements)
        lacks = _lacks(profile, season, statements)[:, events.feature]
        of_new = events.of_all & (events.place == UNSEEN) & (lacks > 0)
        upper = np.where(of_new, lacks, upper)
        beyond = np.where(events.cumulative, lacks, 0.0)
        rise = _in_units(upper + tolerance)
        fall = _in_units(np.where(events.of_all, 1.0, 1.0 - lower + beyond + tolerance))
        share = (yes + DRAWN_ROWS * events.share) / (totals + DRAWN_ROWS)
        bet_on = (rise < UNITS) | (fall < UNITS)
        usual = float(np.median(season.effective)) if season.effective.size else 1.0
        of_rows = share_errors(season.rows.astype(np.float64) * usual, statements) + tolerance
        return cls(
            np.where(bet_on, share, np.nan), rise, fall, np.asarray(np.minimum(of_rows, 1.0))
        )

    def between(self, start_ns: int, end_ns: int) -> tuple[Floats, Counts, Counts]:
        """Share, rise and fall of a block: (v,) each. Of several hours the loosest bounds."""
        hours: Hours = hours_between(start_ns, end_ns)
        share = np.mean(self.share[hours], axis=0)
        rise, fall = self.rise[hours].max(axis=0), self.fall[hours].max(axis=0)
        return share, rise.astype(np.int64), fall.astype(np.int64)

    @property
    def least(self) -> tuple[Floats, Floats]:
        """The smallest rise and fall of all hours, as shares: (v,) each."""
        return self.rise.min(axis=0) / UNITS, self.fall.min(axis=0) / UNITS


def _statements(events: Events) -> int:
    """As `make_events` counts them, in every hour."""
    singles = int(np.count_nonzero(~events.cumulative))
    return (singles + np.unique(events.feature[events.cumulative]).size) * HOURS


def _bounds(
    yes: Floats, totals: Floats, cumulative: NDArray[np.bool_], statements: int
) -> tuple[Floats, Floats]:
    """Lower and upper, (HOURS, v) each; of edges whatever their place, so all by one error."""
    lower, upper = share_bounds(yes, totals, statements)
    share = np.where(totals > 0, yes / np.where(totals > 0, totals, 1.0), 0.0)
    error = share_errors(totals, statements)
    return (
        np.where(cumulative, np.maximum(share - error, 0.0), lower),
        np.where(cumulative, np.minimum(share + error, 1.0), upper),
    )


def _lacks(profile: ReferenceProfile, season: SeasonReference, statements: int) -> Floats:
    """(HOURS, f): at most so many live values are none that the reference held."""
    held, novel = season.held * season.effective, season.novel * season.effective
    _, upper = share_bounds(novel, held, statements)
    exact = [feature.exact for feature in (*profile.features, *profile.predictions)]
    return np.where(exact, upper, 0.0)


def _in_units(bounds: Floats) -> NDArray[np.int32]:
    """Rounded up, so that no bound gets smaller."""
    found: NDArray[np.int32] = np.ceil(np.minimum(bounds, 1.0) * UNITS).astype(np.int32)
    return found
