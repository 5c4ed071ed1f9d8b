"""How many different values there were, in 4 KiB at most: HyperLogLog.

Laws:
- the sketch is a function of the set of hashes: order, repetition and how they were split
  do not show in it, so merging is commutative, associative and idempotent, to the bit;
- a relative standard error of 1.04 / 2^(PRECISION / 2) = 1.6 %; up to some hundred values
  are told nearly without any;
- arrays are replaced and never changed.

Source: Flajolet, Fusy, Gandouet and Meunier 2007, "HyperLogLog"; the estimate is the
improved raw one of Ertl 2017, "New cardinality estimation algorithms for HyperLogLog
sketches", which needs no table of corrections.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from math import inf, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Floats
from monitor.core.mixing import Keys, mixed

PRECISION = 12
REGISTERS = 1 << PRECISION
REST_BITS = 64 - PRECISION  # of a hash, whose leading zeros are counted
RANK_MAX = REST_BITS + 1
RELATIVE_ERROR = 1.04 / sqrt(REGISTERS)
SPARSE_MAX = REGISTERS // 3  # registers in use that take less room as place and rank
SALT = np.uint64(0x5851F42D4C957F2D)  # so that the number 0 is no special case

Registers = NDArray[np.uint8]


def text_hashes(texts: Iterable[str]) -> Keys:
    """(n,) of any text."""
    digests = [
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def number_hashes(numbers: Floats) -> Keys:
    """(n,) of float64; -0 is 0."""
    bits = (numbers + 0.0).view(np.uint64)
    return mixed(mixed(bits) ^ SALT)


@dataclass(frozen=True, slots=True)
class HyperLogLog:
    """data: registers as they are, (REGISTERS,), or of few ones the place (2 bytes) and rank."""

    data: bytes = b""

    @property
    def registers(self) -> Registers:
        """(REGISTERS,), the caller's own."""
        if len(self.data) == REGISTERS:
            return np.frombuffer(self.data, dtype=np.uint8).copy()
        entries = np.frombuffer(self.data, dtype=[("place", "<u2"), ("rank", "u1")])
        found = np.zeros(REGISTERS, dtype=np.uint8)
        found[entries["place"]] = entries["rank"]
        return found

    @classmethod
    def _of(cls, registers: Registers) -> "HyperLogLog":
        places = np.flatnonzero(registers)
        if len(places) > SPARSE_MAX:
            return cls(registers.tobytes())
        entries: NDArray[Any] = np.empty(len(places), dtype=[("place", "<u2"), ("rank", "u1")])
        entries["place"], entries["rank"] = places, registers[places]
        return cls(entries.tobytes())

    def with_hashes(self, hashes: Keys) -> "HyperLogLog":
        """Of these (n,) hashes too."""
        if not len(hashes):
            return self
        registers = self.registers
        rest = hashes & np.uint64((1 << REST_BITS) - 1)
        _, bits = np.frexp(rest.astype(np.float64))  # exact below 2^53
        ranks = (RANK_MAX - bits).astype(np.uint8)
        np.maximum.at(registers, (hashes >> np.uint64(REST_BITS)).astype(np.int64), ranks)
        return self._of(registers)

    def merged(self, other: "HyperLogLog") -> "HyperLogLog":
        if not self.data or not other.data:
            return other if other.data else self
        return self._of(np.maximum(self.registers, other.registers))

    @property
    def estimate(self) -> float:
        """The number of different hashes; 0 of none."""
        counts = np.bincount(self.registers, minlength=RANK_MAX + 1).tolist()
        total = REGISTERS * _tau(1.0 - counts[RANK_MAX] / REGISTERS)
        for rank in range(REST_BITS, 0, -1):
            total = 0.5 * (total + counts[rank])
        total += REGISTERS * _sigma(counts[0] / REGISTERS)
        return REGISTERS**2 / (2.0 * log(2.0) * total)


def _sigma(x: float) -> float:
    """x + sum of x^(2^k) 2^(k - 1) over k >= 1: what empty registers say."""
    if x == 1.0:
        return inf
    weight, total, before = 1.0, x, -1.0
    while total != before:
        x, before = x * x, total
        total += x * weight
        weight *= 2.0
    return total


def _tau(x: float) -> float:
    """(1 - x - sum of (1 - x^(2^-k))^2 2^-k over k >= 1) / 3: of full registers."""
    if x in (0.0, 1.0):
        return 0.0
    weight, total, before = 1.0, 1.0 - x, -1.0
    while total != before:
        x, before = sqrt(x), total
        weight *= 0.5
        total -= (1.0 - x) ** 2 * weight
    return total / 3.0
