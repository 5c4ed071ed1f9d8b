"""Desired against actual: commands in, loads and routes out, and when a change is live.

Everything that changes a deployment passes `submit`, or comes from a log that other
gateways write to as well; both end in `_changed`. Whatever happens ends in
`reconcile`, a synchronous function of the state, so a lost wake-up costs a moment
and never correctness.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from eventlog.settings import ModelLogSettings, log_settings_of
from protos import channel_pb2
from serving.core.config_override import merge_override
from serving.core.errors import ServeError
from serving.core.rollout_routes import wanted
from serving.core.rollout_state import (
    Command,
    Deployment,
    Origin,
    Verb,
    Version,
    content_of,
)
from serving.metrics import TRANSITIONS, Totals
from serving.store.answers import Applied
from serving.store.desired_state import Change, DesiredState
from serving.store.files import StoreError
from serving.supervisor.fleet import Fleet
from serving.supervisor.model_bytes import FetchFailure, ModelBytes
from serving.supervisor.models import log_document, settings_document
from serving.supervisor.reconcile import Desired, Step, is_live, may_load, next_step
from serving.supervisor.say import say
from serving.supervisor.worker_state import Key, Worker, WorkerState, load_message

GIVE_UP_RETRY_S = 1.0  # a full disk, or a shared log that is out of reach
LOAD_ENDS_MAX = 2  # one worker that ends while it loads may have been killed by somebody


@dataclass(slots=True)
class _Waiter:
    """Somebody who wants to know when a generation is live; `since_ns` starts the clock."""

    model: str
    generation: int
    since_ns: int
    verb: str
    done: "asyncio.Future[tuple[int, int]]"  # (time_ns, workers)


class Control:
    """Owns the store, the bytes in memory and the waiters; one event loop calls it."""

    def __init__(
        self,
        store: DesiredState,
        bytes_of: ModelBytes,
        keep_previous: int,
        model_logs: Mapping[str, ModelLogSettings],
    ) -> None:
        """model_logs: what to log of each model, and of `*`."""
        self.store = store
        store.changed = self._changed
        self.counted = Totals()
        self.problems: dict[str, str] = {}  # model -> what an operator should know
        self.may_begin = False  # a first routing table waits for the first look at the registry
        self._bytes, self._keep_previous = bytes_of, keep_previous
        self._model_logs = model_logs
        self._fleet: Fleet | None = None
        self._waiters: list[_Waiter] = []
        self._ends_in_load: dict[str, int] = {}  # digest -> workers that ended over it in a row
        self._epoch = 0
        self._giving_up: dict[str, asyncio.Task[None]] = {}  # by command id
        self.became_ready = asyncio.Event()

    def bind(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @property
    def workers(self) -> list[Worker]:
        return self._fleet.workers if self._fleet else []

    @property
    def serving_workers(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.state is WorkerState.SERVING]

    async def submit(self, command: Command, *, dry_run: bool = False) -> Applied:
        """Decide, store, audit; and send what follows from it. Raises: StoreError."""
        return await self.store.submit(command, dry_run=dry_run)

    def _changed(self, changes: Sequence[Change]) -> None:
        """Accepted commands, whoever sent them and to whichever gateway."""
        for change in changes:
            command = change.command
            self._count(command)
            if command.verb is Verb.NOTE:
                continue
            if command.origin is not Origin.SUPERVISOR:  # it is about the problem
                self.problems.pop(command.model, None)
            self._expect(command, change.after)
        self.reconcile()

    async def live(self, model: str, generation: int, timeout_s: float) -> tuple[int, int]:
        """(when, how many workers) a generation was live on all workers; (0, so far) if not yet."""
        deployment = self.store.deployment(model)
        done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(model, generation, 0, "", done)
        self._waiters.append(waiter)
        self._settle()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            return 0, sum(is_live(worker, deployment) for worker in self.serving_workers)
        finally:
            self._waiters = [item for item in self._waiters if item is not waiter]

    def _count(self, command: Command) -> None:
        verb = command.verb.name.lower()
        key = (TRANSITIONS.name, command.model, verb, command.origin.value)
        cells = self.counted.cells.setdefault(key, [0.0])
        cells[0] += 1

    def _expect(self, command: Command, after: Deployment) -> None:
        """Audit when this change is live; a later change of the model takes its place."""
        done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._waiters = [
            item for item in self._waiters if not (item.since_ns and item.model == command.model)
        ]
        self._waiters.append(
            _Waiter(command.model, after.generation, command.ts_ns, command.verb.name.lower(), done)
        )

    def _settle(self) -> None:
        """Tell the waiters whose generation every serving worker routes."""
        serving = self.serving_workers
        if not serving:
            return
        now_ns = time.time_ns()
        for waiter in list(self._waiters):
            deployment = self.store.deployment(waiter.model)
            if deployment.generation < waiter.generation or waiter.done.done():
                continue
            if all(is_live(worker, deployment) for worker in serving):
                waiter.done.set_result((now_ns, len(serving)))
                if waiter.since_ns:
                    self._waiters.remove(waiter)
                    self._audit_live(waiter, now_ns, len(serving))

    def _audit_live(self, waiter: _Waiter, now_ns: int, workers: int) -> None:
        body = {
            "generation": waiter.generation,
            "verb": waiter.verb,
            "workers": workers,
            "after_ms": round((now_ns - waiter.since_ns) / 1e6, 3),
        }
        self.store.note(now_ns, "live", waiter.model, body)

    def fetched(self, model: str, version: Version, failure: FetchFailure | None) -> None:
        """Bytes have come, or have not."""
        if failure is not None and failure.passing:
            self.problems[model] = f"version {version.version}: {failure.reason}"
        elif failure is not None:
            self.give_up_on(model, version, failure.reason)
        elif self.problems.get(model, "").startswith(f"version {version.version}:"):
            del self.problems[model]
        self.reconcile()

    def heard(self, worker: Worker, kind: str, message: channel_pb2.FromWorker) -> None:
        """A worker said something, or is gone."""
        if kind == "load_failed":
            failed = message.load_failed
            version = self._version(failed.model, failed.version, failed.digest)
            self.give_up_on(failed.model, version, failed.reason)
        elif kind == "loaded":
            self._bytes.keep(content_of(message.loaded.digest))
            self._ends_in_load.pop(message.loaded.digest, None)
        elif kind == "gone" and worker.loading and not worker.ended_as_told:
            self._suspect(*next(iter(worker.loading.items())))
        self.reconcile()
        if self._fleet is not None:
            self._fleet.relieve_old()

    def _suspect(self, key: Key, digest: str) -> None:
        """A worker ended over this version, the first in its queue; the loads are one by one.

        A version that ends every worker that loads it would end them for ever.
        """
        model = key[0]
        version = self._version(model, key[1], digest)
        wanted_now = self.wanted()
        kept = {
            item: ends
            for item, ends in self._ends_in_load.items()
            if content_of(item) in wanted_now
        }
        self._ends_in_load = {**kept, digest: kept.get(digest, 0) + 1}
        ends = self._ends_in_load[digest]
        if ends >= LOAD_ENDS_MAX and not any(item.serves(version, model) for item in self.workers):
            del self._ends_in_load[digest]
            self.give_up_on(model, version, f"{ends} workers ended while they loaded it")

    def _version(self, model: str, version: str, build: str) -> Version:
        """The version of which a worker speaks."""
        for found in wanted(self.store.deployment(model), self._keep_previous):
            if (found.version, found.build) == (version, build):
                return found
        return Version(version, content_of(build))

    def reconcile(self) -> None:
        """Take every worker one step closer to what is wanted."""
        names = self.wanted()
        if self.may_begin:
            self._bytes.want(names, hurry=not self.became_ready.is_set())
        desired = Desired(
            self.store.deployments, self._keep_previous, self._bytes.held, self._bytes.hopeless
        )
        now = time.monotonic()
        for worker in self.workers:
            if worker.is_stuck(now):
                worker.kill("did not answer")
            elif self.may_begin or worker.state is WorkerState.SERVING:
                self._act(worker, next_step(worker, desired, now))
        self._settle()
        if not self.became_ready.is_set() and self.ready:
            self.became_ready.set()

    def wanted(self) -> dict[str, tuple[str, Version]]:
        """digest -> (model, version) of everything a worker should hold."""
        return {
            version.digest: (deployment.model, version)
            for deployment in self.store.deployments.values()
            for version in wanted(deployment, self._keep_previous)
        }

    def _act(self, worker: Worker, step: Step) -> None:
        loads = step.loads if may_load(worker, self.workers) else ()
        for model, version in loads:
            fetched = self._bytes.held[version.digest]
            files = [file for file, _ in fetched.files]
            settings = settings_document(fetched.manifest, files)
            if version.override:
                try:
                    settings = merge_override(model, settings, version.override)
                except ServeError as error:  # it was checked before; the registry is another now
                    give_up = partial(self.give_up_on, model, version, error.message)
                    asyncio.get_running_loop().call_soon(give_up)
                    continue
            settings["log"] = log_document(
                fetched.manifest, log_settings_of(model, self._model_logs)
            )
            message = load_message(
                model, version, [(file.name, file.bytes) for file in files], settings
            )
            worker.tell(message, [descriptor for _, descriptor in fetched.files])
        for model, name in step.unloads:
            unload = channel_pb2.Unload(model=model, version=name)
            worker.tell(channel_pb2.ToWorker(unload=unload))
        if step.routes is not None:
            self._epoch += 1
            worker.tell_routes(self._epoch, step.routes)

    def give_up_on(self, model: str, version: Version, reason: str) -> None:
        """A version cannot be loaded; go back to what can, if something can."""
        deployment = self.store.deployment(model)
        self.problems[model] = f"version {version.version}: {reason}"
        body = {"version": version.version, "digest": version.digest, "reason": reason}
        self.store.note(time.time_ns(), "load-failed", model, body)
        if version == deployment.candidate:
            self._by_supervisor(Verb.ABORT, deployment, version, reason)
        elif version == deployment.stable and not self._somewhere(version, model):
            if deployment.previous is None:
                self._by_supervisor(Verb.ABORT, deployment, version, reason)
            elif any(worker.serves(deployment.previous, model) for worker in self.workers):
                self._by_supervisor(Verb.ROLLBACK, deployment, version, reason)

    def _somewhere(self, version: Version, model: str) -> bool:
        key = (model, version.version)
        return any(
            worker.serves(version, model) or worker.loading.get(key) == version.build
            for worker in self.workers
        )

    def _by_supervisor(
        self, verb: Verb, deployment: Deployment, version: Version, reason: str
    ) -> None:
        command = Command(
            id=f"supervisor:{deployment.model}:{deployment.generation}:{verb.name.lower()}",
            ts_ns=time.time_ns(),
            actor="supervisor",
            origin=Origin.SUPERVISOR,
            model=deployment.model,
            verb=verb,
            reason=f"version {version.version} cannot be loaded: {reason}"[:2000],
            expected_generation=deployment.generation,
            rollout=deployment.serving.rollout,
        )
        if command.id not in self._giving_up:
            say(f"{deployment.model}: {command.reason}; {verb.name.lower()}")
            self._giving_up[command.id] = asyncio.create_task(self._give_up(command))

    async def _give_up(self, command: Command) -> None:
        """Until it is decided; what serves meanwhile is what can be loaded."""
        told = ""
        try:
            while self.store.deployment(command.model).generation == command.expected_generation:
                try:
                    await self.submit(command)
                    return
                except StoreError as error:
                    if str(error) != told:
                        told = str(error)
                        say(f"{command.model}: {told}")
                    await asyncio.sleep(GIVE_UP_RETRY_S)
        finally:
            del self._giving_up[command.id]

    async def close(self) -> None:
        """Leave what is not decided to the next start."""
        tasks = list(self._giving_up.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """At first: every worker serves all there is to serve; then: any worker does."""
        workers = self.serving_workers
        complete = self.became_ready.is_set() or len(workers) == len(self.workers)
        served = all(self._is_served(item, workers) for item in self.store.deployments.values())
        return self.may_begin and bool(workers) and complete and served

    def _is_served(self, deployment: Deployment, workers: list[Worker]) -> bool:
        if deployment.stable is None:
            return True
        if self.became_ready.is_set():
            return any(deployment.model in worker.applied for worker in workers)
        return all(is_live(worker, deployment) for worker in workers)

    def applied_generation(self, deployment: Deployment) -> int:
        """The generation that all serving workers route, 0 if not all route one wholly."""
        workers = self.serving_workers
        if workers and all(is_live(worker, deployment) for worker in workers):
            return deployment.generation
        plans = [worker.applied.get(deployment.model) for worker in workers]
        return min((item.generation - 1 if item else 0 for item in plans), default=0)

    def loaded(self, model: str) -> dict[str, dict[str, Any]]:
        """Of each version: digest, on how many workers, and whether any is still loading."""
        versions: dict[str, dict[str, Any]] = {}
        for worker in self.workers:
            for (name, version), item in worker.loaded.items():
                if name == model:
                    entry = versions.setdefault(
                        version, {"digest": item.digest, "state": "loaded", "workers": 0}
                    )
                    entry["workers"] += 1
            for (name, version), digest in worker.loading.items():
                if name == model:
                    versions.setdefault(version, {"digest": digest, "workers": 0})["state"] = (
                        "loading"
                    )
        return versions
