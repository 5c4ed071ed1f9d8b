"""Which rows have been labelled, and with what: for duplicates and contradictions.

Laws:
- the first label of a row counts; a later one is a duplicate, or, with another
  value, a contradiction;
- four bytes per row, in pages of PAGE_ROWS consecutive rows of a producer; of
  those at most PAGES_MAX are kept, the least recently used go first.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from monitor.core.profile import text_of

PAGE_ROWS = 4096
PAGES_MAX = 4096  # 64 MiB, 16.7 million labels
CACHED_PAGES = 64

PageKey = tuple[str, int]  # producer, page number


class Mark(Enum):
    FIRST = "first"
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"


class LabelBook:
    """Mutable; `load` brings a page that was stored before, `dirty()` what to store."""

    def __init__(self, load: Callable[[PageKey], bytes | None]) -> None:
        self._load = load
        self._pages: OrderedDict[PageKey, NDArray[np.uint32]] = OrderedDict()
        self._dirty: set[PageKey] = set()

    def mark(self, producer: str, sequence: int, value: float | str) -> Mark:
        page = self._page((producer, sequence // PAGE_ROWS))
        place, code = sequence % PAGE_ROWS, _code(value)
        if page[place]:
            return Mark.DUPLICATE if page[place] == code else Mark.CONTRADICTION
        page[place] = code
        self._dirty.add((producer, sequence // PAGE_ROWS))
        return Mark.FIRST

    def dirty(self) -> dict[PageKey, bytes]:
        """Pages changed since `stored()`."""
        return {key: self._pages[key].tobytes() for key in sorted(self._dirty)}

    def stored(self) -> None:
        """What `dirty()` said is durable; drop what is no longer needed at hand."""
        self._dirty.clear()
        while len(self._pages) > CACHED_PAGES:
            self._pages.popitem(last=False)

    def _page(self, key: PageKey) -> NDArray[np.uint32]:
        page = self._pages.get(key)
        if page is None:
            data = self._load(key)
            page = np.zeros(PAGE_ROWS, dtype=np.uint32)
            if data is not None:
                page[:] = np.frombuffer(data, dtype=np.uint32)
            self._pages[key] = page
        self._pages.move_to_end(key)
        return page


def _code(value: float | str) -> int:
    """A number for a label's value, never 0."""
    return crc32(text_of(value).encode()) or 1
