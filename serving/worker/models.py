"""The versions that a worker has loaded, and the routing table made of them."""

import asyncio
import gc
import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eventlog import LogError
from eventlog.hash_key import HashKey
from eventlog.settings import LogSettings, ModelLogSettings
from protos import channel_pb2 as pb
from serving.core.latency import LatencyProfile
from serving.core.log_policy import Place, log_policy
from serving.core.model_config import config_document
from serving.core.padding import PaddingSettings
from serving.core.queue_settings import QueueSettings
from serving.core.rollout_state import content_of
from serving.core.routing import Arm, Route, RoutingTable, make_route
from serving.core.signature import Signature
from serving.metrics import MetricsSlab
from serving.priority import give_way
from serving.worker.counters import VersionMetrics
from serving.worker.dataplane import DataPlane
from serving.worker.explain import explain
from serving.worker.log_shape import LogShape
from serving.worker.log_tap import Journal, LogMode, LogTap
from serving.worker.run_threads import RUN_THREADS, RunThreads
from serving.worker.session import LoadError
from serving.worker.session_load import LoadedSession, LoadSettings, load_session, read_specs
from serving.worker.version import Version

log = logging.getLogger("driftgate.serving")

Key = tuple[str, str]  # model, version


class ModelShelf:
    """Loads, unloads, routes. Lives on the loop; loading itself runs in a thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        slab: MetricsSlab,
        run_threads: RunThreads,
        journal: Journal | None,
        log_settings: LogSettings,
        hash_key: Callable[[], HashKey],
        *,
        threads: int,
        max_batch_size: int,
        instances: int,
    ) -> None:
        """hash_key: reads the key of hashed fields. Raises: LogError.
        instances: sessions of each version on the whole gateway; one per worker.
        """
        self._loop, self._plane, self._slab = loop, plane, slab
        self._run_threads = run_threads
        self._journal, self._log_settings = journal, log_settings
        self._hash_key = hash_key
        self._threads, self._max_batch_size = threads, max_batch_size
        self._instances = instances
        self._chance = random.Random().random  # noqa: S311 - sampling, not a secret
        self._loader = ThreadPoolExecutor(1, "driftgate-load")
        self._routed = False
        self.versions: dict[Key, Version] = {}
        self._replaced: set[Version] = set()
        self._leaving: set[Version] = set()
        self._farewells: set[asyncio.Task[None]] = set()

    async def load(self, load: pb.Load, fds: Sequence[int]) -> pb.FromWorker:
        """Load a version from its descriptors, which are closed here; the answer to send."""
        began_ns = time.monotonic_ns()
        try:
            settings = _settings(load.settings_json)
            loaded = await self._loop.run_in_executor(
                self._loader, self._load_session, load, list(fds), settings
            )
            tap = self._tap(load, loaded.signature, settings)
        except LoadError as error:
            return pb.FromWorker(
                load_failed=pb.LoadFailed(
                    model=load.model,
                    version=load.version,
                    digest=load.digest,
                    reason=str(error),
                )
            )
        finally:
            for fd in fds:
                os.close(fd)
        self._shelve(load, loaded, tap, settings)
        signature = loaded.signature
        described = {
            "inputs": [spec.to_json() for spec in signature.inputs],
            "outputs": [spec.to_json() for spec in signature.outputs],
            "max_batch_size": signature.max_batch_size,
            "inline": loaded.inline,
        }
        return pb.FromWorker(
            loaded=pb.Loaded(
                model=load.model,
                version=load.version,
                digest=load.digest,
                batchable=signature.max_batch_size > 0,
                load_ns=time.monotonic_ns() - began_ns,
                signature_json=json.dumps(described).encode(),
            )
        )

    def _load_session(
        self, load: pb.Load, fds: Sequence[int], settings: Mapping[str, Any]
    ) -> LoadedSession:
        """Runs in the loading thread. Raises: LoadError."""
        if not fds or len(fds) != len(load.files):
            raise LoadError(f"{len(load.files)} files were announced, {len(fds)} arrived")
        names = [file.name for file in load.files]
        golden = settings.get("golden")
        roles = settings.get("roles") or {}
        others = dict(zip(names[1:], fds[1:], strict=True))
        external = {
            name: fd for name, fd in others.items() if roles.get(name, "external") == "external"
        }
        external.pop(str(golden), None)
        warmup = {name: fd for name, fd in others.items() if roles.get(name) == "warmup"}
        return load_session(
            load.model,
            load.version,
            fds[0],
            external,
            others.get(str(golden)) if golden else None,
            LoadSettings(
                max_batch_size=settings.get("max_batch_size"),
                max_batch_size_default=self._max_batch_size,
                inputs=read_specs(settings.get("inputs")),
                outputs=read_specs(settings.get("outputs")),
                threads=self._threads,
                warmup=settings.get("warmup") or (),
                padding=PaddingSettings.from_settings(settings),
            ),
            warmup,
        )

    def _tap(self, load: pb.Load, signature: Signature, settings: Mapping[str, Any]) -> LogTap:
        """Raises: LoadError if what is to be hashed cannot be: it may not be kept as it is."""
        own, features = _log_settings(settings)
        policy = log_policy(signature, own, features)
        if policy.unknown:
            log.warning(
                "model %s version %s has no field %s, which its log settings name",
                *(load.model, load.version, ", ".join(map(repr, policy.unknown))),
            )
        rate = settings.get("sample_rate") if own.sample_rate is None else own.sample_rate
        try:
            key = self._hash_key() if policy.hashes else None
        except (LogError, OSError) as error:
            raise LoadError(f"the fields of its log cannot be hashed: {error}") from error
        return LogTap(
            self._journal,
            signature,
            content_of(load.digest),
            LogMode(own.mode or settings.get("log_mode") or self._log_settings.mode),
            _rate(rate, self._log_settings.sample_rate),
            self._chance,
            LogShape(signature, policy, key),
        )

    def _shelve(
        self, load: pb.Load, loaded: LoadedSession, tap: LogTap, settings: Mapping[str, Any]
    ) -> None:
        digest = content_of(load.digest)
        replaced = self.versions.get((load.model, load.version))
        if replaced is not None:  # it serves on until the next routing table
            self._replaced.add(replaced)
        self.versions[load.model, load.version] = Version(
            self._loop,
            time.monotonic_ns,
            loaded.signature,
            digest,
            loaded.session,
            self._run_threads,
            self._plane.admission,
            VersionMetrics(self._slab, load.model, load.version),
            tap,
            config_document(loaded.signature, settings, self._instances),
            QueueSettings.from_settings(settings),
            inline=loaded.inline,
            profile=LatencyProfile(loaded.timings),
            load_run_ns=loaded.run_ns,
            padder=loaded.padder,
            wait_ns_max=int(self._plane.limits.standing_wait_s_max * 1e9),
        )
        if not self._routed:
            # What a version needs lives long; collections need not look at it. Once there is
            # traffic its circles would be frozen too, and never be found.
            gc.collect()
            gc.freeze()

    async def unload(self, unload: pb.Unload) -> pb.FromWorker:
        """Let a version go once its last request is answered."""
        key = (unload.model, unload.version)
        version = self.versions.pop(key, None)
        if version is not None:
            await self._leave(version)
        return pb.FromWorker(unloaded=pb.Unloaded(model=unload.model, version=unload.version))

    def _leave(self, version: Version) -> "asyncio.Task[None]":
        """Its rows are still to come, as long as it answers."""

        async def leave() -> None:
            await version.drained()
            self._leaving.discard(version)

        self._leaving.add(version)
        task = self._loop.create_task(leave())
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
        return task

    def apply(self, table: pb.SetRoutes) -> pb.FromWorker:
        """Replace the routing table; arms that are not loaded get no traffic."""
        if not self._routed:
            self._routed = True
            self._yield_loads()
        routes = {}
        for message in table.routes:
            route = self._route(message)
            if route is not None:
                routes[message.model] = route
        self._plane.table = RoutingTable(table.epoch, routes)
        while self._replaced:
            self._leave(self._replaced.pop())
        return pb.FromWorker(routes_applied=pb.RoutesApplied(epoch=table.epoch))

    def _yield_loads(self) -> None:
        """From the first traffic on, loads give way to it; until then nothing else runs.

        ONNX Runtime's own threads would inherit that and serve with it, so sessions
        that have some are loaded as before: such a worker has cores to spare.
        """
        if self._threads == 1:
            self._loader.submit(give_way)

    def _route(self, message: pb.Route) -> Route[Version] | None:
        arms = [
            Arm(version, arm.version, arm.role, arm.rollout, arm.weight)
            for arm in message.arms
            if (version := self.versions.get((message.model, arm.version))) is not None
        ]
        pinned = {
            name: Arm(version, name, "pinned", "", 0)
            for name in message.loaded
            if (version := self.versions.get((message.model, name))) is not None
        }
        if not any(arm.weight for arm in arms):
            return None
        return make_route(message.model, message.salt, arms, pinned, message.generation)

    def queued_rows(self) -> dict[str, int]:
        """Rows waiting, per model."""
        rows: dict[str, int] = {}
        for (model, _), version in self.versions.items():
            rows[model] = rows.get(model, 0) + version.batcher.queue.rows_queued
        return rows

    def explain(self, asked: pb.Explain) -> pb.FromWorker:
        """What a version's batcher does, and why."""
        version = self.versions.get((asked.model, asked.version))
        document = (
            explain(version, self._plane.admission, RUN_THREADS) if version is not None else None
        )
        text = b"" if document is None else json.dumps(document).encode()
        return pb.FromWorker(explained=pb.Explained(id=asked.id, document_json=text))

    def _answering(self) -> list[Version]:
        """Every version that may still have requests."""
        return [*self.versions.values(), *self._replaced, *self._leaving]

    def oldest_ts_ns(self, now_ns: int) -> int:
        """Every row offered to the log from now on arrived then, or later."""
        stamps = [version.oldest_ts_ns() for version in self._answering()]
        return min((ts for ts in stamps if ts is not None), default=now_ns)

    def stop_holding(self) -> None:
        """The worker drains: nobody is to wait for company."""
        for version in self._answering():
            version.batcher.stop_holding()

    async def drained(self) -> None:
        """Wait until every version has answered everything."""
        for version in self._answering():
            await version.drained()

    def close(self) -> None:
        """Stop the threads; what they run is finished first."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._run_threads.close()


def _settings(text: bytes) -> dict[str, Any]:
    """Raises: LoadError."""
    try:
        settings = json.loads(text or b"{}")
        mode = settings.get("log_mode")
        if mode is not None:
            LogMode(mode)
        _log_settings(settings)
        QueueSettings.from_settings(settings)
        PaddingSettings.from_settings(settings)
        for sample in settings.get("warmup") or ():
            _check_sample(sample)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadError(f"the version's settings are malformed: {error}") from error
    return dict(settings)


def _log_settings(settings: Mapping[str, Any]) -> tuple[ModelLogSettings, dict[str, Place]]:
    """What the operator set for the model's log, and the places of features it names.

    Raises: KeyError, TypeError or ValueError.
    """
    document = dict(settings.get("log") or {})
    features = {
        str(name): (str(tensor), int(index))
        for name, (tensor, index) in document.pop("features", {}).items()
    }
    return ModelLogSettings.from_json(document), features


def _check_sample(sample: Mapping[str, Any]) -> None:
    """Raises: KeyError, TypeError or ValueError if it is no warm-up sample."""
    numbers = [sample["batch_size"], sample["count"]]
    for given in sample["inputs"].values():
        numbers += given["dims"]
        str(given["data_type"])
    if not isinstance(sample["name"], str) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError(f"warm-up sample {sample['name']!r}")


def _rate(value: float | None, default: float) -> float:
    rate = default if value is None else value
    return rate if 0.0 < rate <= 1.0 else 1.0
