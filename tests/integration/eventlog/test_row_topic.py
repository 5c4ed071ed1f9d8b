"""The topic of rows: what a shipper puts there, and that it never keeps a record back."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventlog import PredictionIds, encode_predictions, fake_rows
from eventlog.core.confluent import unframed
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.figures import read_figures
from eventlog.kafka.row_events import RETRY_S, RowEvents
from eventlog.kafka.row_topic import RowTopic
from eventlog.kafka.sender import Addressed
from eventlog.settings import KafkaSettings
from tests.broker.topics import make_topics, read_topic, run, settings_for_test
from tests.shipping import Producer, ShipperProcess, eventually

A = "aaaaaa"
RECORD = encode_predictions(fake_rows(0, 3), A, 0)


class Outlet:
    """Fails while `away`."""

    def __init__(self) -> None:
        self.sent: list[Addressed] = []
        self.away, self.calls, self.closed = True, 0, False

    async def send_messages(self, messages: Sequence[Addressed]) -> None:
        self.calls += 1
        if self.away:
            raise Unavailable("no such topic")
        self.sent += messages

    async def close(self, timeout_s: float) -> None:
        self.closed = True


def test_a_topic_that_does_not_take_rows_is_counted_said_once_and_asked_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, outlet = [0.0], Outlet()
    events = RowEvents(KafkaSettings(rows_topic="rows"), None)
    topic = RowTopic(events, outlet, clock=lambda: now[0])
    for _ in range(3):
        run(topic.publish([RECORD, RECORD]))
    assert (topic.left_out, outlet.calls) == (36, 1)
    assert caplog.text.count("no such topic") == 1
    now[0], outlet.away = RETRY_S, False
    run(topic.publish([RECORD]))
    assert (topic.left_out, len(outlet.sent)) == (36, 6)
    assert {item.topic for item in outlet.sent} == {"rows"}


@pytest.mark.parametrize("there", [True, False])
def test_a_shipper_sends_rows_beside_its_records(kafka: str, tmp_path: Path, there: bool) -> None:
    settings = settings_for_test()
    settings = replace(settings, rows_topic=f"{settings.namespace}.rows", schema_id=5)
    make_topics(kafka, settings)
    if there:
        run(make_topic(kafka, settings.rows_topic))
    process = ShipperProcess(tmp_path / "state", kafka, settings)
    producer = Producer(process.log_dir, A)
    producer.write(40)
    producer.end()
    process.start()
    try:
        process.until_shipped({A: producer.rows})
        if not there:
            eventually(lambda: left_out(tmp_path) > 0, "what is left out is counted")
    finally:
        assert process.stop() == 0
    if not there:
        return
    codec = PredictionIds.load(tmp_path / "state").codec
    by_kind: dict[str, set[int]] = {}
    for message in read_topic(kafka, settings.rows_topic):
        headers = dict(message.headers)
        document = json.loads(unframed(message.value))
        assert message.value[:5] == b"\0\0\0\0\5"
        assert message.key == headers["ce_inferenceservicename"]
        assert document["id"].encode() == headers["ce_id"]
        request = codec.decode(document["id"].rpartition(".")[0])
        by_kind.setdefault(headers["ce_type"].decode().rpartition(".")[2], set()).add(
            request.sequence
        )
    gaps = sum(process.lines()[A].gaps.values())
    assert {kind: len(found) for kind, found in by_kind.items()} == {
        "request": producer.rows - gaps,
        "response": producer.rows - gaps,
    }
    assert left_out(tmp_path) == 0


def left_out(tmp_path: Path) -> int:
    figures = read_figures(tmp_path / "state" / "run")
    return figures.events_left_out if figures else 0


async def make_topic(address: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1)])
    finally:
        await admin.close()
