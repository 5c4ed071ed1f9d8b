"""Whether a rollback helped is said with the error that is promised."""

from collections import Counter

import numpy as np

from monitor.core.block import LossSum
from monitor.core.predictions import LOSS_UNITS
from monitor.core.rollout import ArmTotals
from monitor.core.tree import pack, unpack
from monitor.core.verification import Outcome, Verification

S = 10**9
ROWS = 50


def verification(before: float, against: float = 0.05, labelled: int = 1000) -> Verification:
    return Verification(
        "r",
        "d",
        0,
        150 * S,
        0.02,
        ArmTotals(labelled, 0, labelled, round(before * labelled * LOSS_UNITS)),
        ArmTotals(labelled, 0, labelled, round(against * labelled * LOSS_UNITS)),
    )


def run(found: Verification, loss: float, seed: int = 1, rows: int = ROWS, failed: int = 0) -> int:
    """Blocks until it is decided."""
    chance, block = np.random.default_rng(seed), 0
    while found.is_open:
        block += 1
        units = int(chance.binomial(rows, loss)) * LOSS_UNITS
        found.fold(ROWS, failed, LossSum(rows, units), block * S)
    return block


def test_a_loss_that_fell_confirms_and_one_that_rose_does_not() -> None:
    found = verification(0.4)
    assert run(found, 0.05) < 20
    assert found.outcome is Outcome.CONFIRMED
    found = verification(0.4)
    assert run(found, 0.8) < 20
    assert found.outcome is Outcome.WORSE
    assert "over 1000" in found.in_words()


def test_nothing_is_said_of_what_is_as_it_was() -> None:
    """Nor without labels, nor of a candidate that was no worse than stable by this measure."""
    for found, loss, rows in (
        (verification(0.4), 0.4, ROWS),
        (verification(0.4), 0.4, 0),
        (verification(0.05), 0.01, ROWS),
        (verification(0.4, labelled=0), 0.9, ROWS),
    ):
        assert run(found, loss, rows=rows) == 150
        assert found.outcome is Outcome.UNDECIDED


def test_failures_are_a_measure_of_their_own() -> None:
    found = verification(0.05)
    run(found, 0.05, failed=ROWS)
    assert found.outcome is Outcome.WORSE
    found = Verification("r", "d", 0, 150 * S, 0.02, ArmTotals(1000, 800), ArmTotals(1000))
    run(found, 0.0, rows=0)
    assert found.outcome is Outcome.CONFIRMED


def test_of_true_hypotheses_few_are_refuted() -> None:
    """The candidate's own mean is drawn too; both errors together are at most 2 in 100."""
    wrong: Counter[Outcome] = Counter()
    runs = 150
    for seed in range(runs):
        chance = np.random.default_rng([seed, 9])
        drawn = chance.binomial(300, 0.3) / 300
        found = verification(drawn, labelled=300)
        run(found, 0.3, seed)  # stable does exactly what the candidate does
        wrong[found.outcome] += 1
    print(wrong)
    # The 99.9 % quantile of 150 chances of 2 in 100.
    assert max(wrong[Outcome.WORSE], wrong[Outcome.CONFIRMED]) <= 9


def test_it_goes_on_where_it_was_stored() -> None:
    alone, stored = verification(0.4), verification(0.4)
    for block in range(1, 30):
        for found in (alone, stored):
            found.fold(ROWS, 1, LossSum(ROWS, 16 * LOSS_UNITS), block * S)
        stored = Verification.from_tree(unpack(pack(stored.to_tree())))
    assert pack(stored.to_tree()) == pack(alone.to_tree())
