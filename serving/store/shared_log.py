"""What the supervisor needs of a log that several gateways share.

An append is a wish without a condition: its place in the log decides what becomes of
it, so acceptance is a function of the log alone.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from protos import control_pb2 as pb
from serving.core.rollout_state import State


@dataclass(frozen=True, slots=True)
class SharedEntry:
    """value: a serialised Proposal, or whatever somebody else wrote there."""

    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class SharedSnapshot:
    """What the entries below `position` fold into. last_digest: of the last of them."""

    position: int
    state: State
    last_digest: str


def entry_digest(value: bytes) -> str:
    """By which two logs are told apart, sha256 in hex."""
    return hashlib.sha256(value).hexdigest()


class SharedLog(Protocol):
    """Every call is bounded in time, whatever the other side does.

    All raise OutOfReachError; after that `open` comes first again.
    """

    async def open(self) -> tuple[int, int]:
        """Connect anew; returns the offset of the first entry kept, and of the next to come."""

    async def append(self, proposal: pb.Proposal) -> None:
        """Returns once all replicas have it.

        Raises: OutcomeUnknownError if it may have been taken, or may still be.
        """

    async def read(self, position: int, wait_s: float) -> list[SharedEntry]:
        """Some entries from `position` on, in order; none if none came within `wait_s`."""

    async def newest_snapshot(self) -> SharedSnapshot | None: ...

    async def keep_snapshot(self, snapshot: SharedSnapshot) -> None:
        """In place of the one before; left out if it is too large for a message."""

    async def close(self) -> None: ...
