"""A slice: rows of a model told apart by one input, as an operator has configured it.

Laws:
- the parts of a slice are its values or ranges in their order, and a last one for all
  other rows, so every row whose input was logged is in exactly one;
- there are at most SLICES_MAX slices of a model with at most PARTS_MAX parts each, so
  what is kept by part is bounded, whatever the traffic.
"""

from dataclasses import dataclass
from itertools import pairwise

SLICES_MAX = 8
PARTS_MAX = 16
OTHER, MISSING = "other", "missing"  # names of the last part


@dataclass(frozen=True, slots=True)
class Slice:
    """values or edges, never both.

    feature:        as the reference names it, else an input: `NAME`, or `NAME[3]` of a wide one.
    values:         canonical text, see `text_of`; a part each.
    edges:          rising; below the first, from each up to the next, from the last on.
    protected:      whether fairness between its parts is watched.
    positive:       the answer that is an advantage, canonical text ...
    positive_from:  ... and of answers that are numbers, from where on.
    difference_max: of shares of positive answers: more is unfair.
    ratio_min:      of the same: less is unfair; 0.8 is the "four-fifths rule".
    """

    name: str
    feature: str
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    protected: bool = False
    positive: str = "1"
    positive_from: float = 0.5
    difference_max: float = 0.1
    ratio_min: float = 0.8

    @property
    def parts(self) -> tuple[str, ...]:
        """Names; the last is of the rows that are in no other."""
        if self.values:
            return (*self.values, OTHER)
        low, high = (_plain(edge) for edge in (self.edges[0], self.edges[-1]))
        between = (f"{_plain(a)} to {_plain(b)}" for a, b in pairwise(self.edges))
        return (f"below {low}", *between, f"{high} and more", MISSING)


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)
