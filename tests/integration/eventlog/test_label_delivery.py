"""Messages of labels to a gateway, whatever it answers, and to the dead letters."""

import asyncio
import importlib.util
import json
import re
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import jsonschema_rs
import pytest

from eventlog.core.kafka_message import Message
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.label_delivery import LabelDelivery, Outcome, Received
from eventlog.kafka.label_gateway import BROKEN_TRIES, GatewayAway, LabelGateway
from eventlog.kafka.sender import Addressed
from loadtests.gateway import free_ports
from tests.broker.authority import Authority
from tests.conftest import ROOT
from tests.label_gateway import ALIEN, Gateway, ids, label_gateway

SCHEMA = jsonschema_rs.validator_for(
    json.loads((ROOT / "docs" / "examples" / "label-message.schema.json").read_text())
)
DONE = Outcome((), "")
TOPIC, LETTERS = "truth", "n.predictions.dlq.v1"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with label_gateway() as found:
        yield found


class Letters:
    """Takes letters, unless it is away, or they are larger than `bytes_max`."""

    def __init__(self) -> None:
        self.found: list[Addressed] = []
        self.away, self.bytes_max = False, 10**6

    async def send_messages(self, messages: Sequence[Addressed]) -> None:
        if self.away:
            raise Unavailable("kafka cannot be used")
        for index, item in enumerate(messages):
            if len(item.message.value) > self.bytes_max:
                raise Unsendable(index, "too large")
        self.found += messages

    async def close(self, timeout_s: float) -> None:
        pass


class World:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.letters = gateway, Letters()
        client = LabelGateway(gateway.url, sleep=lambda _: None)
        self.delivery = LabelDelivery(TOPIC, client, self.letters, LETTERS, 1000)

    def deliver(self, *received: Received) -> Outcome:
        return asyncio.run(self.delivery.deliver(received))

    def reasons(self) -> dict[tuple[str, str], str]:
        found = {}
        for item in self.letters.found:
            assert (item.topic, item.partition) == (LETTERS, 0)
            headers = {name: value.decode() for name, value in item.message.headers}
            assert headers["dlq.topic"] == TOPIC
            found[headers["dlq.partition"], headers["dlq.offset"]] = headers["dlq.reason"]
        return found


@pytest.fixture
def world(gateway: Gateway) -> World:
    return World(gateway)


def received(offset: int, value: object, partition: int = 0, key: bytes = b"m") -> Received:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Received(partition, offset, Message(key, raw, (("h", b"1"),), 5))


def good(offset: int, partition: int = 0) -> Received:
    (prediction_id,) = ids(100)[offset : offset + 1]
    return received(offset, {"prediction_id": prediction_id, "label": 1}, partition)


def offsets(outcome: Outcome) -> list[int]:
    return [item.offset for item in outcome.left]


def test_many_messages_share_a_request(world: World) -> None:
    batch = received(3, [{"prediction_id": f"{name}.1", "label": "a"} for name in ids(2)])
    outcome = world.deliver(good(0), good(1), batch)
    assert outcome == DONE
    assert [(label.row, label.value) for label in world.gateway.labels] == [
        (0, 1.0), (0, 1.0), (1, "a"), (1, "a"),
    ]  # fmt: skip
    assert (world.gateway.requests, world.delivery.labels) == (1, 4)
    assert world.letters.found == []


BAD = {
    "issued elsewhere": ({"prediction_id": ids(1, ALIEN)[0], "label": 1}, "was not issued here"),
    "no id": ({"label": 1}, "'prediction_id' must be a string"),
    "no label": ({"prediction_id": ids(1)[0]}, "'label' must be a finite number"),
    "label of a kind": ({"prediction_id": ids(1)[0], "label": [1]}, "'label' must be"),
    "label too long": ({"prediction_id": ids(1)[0], "label": "x" * 1025}, "1024 characters"),
    "row": ({"prediction_id": f"{ids(1)[0]}.x", "label": 1}, "is not a number from 0"),
    "time": ({"prediction_id": ids(1)[0], "label": 1, "ts": "yesterday"}, "'ts' must be"),
    "time without zone": (
        {"prediction_id": ids(1)[0], "label": 1, "ts": "2026-01-01T00:00:00"}, "'ts' must be",
    ),
    "one of many": (
        [{"prediction_id": ids(1)[0], "label": 1}, {"prediction_id": "?", "label": 1}],
        "label 1: prediction_id '?' was not issued here",
    ),
    "too many": ([{"prediction_id": "a", "label": 1}] * 65_537, "at most 65536 labels"),
    "model": ({"model": "other", "prediction_id": ids(1)[0], "label": 1}, "unknown model other"),
    "not JSON": (b"{", "it is not JSON"),
    "empty": (b"", "it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_what_the_gateway_refuses_is_a_dead_letter_and_the_rest_is_taken(
    world: World, bad: str
) -> None:
    value, reason = BAD[bad]
    outcome = world.deliver(good(0), good(1), received(2, value, partition=4), good(3))
    assert outcome == DONE
    assert len(world.gateway.labels) == 3
    assert list(world.reasons()) == [("4", "2")]
    assert reason in world.reasons()["4", "2"]
    (letter,) = world.letters.found
    assert letter.message.key == b"m"
    assert ("h", b"1") in letter.message.headers
    assert (world.delivery.labels, world.delivery.refused, world.delivery.dropped) == (3, 1, 0)


def test_a_letter_is_cut_to_what_fits_and_says_so(world: World) -> None:
    world.deliver(received(0, b"x" * 5000))
    (letter,) = world.letters.found
    assert len(letter.message.value) < 1000
    assert dict(letter.message.headers)["dlq.value_bytes"] == b"5000"


@pytest.mark.parametrize(("bytes_max", "dropped"), [(10, 0), (-1, 1)])
def test_a_letter_that_is_not_taken_goes_without_its_value_or_is_counted(
    world: World, bytes_max: int, dropped: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.letters.bytes_max = bytes_max
    outcome = world.deliver(received(0, b"x" * 500), good(1))
    assert outcome == DONE
    assert (world.delivery.refused, world.delivery.dropped) == (1 - dropped, dropped)
    assert ("dropped" in caplog.text) == bool(dropped)
    assert len(world.gateway.labels) == 1


@pytest.mark.parametrize("status", [408, 429, 502, 503])
def test_a_busy_gateway_leaves_what_it_did_not_take(world: World, status: int) -> None:
    world.gateway.busy, world.gateway.busy_status = 1, status
    outcome = world.deliver(received(0, b"?"), good(1), good(2, partition=1))
    assert offsets(outcome) == [1, 2]
    assert f"{status}, try again" in outcome.problem
    assert world.delivery.refused == 1
    assert world.deliver(*outcome.left) == DONE
    assert len(world.gateway.labels) == 2


def test_what_was_taken_before_it_became_busy_is_not_sent_again(world: World) -> None:
    world.gateway.models.add("n")

    def seen(_: object) -> None:
        world.gateway.busy = 1

    world.gateway.seen = seen
    other = received(1, {"model": "n", "prediction_id": ids(1)[0], "label": 1})
    outcome = world.deliver(good(0), other)
    assert offsets(outcome) == [1]


def test_a_gateway_that_is_not_ready_may_not_know_its_models_yet(world: World) -> None:
    world.gateway.models, world.gateway.ready = set(), False
    outcome = world.deliver(good(0))
    assert (offsets(outcome), world.letters.found) == ([0], [])
    world.gateway.models, world.gateway.ready = {"m"}, True
    assert world.deliver(*outcome.left) == DONE


def test_a_message_on_which_the_gateway_fails_does_not_hold_up_the_others(world: World) -> None:
    answer = world.gateway.answer

    def fragile(model: str, body: bytes) -> tuple[int, dict[str, object]]:
        return (500, {"error": "oh"}) if b'"poison"' in body else answer(model, body)

    world.gateway.answer = fragile  # type: ignore[method-assign]
    poison = received(1, {"prediction_id": ids(1)[0], "label": "poison"})
    assert world.deliver(good(0), poison, good(2)) == DONE
    assert world.reasons() == {("0", "1"): "the gateway fails on it: oh"}
    assert len(world.gateway.labels) == 2


def test_a_gateway_that_fails_once_is_asked_again(world: World) -> None:
    world.gateway.busy, world.gateway.busy_status = BROKEN_TRIES - 1, 500
    assert world.deliver(good(0)) == DONE
    assert (len(world.gateway.labels), world.letters.found) == (1, [])


def test_no_gateway_at_all_is_said_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(GatewayAway, match="no gateway answers at"):
        LabelGateway(url).post("m", b"[]")


def test_over_tls_the_gateways_own_certificate_is_trusted_and_no_other(
    gateway: Gateway, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ca").create()
    mine, key = authority.issue("mine")
    other, _ = authority.issue("other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)
    gateway.server.socket = context.wrap_socket(gateway.server.socket, server_side=True)
    url = gateway.url.replace("http:", "https:")
    body = json.dumps([{"prediction_id": ids(1)[0], "label": 1}]).encode()
    assert LabelGateway(url, str(mine)).post("m", body) == ""
    assert len(gateway.labels) == 1
    for untrusted in (str(other), ""):
        with pytest.raises(GatewayAway, match="certificate"):
            LabelGateway(url, untrusted).post("m", body)
    with pytest.raises(GatewayAway, match="No such file"):
        LabelGateway(url, str(tmp_path / "gone")).post("m", body)


def test_while_dead_letters_cannot_be_written_their_messages_are_left(world: World) -> None:
    world.letters.away = True
    outcome = world.deliver(good(0), received(1, b"?"))
    assert offsets(outcome) == [0, 1]
    assert outcome.problem == "kafka cannot be used"
    world.letters.away = False
    assert world.deliver(*outcome.left) == DONE
    assert world.delivery.refused == 1


def test_a_model_is_a_name_and_no_path(world: World) -> None:
    world.deliver(received(0, {"model": "../../v2/models/m", "prediction_id": "a", "label": 1}))
    assert list(world.reasons()) == [("0", "0")]
    assert world.gateway.labels == []


def test_the_page_and_the_example_show_messages_that_are_taken(world: World) -> None:
    page = (ROOT / "docs" / "kafka.md").read_text()
    blocks = [
        block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "ID.0" in block
    ]
    (piped,) = re.findall(r"echo '(.*)' \| kcat -P", page)
    key, value = _example("send_labels").message("m", {"ID.0": 1.0, "ID.1": "a"}, "me")
    assert key == b"m"
    forms = [block.replace('"fraud"', '"m"') for block in (*blocks, piped, value.decode())]
    assert len(forms) == 5
    (prediction_id,) = ids(1)
    for offset, text in enumerate(forms):
        assert SCHEMA.is_valid(json.loads(text))
        assert world.deliver(received(offset, text.replace("ID", prediction_id).encode())) == DONE
    assert world.letters.found == []
    assert world.delivery.labels == 8


@pytest.mark.parametrize(
    "document",
    [
        *(BAD[name][0] for name in ("no id", "no label", "label of a kind", "label too long")),
        {"prediction_id": 3, "label": 1},
        {"prediction_id": ids(1)[0], "label": None},
        {"prediction_id": ids(1)[0], "label": 2**64},
        {"prediction_id": ids(1)[0], "label": 1, "ts": -1},
        {"prediction_id": ids(1)[0], "label": 1, "ts": 2**33},
        {"prediction_id": ids(1)[0], "label": 1, "ts": True},
        {"prediction_id": ids(1)[0], "label": 1, "model": 3},
        {"prediction_id": ids(1)[0], "label": 1, "model": ""},
        {"prediction_id": ids(1)[0], "label": 1, "source": "x" * 257},
        {"prediction_id": ids(1)[0], "label": 1, "labels": 3},
        {"labels": {}},
        {"labels": [3]},
        [[]],
        "text",
        None,
    ],
)
def test_what_the_schema_excludes_is_refused(world: World, document: object) -> None:
    assert not SCHEMA.is_valid(document)
    assert world.deliver(received(0, document)) == DONE
    assert world.delivery.refused == 1


def _example(name: str) -> ModuleType:
    path = ROOT / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
