"""The model repository as Triton's clients see it: an index, and loading by hand.

Loading and unloading are commands like an operator's, so they are refused unless
`compat.model_control` is "explicit"; then no alias starts anything by itself.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from protos import inference_pb2 as pb
from registry_client import NotFound, RegistryError, check_model_name
from serving.core.config_override import merge_override, override_parameter
from serving.core.errors import InvalidRequest, Overloaded, ServeError, UnknownModel
from serving.core.rollout_state import Command, Deployment, Origin, Refused, Verb, Version
from serving.core.routing import version_rank
from serving.store.files import StoreError
from serving.supervisor.control import Control
from serving.supervisor.registry import RegistryFollower

REGISTRY_S_MAX = 5.0  # an index tells what is known when the registry takes longer
LIVE_S_MAX = 300.0  # a large model on a slow disk
OVERRIDE_CHARACTERS_MAX = 16 * 1024  # it is kept with the state, and in the history of it
NOT_EXPLICIT = "explicit model load / unload is not allowed if polling is enabled"


class Repository:
    """Index, load and unload."""

    def __init__(self, control: Control, registry: RegistryFollower, *, explicit: bool) -> None:
        self._control, self._registry, self._explicit = control, registry, explicit

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every version that a worker holds or is to hold; other models by their name alone."""
        _check_repository(request.repository_name)
        known = set(self._control.store.deployments)
        known.update(await self._models())
        response = pb.RepositoryIndexResponse()
        for model in sorted(known):
            entries = self._entries(model)
            if request.ready:
                entries = [entry for entry in entries if entry["state"] == "READY"]
            elif not entries:
                entries = [{"name": model}]
            for entry in entries:
                response.models.add(**entry)
        return response

    async def _models(self) -> list[str]:
        try:
            async with asyncio.timeout(REGISTRY_S_MAX):
                return await self._registry.models()
        except (TimeoutError, RegistryError, OSError):
            return []

    def _entries(self, model: str) -> list[dict[str, str]]:
        loaded: Mapping[str, Mapping[str, Any]] = self._control.loaded(model)
        versions = {*loaded, *self._wanted(model)}
        return [
            self._entry(model, name, loaded.get(name))
            for name in sorted(versions, key=version_rank)
        ]

    def _wanted(self, model: str) -> set[str]:
        wanted = self._control.wanted().values()
        return {version.version for name, version in wanted if name == model}

    def _entry(self, model: str, version: str, held: Mapping[str, Any] | None) -> dict[str, str]:
        entry = {"name": model, "version": version}
        problem = self._control.problems.get(model, "")
        if held is not None and held["state"] == "loaded":
            return {**entry, "state": "READY"}
        if problem.startswith(f"version {version}:"):
            return {**entry, "state": "UNAVAILABLE", "reason": problem}
        return {**entry, "state": "LOADING"}

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Serve the champion, else the newest version; returns when every worker does."""
        model = self._check(request.repository_name, request.model_name)
        override = override_parameter(
            {
                name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
                for name, value in request.parameters.items()
            }
        )
        version = await self._configured(model, await self._newest(model), override)
        command = self._command(Verb.LOAD, model, version)
        deployment = self._control.store.deployment(model)
        if version != deployment.stable or deployment.candidate is not None:
            deployment = await self._apply(command)
        await self._live(deployment)
        if self._control.store.deployment(model).stable != version:
            problem = self._control.problems.get(model) or "another command came after it"
            raise InvalidRequest(f"failed to load '{model}', {problem}")
        return pb.RepositoryModelLoadResponse(model_name=model, isLoaded=True)

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Serve nothing of a model; what is in flight is answered."""
        model = self._check(request.repository_name, request.model_name)
        if self._control.store.deployment(model).stable is not None:
            await self._live(await self._apply(self._command(Verb.UNLOAD, model, None)))
        elif model not in await self._models():
            raise UnknownModel(f"failed to unload '{model}', no such model in the repository")
        return pb.RepositoryModelUnloadResponse(model_name=model, isUnloaded=True)

    def _check(self, repository: str, model: str) -> str:
        if not self._explicit:
            raise Overloaded(NOT_EXPLICIT)
        _check_repository(repository)
        try:
            return check_model_name(model)
        except RegistryError as error:
            raise InvalidRequest(str(error)) from error

    async def _newest(self, model: str) -> Version:
        try:
            return await self._registry.newest(model)
        except NotFound as error:
            raise UnknownModel(f"failed to load '{model}', {error}") from error
        except (RegistryError, OSError) as error:
            raise InvalidRequest(f"failed to load '{model}', {error}") from error

    async def _configured(self, model: str, version: Version, override: str) -> Version:
        """Raises: InvalidRequest if the version cannot be served so."""
        if not override:
            return version
        if len(override) > OVERRIDE_CHARACTERS_MAX:
            raise InvalidRequest(
                f"load parameter 'config' has at most {OVERRIDE_CHARACTERS_MAX} characters, "
                f"got {len(override)}"
            )
        try:
            settings = await self._registry.settings(model, version.version)
        except (RegistryError, OSError) as error:
            raise InvalidRequest(f"failed to load '{model}', {error}") from error
        merge_override(model, settings, override)
        return replace(version, override=override)

    def _command(self, verb: Verb, model: str, version: Version | None) -> Command:
        return Command(
            id=uuid.uuid4().hex,
            ts_ns=time.time_ns(),
            actor="repository",
            origin=Origin.HTTP,
            model=model,
            verb=verb,
            version=version,
            reason="asked for through the model repository API",
        )

    async def _apply(self, command: Command) -> Deployment:
        try:
            outcome = (await self._control.submit(command)).outcome
        except StoreError as error:
            raise Overloaded(str(error)) from error
        if isinstance(outcome, Refused):
            raise InvalidRequest(
                f"failed to {command.verb.name.lower()} '{command.model}', {outcome.sentence}"
            )
        return self._control.store.deployment(command.model)

    async def _live(self, deployment: Deployment) -> None:
        at_ns, _ = await self._control.live(deployment.model, deployment.generation, LIVE_S_MAX)
        if not at_ns:
            raise ServeError(
                f"'{deployment.model}' is not live on all workers after {LIVE_S_MAX:g} s"
            )


def _check_repository(name: str) -> None:
    if name:
        raise UnknownModel("there is one repository, and it has no name")
