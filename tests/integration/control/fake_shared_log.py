"""A shared log in memory, one link per gateway, each to be cut as a test likes."""

import asyncio

from protos import control_pb2 as pb
from serving.store.desired_state import OutcomeUnknownError, OutOfReachError
from serving.store.shared_log import SharedEntry, SharedSnapshot


class FakeTopic:
    """What all links write to. first: the oldest entry that is kept."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.first = 0
        self.snapshots: list[SharedSnapshot] = []
        self.grown = asyncio.Condition()

    async def add(self, value: bytes) -> None:
        async with self.grown:
            self.values.append(value)
            self.grown.notify_all()

    def proposals(self) -> list[pb.Proposal]:
        return [pb.Proposal.FromString(value) for value in self.values]


class FakeSharedLog:
    """A `SharedLog`. loses: the next answer to an append; twice: appends come twice."""

    def __init__(self, topic: FakeTopic) -> None:
        self.topic = topic
        self.up = True
        self.loses = self.twice = False
        self.opened = False

    def cut(self) -> None:
        self.up = self.opened = False

    def heal(self) -> None:
        self.up = True

    async def open(self) -> tuple[int, int]:
        await asyncio.sleep(0)
        self.opened = self.up
        self._reach()
        return self.topic.first, len(self.topic.values)

    async def append(self, proposal: pb.Proposal) -> None:
        self._reach()
        await self.topic.add(proposal.SerializeToString())
        if self.twice:
            await self.topic.add(proposal.SerializeToString())
        if self.loses:
            self.cut()
            raise OutcomeUnknownError("not known; try again with the same id")

    async def read(self, position: int, wait_s: float) -> list[SharedEntry]:
        self._reach()
        try:
            async with asyncio.timeout(min(wait_s, 0.02)), self.topic.grown:
                await self.topic.grown.wait_for(lambda: len(self.topic.values) > position)
        except TimeoutError:
            pass
        self._reach()
        found = list(enumerate(self.topic.values))[position : position + 3]
        return [SharedEntry(offset, value) for offset, value in found]

    async def newest_snapshot(self) -> SharedSnapshot | None:
        self._reach()
        return max(self.topic.snapshots, key=lambda item: item.position, default=None)

    async def keep_snapshot(self, snapshot: SharedSnapshot) -> None:
        self._reach()
        self.topic.snapshots.append(snapshot)

    async def close(self) -> None:
        self.opened = False

    def _reach(self) -> None:
        if not (self.up and self.opened):
            raise OutOfReachError("the link is cut")
