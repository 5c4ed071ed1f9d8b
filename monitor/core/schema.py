"""Rows whose tensors are not the ones that the reference was made of.

They cannot be counted, so nothing is known of their features: columns that vanished or
changed their type must be seen as such, and not as silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from monitor.core.bins import AnyArray
from monitor.core.profile import ReferenceProfile
from monitor.core.tree import Tree
from monitor.core.watched import Window

STATEMENTS_MAX = 8  # of what does not fit, remembered


def misfits(profile: ReferenceProfile, inputs: Mapping[str, AnyArray]) -> tuple[str, ...]:
    """Why these inputs cannot be counted by the profile, in words.

    inputs: name -> (n, ...); a feature without a tensor's name is of the only input.
    """
    found: list[str] = []
    for name in dict.fromkeys(feature.tensor for feature in profile.features):
        features = [feature for feature in profile.features if feature.tensor == name]
        tensor = inputs.get(name) if name or len(inputs) != 1 else next(iter(inputs.values()))
        if tensor is None:
            there = ", ".join(sorted(inputs)) or "none"
            found.append(f"input {name or 'of the reference'} is gone (there are: {there})")
            continue
        shown = name or next(iter(inputs))
        width, needed = prod(tensor.shape[1:]), 1 + max(feature.index for feature in features)
        is_text = tensor.dtype.kind in "OSU"
        if width < needed:
            found.append(f"input {shown} has {width} values a row, the reference {needed}")
        elif is_text and not all(feature.is_text for feature in features):
            found.append(f"input {shown} is text, in the reference it is numbers")
    return tuple(found)


@dataclass(slots=True)
class Fit:
    """How many rows fitted of late, and what was wrong with the others. Mutable."""

    seen: Window = field(default_factory=lambda: Window.empty((2,)))  # rows, of them misfits
    statements: tuple[str, ...] = ()

    def add(self, half: int, rows: int, misfitting: int, statements: set[str]) -> None:
        """Rows of a block in window `half`."""
        self.seen.move_to(half)
        self.seen.current += np.array([rows, misfitting])
        if statements:
            self.statements = tuple(sorted(statements)[:STATEMENTS_MAX])

    def broken(self, share_max: float, rows_min: int) -> tuple[str, ...]:
        """What is wrong, where more than this share of the last rows does not fit."""
        rows, misfitting = (int(value) for value in self.seen.live)
        if rows < rows_min or misfitting <= share_max * rows:
            return ()
        return self.statements

    def to_tree(self) -> Tree:
        return {"seen": self.seen.to_tree(), "statements": list(self.statements)}

    @classmethod
    def from_tree(cls, tree: Tree) -> "Fit":
        return cls(Window.from_tree(tree["seen"]), tuple(tree["statements"]))
