"""Twenty kills of workers, supervisor and monitor at random: the books still balance."""

import json
import random
import time

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import System, wait_for
from tests.kills import kill_one

KILLS = 20
ROWS_PER_S = 400.0


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
            kill_one(rng, system._up.pid, ("worker", "worker", "supervisor", "monitor"))
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
