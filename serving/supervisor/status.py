"""What the supervisor tells and takes through the admin API and the metrics port."""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

from protos import control_pb2 as pb
from registry_client import RegistryError, check_model_name
from serving import metrics
from serving.core.rollout_codec import (
    MalformedCommandError,
    command_from_proto,
    deployment_to_proto,
)
from serving.core.rollout_state import (
    Command,
    Deployment,
    Origin,
    Phase,
    Refusal,
    Verb,
    Version,
)
from serving.metrics import Metric, Totals
from serving.store.audit import verify_audit
from serving.store.control_store import version_named
from serving.store.desired_state import OutcomeUnknownError
from serving.supervisor.admin import Answer, to_document
from serving.supervisor.books import Books
from serving.supervisor.control import Control
from serving.supervisor.explain import Explainer
from serving.supervisor.fleet import Fleet
from serving.supervisor.registry import RegistryFollower
from serving.supervisor.shared_control import SharedControl
from serving.supervisor.shipping import ShipperWatch

DENIED_S = 1.0  # audit at most one entry of refused callers per second, with their number
CLIENT_ORIGINS = frozenset({Origin.CLI, Origin.HTTP, Origin.MONITOR})


class Gateway:
    """The supervisor as the admin API sees it."""

    def __init__(
        self,
        control: Control,
        registry: RegistryFollower,
        fleet: Fleet,
        books: Books,
        shipper: ShipperWatch,
        steps: tuple[int, ...],
        grpc_engine: str,
        explainer: Explainer,
        shared: SharedControl | None = None,
    ) -> None:
        """shared: where control is shared with other gateways."""
        self._grpc_engine, self._explainer = grpc_engine, explainer
        self._control, self._registry, self._fleet = control, registry, fleet
        self._books, self._shipper, self._steps = books, shipper, steps
        self._shared = shared
        self._denied = 0
        self._denied_at = 0.0

    async def apply(self, message: pb.Command, *, dry_run: bool, wait_s: float) -> Answer:
        """Complete, decide and carry out a command; waits until it is live, up to wait_s."""
        try:
            command = await self._completed(message)
        except MalformedCommandError as error:
            return Answer(400, {"error": str(error)})
        except RegistryError as error:
            return self._unresolved(message.model, str(error))
        try:
            applied = await self._control.submit(command, dry_run=dry_run)
        except OutcomeUnknownError as error:
            document = {"error": str(error), "id": command.id, "unknown": True}
            return Answer(503, document)
        if not applied.result.accepted:
            status = 409 if applied.refusal is Refusal.STALE else 422
            return Answer(status, to_document(applied.result))
        if not dry_run:
            generation = applied.result.after.generation
            at_ns, workers = await self._control.live(command.model, generation, wait_s)
            applied.result.applied_ns = at_ns
            applied.result.workers = workers
        return Answer(200, to_document(applied.result))

    def _unresolved(self, model: str, sentence: str) -> Answer:
        state = deployment_to_proto(self._control.store.deployment(model))
        result = pb.CommandResult(error=sentence, before=state, after=state)
        return Answer(422, to_document(result))

    async def _completed(self, message: pb.Command) -> Command:
        """The command with its id, stamp, origin, steps and digest filled in."""
        if not message.origin:
            message.origin = Origin.HTTP.value
        command = command_from_proto(message)
        if command.origin not in CLIENT_ORIGINS:
            raise MalformedCommandError(f"{command.origin.value} does not come through this door")
        if command.local or command.leaving or command.imported is not None:
            raise MalformedCommandError("local, leaving and import_json are a gateway's own")
        try:
            check_model_name(command.model)
        except RegistryError as error:
            raise MalformedCommandError(str(error)) from error
        return replace(
            command,
            id=command.id or uuid.uuid4().hex,
            actor=command.actor or command.origin.value,
            ts_ns=time.time_ns(),
            steps=command.steps or (self._steps if command.verb is Verb.START else ()),
            version=await self._version(command),
        )

    async def _version(self, command: Command) -> Version | None:
        """The version that is meant, by number or @alias. Raises: RegistryError."""
        version = command.version
        if version is None or not version.version or version.digest:
            return version
        served = version_named(self._control.store.deployment(command.model), version.version)
        if command.verb is Verb.RELEASE and served is not None:
            return served
        try:
            return await self._registry.resolve(command.model, version.version)
        except (RegistryError, OSError) as error:
            if served is not None:
                return served  # known from before: a start back to it needs no registry
            if isinstance(error, OSError):
                raise RegistryError(str(error)) from error
            raise

    def status(self) -> Mapping[str, Any]:
        deployments = self._control.store.deployments
        return {
            "ready": self._control.ready,
            "degraded": self._degraded(),
            "grpc_engine": self._grpc_engine,
            "workers": [
                {
                    "incarnation": worker.incarnation,
                    "pid": worker.pid,
                    "state": worker.state.value,
                    "index": worker.index,
                }
                for worker in (*self._fleet.workers, *self._fleet.old)
            ],
            "models": {name: self._model(item) for name, item in sorted(deployments.items())},
            "control": {"kafka": self._shared.status() if self._shared else None},
            "registry": {
                "up": self._registry.up,
                "last_sync": self._registry.last_sync_ns / 1e9,
                "error": self._registry.look.error,
            },
        }

    def _model(self, deployment: Deployment) -> dict[str, Any]:
        return {
            "deployment": to_document(deployment_to_proto(deployment)),
            "loaded": self._control.loaded(deployment.model),
            "applied_generation": self._control.applied_generation(deployment),
            "problem": self._problem(deployment.model),
        }

    def _problem(self, model: str) -> str:
        return self._control.problems.get(model) or self._registry.look.model_errors.get(model, "")

    def _degraded(self) -> list[str]:
        """What is not as it should be, one sentence each."""
        serving, places = len(self._control.serving_workers), self._fleet.places
        found = [] if serving >= places else [f"{serving} of {places} workers serve"]
        if self._control.may_begin and not self._registry.up:
            found.append(f"the registry cannot be read: {self._registry.look.error}")
        if problem := self._shipper.problem():
            found.append(problem)
        if self._shared is not None:
            found += self._shared.degraded()
        names = {*self._control.store.deployments, *self._registry.look.model_errors}
        found += [f"{name}: {self._problem(name)}" for name in sorted(names) if self._problem(name)]
        for deployment in self._control.store.deployments.values():
            if self._control.applied_generation(deployment) < deployment.generation:
                found.append(
                    f"{deployment.model}: generation {deployment.generation} is not live "
                    "on all workers"
                )
        return found

    def deployment(self, model: str) -> Mapping[str, Any] | None:
        deployment = self._control.store.deployments.get(model)
        return to_document(deployment_to_proto(deployment)) if deployment else None

    async def batching(self, model: str) -> Mapping[str, Any] | None:
        deployment = self._control.store.deployments.get(model)
        return await self._explainer.explain(deployment) if deployment else None

    def audit(self, model: str, after: int, limit: int) -> Mapping[str, Any]:
        entries = [
            {
                "sequence": entry.sequence,
                "ts_ns": entry.ts_ns,
                "kind": entry.kind,
                "model": entry.model,
                "body": json.loads(entry.body),
                "digest": entry.digest,
            }
            for entry in self._control.store.entries(model, after, limit)
        ]
        return {"entries": entries}

    async def verify_audit(self) -> Mapping[str, Any]:
        count, problems = await asyncio.to_thread(verify_audit, self._control.store.folder)
        return {"ok": not problems, "entries": count, "problems": problems}

    async def ledger(self) -> Mapping[str, Any]:
        return {"producers": await self._books.ledger()}

    def denied(self, status: int, reason: str) -> None:
        self._denied += 1
        now = time.monotonic()
        if now - self._denied_at < DENIED_S:
            return
        body = {"status": status, "reason": reason, "count": self._denied}
        self._denied, self._denied_at = 0, now
        self._control.store.note(time.time_ns(), "denied", "", body)


def own_metrics(
    control: Control,
    registry: RegistryFollower,
    fleet: Fleet,
    shipper: ShipperWatch,
    shared: SharedControl | None = None,
) -> Totals:
    """What the supervisor itself knows, as of now."""
    totals = Totals()
    totals.add(control.counted)

    def put(metric: Metric, value: float, *labels: str) -> None:
        totals.cells[metric.name, *labels] = [value]

    put(metrics.BUILD_INFO, 1.0, _version())
    put(metrics.UP_WORKERS, float(len(control.serving_workers)))
    put(metrics.REGISTRY_UP, float(registry.up))
    put(metrics.REGISTRY_SYNC, registry.last_sync_ns / 1e9)
    if shared is not None:
        put(metrics.CONTROL_KAFKA_UP, float(shared.up))
        put(metrics.CONTROL_DIVERGED, float(len(shared.diverged)))
        for reason, count in shared.refused.items():
            put(metrics.CONTROL_REFUSED, float(count), reason)
    for reason in ("crash", "stuck", "worn"):
        put(metrics.WORKER_RESTARTS, float(fleet.restarts.get(reason, 0)), reason)
    for deployment in control.store.deployments.values():
        _put_deployment(put, deployment)
    for worker in fleet.workers:
        for (model, version), item in worker.loaded.items():
            put(metrics.MODEL_INFO, 1.0, model, version, item.digest[:12])
            put(metrics.MODEL_LOAD_SECONDS, item.load_ns / 1e9, model, version)
    shipper.put(put)
    return totals


def _put_deployment(put: Any, deployment: Deployment) -> None:
    model, serving = deployment.model, deployment.serving
    put(metrics.GENERATION, float(deployment.generation), model)
    for phase in Phase:
        put(metrics.ROLLOUT_PHASE, float(phase is deployment.phase), model, phase.name.lower())
    if serving.stable is not None:
        put(metrics.ROLLOUT_WEIGHT, (100 - serving.weight) / 100, model, serving.stable.version)
    if serving.candidate is not None:
        put(metrics.ROLLOUT_WEIGHT, serving.weight / 100, model, serving.candidate.version)


def _version() -> str:
    try:
        return metadata.version("driftgate")
    except metadata.PackageNotFoundError:
        return "unknown"
