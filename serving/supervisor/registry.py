"""Following the registry: a champion alias that moved is a wish to start a rollout.

Each move is heard once, through the id of its command. A registry that cannot be
read, or a model in it that is broken, changes nothing that serves.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from registry_client import RegistryError, Source
from serving.core.rollout_state import Command, Deployment, Origin, Refused, Verb, Version
from serving.store.desired_state import OutOfReachError
from serving.store.files import StoreError
from serving.supervisor.control import Control
from serving.supervisor.models import (
    CHAMPION,
    Champion,
    Look,
    look,
    newest,
    resolve,
    settings_document,
)
from serving.supervisor.say import say

FIRST_LOOK_S_MAX = 2.0  # a registry that hangs must not keep the last good state from serving


class RegistryFollower:
    """Owns the registry connection and what was last seen through it."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        control: Control,
        poll_s: float,
        steps: tuple[int, ...],
        *,
        follows: bool,
    ) -> None:
        """follows: whether an alias that moves is a wish; else only commands are."""
        self.look = Look()
        self.up = False
        self.last_sync_ns = 0
        self._open, self._control, self._poll_s, self._steps = open_source, control, poll_s, steps
        self._follows = follows
        self._source: Source | None = None
        self._handled: dict[str, int] = {}
        self._refused: dict[str, tuple[int, int]] = {}

    def source(self) -> Source:
        """The registry, opened at first use; blocking. Raises: RegistryError or OSError."""
        if self._source is None:
            self._source = self._open()
        return self._source

    async def run(self) -> None:
        """Look again and again until cancelled."""
        await self._control.store.begun()
        first = asyncio.get_running_loop().call_later(FIRST_LOOK_S_MAX, self._begin)
        try:
            while True:
                await self._hear(await asyncio.to_thread(self._look))
                first.cancel()
                await asyncio.sleep(self._poll_s)
        finally:
            first.cancel()

    async def resolve(self, model: str, reference: str) -> Version:
        """A version by number or @alias. Raises: RegistryError or OSError."""
        return await asyncio.to_thread(lambda: resolve(self.source(), model, reference))

    async def models(self) -> list[str]:
        """Names of all models, sorted. Raises: RegistryError or OSError."""
        return await asyncio.to_thread(lambda: self.source().models())

    async def newest(self, model: str) -> Version:
        """The champion, else the highest version. Raises: RegistryError or OSError."""
        return await asyncio.to_thread(lambda: newest(self.source(), model))

    async def settings(self, model: str, version: str) -> dict[str, Any]:
        """How a version is served by itself. Raises: RegistryError or OSError."""

        def read() -> dict[str, Any]:
            manifest = self.source().manifest(model, version)
            return settings_document(manifest, manifest.files)

        return await asyncio.to_thread(read)

    def _look(self) -> Look:
        try:
            return look(self.source(), self.look.champions)
        except (RegistryError, OSError) as error:
            return Look(error=str(error))

    def _begin(self) -> None:
        self._control.may_begin = True
        self._control.reconcile()

    async def _hear(self, seen: Look) -> None:
        self.up = not seen.error
        if seen.error:
            if self.look.error != seen.error:
                say(f"the registry cannot be read: {seen.error}")
            seen = Look(self.look.champions, seen.error, self.look.model_errors)
        else:
            self.last_sync_ns = time.time_ns()
            for model, error in seen.model_errors.items():
                if self.look.model_errors.get(model) != error:
                    say(f"{model}: {error}")
        self.look = seen
        for model, champion in seen.champions.items() if self._follows else ():
            try:
                await self._follow(model, champion)
            except OutOfReachError:  # said by itself, and alike for every model
                break
            except StoreError as error:  # heard again at the next look
                say(f"{model}: {error}")
        self._begin()

    async def _follow(self, model: str, champion: Champion) -> None:
        deployment = self._control.store.deployment(model)
        if self._handled.get(model) == champion.serial:
            return
        if self._refused.get(model) == (champion.serial, deployment.generation):
            return
        identity = f"alias:{model}:{champion.serial}"
        if identity in deployment.remembered or self._control.store.seen(identity):
            self._handled[model] = champion.serial
            return
        command = Command(
            id=identity,
            ts_ns=time.time_ns(),
            actor="alias",
            origin=Origin.ALIAS,
            model=model,
            verb=_verb_for(deployment, champion.version),
            version=champion.version,
            steps=self._steps,
            reason=f"alias {CHAMPION} points to version {champion.version.version}",
        )
        outcome = (await self._control.submit(command)).outcome
        if isinstance(outcome, Refused):
            self._refused[model] = (champion.serial, deployment.generation)
            say(f"{model}: {command.reason}, refused: {outcome.sentence}")
        else:
            self._handled[model] = champion.serial


def _verb_for(deployment: Deployment, version: Version) -> Verb:
    if deployment.stable is None:
        return Verb.ADOPT
    if version == deployment.stable:
        return Verb.ABORT if deployment.candidate else Verb.NOTE
    return Verb.NOTE if version == deployment.candidate else Verb.START
