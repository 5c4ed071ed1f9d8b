"""Which requests run together: the queue of one loaded version, as a state machine.

A member goes QUEUED -> RUNNING -> DONE, or leaves earlier as CANCELLED or
EXPIRED. Laws:
- every member leaves exactly once, and is returned exactly once to be answered
  (a cancelled one never is);
- members of a batch agree in shapes and arm, so in one version and one record;
- the oldest queued member decides what runs next; nothing waits for company,
  except through `take_settled`, where a model's own delay says so (`core/hold.py`);
- a member that left is not held any longer, unless its batch runs;
- a batch that fails is run again one member at a time, so a poisonous request
  fails alone; cancelled and expired members take no mates with them.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from itertools import islice
from typing import Generic, TypeVar

from serving.core.hold import EVERYBODY, Hold

NEVER_NS = 2**63 - 1


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

    __slots__ = ("deadline_ns", "key", "order", "queued_ns", "rows", "state")

    def __init__(
        self, key: Hashable, rows: int, deadline_ns: int = NEVER_NS, queued_ns: int = 0
    ) -> None:
        self.key = key
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.queued_ns = queued_ns
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


class BatchQueue(Generic[M]):
    """The queue and the running batches of one version."""

    def __init__(self, rows_max: int) -> None:
        """rows_max: rows of one batch, 1 or more."""
        assert rows_max >= 1
        self._rows_max = rows_max
        # By order, so that one who leaves takes its inputs with it: behind a slow run
        # many may come and go.
        self._groups: dict[Hashable, OrderedDict[int, M]] = {}
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
        group = self._groups.get(member.key)
        if group is None:
            group = self._groups[member.key] = OrderedDict()
        group[member.order] = member
        self.queued += 1
        self.rows_queued += member.rows

    def cancel(self, member: M) -> bool:
        """Its client left. False if it had left the queue already."""
        return self._leave(member, State.CANCELLED)

    def expire(self, now_ns: int) -> list[M]:
        """Members whose deadline has passed, queued or running; they are to be answered."""
        running = [m for batch in self._running for m in batch.members]
        late = [m for m in (*self._waiting(), *running) if m.deadline_ns <= now_ns]
        return [member for member in late if self._leave(member, State.EXPIRED)]

    def next_deadline_ns(self) -> int:
        """The earliest deadline of a member that has not left; NEVER_NS if none."""
        running = [m for batch in self._running for m in batch.members if m.state is _RUNNING]
        return min((m.deadline_ns for m in (*self._waiting(), *running)), default=NEVER_NS)

    def _waiting(self) -> list[M]:
        groups = (*self._groups.values(), self._alone)
        return [member for group in groups for member in group.values()]

    def _leave(self, member: M, state: State) -> bool:
        if member.state is _QUEUED:
            self.queued -= 1
            self.rows_queued -= member.rows
            if self._alone.pop(member.order, None) is None:
                del self._groups[member.key][member.order]
        elif member.state is not _RUNNING:
            return False
        member.state = state
        return True

    def take(self) -> Batch[M] | None:
        """The next batch to run, or None. The caller must end it with succeed or fail."""
        return self._start(self._take_alone() or self._take_group())

    def take_settled(self, hold: Hold, now_ns: int, margin_ns: int) -> tuple[Batch[M] | None, int]:
        """Like `take`, but leaves those who still wait for company.

        margin_ns: what must be left until a deadline when the run begins.
        Returns: the batch, or None and when to look again; NEVER_NS if nobody waits.
        """
        members = self._take_alone()
        if members:
            return self._start(members), NEVER_NS
        self._forget_empty()
        look_ns, chosen, count = NEVER_NS, None, 0
        for group in self._groups.values():
            ready, until_ns = hold.settle(group.values(), now_ns, margin_ns)
            if not ready:
                look_ns = min(look_ns, until_ns)
            elif chosen is None or next(iter(group)) < next(iter(chosen)):
                chosen, count = group, ready
        return self._start(self._cut(chosen, count) if chosen else []), look_ns

    def time_out(self, before_ns: int) -> list[M]:
        """Members queued at `before_ns` or earlier leave; they are to be answered.

        Not those of a failed batch, which have had their turn.
        """
        late: list[M] = []
        for group in self._groups.values():
            for member in group.values():
                if member.queued_ns > before_ns:
                    break
                late.append(member)
        return [member for member in late if self._leave(member, State.EXPIRED)]

    def oldest_queued_ns(self) -> int:
        """When the one that waits longest was queued; NEVER_NS if nobody waits."""
        self._forget_empty()
        groups = self._groups.values()
        return min((next(iter(group.values())).queued_ns for group in groups), default=NEVER_NS)

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

    def _forget_empty(self) -> None:
        for key in list(self._groups):
            if not self._groups[key]:
                del self._groups[key]

    def _take_group(self) -> list[M]:
        groups = self._groups
        self._forget_empty()
        if not groups:
            return []
        if len(groups) == 1:
            (group,) = groups.values()
        else:
            group = min(groups.values(), key=lambda waiting: next(iter(waiting)))
        return self._cut(group, EVERYBODY)

    def _cut(self, group: OrderedDict[int, M], count: int) -> list[M]:
        """The first `count` of a group, as far as they fit into a batch."""
        members: list[M] = []
        rows = 0
        for member in group.values() if count >= len(group) else islice(group.values(), count):
            rows += member.rows
            if rows > self._rows_max:
                break
            members.append(member)
        if len(members) == len(group):
            group.clear()
        else:
            for member in members:
                del group[member.order]
        return members

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
