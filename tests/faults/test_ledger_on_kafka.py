"""Gateway, shipper, monitor and broker are killed at random; every row is accounted for.

What a client was told is held against the topic: each row of its journal is there,
with the values that it sent, or in a gap record; of a durable model none that was
answered is in a gap.
"""

import json
import random
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import System, wait_for
from driftgate.story.training import INPUT
from eventlog import PredictionIds, RecordKind, decode_predictions
from eventlog.core.kafka_message import is_copy
from eventlog.core.record import PREDICTIONS, runs_of
from eventlog.kafka.log import KafkaLog
from eventlog.log import scan
from eventlog.settings import KafkaSettings
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import settings_for_test
from tests.kills import kill_one
from tests.system_on_kafka import OnKafka

ROWS_PER_S = 2000.0
ROWS, KILLS = 200_000, 20
KINDS = ("worker", "worker", "supervisor", "shipper", "monitor", "broker")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def kill_something(rng: random.Random, system: System, broker: Broker) -> None:
    kind = rng.choice(KINDS)
    if kind != "broker":
        assert system._up is not None
        kill_one(rng, system._up.pid, [kind])
        return
    broker.kill()
    time.sleep(rng.uniform(0.0, 5.0))
    broker.start()


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["durable", "async"])
def test_every_acknowledged_row_is_in_the_topic_or_in_a_gap(
    tmp_path, broker: Broker, mode: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kafka = settings_for_test(request_timeout_s=5.0)
    system = OnKafka(tmp_path, ROWS_PER_S, address=broker.address, kafka=kafka, mode=mode)
    with system:
        ensure_first_version(system.registry_dir)
        system.command("log", "init")
        system.start()
        system.send_traffic()
        for mark in [ROWS * (i + 1) / (KILLS + 1) for i in range(KILLS)]:
            wait_for(f"{mark:.0f} rows", lambda mark=mark: system.numbered() >= mark, 300)
            kill_something(rng, system, broker)
        wait_for(f"{ROWS} rows", lambda: system.numbered() >= ROWS, 300)
        system.end_traffic(labels_may_fail=True)
        system.stop()
        restarted_until_drained(system)
        verified = system.command("log", "stats", "--verify")["verified"]
    for line in verified["incarnations"]:
        gaps = sum(line["gaps"].values())
        assert line["acknowledged"] == line["found"] + gaps, line
        assert line["spooled"] == line["missing"] == line["expired"] == 0, line
    total = verified["total"]
    assert total["acknowledged"] >= ROWS
    if mode == "durable":
        # Rows that had a number and no answer yet when their worker was killed. That no
        # answered one is among them is held against the journal below.
        assert set(total["gaps"]) <= {"crash"}, total
    held = journal_against_topic(system, broker.address, kafka)
    assert mode != "durable" or held["in_a_gap"] == 0
    assert held["elsewhere"] == held["other_values"] == 0, held
    print(json.dumps({"total": total, "journal": held}))


def restarted_until_drained(system: OnKafka) -> None:
    """Closing the books of the dead and shipping the rest is the next start's work."""
    system.start()
    system.until_drained()
    system.stop()


def journal_against_topic(system: System, address: str, kafka: KafkaSettings) -> dict[str, int]:
    """Counts of journalled rows, by what became of them."""
    wanted: dict[tuple[str, int], np.ndarray] = {}
    ids = PredictionIds.load(system.state_dir)
    for journal in system.journals:
        journal.refresh()
        sent_rows = journal.rows()
        for sent in journal.requests:
            if sent.failed:
                continue
            found = ids.decode(sent.prediction_id)
            for i in range(sent.rows):
                wanted[found.producer, found.sequence + i] = sent_rows[sent.first_row + i]
    counts = {"rows": len(wanted), "other_values": 0, "in_a_gap": 0, "elsewhere": 0}
    gaps: set[tuple[str, int]] = set()
    seen: set[tuple[str, int]] = set()
    with closing(KafkaLog(address, kafka)) as log:
        for stored in scan(log, log.end()):
            record = stored.record
            if record.stream != PREDICTIONS or not record.rows or is_copy(record):
                continue
            if record.kind is RecordKind.GAP:
                gaps.update(
                    (record.producer, n)
                    for first, c in runs_of(record)
                    for n in range(first, first + c)
                )
                continue
            rows = decode_predictions(record)
            values = rows.inputs[INPUT]
            for i, number in enumerate(rows.sequences().tolist()):
                key = record.producer, number
                if key in wanted and key not in seen:
                    seen.add(key)
                    counts["other_values"] += not np.array_equal(values[i], wanted[key])
    missing = wanted.keys() - seen
    counts["in_a_gap"] = len(missing & gaps)
    counts["elsewhere"] = len(missing - gaps)
    return counts
