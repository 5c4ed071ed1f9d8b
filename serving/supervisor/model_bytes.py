"""The bytes of every wanted version, in sealed memory, and what became of fetching them.

A version is fetched in a thread, from the registry or else from the cache. What a
worker has loaded is kept in the cache, so that it can be had without the registry.
Both give way to predictions, except that a gateway which is not ready hurries.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from registry_client import Fetched, RegistryError, Source, Unavailable
from serving.core.rollout_state import Version
from serving.priority import give_way
from serving.supervisor.models import ModelCache, obtain
from serving.supervisor.say import say

FETCH_RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)
FETCH_THREADS = 4  # a registry that hangs over one version must not hold up all others


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """passing: trying again may help."""

    reason: str
    attempts: int
    retry_at: float  # monotonic seconds
    passing: bool


class ModelBytes:
    """Owns the descriptors in `held`; `changed` is called in the loop after every fetch."""

    def __init__(self, source: Callable[[], Source], cache: ModelCache) -> None:
        self.held: dict[str, Fetched] = {}
        self.failures: dict[str, FetchFailure] = {}
        self.changed: Callable[[str, Version, FetchFailure | None], None] = lambda *_: None
        self._source, self._cache = source, cache
        self._fetching: set[str] = set()
        self._cached: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._background = ThreadPoolExecutor(
            FETCH_THREADS, "driftgate-fetch", initializer=give_way
        )

    @property
    def hopeless(self) -> Collection[str]:
        """Digests that cannot be had now."""
        return self.failures.keys()

    def want(self, names: Mapping[str, tuple[str, Version]], *, hurry: bool) -> None:
        """Fetch what is missing, give back the rest.

        names: digest -> (model, version). hurry: no prediction is waiting for a core.
        """
        now = time.monotonic()
        for digest, (model, version) in names.items():
            failure = self.failures.get(digest)
            if failure is not None and now < failure.retry_at:
                continue
            if digest not in self.held and digest not in self._fetching:
                self._fetching.add(digest)
                self._spawn(self._fetch(model, version, hurry=hurry))
        for digest in [item for item in self.held if item not in names]:
            self.held.pop(digest).close()
        for digest in [item for item in self.failures if item not in names]:
            del self.failures[digest]

    async def _fetch(self, model: str, version: Version, *, hurry: bool) -> None:
        failure: FetchFailure | None = None
        try:
            fetched = await asyncio.get_running_loop().run_in_executor(
                None if hurry else self._background, self._obtain, model, version
            )
        except (RegistryError, OSError) as error:
            failure = self._failed(model, version, error)
        else:
            self.failures.pop(version.digest, None)
            self.held[version.digest] = fetched
            _warn(fetched)
        finally:
            self._fetching.discard(version.digest)
        self.changed(model, version, failure)

    def _obtain(self, model: str, version: Version) -> Fetched:
        return obtain(self._source, self._cache, model, version)

    def _failed(self, model: str, version: Version, error: Exception) -> FetchFailure:
        before = self.failures.get(version.digest)
        attempts = before.attempts + 1 if before else 1
        wait_s = FETCH_RETRY_S[min(attempts, len(FETCH_RETRY_S)) - 1]
        passing = isinstance(error, (Unavailable, OSError))
        failure = FetchFailure(str(error), attempts, time.monotonic() + wait_s, passing)
        self.failures[version.digest] = failure
        if attempts == 1:
            say(f"{model} version {version.version} cannot be fetched: {error}")
        return failure

    def keep(self, digest: str) -> None:
        """A worker has loaded it, so it is good: keep it for a start without the registry."""
        fetched = self.held.get(digest)
        if fetched is None or digest in self._cached:
            return
        self._cached.add(digest)
        copies = [(file, os.dup(descriptor)) for file, descriptor in fetched.files]
        self._spawn(self._keep(Fetched(fetched.manifest, copies)))

    async def _keep(self, fetched: Fetched) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._background, self._cache.keep, fetched
            )
        except OSError as error:
            self._cached.discard(fetched.manifest.digest)
            say(f"{fetched.manifest.model} cannot be cached: {error}")
        finally:
            fetched.close()

    async def prune(self, digests: Collection[str]) -> None:
        """Forget cached versions that no deployment names."""
        self._cached.intersection_update(digests)
        await asyncio.to_thread(self._cache.prune, set(digests))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._background.shutdown(wait=False, cancel_futures=True)
        for fetched in self.held.values():
            fetched.close()
        self.held.clear()


def _warn(fetched: Fetched) -> None:
    """What the version's configuration says and we do not honour."""
    manifest = fetched.manifest
    for warning in manifest.warnings:
        say(f"{manifest.model} version {manifest.version}: {warning}")
