"""A worker process: one share-nothing data plane. `python -m serving.worker --config-fd N`.

Composition and the order of start and drain stand here; everything that happens
per request happens elsewhere. The drain's order is measured: the server
library's own fails requests.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from functools import partial
from typing import Literal

import uvloop

from protos import channel_pb2 as pb
from serving import metrics as catalogue
from serving.channel import listen
from serving.metrics import MetricsSlab
from serving.tls import Certificates
from serving.worker.accept import Acceptor, Counts, Handshakes
from serving.worker.config import WorkerConfig, read_config
from serving.worker.control import WorkerChannel
from serving.worker.counters import GateMetrics
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.grpc_hosted import HostedServices
from serving.worker.grpc_server import GrpcServer
from serving.worker.http2.server import Http2Server
from serving.worker.http_app import make_app
from serving.worker.http_gate import HttpGate
from serving.worker.http_protocol import GatewayProtocol
from serving.worker.labels import LabelDesk
from serving.worker.log import WorkerLog
from serving.worker.metadata import Metadata
from serving.worker.models import ModelShelf
from serving.worker.reply_packer import ReplyPacker
from serving.worker.run_threads import RunThreads
from serving.worker.shared_memory import SharedRegions

log = logging.getLogger("driftgate.serving")

# Clients with a kept-alive connection get this long to send once more and be
# told that the reply is the connection's last.
LAST_REPLIES_S = 1.0
DRAIN_LOOK_S = 0.01
TICK_S = 0.5  # how often gauges are brought up to date
BEAT_S = 0.5  # how often the supervisor can see that the event loop turns
# A request makes a few dozen containers and frees them at once; the default of
# 700 would look for cycles every few requests.
GC_THRESHOLD = 20_000


class Worker:
    """The parts of a worker and their life."""

    def __init__(self, config: WorkerConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config, self._loop = config, loop
        run_dir = config.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self._socket_path = run_dir / f"{config.incarnation}.sock"
        self._slab = MetricsSlab(run_dir / f"{config.incarnation}.metrics")
        self._log = WorkerLog(config.state_dir, config.incarnation, config.log, self._slab)
        gate_metrics = GateMetrics(self._slab)
        self._regions = SharedRegions(enabled=config.shared_memory)
        run_threads = RunThreads(loop)
        self._plane = DataPlane(
            config.limits,
            gate_metrics,
            self._regions.find,
            threads=run_threads,
            wall_ns=self._log.writer.now_ns,
        )
        self._shelf = ModelShelf(
            loop,
            self._plane,
            self._slab,
            run_threads,
            self._log.journal,
            config.log,
            self._log.hash_key,
            threads=config.threads,
            max_batch_size=config.max_batch_size,
            instances=config.workers,
        )
        metadata = Metadata(self._plane, config.server_name, shared_memory=config.shared_memory)
        labels = LabelDesk(self._plane, self._log.writer, self._log.ids)
        self._desk = Desk()
        app = make_app(self._plane, metadata, labels, self._desk)
        packer = ReplyPacker(loop, config.compression.http_bytes_min)
        self._gate = HttpGate(loop, self._plane, app, packer)
        self._listeners = [socket.socket(fileno=fd) for fd in (config.http_fd, config.grpc_fd)]
        counts = Counts(config.connections_path, config.index, config.workers)
        protocol = partial(GatewayProtocol, self._gate)
        self._certificates = Certificates(config.tls) if config.tls.enabled else None
        self._acceptor = Acceptor(
            loop, self._listeners[0], self._gate, protocol, counts, self._handshakes("http")
        )
        self._grpc = self._grpc_engine(HostedServices(self._plane, metadata, self._desk))
        self._ticker: asyncio.TimerHandle | None = None
        self._promiser: asyncio.TimerHandle | None = None
        self._draining: asyncio.Future[None] | None = None
        self._opened = False

    def _grpc_engine(self, hosted: HostedServices) -> GrpcServer | Http2Server:
        config = self._config
        if not config.grpc_library:
            return GrpcServer(
                self._plane, hosted, config.compression,
                config.grpc_host, config.grpc_port, self._certificates,
            )  # fmt: skip
        counts = Counts(config.grpc_connections_path, config.index, config.workers)
        return Http2Server(
            self._loop, self._plane, hosted, config.compression,
            config.grpc_library, self._listeners[1], counts, self._handshakes("grpc"),
        )  # fmt: skip

    def _handshakes(self, protocol: Literal["http", "grpc"]) -> Handshakes | None:
        certificates, limits = self._certificates, self._config.limits
        if certificates is None:
            return None
        return Handshakes(
            lambda: certificates.http if protocol == "http" else certificates.grpc,
            limits.first_byte_s,
            limits.connections_max,
        )

    async def run(self) -> None:
        """Serve until drained."""
        config = self._config
        self._beat()
        self._tick()
        self._promise()
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        started = pb.Started(pid=os.getpid(), incarnation=config.incarnation)
        channel_listener = listen(self._socket_path)
        channel = WorkerChannel(
            channel_listener,
            self._shelf,
            self._desk,
            self._regions,
            started,
            self._drain,
            self._open,
            [listener.fileno() for listener in self._listeners],
            config.orphan_s,
            config.drain_s,
        )
        serving = self._loop.create_task(channel.serve())
        self._loop.add_signal_handler(signal.SIGTERM, self._terminate, serving)
        try:
            await serving
        except asyncio.CancelledError:
            await self._drain(config.drain_s)
        finally:
            channel_listener.close()
            self._socket_path.unlink(missing_ok=True)

    async def _open(self) -> None:
        """Take traffic, from the first routing table on."""
        if self._opened or self._draining is not None:
            return
        self._opened = True
        await self._grpc.start()
        self._gate.start()
        self._acceptor.start()

    def _terminate(self, serving: "asyncio.Task[None]") -> None:
        """SIGTERM without a supervisor's word: drain all the same."""
        if self._draining is None:
            serving.cancel()

    async def _drain(self, grace_s: float) -> None:
        """Last replies, no new connections, wait, close the log. Runs once."""
        if self._draining is not None:
            await asyncio.shield(self._draining)
            return
        self._draining = self._loop.create_future()
        deadline = self._loop.time() + grace_s
        if self._opened:
            await self._shut(grace_s, deadline)
        await self._close(max(1.0, deadline - self._loop.time()))
        self._draining.set_result(None)

    async def _shut(self, grace_s: float, deadline: float) -> None:
        """Answer what has arrived, and take nothing new."""
        self._gate.last_replies()
        self._shelf.stop_holding()
        self._acceptor.stop()
        stopping = self._loop.create_task(self._grpc.stop(grace_s))
        await self._acceptor.settled()
        last_replies_until = self._loop.time() + min(LAST_REPLIES_S, grace_s)
        while self._gate.connections and self._loop.time() < deadline:
            if self._loop.time() >= last_replies_until:
                self._gate.close_idle()
            await asyncio.sleep(DRAIN_LOOK_S)
        await stopping

    async def _close(self, grace_s: float) -> None:
        self._gate.stop()
        for timer in (self._ticker, self._promiser):
            if timer is not None:
                timer.cancel()
        self._shelf.close()
        await self._loop.run_in_executor(None, self._log.close, grace_s)

    def _promise(self) -> None:
        """Tell the log how far the rows that it has not seen reach back."""
        writer = self._log.writer
        writer.advance(self._shelf.oldest_ts_ns(writer.now_ns()))
        self._promiser = self._loop.call_later(self._config.log.flush_ms / 1000, self._promise)

    def _beat(self) -> None:
        """Until the process ends: a drain can hang as well."""
        self._slab.beat()
        self._loop.call_later(BEAT_S, self._beat)

    def _tick(self) -> None:
        self._log.count()
        if self._certificates is not None:
            self._certificates.refresh()
        for model, rows in self._shelf.queued_rows().items():
            self._slab.gauge(catalogue.QUEUE_ROWS, model).set(rows)
        self._ticker = self._loop.call_later(TICK_S, self._tick)


async def _main(config: WorkerConfig) -> None:
    await Worker(config, asyncio.get_running_loop()).run()


def main() -> int:
    """Run a worker; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.worker", description=__doc__)
    parser.add_argument("--config-fd", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    config = read_config(arguments.config_fd)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
