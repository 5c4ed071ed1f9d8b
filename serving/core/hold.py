"""When an idle version waits for company: a model's own queue delay.

Only for versions whose configuration sets a delay. Laws: nobody is held longer
than the delay since its arrival, nor so long that its deadline could not be met;
rows beyond the largest wanted size are never waited for. Source: Triton's dynamic
batcher, which also runs a preferred size at once and leaves the rest waiting.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

EVERYBODY = 2**31 - 1  # more than a queue can hold


class Held(Protocol):
    """A member of the queue, as far as it matters here."""

    rows: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Hold:
    """delay_ns: above 0. sizes: rows worth a run at once. largest: of them."""

    delay_ns: int
    sizes: frozenset[int]
    largest: int

    @classmethod
    def of(cls, delay_ns: int, preferred: Collection[int], rows_max: int) -> "Hold | None":
        """None where there is nothing to wait for: no delay, or one row a batch."""
        if delay_ns <= 0 or rows_max <= 1:
            return None
        sizes = frozenset(size for size in preferred if size <= rows_max) or frozenset({rows_max})
        return cls(delay_ns, sizes, max(sizes))

    def settle(
        self, waiting: Iterable[Held], now_ns: int, margin_ns: int, oldest_ns: int
    ) -> tuple[int, int]:
        """(how many of the first run now, else 0 and when to look again).

        waiting:   one or more members that may share a batch, the earliest deadline first.
        oldest_ns: when the one of them that waits longest was queued.
        margin_ns: what must be left until a deadline when the run begins.
        EVERYBODY means as many as fit into a batch.
        """
        rows = count = best = 0
        until_ns = oldest_ns + self.delay_ns
        for member in waiting:
            size = member.rows or 1  # or requests without rows could wait in any number
            if count and rows + size > self.largest:
                best = best or count
                break
            due_ns = member.deadline_ns - margin_ns
            until_ns = min(until_ns, due_ns)
            rows += size
            count += 1
            if rows in self.sizes:
                best = count
        if until_ns <= now_ns:
            return EVERYBODY, 0
        if rows >= self.largest:
            best = best or count
        return best, until_ns
