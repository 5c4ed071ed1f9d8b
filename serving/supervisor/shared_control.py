"""Control that gateways share: reading their log, asking in it, and acting without it.

Laws:
- a command is decided by its place in the log; whoever asked is answered when its
  gateway has folded it;
- before anything else is asked, the log is read to its end, and what this gateway did
  alone is appended;
- without the log an operator's rollback, abort and hold are done here, at once;
  everything else is refused, with what can be done;
- a log that is not the one that was read here is not folded: the last state serves.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protos import control_pb2 as pb
from serving.core.audit_chain import AuditEntry
from serving.core.local_override import may_override
from serving.core.rollout_codec import command_to_proto
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Refused,
    State,
    Verb,
)
from serving.store.answers import Applied
from serving.store.desired_state import Change, OutcomeUnknownError, OutOfReachError
from serving.store.files import StoreError
from serving.store.shared_log import SharedEntry, SharedLog, entry_digest
from serving.store.shared_store import FoldedEntry, SharedStore
from serving.supervisor.say import say

RETRY_S = 0.5  # between attempts to reach the log again
READ_S = 1.0  # a read that brings nothing ends then, and has shown that the log is there
SNAPSHOT_ENTRIES = 256  # between snapshots for gateways to come


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """catch_up_s: how long a start waits for the log. answer_s: how long a command does."""

    catch_up_s: float
    answer_s: float


class AnotherLogError(Exception):
    """The log does not hold what was read from it before."""


class SharedControl:
    """A `DesiredState` over a log that others write to as well; owns the store, not the log."""

    def __init__(self, store: SharedStore, log: SharedLog, settings: SharedSettings) -> None:
        self.folder = store.folder
        self.changed: Callable[[Sequence[Change]], None] = lambda _: None
        self.up = False
        self.away_since_ns = time.time_ns()
        self.trouble = "the control log has not been read yet"
        self.refused: dict[str, int] = {}  # reason -> entries that the fold refused
        self._began = asyncio.Event()  # caught up once, or waited for long enough
        self._store, self._log, self._settings = store, log, settings
        self._asked: dict[str, asyncio.Future[Applied]] = {}
        self._broken = False  # a write failed: reconnect, even if reads still come

    @property
    def deployments(self) -> State:
        return self._store.deployments

    def deployment(self, model: str) -> Deployment:
        return self._store.deployment(model)

    def seen(self, command_id: str) -> bool:
        return self._store.seen(command_id)

    def note(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        self._store.note(ts_ns, kind, model, body)

    def entries(self, model: str, after: int, limit: int) -> list[AuditEntry]:
        return self._store.entries(model, after, limit)

    @property
    def diverged(self) -> tuple[str, ...]:
        return self._store.diverged

    def status(self) -> dict[str, Any]:
        return {
            "up": self.up,
            "away_since": 0.0 if self.up else self.away_since_ns / 1e9,
            "trouble": "" if self.up else self.trouble,
            "gateway": self._store.gateway,
            "folded_offset": self._store.position - 1,
            "diverged": list(self.diverged),
        }

    def degraded(self) -> list[str]:
        """What is not as it should be, one sentence each."""
        found = [] if self.up else [f"the shared control log is out of reach: {self.trouble}"]
        return found + [
            f"{model}: diverged: changed on this gateway alone" for model in self.diverged
        ]

    async def begun(self) -> None:
        await self._began.wait()

    async def submit(self, command: Command, *, dry_run: bool = False) -> Applied:
        if dry_run:
            return self._store.preview(command)
        if not self._began.is_set():
            await self._until_begun()
        repeated = self._store.repeated(command)
        if repeated is not None:
            return repeated
        if not self.up:
            return self._alone(command, OutOfReachError(self._why_not()))
        try:
            return await self._ask(command)
        except (OutOfReachError, OutcomeUnknownError) as error:
            self._broken = True
            self._went_away(str(error))
            return self._alone(command, error)

    async def _until_begun(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.answer_s):
                await self._began.wait()

    def _why_not(self) -> str:
        return (
            f"the shared control log is out of reach ({self.trouble}); until it is back only "
            "rollback, abort and hold by an operator are taken, for this gateway"
        )

    def _alone(self, command: Command, error: StoreError) -> Applied:
        """Raises: `error` for what one gateway may not do."""
        if not may_override(command):
            raise error
        applied = self._store.override(command)
        if isinstance(applied.outcome, Accepted):
            say(f"{command.model}: {command.verb.name.lower()} on this gateway alone: diverged")
            self.changed([Change(command, applied.outcome.after)])
        return applied

    async def _ask(self, command: Command) -> Applied:
        """Append it, and wait until it has been folded here."""
        proposal = self._proposal(command)
        answered: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._asked[proposal.id] = answered
        try:
            async with asyncio.timeout(self._settings.answer_s):
                await self._log.append(proposal)
                return await answered
        except TimeoutError:
            raise OutcomeUnknownError(
                f"the shared control log did not answer within {self._settings.answer_s:g} s: "
                "it is not known whether the command was taken; try again with the same id, "
                "which is not applied twice"
            ) from None
        finally:
            del self._asked[proposal.id]

    async def run(self) -> None:
        """Follow the log until cancelled."""
        patience = asyncio.get_running_loop().call_later(self._settings.catch_up_s, self._begin)
        try:
            while True:
                try:
                    await self._follow()
                except (StoreError, AnotherLogError) as error:
                    self._went_away(str(error))
                await asyncio.sleep(RETRY_S)
        finally:
            patience.cancel()
            await self._log.close()

    def _begin(self) -> None:
        if not self._began.is_set():
            if not self.up:
                say(f"starting from the last state: {self.trouble}")
            self._began.set()

    def _went_away(self, why: str) -> None:
        if self.up:
            self.up, self.away_since_ns = False, time.time_ns()
        if self.trouble != why:
            say(f"the shared control log is out of reach: {why}")
        self.trouble = why

    async def _follow(self) -> None:
        """Catch up, hand in what was done alone, and then go on reading.

        Raises: StoreError or AnotherLogError, when that ends.
        """
        first, end = await self._log.open()
        self._broken = False
        await self._check_log(first, end)
        await self._catch_up(end)
        await self._join()
        await self._hand_in()
        self.up, self.trouble = True, ""
        say(f"control is shared: folded up to offset {self._store.position - 1}")
        self._begin()
        while not self._broken:
            await self._read()
        raise OutOfReachError(self.trouble or "a command got no answer")

    async def _check_log(self, first: int, end: int) -> None:
        position, last = self._store.position, self._store.last_entry()
        if position == 0:
            await self._start_from_snapshot(first, end)
            return
        same = first <= position <= end
        if same and last is not None:
            same = first <= last.offset and await self._entry(last.offset) == last
        if not same:
            raise AnotherLogError(
                f"the control topic, which holds entries {first} to {end - 1}, is not the one "
                f"that was read here up to entry {position - 1}: it was cut, or made anew; "
                "see docs/kafka.md, `When the control topic was lost`"
            )

    async def _entry(self, offset: int) -> SharedEntry | None:
        entries = await self._log.read(offset, self._settings.answer_s)
        return entries[0] if entries else None

    async def _start_from_snapshot(self, first: int, end: int) -> None:
        """Nothing was read here before: skip what a snapshot of this very log has folded."""
        snapshot = await self._log.newest_snapshot()
        if snapshot is not None and first < snapshot.position <= end:
            last = await self._entry(snapshot.position - 1)
            if last is not None and entry_digest(last.value) == snapshot.last_digest:
                self._store.begin_from(snapshot)
        if first > self._store.position:
            raise AnotherLogError(
                f"the control topic begins at entry {first}, and no snapshot holds what came "
                "before; its retention has to be unlimited"
            )

    async def _catch_up(self, end: int) -> None:
        while self._store.position < end:
            await self._read()

    async def _read(self) -> None:
        entries = await self._log.read(self._store.position, READ_S)
        if entries:
            before, found = self._store.position, self._store.fold(entries)
            self._take(found)
            if self.up and self._store.position // SNAPSHOT_ENTRIES > before // SNAPSHOT_ENTRIES:
                await self._keep_snapshot(found[-1])

    def _take(self, found: Sequence[FoldedEntry]) -> None:
        changes = []
        for entry in found:
            if entry.folded is None or entry.applied is None:
                say(f"entry {entry.offset} of the control log is of a later version, or damaged")
                self._store.note(time.time_ns(), "unreadable", "", {"offset": entry.offset})
                self._count_refused("unreadable")
                continue
            outcome = entry.folded.outcome
            if isinstance(outcome, Accepted) and not entry.folded.known and self._store.joined:
                changes.append(Change(entry.folded.command, entry.folded.after))
            elif isinstance(outcome, Refused):
                self._count_refused(outcome.refusal.value)
            answered = self._asked.get(entry.proposal)
            if answered is not None and not answered.done():
                answered.set_result(entry.applied)
        if changes:
            self.changed(changes)

    def _count_refused(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    async def _join(self) -> None:
        """Tell the log what this gateway brings, and serve what the log makes of it."""
        while missing := self._store.imports():
            for deployment in missing:
                await self._append(
                    Command(
                        id=uuid.uuid4().hex,
                        ts_ns=time.time_ns(),
                        actor="supervisor",
                        origin=Origin.SUPERVISOR,
                        model=deployment.model,
                        verb=Verb.IMPORT,
                        reason="a gateway joins the shared log",
                        imported=deployment,
                    )
                )
            await self._until_read(lambda: not self._store.imports())
        if not self._store.joined:
            self._store.join()
            self.changed([])

    async def _hand_in(self) -> None:
        """Append what was done here alone; more may come meanwhile."""
        while waiting := self._store.overrides:
            for command in waiting:
                await self._append(command)
            await self._until_read(lambda: not set(waiting).intersection(self._store.overrides))

    async def _append(self, command: Command) -> None:
        await self._log.append(self._proposal(command))

    def _proposal(self, command: Command) -> pb.Proposal:
        return pb.Proposal(
            gateway=self._store.gateway, id=uuid.uuid4().hex, command=command_to_proto(command)
        )

    async def _until_read(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._settings.answer_s
        while not done():
            if time.monotonic() > deadline:
                raise OutOfReachError("what was appended to the control log does not come back")
            await self._read()

    async def _keep_snapshot(self, last: FoldedEntry) -> None:
        """One gateway does: the one whose command came last. It only saves others time."""
        if last.gateway == self._store.gateway:
            with contextlib.suppress(OutOfReachError, OutcomeUnknownError):
                await self._log.keep_snapshot(self._store.snapshot)

    def close(self) -> None:
        """After `run` has ended."""
        self._store.close()
