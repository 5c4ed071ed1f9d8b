"""Finding the processes of `driftgate up`, and killing one of them."""

import os
import random
import signal
from collections.abc import Sequence

from driftgate.story.system import wait_for

MODULES = {"serving": "supervisor", "monitor": "monitor", "eventlog.kafka": "shipper"}


def children(pid: int) -> dict[int, list[str]]:
    """Direct children of `pid`, by command line."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(f"/proc/{entry}/cmdline") as file:
                words = file.read().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found[int(entry)] = words
    return found


def victims(up_pid: int, kind: str) -> list[int]:
    """The pids of a kind of process that run now: a module's, or `worker`."""
    found: dict[str, list[int]] = {}
    for pid, words in children(up_pid).items():
        for module in MODULES.keys() & set(words):
            found.setdefault(MODULES[module], []).append(pid)
    if kind == "worker":
        supervisors = found.get("supervisor", [])
        return [
            worker
            for pid in supervisors
            for worker, words in children(pid).items()
            if "serving.worker" in words
        ]
    return found.get(kind, [])


def kill_one(rng: random.Random, up_pid: int, kinds: Sequence[str]) -> str:
    kind = rng.choice(kinds)
    pids: list[int] = wait_for(f"a {kind} to kill", lambda: victims(up_pid, kind), 60)
    os.kill(rng.choice(pids), signal.SIGKILL)
    return kind
