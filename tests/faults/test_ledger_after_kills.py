"""Twenty kills of workers, supervisor and monitor at random: the books still balance."""

import json
import os
import random
import signal
import time

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import System, wait_for

KILLS = 20
ROWS_PER_S = 400.0


def children(pid):
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


def victims(up_pid):
    """The pids of supervisor, monitor and workers that run now, by kind."""
    kinds = {"supervisor": [], "monitor": [], "worker": []}
    for pid, words in children(up_pid).items():
        if "serving" in words:
            kinds["supervisor"].append(pid)
            kinds["worker"] += [p for p, w in children(pid).items() if "serving.worker" in w]
        elif "monitor" in words:
            kinds["monitor"].append(pid)
    return kinds


def kill_one(rng, up_pid):
    kind = rng.choice(("worker", "worker", "supervisor", "monitor"))
    pids = wait_for(f"a {kind} to kill", lambda: victims(up_pid)[kind], 60)
    os.kill(rng.choice(pids), signal.SIGKILL)
    return kind


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_the_ledger_is_exact_after_twenty_kills_at_random(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with System(tmp_path, ROWS_PER_S) as system:
        ensure_first_version(system.registry_dir)
        system.start()
        system.send_traffic()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, 3.0))
            kill_one(rng, system._up.pid)
        wait_for("the gateway is whole again", lambda: healthy(system), 60)
        system.end_traffic(labels_may_fail=True)

        def drained():
            lines = system.ledger()
            return None if any(line["spooled"] for line in lines) else lines

        lines = wait_for("the monitor has read the whole log", drained, 120)
        for line in lines:
            gaps = sum(line["gaps"].values())
            assert line["acknowledged"] == line["delivered"] + gaps, line
        answered = {
            sent.prediction_id: sent.rows
            for journal in system.journals
            for sent in journal.requests
            if not sent.failed
        }
        assert sum(answered.values()) <= sum(line["acknowledged"] for line in lines)
        assert len(answered) > 100
        print(json.dumps({"acknowledged": sum(line["acknowledged"] for line in lines)}))


def healthy(system):
    try:
        return len(system.workers()) == 2 and system.reachable(
            f"http://127.0.0.1:{system.ports.monitor}/healthz"
        )
    except OSError:
        return False
