"""The supervisor: composes the control plane of one state directory and runs it.

SIGTERM and SIGINT drain the workers, close their books and end with 0. SIGHUP
replaces the supervisor by itself (exec: same pid, same listeners) and then every
worker, one by one. After a kill -9 the next supervisor is started the same way as
the first: it finds the workers left behind and relieves them.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from eventlog import set_damaged_keys_aside
from protos import channel_pb2
from registry_client import open_source
from serving.grpc_engine import GrpcEngine, choose_engine
from serving.metrics import Totals, render
from serving.nghttp2 import LibraryError
from serving.settings import GatewaySettings
from serving.statistics import triton_metrics
from serving.store.control_store import ControlStore
from serving.store.desired_state import DesiredState
from serving.store.files import StoreError, write_atomically
from serving.store.shared_store import SharedStore
from serving.supervisor.admin import AdminSettings, admin_app, load_token
from serving.supervisor.books import Books
from serving.supervisor.client_methods import EXPLICIT, client_methods
from serving.supervisor.config import SupervisorConfig, config_from_json, memory_file
from serving.supervisor.control import Control
from serving.supervisor.desk import ClientDesk
from serving.supervisor.explain import Explainer
from serving.supervisor.fleet import Fleet
from serving.supervisor.listener import serve_http
from serving.supervisor.metrics_server import DeadTotals, collect, metrics_app
from serving.supervisor.model_bytes import ModelBytes
from serving.supervisor.models import ModelCache
from serving.supervisor.process import WORKER_ARGV
from serving.supervisor.registry import RegistryFollower
from serving.supervisor.say import say
from serving.supervisor.shared_control import SharedControl, SharedSettings
from serving.supervisor.shared_memory import SharedMemory
from serving.supervisor.shipping import ShipperWatch
from serving.supervisor.signals import Told, hold_back
from serving.supervisor.sockets import (
    NOT_NOW,
    Sockets,
    StartError,
    lock,
    open_sockets,
    take_over,
    with_grpc,
)
from serving.supervisor.status import Gateway, own_metrics
from serving.supervisor.worker_state import Worker
from serving.tls import Certificates, TlsError

TICK_S = 0.25  # retries and watchdogs; everything else is driven by events
UPKEEP_S = 30.0
SUPERVISOR_ARGV = (sys.executable, "-P", "-m", "serving")


class Supervisor:
    """Everything of one gateway but the workers' own work."""

    def __init__(
        self, config: SupervisorConfig, sockets: Sockets | None, worker_argv: Sequence[str]
    ) -> None:
        """Raises: StartError if the state directory is taken."""
        self._config = config
        gateway = config.gateway
        self._lock = sockets.lock if sockets else lock(config.state_dir)
        self._sockets = sockets
        for folder in (config.run_dir, config.log_dir):
            folder.mkdir(exist_ok=True, mode=0o700)
        if aside := set_damaged_keys_aside(config.state_dir):
            say(
                f"id.keys is damaged; set aside as {aside}, labels of older predictions are refused"
            )
        self._shared = _shared_control(config)
        self._store: DesiredState = self._shared or ControlStore(config.state_dir, time.time_ns())
        self._dead = DeadTotals(config.run_dir / "totals.json")
        cache = ModelCache(config.state_dir / "cache")
        self._bytes = ModelBytes(lambda: self._registry.source(), cache)  # noqa: PLW0108 - made below
        self._control = Control(self._store, self._bytes, gateway.keep_previous, config.model_logs)
        self._bytes.changed = self._control.fetched
        self._registry = RegistryFollower(
            lambda: open_source(config.registry_dir, gateway.model_repository),
            self._control,
            gateway.registry_poll_s,
            gateway.rollout_steps,
            follows=gateway.compat.model_control != EXPLICIT,
        )
        self._books = Books(config.log_dir, config.log)
        self._engine = _engine(gateway)
        _check_tls(gateway)
        self._fleet = Fleet(config, self._books, self._dead, worker_argv, self._heard, self._engine)
        self._control.bind(self._fleet)
        self._shipper = ShipperWatch(
            config.run_dir,
            expected=bool(config.log.kafka),
            labels_topic=config.kafka.labels_topic,
        )
        self._explainer = Explainer(lambda: self._control.serving_workers, self._counted)
        self._gateway = Gateway(
            self._control,
            self._registry,
            self._fleet,
            self._books,
            self._shipper,
            gateway.rollout_steps,
            str(self._engine),
            self._explainer,
            self._shared,
        )
        self._memory = SharedMemory(
            lambda: self._fleet.workers, enabled=gateway.compat.shared_memory
        )
        self._desk = ClientDesk(
            client_methods(
                self._control, self._registry, self._counted, self._memory, gateway.compat
            )
        )
        self._told = Told()

    async def open(self) -> Sockets:
        """Find what an earlier supervisor left, and open the ports. Raises: StartError."""
        held = await self._fleet.find_old()
        grpc_listens = self._engine.name == "nghttp2"
        if self._sockets is None:
            self._sockets = open_sockets(
                self._config.gateway,
                self._lock,
                grpc_listens=grpc_listens,
                beside_workers=bool(self._fleet.old),
                held=held,
            )
        else:
            for same in held:  # the sockets that came through the exec
                same.close()
            self._sockets = with_grpc(self._sockets, self._config.gateway, listens=grpc_listens)
        return self._sockets

    async def run(self) -> signal.Signals:
        """Serve until a signal says otherwise; returns it. SIGHUP leaves everything running."""
        self._told.heed()
        self._announce_files()
        tasks = [asyncio.create_task(work) for work in self._works()]
        self._fleet.start(self.sockets)
        try:
            reason = await self._until_stopped(tasks)
            if reason is not signal.SIGHUP:
                await self._fleet.stop()
                await self._books.close()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._desk.close()
            await self._control.close()
            await self._bytes.close()
            self._store.close()
        if reason is signal.SIGHUP:
            await self._told.rest_passed_on()
        return reason

    def _heard(self, worker: Worker, kind: str, message: channel_pb2.FromWorker) -> None:
        if kind == "ask":
            self._desk.take(worker, message.ask)
        elif kind == "explained":
            self._explainer.heard(message.explained)
        elif kind == "regions_applied":
            self._memory.applied(worker, message.regions_applied.epoch)
        else:
            if kind == "started":
                self._memory.started(worker)
            elif kind == "gone":
                self._memory.gone(worker)
            self._control.heard(worker, kind, message)

    @property
    def sockets(self) -> Sockets:
        assert self._sockets is not None, "open() comes first"
        return self._sockets

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> signal.Signals:
        """Wait for a signal; a part that ends on its own is a fault that ends us."""
        watched: set[asyncio.Future[object]] = {self._told.first, *tasks}  # type: ignore[arg-type]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not self._told.first.done():
            for task in tasks:
                if task.done():
                    task.result()
        return await self._told.first

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        gateway = self._config.gateway
        token = load_token(self._config.state_dir / "admin.token")
        port = self.sockets.ports["admin"]
        settings = AdminSettings(token, port, (gateway.admin_host, *gateway.admin_hosts))
        follow = [self._shared.run()] if self._shared else []
        return [
            *follow,
            self._registry.run(),
            self._tick(),
            self._upkeep(),
            self._say_ready(),
            serve_http(admin_app(self._gateway, settings), self.sockets.admin),
            serve_http(metrics_app(self._exposition), self.sockets.metrics),
        ]

    def _counted(self) -> Totals:
        """What all workers have counted, those that are gone included."""
        slabs = [worker.metrics_path for worker in (*self._fleet.workers, *self._fleet.old)]
        return collect(self._dead, slabs)

    def _exposition(self) -> bytes:
        totals = self._counted()
        triton = triton_metrics(totals) if self._config.gateway.compat.triton_metrics else b""
        own = own_metrics(self._control, self._registry, self._fleet, self._shipper, self._shared)
        totals.add(own)
        return render(totals) + triton

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._control.reconcile()
            self._fleet.relieve_old()
            self._fleet.look()

    async def _upkeep(self) -> None:
        """What workers left in the log, and what the cache need not hold."""
        while True:
            await self._books.close()
            await asyncio.sleep(UPKEEP_S)
            with contextlib.suppress(OSError):
                await self._bytes.prune(self._control.wanted().keys())

    async def _say_ready(self) -> None:
        await self._control.became_ready.wait()
        host, ports = self._config.gateway.host, self.sockets.ports
        scheme = self._config.gateway.tls.scheme
        print(
            f"ready http={scheme}://{host}:{ports['http']} grpc={host}:{ports['grpc']} "
            f"metrics=http://{host}:{ports['metrics']}/metrics "
            f"admin=http://{self._config.gateway.admin_host}:{ports['admin']}",
            flush=True,
        )
        say(f"gRPC is served by {self._engine}")
        await asyncio.get_running_loop().create_future()  # this part does not end either

    def _announce_files(self) -> None:
        document = {"pid": os.getpid(), "ports": self.sockets.ports}
        write_atomically(self._config.run_dir / "supervisor.json", json.dumps(document).encode())


def _shared_control(config: SupervisorConfig) -> SharedControl | None:
    """Where a Kafka is configured, control is shared with its other gateways."""
    if not config.log.kafka:
        return None
    from serving.store.kafka_control_log import KafkaControlLog  # not loaded without a Kafka

    settings = SharedSettings(config.kafka.control_wait_s, config.kafka.control_timeout_s)
    log = KafkaControlLog(config.log.kafka, config.kafka)
    return SharedControl(SharedStore(config.state_dir, time.time_ns()), log, settings)


def _engine(gateway: GatewaySettings) -> GrpcEngine:
    """Raises: StartError if the engine that is configured cannot be had."""
    try:
        return choose_engine(gateway.grpc.engine)
    except LibraryError as error:
        raise StartError(f"grpc.engine = nghttp2: {error}") from error


def _check_tls(gateway: GatewaySettings) -> None:
    """Raises: StartError if no worker could serve with these files."""
    if gateway.tls.enabled:
        try:
            Certificates(gateway.tls)
        except TlsError as error:
            raise StartError(str(error)) from error


def replace_self(config: SupervisorConfig, sockets: Sockets, argv: Sequence[str]) -> NoReturn:
    """Exec the supervisor anew in this process; listeners and lock stay open."""
    descriptor = memory_file("driftgate-config", config.to_json())
    environment = {**os.environ, **sockets.export()}
    os.execve(argv[0], [*argv, "--config-fd", str(descriptor)], environment)  # noqa: S606 - ourselves


def serve(
    config: SupervisorConfig,
    worker_argv: Sequence[str] = WORKER_ARGV,
    supervisor_argv: Sequence[str] = SUPERVISOR_ARGV,
) -> int:
    """Run a gateway in this process until it is told to stop; returns its exit code.

    That is CANNOT_START when a port or the state directory cannot be had, and NOT_NOW
    when a file in it is locked or the disk is full.
    """

    async def run() -> tuple[signal.Signals, Sockets]:
        try:
            supervisor = Supervisor(config, take_over(os.environ), worker_argv)
            sockets = await supervisor.open()
        except (StoreError, OSError) as error:
            raise StartError(
                f"the state directory {config.state_dir} cannot be used now ({error}); "
                "make room, or see who owns or locks its files",
                NOT_NOW,
            ) from error
        return await supervisor.run(), sockets

    # Not asyncio.run: it would wait for a thread that a hanging registry holds.
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(initializer=hold_back))
    try:
        reason, sockets = loop.run_until_complete(run())
    except StartError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.code
    finally:
        loop.close()
    if reason is signal.SIGHUP:
        replace_self(config, sockets, supervisor_argv)
    return 0


def read_config(descriptor: int) -> SupervisorConfig:
    """The configuration document on a descriptor, which is closed."""
    with os.fdopen(descriptor, "rb") as file:
        return config_from_json(json.load(file))
