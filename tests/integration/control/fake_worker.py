"""A worker without a data plane: speaks the channel, and writes down what it was told.

A model whose file contains `cannot load` fails to load, one with `slow to load`
takes a second, one with `ends the worker` ends it. `run/<incarnation>.told` holds
the routing table it applied last, `run/<incarnation>.loads` when each load began and ended.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from google.protobuf import json_format

from protos import channel_pb2 as pb
from serving import metrics
from serving.channel import Endpoint, accept, listen


class FakeWorker:
    def __init__(self, document: dict) -> None:  # type: ignore[type-arg]
        self.incarnation = document["incarnation"]
        run = Path(document["state_dir"]) / "run"
        self.listener = listen(run / f"{self.incarnation}.sock")
        self.told = run / f"{self.incarnation}.told"
        self.loads = run / f"{self.incarnation}.loads"
        self.slab = metrics.MetricsSlab(run / f"{self.incarnation}.metrics")
        self.slab.counter(metrics.ROWS, "digits", "1").inc(10)
        self.slab.gauge(metrics.QUEUE_ROWS, "digits").set(3)
        self.orphan_s = document["orphan_s"]
        self.http_fd = document["http_fd"]

    async def run(self) -> None:
        while True:
            async with asyncio.timeout(self.orphan_s):
                endpoint = await accept(self.listener, pb.ToWorker)
            try:
                if await self.converse(endpoint):
                    return
            except OSError:
                pass
            finally:
                endpoint.close()

    async def beat(self) -> None:
        while True:
            self.slab.beat()
            await asyncio.sleep(0.1)

    async def converse(self, endpoint: Endpoint[pb.ToWorker]) -> bool:
        started = pb.Started(pid=os.getpid(), incarnation=self.incarnation)
        await endpoint.send(pb.FromWorker(started=started), [self.http_fd])
        while (received := await endpoint.receive()) is not None:
            message, fds = received
            kind = message.WhichOneof("message")
            if kind == "load":
                await endpoint.send(await self.load(message.load, fds))
            elif kind == "unload":
                unload = message.unload
                unloaded = pb.Unloaded(model=unload.model, version=unload.version)
                await endpoint.send(pb.FromWorker(unloaded=unloaded))
            elif kind == "set_routes":
                document = json_format.MessageToDict(
                    message.set_routes, preserving_proto_field_name=True
                )
                scratch = self.told.with_suffix(".new")
                scratch.write_text(json.dumps(document))
                os.replace(scratch, self.told)
                applied = pb.RoutesApplied(epoch=message.set_routes.epoch)
                await endpoint.send(pb.FromWorker(routes_applied=applied))
            elif kind == "explain":  # it has no batchers
                explained = pb.Explained(id=message.explain.id)
                await endpoint.send(pb.FromWorker(explained=explained))
            elif kind == "drain":
                await asyncio.sleep(0.1)
                await endpoint.send(pb.FromWorker(drained=pb.Drained()))
                return True
        return False

    async def load(self, load: pb.Load, fds: list[int]) -> pb.FromWorker:
        assert len(fds) == len(load.files)
        content = os.pread(fds[0], load.files[0].size, 0)
        for fd in fds:
            os.close(fd)
        identity = {"model": load.model, "version": load.version, "digest": load.digest}
        began_ns = time.monotonic_ns()
        if b"slow to load" in content:
            await asyncio.sleep(1.0)
        with self.loads.open("a") as file:
            file.write(f"{load.version} {began_ns} {time.monotonic_ns()}\n")
        if b"ends the worker" in content:
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"cannot load" in content:
            reason = "the golden samples do not come out"
            return pb.FromWorker(load_failed=pb.LoadFailed(**identity, reason=reason))
        return pb.FromWorker(loaded=pb.Loaded(**identity, batchable=True, load_ns=1_000_000))


async def main(document: dict) -> None:  # type: ignore[type-arg]
    worker = FakeWorker(document)
    beating = asyncio.create_task(worker.beat())
    try:
        await worker.run()
    except TimeoutError:
        print("orphan", file=sys.stderr)
    finally:
        beating.cancel()
        worker.listener.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-fd", type=int, required=True)
    with os.fdopen(parser.parse_args().config_fd, "rb") as file:
        config = json.load(file)
    crash = Path(config["state_dir"]) / "crash"
    if crash.exists():
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(main(config))
