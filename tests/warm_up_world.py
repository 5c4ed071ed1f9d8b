"""Streams for the promise whose reference is a warm-up: the same traffic, drawn before it.

In the warm-up every slot is told apart, since which questions will be asked follows from
what comes of it.
"""

from collections.abc import Iterator

import numpy as np

from monitor.core.bins import SLOTS, Counts, Floats
from monitor.core.block import LossSum
from monitor.core.profile import ReferenceProfile
from monitor.core.settings import CoreSettings
from monitor.core.warm_up import Gathered
from monitor.core.watched import Yardstick
from tests.promise_world import (
    ANSWER,
    COPIES,
    PROMISE,
    STREAMS_PER_REFERENCE,
    TRUTHS,
    WEIGHTS,
    Cells,
    Stream,
    reference,
)

BINS_ROWS = 1200  # of the sample that cuts the bins
ALIKE_SLOTS = 20  # neighbours that a season or a mood moves together
LABELLED_MIN = 100


class Slots(Cells):
    """Every slot is a cell."""

    def __init__(self, profile: ReferenceProfile) -> None:
        own = len(TRUTHS)
        watched = [*profile.features[:own], *profile.predictions]
        mass = np.stack([t.slots(f) for t, f in zip([*TRUTHS, ANSWER], watched, strict=True)])
        self.shares = mass / mass.sum(axis=1, keepdims=True)
        self._rows = np.array([*range(own), *range(COPIES), own])

    def moods(self, random: np.random.Generator) -> Floats:
        few = random.uniform(-1.0, 1.0, (len(self.shares), -(-SLOTS // ALIKE_SLOTS)))
        leaning = np.repeat(few, ALIKE_SLOTS, axis=1)[:, :SLOTS]
        return self.shares * (leaning - np.sum(self.shares * leaning, axis=1, keepdims=True))

    def counts(self, random: np.random.Generator, shares: Floats) -> Counts:
        features = np.arange(len(shares))
        below = np.cumsum(shares, axis=1)
        below[:, -1] = 1.0
        drawn = random.random((WEIGHTS.size, features.size)) + features
        places = np.searchsorted((below + features[:, None]).reshape(-1), drawn, side="right")
        weights = np.broadcast_to(WEIGHTS[:, None], places.shape)
        size = features.size * SLOTS
        counts = np.bincount(places.reshape(-1), weights.reshape(-1), minlength=size)
        return counts.astype(np.int64).reshape(-1, SLOTS)[self._rows]


def warmed_up(seed: list[int], blocks: int, settings: CoreSettings) -> Yardstick:
    """A yardstick from so many blocks of traffic, with the bins of a sample before it."""
    bins = reference(np.random.default_rng(seed), BINS_ROWS)
    stream = Stream(Yardstick(bins, settings), Slots(bins), settings, [*seed, 1])
    gathered = Gathered(bins.to_bytes(), settings.coarse_edges)
    for counts, units, labelled in stream.blocks(blocks):
        gathered.add(counts, int(WEIGHTS.sum()), LossSum(labelled, units))
    return Yardstick(gathered.profile(LABELLED_MIN), settings)


def warmed_up_streams(
    number: int, seed: int, blocks: int, settings: CoreSettings = PROMISE
) -> Iterator[Stream]:
    for i in range(number):
        if i % STREAMS_PER_REFERENCE == 0:
            yardstick = warmed_up([seed, i], blocks, settings)
            cells = Cells(yardstick)
        yield Stream(yardstick, cells, settings, [seed, number + i])


def beyond(yardstick: Yardstick) -> Floats:
    """How far each share of the reference is from the truth, over its error's bound: (v,)."""
    mass = Slots(yardstick.profile).shares[[*range(len(TRUTHS)), *range(COPIES), -1]]
    yes, totals = yardstick.events.answers(np.round(mass * 1e12).astype(np.int64))
    apart: Floats = np.abs(yes / totals - yardstick.events.share) / yardstick.events.error
    return apart
