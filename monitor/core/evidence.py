"""e-detectors: evidence that grows only when a stated null hypothesis is false.

Per block of scheduled length dt, M <- (M + dt) L with L = 1 + stake (y - bound)
>= 0, where y in [0, 1] is the block's mean and the null says that, given the
past, E[y] <= bound. Then E[L | past] <= 1, so M - t is a supermartingale: the
mean time until M reaches A is at least A, whatever the dependence between rows
of a block and between detectors. Weighted means of M keep the law, so one
threshold in seconds covers a whole model. A block in which nothing was seen has
L = 1, and its time does not count for long: silence is no evidence. Reducing M (that,
a cap, a restart at 0) keeps the law as well.

Source: Shin, Ramdas and Rinaldo, "E-detectors" (Shiryaev-Roberts form), with
time instead of a count of blocks.
"""

from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import AnyArray, Floats
from monitor.core.events import Events

# Stakes as shares of the largest lawful one. Six in geometric steps lose at
# most log 6 = 1.8 nats to the best of them; 0.95 wins large shifts in few
# blocks, 0.03 finds one of a hundredth of the bound.
STAKES = (0.03, 0.08, 0.2, 0.4, 0.7, 0.95)
NOTHING = -np.inf  # log of zero evidence
# Of its part of the cap, what a detector may gather by time in which it saw nothing: about
# what it has anyway while nothing is wrong, so that labels that come rarely lose little.
IDLE_SHARE = 1e-5
LOG_CAP_MAX = 600.0  # whatever the budget: evidence stays a float after one more gain


@dataclass(frozen=True, slots=True, eq=False)
class Bets:
    """d detectors over v observed block means; weights sum to at most 1."""

    event: NDArray[np.int64]  # (d,) which observation
    rising: NDArray[np.bool_]  # (d,) bets on a rise; else on a fall, y = 1 - mean
    bound: Floats  # (d,) null mean of y
    stake: Floats  # (d,)
    weight: Floats  # (d,)
    cap_s: Floats  # (d,) M is cut here, so that evidence can fall again in finite time
    # L = idle + slope * mean: the same line, with the direction in its coefficients.
    idle: Floats  # (d,)
    slope: Floats  # (d,)

    @property
    def size(self) -> int:
        return int(self.event.size)

    @property
    def log_weight(self) -> Floats:
        return np.log(self.weight)

    def start(self) -> Floats:
        """No evidence: (d,) seconds. The cap bounds them, so they need no logarithm."""
        return np.zeros(self.size)

    def against(self, rise: Floats, fall: Floats) -> "Bets":
        """The same detectors for another null, which is known before what they bet on.

        rise, fall: (v,) upper bounds on the mean, and on what is left of it to 1; from 1 on,
                    and where they are NaN, nothing is bet.
        """
        bound = np.where(self.rising, rise[self.event], fall[self.event])
        room = bound < 1.0
        bound = np.where(room, bound, 1.0)
        share = self.stake * self.bound  # of the largest lawful stake
        stake = np.where(room, share / bound, 0.0)
        idle, slope = _line(self.rising, bound, stake)
        return replace(self, bound=bound, stake=stake, idle=idle, slope=slope)

    def gains(self, means: Floats) -> Floats:
        """log L per detector; a NaN mean (nothing seen) gives 0."""
        return np.log(self._factors(means))

    def step(self, m: Floats, means: Floats, elapsed_s: float) -> Floats:
        """The next state; elapsed_s: scheduled time since the last step."""
        grown = np.minimum((m + elapsed_s) * self._factors(means), self.cap_s)
        return self._rested(m, grown, ~np.isnan(means))

    def step_rows(self, m: Floats, yes: AnyArray, totals: AnyArray, elapsed_s: float) -> Floats:
        """As `step`, for rows that are independent given the past, from their sums: (v,).

        The product of one bet per row, 1 + stake (y - bound), whose logarithm is concave
        in y: so its chord between y = 0 and 1, which needs the sum alone, is no larger
        and keeps the law for every y in [0, 1].
        """
        at_no, at_yes = np.log(self.idle), np.log(self.idle + self.slope)
        gains = yes[self.event] * at_yes + (totals - yes)[self.event] * at_no
        with np.errstate(over="ignore"):
            grown: Floats = np.minimum((m + elapsed_s) * np.exp(gains), self.cap_s)
        return self._rested(m, grown, totals > 0)

    def _rested(self, m: Floats, grown: Floats, seen: NDArray[np.bool_]) -> Floats:
        """seen: (v,) which observations there were."""
        idle_s = IDLE_SHARE * self.cap_s * self.weight
        return np.where(seen[self.event], grown, np.minimum(grown, np.maximum(m, idle_s)))

    def evidence(self, m: Floats) -> float:
        """log of the weighted mean, in log seconds."""
        return log_of(float(np.sum(m * self.weight)))

    def _factors(self, means: Floats) -> Floats:
        factors = self.idle + self.slope * means[self.event]
        return np.where(np.isnan(factors), 1.0, factors)


def carried(old: Bets, m: Floats, new: Bets) -> Floats:
    """Evidence of the same questions from here on under another null: (d,) of `new`.

    m: of `old`. Which directions have a detector follows from the null, so some may go and
    some begin, from nothing. The weighted mean gets no larger by it, so the law is kept.
    """
    found = np.zeros(new.size)
    order = {key: place for place, key in enumerate(_keys(old))}
    for place, key in enumerate(_keys(new)):
        if key in order:
            found[place] = m[order[key]]
    before, after = float(np.sum(m * old.weight)), float(np.sum(found * new.weight))
    if after > before:
        found *= before / after
    kept: Floats = np.minimum(found, new.cap_s)
    return kept


def _keys(bets: Bets) -> list[tuple[int, bool, int]]:
    """What tells detectors apart: the question, the direction, which of the stakes."""
    stakes = (np.arange(bets.size) % len(STAKES)).tolist()
    return list(zip(bets.event.tolist(), bets.rising.tolist(), stakes, strict=True))


def log_of(value: float) -> float:
    """log, of nothing as well."""
    return log(value) if value > 0.0 else NOTHING


def log_sum(values: Floats) -> float:
    """log of the sum of exp(values); of nothing: -inf. Fixed order, so bit for bit."""
    top = float(np.max(values, initial=NOTHING))
    if top == NOTHING:
        return NOTHING
    return float(top + np.log(np.sum(np.exp(values - top))))


def share_bets(
    events: Events, members: NDArray[np.bool_], tolerance: float, weight: float, budget_s: float
) -> Bets:
    """Detectors for a group's questions: each feature weighs the same.

    members:  (v,) the questions of this group.
    weight:   the group's part of the whole budget, for the cap.
    Quality questions bet on a rise alone; others on both directions. A
    direction that tolerance leaves no room for has no detector.
    """
    chosen = np.flatnonzero(members)
    bounds = events.share[chosen] + events.error[chosen] + tolerance
    falls = 1.0 - events.share[chosen] + events.error[chosen] + tolerance + events.unseen[chosen]
    falls = np.where(events.of_all[chosen], 1.0, falls)
    return _two_sided(events, chosen, bounds, falls, weight, budget_s)


def season_bets(
    events: Events,
    members: NDArray[np.bool_],
    least: tuple[Floats, Floats],
    weight: float,
    budget_s: float,
) -> Bets:
    """As `share_bets`, to be put `against` the null of each hour.

    least: (v,) the smallest bound of all hours on a rise and on a fall. A direction that
           no hour leaves room for has no detector.
    """
    chosen = np.flatnonzero(members)
    rise, fall = least
    return _two_sided(events, chosen, rise[chosen], fall[chosen], weight, budget_s)


def _two_sided(
    events: Events,
    chosen: NDArray[np.int64],
    bounds: Floats,
    falls: Floats,
    weight: float,
    budget_s: float,
) -> Bets:
    """Detectors of a rise, then of a fall, of the chosen questions."""
    event = np.concatenate([chosen, chosen])
    rising = np.repeat([True, False], chosen.size)
    bound = np.concatenate([bounds, falls])
    room = bound < 1.0
    event, rising, bound = event[room], rising[room], bound[room]
    feature = events.feature[event]
    names, inverse = np.unique(feature, return_inverse=True)
    per_feature = np.bincount(inverse, minlength=names.size)
    log_weight = -np.log(per_feature[inverse] * max(names.size, 1))
    return _spread(event, rising, bound, 1.0 / bound, log_weight, weight, budget_s)


def mean_bets(bounds: Floats, weight: float, budget_s: float) -> Bets:
    """Detectors for means in [0, 1] that must not rise above their bounds: (v,)."""
    event = np.flatnonzero(bounds < 1.0)
    bound = bounds[event]
    even = np.full(event.size, -np.log(max(event.size, 1)))
    return _spread(
        event, np.ones(event.size, dtype=np.bool_), bound, 1.0 / bound, even, weight, budget_s
    )


def difference_bets(tolerance: float, count: int, weight: float, budget_s: float) -> Bets:
    """Detectors for `count` differences in [-1, 1] that must not exceed the tolerance."""
    bound = np.full(count, tolerance)
    even = np.full(count, -np.log(count))
    rising = np.ones(count, dtype=np.bool_)
    largest = 1.0 / (1.0 + bound)
    return _spread(np.arange(count), rising, bound, largest, even, weight, budget_s)


def _spread(
    event: NDArray[np.int64],
    rising: NDArray[np.bool_],
    bound: Floats,
    largest_stake: Floats,
    log_weight: Floats,
    weight: float,
    budget_s: float,
) -> Bets:
    """One detector per stake, sharing the weight."""
    stakes = np.array(STAKES)
    repeat = stakes.size
    log_weights = np.repeat(log_weight, repeat) - np.log(repeat)
    # Twice what makes this detector page alone: it can still page, and falls back soon.
    log_cap = np.log(2.0 * budget_s) - log_weights - np.log(weight)
    up, base = np.repeat(rising, repeat), np.repeat(bound, repeat)
    stake = np.repeat(largest_stake, repeat) * np.tile(stakes, event.size)
    idle, slope = _line(up, base, stake)
    return Bets(
        np.repeat(event, repeat),
        up,
        base,
        stake,
        np.exp(log_weights),
        np.exp(np.minimum(log_cap, LOG_CAP_MAX)),
        idle,
        slope,
    )


def _line(rising: NDArray[np.bool_], bound: Floats, stake: Floats) -> tuple[Floats, Floats]:
    """Of L: what it is at a mean of 0, and what it gains up to 1."""
    idle: Floats = 1.0 - stake * bound + np.where(rising, 0.0, stake)
    return idle, np.where(rising, stake, -stake)
