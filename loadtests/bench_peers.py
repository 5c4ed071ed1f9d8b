"""driftgate beside other servers: one model, one run, one core, in turn.

All of them run for the whole time and are asked in turn, so that whatever else the
machine does falls on all alike. Only the one that is asked has anything to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import h2load
from loadtests.bench_requests import machine
from loadtests.gateway import running
from loadtests.intervals import ratio
from loadtests.model import FEATURES, mlp
from loadtests.peers.requests import Request, Row, v2_binary, v2_grpc, v2_json
from loadtests.peers.servers import Peer, serving
from loadtests.process_tree import own_cpu_s, usage
from loadtests.rounds import grpc_round, http_round, medians

OURS = "driftgate"
TOLERANCE = 1e-5
WARM_UP_S = 2


@dataclass(frozen=True, slots=True)
class Setup:
    """rounds of `seconds` for each peer and form. channels, calls: of gRPC."""

    connections: int = 32
    seconds: int = 3
    rounds: int = 5
    channels: int = 4
    calls: int = 16
    server_core: int = 0
    client_core: int = 1


Key = tuple[str, str]  # peer, form
Figures = dict[str, float]


def measure(environments: Mapping[str, Path], setup: Setup) -> dict[str, Any]:
    """environments: peer -> its virtual environment. Returns the result as it is stored.

    Raises: RuntimeError for a peer that does not start or answers wrongly;
    wrk.WrkError, h2load.H2loadError.
    """
    row = np.random.default_rng(1).normal(0.0, 1.0, (1, FEATURES)).round(4).astype(np.float32)
    model = mlp()
    with ExitStack() as stack:
        peers = [stack.enter_context(ours(model, row, setup))]
        for name, env in environments.items():
            peers.append(stack.enter_context(serving(name, env, model, row, setup.server_core)))
        check(peers, model, row)
        rounds: dict[Key, list[dict[str, float]]] = {}
        for index in range(-1, setup.rounds):  # the first warms up and is not counted
            for peer in peers:
                for request in peer.requests:
                    if request.is_grpc and not h2load.installed():
                        continue
                    figures = _round(peer, request, setup, WARM_UP_S if index < 0 else None)
                    if index >= 0:
                        rounds.setdefault((peer.name, request.form), []).append(figures)
        check(peers, model, row)
        memory = {peer.name: usage(peer.pid).rss_bytes / 2**20 for peer in peers}
    return {
        "benchmark": "peers",
        "what": "1 row of 30 FP32 features a request, one core for each server in turn",
        "setup": asdict(setup),
        "peers": [
            {"name": peer.name, "what": peer.what, "rss_mib": memory[peer.name]} for peer in peers
        ],
        "forms": [_summary(key, found, rounds) for key, found in rounds.items()],
        "machine": machine(),
    }


@contextmanager
def ours(model: bytes, row: Row, setup: Setup) -> Iterator[Peer]:
    with running(model, workers=1, core=setup.server_core) as gateway:
        requests = (
            v2_json(gateway.http_port, row),
            v2_binary(gateway.http_port, row),
            v2_grpc(gateway.grpc_port, row),
        )
        what = "one worker; validation, prediction log and metrics on"
        yield Peer(OURS, what, gateway.pid, requests)


def check(peers: Sequence[Peer], model: bytes, row: Row) -> None:
    """A fast wrong server is no server. Raises: RuntimeError."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": row})[0].reshape(-1)
    for peer in peers:
        for request in peer.requests:
            got = request.read(request.ask())
            if got.shape != expected.shape or not np.allclose(got, expected, atol=TOLERANCE):
                raise RuntimeError(f"{peer.name} answered {got} over {request.form}: {expected}")


def _round(peer: Peer, request: Request, setup: Setup, seconds: int | None) -> dict[str, float]:
    before, seconds = own_cpu_s(peer.pid), seconds or setup.seconds
    if request.is_grpc:
        figures = grpc_round(
            peer.pid, request.url, request.body, reply_bytes=len(request.ask()),
            channels=setup.channels, calls=setup.calls, seconds=seconds, core=setup.client_core,
        )  # fmt: skip
    else:
        figures = http_round(
            peer.pid, request.url, request.body, request.headers,
            connections=setup.connections, seconds=seconds, core=setup.client_core,
        )  # fmt: skip
    if peer.name == "triton":  # its model runs in a child, so this is what C++ takes alone
        answered = figures["requests_per_s"] * seconds
        figures["front_end_cpu_us"] = (own_cpu_s(peer.pid) - before) / answered * 1e6
    return figures


def _summary(
    key: Key, found: Sequence[Figures], rounds: Mapping[Key, Sequence[Figures]]
) -> dict[str, Any]:
    """The medians; times_ours: its CPU over ours in the same form, else over our JSON."""
    name, form = key
    ours = rounds.get((OURS, form)) or rounds[OURS, "HTTP JSON"]
    summary: dict[str, Any] = {
        "peer": name,
        "form": form,
        "median": medians(found),
        "rounds": found,
    }
    if name != OURS:
        pairs = [
            (mine["cpu_us_per_request"], theirs["cpu_us_per_request"])
            for mine, theirs in zip(ours, found, strict=True)
        ]
        summary["times_ours"] = asdict(ratio(pairs))
    return summary
