"""The batch queue against a list of what must become of every request."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from serving.core.batch import NEVER_NS, Batch, BatchQueue, Member, State
from serving.core.hold import Hold

ROWS_MAX = 6
DELAY = 12
MARGIN = 3


class Machine(RuleBasedStateMachine):
    members = Bundle("members")
    order = "deadline"

    def __init__(self):
        super().__init__()
        self.queue = BatchQueue(
            ROWS_MAX,
            preserve_ordering=self.order == "arrival",
            levels=self.order == "priority",
        )
        self.all: list[Member] = []
        self.answers: dict[Member, int] = {}
        self.running: Batch | None = None
        self.failed: set[Member] = set()  # they run alone, before others
        self.put_back: set[Member] = set()  # they run after others
        self.now = 0

    @rule(
        target=members,
        rows=st.integers(0, ROWS_MAX),
        key=st.sampled_from("ab"),
        wait=st.integers(1, 50),
        level=st.integers(1, 3),
    )
    def submit(self, rows, key, wait, level):
        member = Member(key, rows, self.now + wait, self.now, level)
        self.queue.submit(member)
        self.all.append(member)
        return member

    @rule(member=members)
    def cancel(self, member):
        waiting = member.state in {State.QUEUED, State.RUNNING}
        assert self.queue.cancel(member) == waiting

    @rule(step=st.integers(1, 30))
    def time_passes(self, step):
        self.now += step
        for member in self.queue.expire(self.now):
            self.answer(member)

    @rule()
    def take(self):
        if self.running is None:
            waiting = [m for m in self.all if m.state is State.QUEUED and m not in self.put_back]
            waiting = [m for m in waiting if m not in self.failed] or waiting
            self.running = self.queue.take()
            if self.running is not None:
                batch = self.running
                assert 0 <= batch.rows <= ROWS_MAX
                if not self.failed & set(batch.members) and waiting:
                    assert batch.members[0] is min(waiting, key=self.rank)
                assert len({m.key for m in batch.members}) == 1
                assert all(m.state is State.RUNNING for m in batch.members)

    @rule()
    def succeed(self):
        if self.running is not None:
            self.queue.succeed(self.running)
            for member in self.running.members:
                if member.state is State.DONE:
                    self.answer(member)
            self.running = None

    @rule()
    def fail(self):
        if self.running is not None:
            for member in self.queue.fail(self.running):
                self.answer(member)
            self.failed |= set(self.running.members)
            self.running = None

    @rule(step=st.integers(0, 30))
    def put_back_who_waits_long(self, step):
        before = self.now - step
        waiting = [m for m in self.all if m.state is State.QUEUED and m not in self.failed]
        late = {m for m in waiting if m.queued_ns <= before} - self.put_back
        assert self.queue.put_back(before) == len(late)
        self.put_back |= late

    @rule(step=st.integers(0, 30))
    def give_up_who_comes_too_late(self, step):
        for line in list(self.queue._lines.values()):
            waiting = list(line.values())
            gone = self.queue.give_up(line, self.now + step)
            assert set(gone) == {m for m in waiting if m.deadline_ns < self.now + step}
            for member in gone:
                self.answer(member)

    @rule(deadline=st.integers(0, 80), level=st.integers(1, 3))
    def count_those_before(self, deadline, level):
        rank = self.queue.rank_of(self.now + deadline, level)
        waiting = [m for m in self.all if m.state is State.QUEUED and m not in self.put_back]
        before = [
            m
            for m in waiting
            if m in self.failed or self.queue.rank_of(m.deadline_ns, m.level) <= rank
        ]
        assert self.queue.rows_before(rank) == sum(m.rows for m in before)

    def rank(self, member):
        if self.order == "arrival":
            return (member.order,)
        if self.order == "priority":
            return (member.level, member.deadline_ns, member.order)
        return (member.deadline_ns, member.order)

    def answer(self, member):
        assert member.state is not State.CANCELLED
        self.answers[member] = self.answers.get(member, 0) + 1

    @invariant()
    def holds(self):
        self.queue.check()
        assert all(count == 1 for count in self.answers.values())

    def teardown(self):
        for _ in range(2 * len(self.all) + 2):
            self.succeed()
            self.take()
        self.succeed()
        assert self.queue.idle
        for member in self.all:
            if member.state is State.CANCELLED:
                assert member not in self.answers
            else:
                assert self.answers[member] == 1


class HoldingMachine(Machine):
    """The same with a queue delay and a queue timeout, looked at only when it asks to be.

    A shell that follows `look_ns` and looks after every arrival must never leave
    anybody waiting for longer than the delay, nor too long for a deadline.
    """

    def __init__(self):
        super().__init__()
        self.hold = Hold.of(DELAY, (), ROWS_MAX)
        self.timeout = 0
        self.look_ns = NEVER_NS

    @initialize(
        preferred=st.sets(st.integers(1, ROWS_MAX + 2), max_size=3),
        timeout=st.sampled_from([0, DELAY + 5]),
    )
    def configure(self, preferred, timeout):
        self.hold = Hold.of(DELAY, preferred, ROWS_MAX)
        self.timeout = timeout

    @rule(
        target=Machine.members,
        rows=st.integers(0, ROWS_MAX),
        key=st.sampled_from("ab"),
        wait=st.integers(1, 50),
    )
    def submit(self, rows, key, wait):
        member = Member(key, rows, self.now + wait, self.now)
        self.queue.submit(member)
        self.all.append(member)
        self.take()
        return member

    @rule(step=st.integers(1, 30))
    def time_passes(self, step):
        """In the steps in which a timer would wake the shell."""
        until = self.now + step
        while self.now < until:
            self.now = min(until, max(self.look_ns, self.now + 1))
            for member in self.queue.expire(self.now):
                self.answer(member)
            self.take()

    @rule()
    def take(self):
        if self.running is not None:
            return
        if self.timeout:
            for member in self.queue.time_out(self.now - self.timeout):
                self.answer(member)
        batch, self.look_ns = self.queue.take_settled(self.hold, self.now, MARGIN)
        self.running = batch
        if batch is None:
            self.check_that_waiting_is_right()
            return
        assert 0 <= batch.rows <= ROWS_MAX
        assert len({m.key for m in batch.members}) == 1
        assert all(m.state is State.RUNNING for m in batch.members)
        if len(batch.members) == 1 and batch.members[0] in self.failed:
            return  # a failed batch's members are not held, nor merged
        if batch.members[0] in self.put_back:
            return  # nor those who wait for nobody else to be there
        following = [m for m in self.waiting() if m.key == batch.members[0].key]
        due = any(
            self.now >= min(m.queued_ns + DELAY, m.deadline_ns - MARGIN)
            for m in (*batch.members, *following)
        )
        rows = sum(m.rows or 1 for m in batch.members)
        following.sort(key=self.rank)
        overflow = following and rows + (following[0].rows or 1) > self.hold.largest
        assert due or rows in self.hold.sizes or rows >= self.hold.largest or overflow

    def waiting(self):
        out = self.failed | self.put_back
        return [m for m in self.all if m.state is State.QUEUED and m not in out]

    def check_that_waiting_is_right(self):
        for member in self.waiting():
            due = min(member.queued_ns + DELAY, member.deadline_ns - MARGIN)
            assert self.now < self.look_ns <= due
        if not self.queue.queued:
            assert self.look_ns == NEVER_NS

    def teardown(self):
        for _ in range(4 * len(self.all) + 4):
            self.succeed()
            self.take()
            if self.running is None and self.look_ns < NEVER_NS:
                self.now = self.look_ns
        super().teardown()


class PriorityMachine(Machine):
    order = "priority"


class ArrivalMachine(Machine):
    order = "arrival"


for _machine in (Machine, PriorityMachine, ArrivalMachine):
    _machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=40, deadline=None, print_blob=True
    )
TestBatchQueue = Machine.TestCase
TestPriorityQueue = PriorityMachine.TestCase
TestArrivalQueue = ArrivalMachine.TestCase
TestHoldingQueue = HoldingMachine.TestCase
TestHoldingQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
