"""Which requests run together: the queue of one loaded version, as a state machine.

A member goes QUEUED -> RUNNING -> DONE, or leaves earlier as CANCELLED or
EXPIRED. Laws:
- every member leaves exactly once, and is returned exactly once to be answered
  (a cancelled one never is);
- members of a batch agree in their keys, so in version, arm and shapes; or, where
  lines keep each other company (`core/company.py`), in all but a length;
- the earliest deadline decides what runs next, within the highest priority there
  is; with equal patience that is the order of arrival. `preserve_ordering` makes
  it that of arrival always;
- nothing waits for company, except through `take_settled`, where a model's own
  delay says so (`core/hold.py`);
- a member that left is not held any longer, unless its batch runs;
- queueing, leaving and taking cost O(log n) per member, and no more than a look at
  its deadline while deadlines come in order;
- a batch that fails is run again one member at a time, so a poisonous request
  fails alone; cancelled and expired members take no mates with them.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import islice, takewhile
from typing import Generic, TypeVar

from serving.core.hold import EVERYBODY, Hold

NEVER_NS = 2**63 - 1
LEVEL_SHIFT = 64  # a rank is the priority level, then the deadline
VISITS_MAX = 128  # members that one question about the queue may look at


class State(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


_QUEUED, _RUNNING, _DONE = State.QUEUED, State.RUNNING, State.DONE


class Member:
    """One request in the queue; the shell adds what it needs in a subclass.

    `state` and `order` belong to the `BatchQueue`.
    """

    __slots__ = ("deadline_ns", "key", "level", "order", "queued_ns", "rows", "state")

    def __init__(
        self,
        key: Hashable,
        rows: int,
        deadline_ns: int = NEVER_NS,
        queued_ns: int = 0,
        level: int = 0,
    ) -> None:
        """level: of priority; a lower number goes first."""
        self.key = key
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.queued_ns = queued_ns
        self.level = level
        self.state = _QUEUED
        self.order = 0

    def __repr__(self) -> str:
        return f"<{self.state.value} {self.rows} rows, {self.key!r}>"


M = TypeVar("M", bound=Member)


class Batch(Generic[M]):
    """Members that run as one; member i has the rows from `starts[i]` on."""

    __slots__ = ("members", "rows", "starts")

    def __init__(self, members: list[M]) -> None:
        self.members = members
        self.starts: list[int] = []
        rows = 0
        for member in members:
            self.starts.append(rows)
            rows += member.rows
        self.rows = rows


class Line(OrderedDict[int, M]):
    """Members that may share a batch, by arrival. Their order is that of their ranks.

    As long as ranks come in order that is the order of arrival. The first that does
    not makes a heap of (rank, arrival), which forgets those who left when it meets them.
    """

    __slots__ = ("heap", "last")

    def __init__(self) -> None:
        super().__init__()
        self.heap: list[tuple[int, int]] | None = None
        self.last = -1  # the rank of the newest

    def rank_out_of_order(self, rank_of: Callable[[M], int]) -> list[tuple[int, int]]:
        """From here on a heap, until nobody waits."""
        self.heap = [(rank_of(member), order) for order, member in self.items()]
        heapify(self.heap)
        return self.heap

    def forget_the_gone(self, heap: list[tuple[int, int]]) -> None:
        heap[:] = [entry for entry in heap if entry[1] in self]
        heapify(heap)

    def empty(self) -> None:
        """Everybody leaves."""
        self.clear()
        self.heap, self.last = None, -1

    def ranked(self) -> Generator[M]:
        """The members in their order; the line must not change meanwhile."""
        heap = self.heap
        if heap is None:
            yield from self.values()
            return
        seen: list[tuple[int, int]] = []
        try:
            while heap:
                entry = heappop(heap)
                member = self.get(entry[1])
                if member is not None:
                    seen.append(entry)
                    yield member
        finally:
            for entry in seen:
                heappush(heap, entry)

    def up_to(self, rank: int, rank_of: Callable[[M], int]) -> Iterator[M]:
        """Those of this rank or a lower one, in no order."""
        heap = self.heap
        if heap is None:
            yield from takewhile(lambda member: rank_of(member) <= rank, self.values())
            return
        places = [0]
        while places:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= rank:
                places += (2 * place + 1, 2 * place + 2)
                member = self.get(heap[place][1])
                if member is not None:
                    yield member

    def rows(self, most: int) -> int:
        """How many rows wait, counted up to `most`."""
        rows = 0
        for member in self.values():
            rows += member.rows
            if rows >= most:
                return most
        return rows

    def head(self) -> M:
        """The first of them; there is one."""
        heap = self.heap
        if heap is None:
            return next(iter(self.values()))
        while heap[0][1] not in self:
            heappop(heap)
        return self[heap[0][1]]


Company = Callable[[list[M], Sequence[Line[M]]], Sequence[Line[M]]]


class BatchQueue(Generic[M]):
    """The queue and the running batches of one version."""

    def __init__(
        self,
        rows_max: int,
        *,
        sizes: Collection[int] = (),
        preserve_ordering: bool = False,
        levels: bool = False,
    ) -> None:
        """rows_max: rows of one batch, 1 or more.

        sizes: rows of a batch that `take` prefers where enough wait for one.
        levels: members have priority levels; not with `preserve_ordering`.
        """
        assert rows_max >= 1
        assert not (preserve_ordering and levels)
        self._rows_max = rows_max
        self._sizes = frozenset(size for size in sizes if size <= rows_max)
        self._in_arrival_order, self._levels = preserve_ordering, levels
        # Ranks are the deadlines, which is what most of this needs.
        self._by_deadline = not preserve_ordering and not levels
        # By order, so that one who leaves takes its inputs with it: behind a slow run
        # many may come and go.
        self._lines: dict[Hashable, Line[M]] = {}
        self._late: dict[Hashable, Line[M]] = {}  # run when nobody else waits
        self._alone: OrderedDict[int, M] = OrderedDict()
        self._running: list[Batch[M]] = []
        self._order = 0
        self.queued = 0
        self.rows_queued = 0

    def submit(self, member: M) -> None:
        """Queue a member. Its rows fit into a batch."""
        assert member.state is _QUEUED
        assert member.rows <= self._rows_max
        self._order += 1
        member.order = self._order
        self._line_up(self._lines, member)
        self.queued += 1
        self.rows_queued += member.rows

    def _line_up(self, lines: dict[Hashable, Line[M]], member: M) -> None:
        key = None if self._in_arrival_order else member.key
        line = lines.get(key)
        if line is None:
            line = lines[key] = Line()
        rank = member.deadline_ns if self._by_deadline else self._rank(member)
        heap = line.heap
        if heap is None and rank < line.last:
            heap = line.rank_out_of_order(self._rank)
        line.last = rank
        line[member.order] = member
        if heap is not None:
            heappush(heap, (rank, member.order))
            if len(heap) > 2 * len(line) + VISITS_MAX:
                line.forget_the_gone(heap)

    def _rank(self, member: M) -> int:
        return self.rank_of(member.deadline_ns, member.level)

    def rank_of(self, deadline_ns: int, level: int) -> int:
        """Lower ranks run first; equal ones in the order of arrival."""
        if self._in_arrival_order:
            return 0
        return (level << LEVEL_SHIFT) + deadline_ns if self._levels else deadline_ns

    def cancel(self, member: M) -> bool:
        """Its client left. False if it had left the queue already."""
        return self._leave(member, State.CANCELLED)

    def expire(self, now_ns: int) -> list[M]:
        """Members whose deadline has passed, queued or running; they are to be answered."""
        late = [m for line in self._all_lines() for m in self._overdue(line, now_ns)]
        late += [m for m in (*self._alone.values(), *self._on_run()) if m.deadline_ns <= now_ns]
        return [member for member in late if self._leave(member, State.EXPIRED)]

    def _overdue(self, line: Line[M], now_ns: int) -> list[M]:
        if not self._by_deadline:
            return [m for m in line.values() if m.deadline_ns <= now_ns]
        overdue: list[M] = []
        for member in line.ranked():
            if member.deadline_ns > now_ns:
                break
            overdue.append(member)
        return overdue

    def next_deadline_ns(self) -> int:
        """The earliest deadline of a member that has not left; NEVER_NS if none."""
        firsts = [m.deadline_ns for line in self._all_lines() for m in self._firsts(line)]
        others = (*self._alone.values(), *self._on_run())
        return min((*firsts, *[m.deadline_ns for m in others]), default=NEVER_NS)

    def _firsts(self, line: Line[M]) -> Iterable[M]:
        """Members among which the line's earliest deadline is."""
        if not self._by_deadline:
            return line.values()
        return [line.head()] if line else []

    def _on_run(self) -> list[M]:
        return [m for batch in self._running for m in batch.members if m.state is _RUNNING]

    def _all_lines(self) -> list[Line[M]]:
        return [*self._lines.values(), *self._late.values()]

    def rows_before(self, rank: int) -> int:
        """Rows that wait and run before a newcomer of this rank, or share its batch.

        Exact where it is near the front; further back it is everybody's.
        """
        lines = list(self._lines.values())
        if not self._late and all(line.heap is None and rank >= line.last for line in lines):
            return self.rows_queued
        rows, visits = sum([m.rows for m in self._alone.values()]), 0
        for line in lines:
            for member in line.up_to(rank, self._rank):
                visits += 1
                if visits > VISITS_MAX:
                    return self.rows_queued
                rows += member.rows
        return rows

    def _waiting(self) -> list[M]:
        return [m for line in (*self._all_lines(), self._alone) for m in line.values()]

    def _leave(self, member: M, state: State) -> bool:
        if member.state is _QUEUED:
            self.queued -= 1
            self.rows_queued -= member.rows
            if self._alone.pop(member.order, None) is None:
                self._step_out(member)
        elif member.state is not _RUNNING:
            return False
        member.state = state
        return True

    def _step_out(self, member: M) -> None:
        key = None if self._in_arrival_order else member.key
        for lines in (self._lines, self._late):
            line = lines.get(key)
            if line is not None and line.pop(member.order, None) is not None:
                return
        raise AssertionError("a queued member is in no line")

    def take(
        self,
        rows_for: Callable[[Line[M]], int] | None = None,
        company: Company[M] | None = None,
    ) -> Batch[M] | None:
        """The next batch to run, or None. The caller must end it with succeed or fail.

        rows_for: the line it comes from -> its most rows; the first runs in any case.
        company: which other lines run with one that runs whole.
        """
        return self._start(self._take_alone() or self._take_line(rows_for, company))

    def take_settled(
        self, hold: Hold, now_ns: int, margin_ns: int, company: Company[M] | None = None
    ) -> tuple[Batch[M] | None, int]:
        """Like `take`, but leaves those who still wait for company.

        margin_ns: what must be left until a deadline when the run begins.
        Returns: the batch, or None and when to look again; NEVER_NS if nobody waits.
        """
        members = self._take_alone()
        if members:
            return self._start(members), NEVER_NS
        look_ns, settled, counts = NEVER_NS, [], {}
        for line in self._nonempty(self._lines):
            oldest_ns = next(iter(line.values())).queued_ns
            ready, until_ns = hold.settle(line.ranked(), now_ns, margin_ns, oldest_ns)
            if ready:
                settled.append(line)
                counts[id(line)] = ready
            else:
                look_ns = min(look_ns, until_ns)
        if settled:
            line = self._first_of(settled)
            members = self._cut(line, counts[id(line)], self._rows_max)
            return self._start(self._with_company(line, members, company)), look_ns
        if not self._lines and (late := self._nonempty(self._late)):
            return self._start(self._cut(self._first_of(late), EVERYBODY, self._rows_max)), look_ns
        return None, look_ns

    def give_up(self, line: Line[M], before_ns: int) -> list[M]:
        """Members with an earlier deadline leave, for those behind; they are to be answered."""
        late = self._overdue(line, before_ns - 1)
        return [member for member in late if self._leave(member, State.EXPIRED)]

    def time_out(self, before_ns: int) -> list[M]:
        """Members queued at `before_ns` or earlier leave; they are to be answered.

        Not those of a failed batch, which have had their turn.
        """
        late = self._queued_before(before_ns)
        return [member for member in late if self._leave(member, State.EXPIRED)]

    def put_back(self, before_ns: int) -> int:
        """Members queued at `before_ns` or earlier run when nobody else waits; how many."""
        late = self._queued_before(before_ns)
        for member in late:
            self._step_out(member)
            self._line_up(self._late, member)
        return len(late)

    def _queued_before(self, before_ns: int) -> list[M]:
        found: list[M] = []
        for line in self._lines.values():
            for member in line.values():
                if member.queued_ns > before_ns:
                    break
                found.append(member)
        return found

    def oldest_queued_ns(self) -> int:
        """When the one that waits longest was queued; NEVER_NS if nobody waits."""
        lines = self._nonempty(self._lines)
        return min((next(iter(line.values())).queued_ns for line in lines), default=NEVER_NS)

    @property
    def shapes_queued(self) -> int:
        """Kinds of requests that wait and cannot share a batch with another kind."""
        return len(self._nonempty(self._lines)) + len(self._nonempty(self._late))

    def _start(self, members: list[M]) -> Batch[M] | None:
        if not members:
            return None
        batch = Batch(members)
        for member in members:
            member.state = _RUNNING
        self.queued -= len(members)
        self.rows_queued -= batch.rows
        self._running.append(batch)
        return batch

    def _take_alone(self) -> list[M]:
        return [self._alone.popitem(last=False)[1]] if self._alone else []

    @staticmethod
    def _nonempty(lines: dict[Hashable, Line[M]]) -> list[Line[M]]:
        """The lines in which somebody waits; the others are forgotten."""
        for key in list(lines):
            if not lines[key]:
                del lines[key]
        return list(lines.values())

    def _take_line(
        self, rows_for: Callable[[Line[M]], int] | None, company: Company[M] | None
    ) -> list[M]:
        lines = self._nonempty(self._lines) or self._nonempty(self._late)
        if not lines:
            return []
        line = lines[0] if len(lines) == 1 else self._first_of(lines)
        rows_max = self._rows_max if rows_for is None else rows_for(line)
        return self._with_company(line, self._cut(line, EVERYBODY, rows_max), company)

    def _with_company(self, line: Line[M], members: list[M], company: Company[M] | None) -> list[M]:
        """members: of a line, who run now."""
        if company is None or line or not members:
            return members
        others = [other for other in self._lines.values() if other]
        for other in company(members, others) if others else ():
            members += other.values()
            other.empty()
        return members

    def _first_of(self, lines: Iterable[Line[M]]) -> Line[M]:
        """The line whose first member runs before the others'."""
        heads = ((line.head(), line) for line in lines)
        return min(heads, key=lambda each: (self._rank(each[0]), each[0].order))[1]

    def _cut(self, line: Line[M], count: int, rows_max: int) -> list[M]:
        """The first `count` of a line, as far as they fit into a batch of `rows_max`."""
        if line.heap is None:
            in_order = line.values()
            members = self._choose(
                in_order if count >= len(line) else islice(in_order, count), rows_max
            )
        else:
            with closing(line.ranked()) as ranked:
                members = self._choose(islice(ranked, count), rows_max)
        if len(members) == len(line):
            line.empty()
        else:
            for member in members:
                del line[member.order]
        return members

    def _choose(self, in_order: Iterable[M], rows_max: int) -> list[M]:
        members: list[M] = []
        rows = preferred = 0
        sizes, one_line = self._sizes, self._in_arrival_order
        for member in in_order:
            rows += member.rows
            if rows > rows_max and members:
                break
            if one_line and members and member.key != members[0].key:
                break
            members.append(member)
            if sizes and rows in sizes:
                preferred = len(members)
        return members[:preferred] if preferred else members

    def succeed(self, batch: Batch[M]) -> None:
        """The batch ran; members still RUNNING are DONE now and to be answered."""
        self._running.remove(batch)
        for member in batch.members:
            if member.state is _RUNNING:
                member.state = _DONE

    def fail(self, batch: Batch[M]) -> list[M]:
        """The batch could not run. Returns the members that fail with it.

        With several members none does: they run again, each alone, before
        anything else.
        """
        self._running.remove(batch)
        live = [member for member in batch.members if member.state is _RUNNING]
        if len(batch.members) == 1:
            for member in live:
                member.state = _DONE
            return live
        for member in live:
            member.state = _QUEUED
            self._alone[member.order] = member
            self.queued += 1
            self.rows_queued += member.rows
        return []

    def unfinished(self) -> list[M]:
        """Members whose rows may still be logged: queued, and all of the running batches."""
        return self._waiting() + [m for batch in self._running for m in batch.members]

    @property
    def idle(self) -> bool:
        """Nothing is queued and nothing runs."""
        return not self._running and not self.queued

    def check(self) -> None:
        """Assert the invariants; for tests and after faults."""
        waiting = self._waiting()
        assert self.queued == len(waiting), "queued is off"
        assert self.rows_queued == sum(m.rows for m in waiting), "rows_queued is off"
        assert all(m.state is _QUEUED for m in waiting), "one who left still waits"
        for batch in self._running:
            assert all(m.state is not _QUEUED for m in batch.members), "a running member waits"
            assert batch.rows == sum(m.rows for m in batch.members)
