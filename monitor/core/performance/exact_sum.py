"""Sums of floats that come out the same in any order and however they are split.

Every finite float is a whole number of 2^-1074, so a product of up to four is one of
2^-4296. Sums are kept as such whole numbers: nothing is ever rounded, and merging two
sums is adding them.
"""

from fractions import Fraction
from math import inf

FACTORS_MAX = 4
BITS = FACTORS_MAX * 1074  # of the fraction

Stored = list[int]


def units(*factors: float) -> int:
    """The product of at most FACTORS_MAX finite floats, in 2^-BITS."""
    numerator, bits = 1, 0
    for factor in factors:
        top, bottom = factor.as_integer_ratio()
        numerator *= top
        bits += bottom.bit_length() - 1
    return numerator << (BITS - bits)


def fraction_of(total: int) -> Fraction:
    """What `total` units are worth."""
    return Fraction(total, 1 << BITS)


def as_float(value: Fraction) -> float:
    """The nearest float; infinite beyond the largest one."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def to_stored(total: int) -> Stored:
    """Without the zeros at its end, which are nearly all of it."""
    zeros = (total & -total).bit_length() - 1 if total else 0
    return [total >> zeros, zeros]


def from_stored(stored: Stored) -> int:
    return stored[0] << stored[1]
