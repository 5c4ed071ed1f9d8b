"""Losses of the labels that arrived in one block, by the arm that they speak of."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from monitor.core.block import LossSum, Outcome
from monitor.core.predictions import loss_units
from monitor.core.rollout import Rollout
from monitor.core.watched import Stable


@dataclass(slots=True)
class BlockLosses:
    """`paired`: those of stable rows that were predicted since the rollout began."""

    stable: LossSum = field(default_factory=LossSum)
    candidate: LossSum = field(default_factory=LossSum)
    paired: LossSum = field(default_factory=LossSum)


def losses_of(
    outcomes: Iterable[Outcome], stable: Stable | None, rollout: Rollout | None
) -> BlockLosses:
    """Losses by stable's range, or the candidate's if stable has none; both by the same.

    Outcomes of versions that are neither stable nor the candidate do not count,
    nor do numbers while no range is known.
    """
    losses = BlockLosses()
    range_ = stable.yardstick.loss_scale if stable is not None else None
    if range_ is None and rollout is not None:
        range_ = rollout.loss_scale
    for outcome in outcomes:
        scale = range_ if outcome.is_number else 1.0
        if scale is None:
            continue
        units = loss_units(outcome.error, scale)
        if stable is not None and outcome.digest == stable.digest:
            losses.stable.add(units)
            if rollout is not None and outcome.predicted_ns >= rollout.first_ns:
                losses.paired.add(units)
        elif rollout is not None and outcome.digest == rollout.digest:
            losses.candidate.add(units)
    return losses
