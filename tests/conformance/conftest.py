"""A server for the clients: the one that OIP_URL and OIP_GRPC_URL name, or a gateway.

Nothing of the suite knows what serves. OIP_URL is the HTTP host and port of a
server, OIP_GRPC_URL its gRPC host and port; it must serve the folder that
`python tests/conformance/graphs.py FOLDER` writes.
"""

import ast
import dataclasses
import http.client
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance import cases, graphs, wire

HERE = Path(__file__).parent
START_S = 60.0
CLIENT_S = 120.0


@dataclass(frozen=True)
class Server:
    """Where to call, host and port. models: those of the suite that it serves."""

    http: str
    grpc: str
    is_ours: bool
    models: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """One thing that a client process tried. error: None if it went well."""

    group: str
    name: str
    error: str | None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if "OIP_URL" in os.environ:
        address = os.environ["OIP_URL"].removeprefix("http://").rstrip("/")
        models = frozenset(graphs.models()) & _listed(address)
        yield Server(address, os.environ["OIP_GRPC_URL"], is_ours=False, models=models)
        return
    folder = tmp_path_factory.mktemp("conformance")
    graphs.write_repository(folder / "models")
    ports = {
        f"DRIFTGATE_GATEWAY__{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS", "ADMIN")
    }
    with (folder / "gateway.log").open("w+") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "driftgate", "serve", "--state-dir", str(folder / "state")),
                *("--model-repository", str(folder / "models")),
            ],
            env={**os.environ, **ports, "DRIFTGATE_GATEWAY__WORKERS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield _announced(process, folder / "gateway.log")
        finally:
            process.terminate()
            process.wait(START_S)
            assert process.stdout is not None
            process.stdout.close()


def _announced(process: "subprocess.Popen[str]", log: Path) -> Server:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            places = dict(word.split("=", 1) for word in line.split()[1:])
            address = places["http"].removeprefix("http://")
            models = frozenset(graphs.models())
            return Server(address, places["grpc"], is_ours=True, models=models)
    pytest.fail(f"the gateway did not start: {log.read_text()[-2000:]}")


def _listed(address: str) -> set[str]:
    """The models of another server: some cannot have all (Triton has no rank 0)."""
    connection = http.client.HTTPConnection(address, timeout=START_S)
    connection.request("POST", "/v2/repository/index", b"{}")
    index = json.loads(connection.getresponse().read())
    connection.close()
    return {model["name"] for model in index}


@pytest.fixture(scope="session")
def table(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases with ONNX Runtime's answers, as a file for the clients."""
    models = graphs.models()
    moves_data = ("one", "open", "many", "scalar")
    answered = [
        dataclasses.replace(
            case,
            outputs=cases.answer(models[case.model], case),
            # Another build of the runtime may add in another order.
            exact=server.is_ours or case.model.startswith(moves_data),
        )
        for case in served(cases.table(), server)
    ]
    path = tmp_path_factory.mktemp("cases") / "cases.json"
    wire.save_cases(path, answered)
    return path


# (interpreter, file of the client, kind of it) -> what it did, by group.
RunClient = Callable[[str, str, str], dict[str, list[Outcome]]]


def checks_of(script: str) -> list[str]:
    """The names of the checks in a client's file, which cannot be imported here."""
    tree = ast.parse((HERE / script).read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in names if name.startswith("check_")]


def served(cases: list[wire.Case], server: Server) -> list[wire.Case]:
    """What a server can be asked."""
    return [case for case in cases if case.model in server.models]


def expected_names(cases: list[wire.Case], server: Server, datatype: str) -> list[str]:
    return [case.name for case in served(cases, server) if case.datatype == datatype]


@pytest.fixture(scope="session")
def run_client(server: Server, table: Path) -> RunClient:
    """Runs a client's process once, however often it is asked."""
    done: dict[tuple[str, str], dict[str, list[Outcome]]] = {}

    def run(python: str, script: str, kind: str) -> dict[str, list[Outcome]]:
        if (script, kind) not in done:
            address = server.grpc if kind.startswith("grpc") else server.http
            process = subprocess.run(
                [python, str(HERE / script), kind, address, str(table)],
                capture_output=True,
                text=True,
                timeout=CLIENT_S,
                check=False,
                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            )
            assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
            done[script, kind] = _outcomes(process.stdout)
        return done[script, kind]

    return run


def _outcomes(lines: str) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for line in lines.splitlines():
        outcome = Outcome(**json.loads(line))
        groups[outcome.group].append(outcome)
    return groups
