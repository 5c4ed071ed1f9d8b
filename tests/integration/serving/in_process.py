"""A data plane with one version and its HTTP port, on the loop of the test."""

import asyncio
import time
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace
from unittest.mock import MagicMock

from eventlog.settings import ModelLogSettings
from serving.core.latency import LatencyProfile
from serving.core.log_policy import log_policy
from serving.core.queue_settings import QueueSettings
from serving.core.routing import Arm, RoutingTable, make_route
from serving.settings import LimitSettings
from serving.worker.dataplane import DataPlane
from serving.worker.http_gate import HttpGate
from serving.worker.http_protocol import GatewayProtocol
from serving.worker.log_shape import LogShape
from serving.worker.log_tap import LogMode, LogTap
from serving.worker.reply_packer import ReplyPacker
from serving.worker.run_threads import RunThreads
from serving.worker.version import Version

WAIT_S = 30
LIMITS = LimitSettings()


@asynccontextmanager
async def gateway(
    signature, session, *, inline=True, profile=None, connection=GatewayProtocol, wait_ns_max=0
):
    """Serves `session` as model "m", version "1". connection: makes one for a gate."""
    loop = asyncio.get_running_loop()
    with closing(RunThreads(loop, 1)) as threads:
        plane = DataPlane(LIMITS, MagicMock(), threads=threads)
        shape = LogShape(signature, log_policy(signature, ModelLogSettings(), {}), None)
        tap = LogTap(None, signature, "d", LogMode.OFF, 1.0, lambda: 0.0, shape)
        version = Version(
            loop, time.monotonic_ns, signature, "d", session, threads, plane.admission,
            MagicMock(), tap, {}, QueueSettings(), inline=inline,
            profile=profile or LatencyProfile(), wait_ns_max=wait_ns_max,
        )  # fmt: skip
        arm = Arm(version, "1", "stable", "", 100)
        plane.table = RoutingTable(1, {"m": make_route("m", "s", [arm], {})})
        packer = ReplyPacker(loop, 0)
        gate = HttpGate(loop, plane, None, packer)
        server = await loop.create_server(lambda: connection(gate), "127.0.0.1", 0)
        try:
            async with asyncio.timeout(WAIT_S):
                yield SimpleNamespace(
                    port=server.sockets[0].getsockname()[1], plane=plane, gate=gate
                )
            assert plane.admission.bytes == 0
        finally:
            server.close()
            packer.close()
            while gate.connections:  # the loop cannot be closed before they are
                for each in list(gate.connections):
                    each.transport.abort()
                await asyncio.sleep(0)
