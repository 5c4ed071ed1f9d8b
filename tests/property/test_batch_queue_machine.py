"""The batch queue against a list of what must become of every request."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from serving.core.batch import Batch, BatchQueue, Member, State

ROWS_MAX = 6


class Machine(RuleBasedStateMachine):
    members = Bundle("members")

    def __init__(self):
        super().__init__()
        self.queue = BatchQueue(ROWS_MAX)
        self.all: list[Member] = []
        self.answers: dict[Member, int] = {}
        self.running: Batch | None = None
        self.now = 0

    @rule(
        target=members,
        rows=st.integers(0, ROWS_MAX),
        key=st.sampled_from("ab"),
        wait=st.integers(1, 50),
    )
    def submit(self, rows, key, wait):
        member = Member(key, rows, self.now + wait)
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
            self.running = self.queue.take()
            if self.running is not None:
                batch = self.running
                assert 0 <= batch.rows <= ROWS_MAX
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
            self.running = None

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


TestBatchQueue = Machine.TestCase
TestBatchQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
