"""Events of rows with a schema registry: registered once, and never in the records' way."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from eventlog import encode_predictions, fake_rows
from eventlog.core.confluent import EVENT_SCHEMA, schema_frame
from eventlog.core.marks import heartbeat_record
from eventlog.core.prediction_id import IdCodec
from eventlog.kafka.row_events import RETRY_S, RowEvents
from eventlog.kafka.schema_registry import RegistryError, register
from eventlog.settings import KafkaSettings

RECORD = encode_predictions(fake_rows(0, 3, model="fraud"), "0a0b0c", 0)
CODEC = IdCodec([bytes(range(32))])


class Registry(ThreadingHTTPServer):
    """What was asked, and what to answer."""

    asked: list
    answer: tuple[int, bytes] = (200, b'{"id": 41}')

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings(**values: object) -> KafkaSettings:
    return KafkaSettings(rows_topic="team/rows", **values)


def test_the_schema_is_registered_once_with_the_credentials(registry, tmp_path):
    (tmp_path / "password").write_text("s3cret\n")
    rows = RowEvents(
        settings(
            schema_registry=registry.url + "/",
            schema_registry_username="me",
            schema_registry_password_file=str(tmp_path / "password"),
        ),
        CODEC,
    )
    for _ in range(3):
        messages = rows.messages(RECORD)
        assert len(messages) == 6
        assert all(message.value.startswith(schema_frame(41) + b"{") for message in messages)
    ((path, headers, body),) = registry.asked
    assert path == "/subjects/team%2Frows-value/versions"
    assert base64.b64decode(headers["Authorization"].partition(" ")[2]) == b"me:s3cret"
    assert body["schemaType"] == "JSON"
    assert json.loads(body["schema"]) == EVENT_SCHEMA
    ids = {dict(message.headers)["ce_id"] for message in messages}
    assert len(ids) == 3
    assert CODEC.decode(ids.pop().decode().rpartition(".")[0]).producer == "0a0b0c"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((409, b'{"error_code":409,"message":"incompatible"}'), "answers 409: .*incompatible"),
        ((200, b"[]"), "no schema id"),
        ((200, b'{"id": "x"}'), "no schema id"),
        ((200, b"<html>"), "cannot be asked"),
    ],
)
def test_a_registry_that_refuses_or_babbles_is_named(registry, answer, message):
    registry.answer = answer
    with pytest.raises(RegistryError, match=message):
        register(settings(schema_registry=registry.url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd", "nonsense"])
def test_an_address_where_no_registry_answers_is_named(url):
    with pytest.raises(RegistryError):
        register(settings(schema_registry=url))


def test_without_its_registry_rows_are_left_out_counted_and_tried_again_later(caplog):
    now, calls = [0.0], []

    def ask(_: KafkaSettings) -> int:
        calls.append(now[0])
        if len(calls) < 2:
            raise RegistryError("it is away")
        return 7

    rows = RowEvents(
        settings(schema_registry="http://x"), CODEC, register=ask, clock=lambda: now[0]
    )
    assert rows.messages(RECORD) == rows.messages(RECORD) == []
    assert (rows.left_out, calls) == (12, [0.0])
    assert caplog.text.count("it is away") == 1
    now[0] = RETRY_S
    assert len(rows.messages(RECORD)) == 6
    assert calls == [0.0, RETRY_S]


def test_an_id_from_the_configuration_needs_no_registry_and_none_means_plain_json():
    framed = RowEvents(settings(schema_id=9), None).messages(RECORD)
    assert framed[0].value.startswith(schema_frame(9))
    plain = RowEvents(settings(), None).messages(RECORD)
    assert json.loads(plain[0].value)["id"] == "0a0b0c/0.0"


def test_what_no_broker_would_take_is_left_out_and_counted():
    rows = RowEvents(settings(message_bytes_max=2100), None)
    assert rows.messages(RECORD) == []
    assert rows.left_out == 6


def test_other_records_and_no_topic_give_nothing():
    assert RowEvents(settings(), None).messages(heartbeat_record("0a0b0c", 0, 1)) == []
    assert RowEvents(KafkaSettings(), None).messages(RECORD) == []
