"""Several processes on one registry, one of them killed at any point."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry_client import EmbeddedRegistry, FileRole
from tests.registry_models import plain_model

ROOT = Path(__file__).parents[3]
PROCESSES = 4

RACE_ALIAS = """
import json, sys
from pathlib import Path
from registry_client import Conflict, EmbeddedRegistry
registry = EmbeddedRegistry(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
won = lost = 0
while won < 10:
    current = registry.aliases("m")["champion"]
    try:
        registry.set_alias("m", "champion", str(int(current) % 50 + 1), expected=current)
        won += 1
    except Conflict:
        lost += 1
print(json.dumps({"won": won, "lost": lost}))
"""

PUSH = """
import json, sys
from pathlib import Path
from registry_client import EmbeddedRegistry, FileRole
registry = EmbeddedRegistry(Path(sys.argv[1]))
model = sys.stdin.buffer.read(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.buffer.readline()
pushed = []
for number in range(int(sys.argv[3])):
    files = {"model.onnx": (FileRole.MODEL, model), "e": (FileRole.EXTRA, b"%d" % number)}
    pushed.append(registry.push("m", files).version)
    print(pushed[-1], flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def test_every_move_of_an_alias_by_racing_processes_builds_on_the_one_before(
    tmp_path: Path,
) -> None:
    registry = EmbeddedRegistry(tmp_path)
    for _ in range(50):
        registry.push("m", {"model.onnx": (FileRole.MODEL, plain_model())})
    registry.set_alias("m", "champion", "1")
    processes = [start(RACE_ALIAS, tmp_path) for _ in range(PROCESSES)]
    for process in processes:
        wait_ready(process)
    for process in processes:
        go(process)
    results = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [result["won"] for result in results] == [10] * PROCESSES
    history = registry.alias_history("m", "champion")
    assert [change.serial for change in history] == list(range(1, 42))
    versions = [change.version for change in history]
    assert [change.previous for change in history] == [None, *versions[:-1]]
    assert registry.aliases("m") == {"champion": versions[-1]}


def test_racing_pushes_get_a_version_each(tmp_path: Path) -> None:
    model = plain_model()
    processes = [start(PUSH, tmp_path, len(model), 8) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(model)
        process.stdin.flush()
    for process in processes:
        wait_ready(process)
    for process in processes:
        go(process)
    pushed = [process.communicate(timeout=120)[0].split() for process in processes]
    registry = EmbeddedRegistry(tmp_path)
    versions = [int(version) for one in pushed for version in one]
    assert sorted(versions) == list(range(1, 33))
    assert registry.versions("m") == [str(number) for number in range(1, 33)]
    assert registry.verify("m") == []


@pytest.mark.parametrize("after_ms", [0, 5, 20, 60])
def test_a_killed_push_leaves_whole_versions_only(tmp_path: Path, after_ms: int) -> None:
    model = plain_model()
    process = start(PUSH, tmp_path, len(model), 10_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(model)
    process.stdin.flush()
    wait_ready(process)
    go(process)
    assert process.stdout.readline() == b"1\n"
    time.sleep(after_ms / 1000)  # where in a push the kill falls is the point, not when
    process.send_signal(signal.SIGKILL)
    said = process.communicate(timeout=60)[0].split()
    registry = EmbeddedRegistry(tmp_path)
    versions = registry.versions("m")
    assert versions == [str(number) for number in range(1, len(versions) + 1)]
    assert len(versions) >= 1 + len(said)
    assert registry.verify("m") == []
    assert registry.push("m", {"model.onnx": (FileRole.MODEL, model)}).version == str(
        len(versions) + 1
    )
    assert registry.verify("m") == []
