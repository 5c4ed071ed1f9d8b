"""A fair, bounded sample of live rows that is the same in every run.

Each row has a key, a hash of its number in the log; those of the lowest keys are kept.

Laws:
- the sample is a function of the set of rows: order, how reads were cut and restarts do
  not show in it (but for two rows with one key: 64 bits, so as good as never);
- the sample of two sets of rows is that of their samples;
- arrays are replaced and never changed, so a reader may keep them.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from monitor.core.mixing import Keys, mixed
from monitor.core.multivariate.reference_rows import Rows
from monitor.core.tree import Tree

Places = NDArray[np.int64]


def row_keys(producer: str, sequences: Places) -> Keys:
    """(n,) keys of the rows that a producer numbered so."""
    salt = int.from_bytes(blake2b(producer.encode(), digest_size=8).digest(), "little")
    return mixed(mixed(sequences) ^ np.uint64(salt))


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """keys: (k,) rising; values: (k, w)."""

    keys: Keys
    values: Rows

    @classmethod
    def empty(cls, width: int) -> "RowSample":
        return cls(np.zeros(0, dtype=np.uint64), np.zeros((0, width), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.keys)

    def candidates(self, keys: Keys, most: int) -> Places:
        """Which of the rows with these keys may belong to the sample."""
        if len(self) >= most:
            found: Places = np.flatnonzero(keys < self.keys[-1])
        else:
            found = np.arange(len(keys))
        return found if len(found) <= most else found[np.argsort(keys[found])[:most]]

    def with_rows(self, keys: Keys, values: Rows, most: int) -> "RowSample":
        """The sample of these rows too."""
        together = np.concatenate([self.keys, keys])
        kept = np.argsort(together, kind="stable")[:most]
        return RowSample(together[kept], np.concatenate([self.values, values])[kept])

    def to_tree(self) -> Tree:
        return {"keys": self.keys, "values": self.values}

    @classmethod
    def from_tree(cls, tree: Tree) -> "RowSample":
        return cls(tree["keys"], tree["values"])
