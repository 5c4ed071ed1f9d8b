"""Messages of labels: what is understood, what is refused and why, what shares a request."""

from typing import Any

import orjson
import pytest

from eventlog.core.kafka_message import Message
from eventlog.core.label_message import (
    MODEL_CHARACTERS_MAX,
    POST_BYTES_MAX,
    POST_LABELS_MAX,
    SOURCE_CHARACTERS_MAX,
    LabelMessage,
    LabelMessageError,
    parse_label_message,
    posts,
    request_body,
)

ONE = {"prediction_id": "ID.0", "label": 1}
TWO = {"prediction_id": "ID.1", "label": "spam", "ts": "2026-11-21T04:00:00Z"}


def parse(value: bytes, key: bytes | None = None) -> LabelMessage:
    return parse_label_message(Message(key, value, (), 0))


def labels(message: LabelMessage) -> Any:
    return orjson.loads(request_body([message]))


@pytest.mark.parametrize(
    ("document", "key", "model", "wanted"),
    [
        ({"model": "m", **ONE}, None, "m", [ONE]),
        ({"model": "m", **ONE}, b"other", "m", [ONE]),
        (TWO, b"m", "m", [TWO]),
        ({**ONE, "model": None}, b"m", "m", [ONE]),
        ({"model": "m", "labels": [ONE, TWO], "source": "chargebacks"}, None, "m", [ONE, TWO]),
        ({"model": "m", "labels": []}, None, "m", []),
        ([ONE, TWO], "größe".encode(), "größe", [ONE, TWO]),
        ([{**ONE, "source": "us", "note": {"any": "thing"}}], b"m", "m", [ONE]),
        ({"model": "m"}, None, "m", [{}]),  # the gateway says what is missing
        ({"model": "m", "label": [], "ts": {}}, None, "m", [{"label": [], "ts": {}}]),
    ],
)  # fmt: skip
def test_labels_of_each_form_are_brought_as_they_are(
    document: Any, key: bytes | None, model: str, wanted: list[Any]
) -> None:
    message = parse(orjson.dumps(document), key)
    assert (message.model, message.count, labels(message)) == (model, len(wanted), wanted)


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"", b"m", "it is empty"),
        (b"\xff\xfe", b"m", "it is not JSON"),
        (b'{"model": "m", "label": NaN}', None, "it is not JSON"),
        (b'{"model": "m"', None, "it is not JSON"),
        (b'{"model": "\\ud800"}', None, "it is not JSON"),
        (b"[" * 5000 + b"]" * 5000, b"m", "it is not JSON"),
        (b'{"model": "m", "label": ' + b"[" * 600 + b"]" * 600 + b"}", None, "too deeply"),
        (b"7", b"m", "neither a JSON object nor an array"),
        (b'"text"', b"m", "neither a JSON object nor an array"),
        (b"null", b"m", "neither a JSON object nor an array"),
        (b'{"model": "m", "labels": {}}', None, "'labels' is not an array"),
        (b'{"model": "m", "labels": null}', None, "'labels' is not an array"),
        (b'[{}, 3]', b"m", "label 1 is not an object"),
        (b"{}", None, "names no 'model' and has no key"),
        (b"[]", b"", "names no 'model' and has no key"),
        (b"{}", b"\xff", "its key is not UTF-8"),
        (b'{"model": 3}', b"m", "'model' must be text"),
        (b'{"model": ""}', b"m", "'model' must be text"),
        (b"{}", b"m" * (MODEL_CHARACTERS_MAX + 1), "'model' must be text"),
        (b'{"model": "m", "source": 3}', None, "'source' must be text"),
        (b'[{"source": "%s"}]' % (b"s" * (SOURCE_CHARACTERS_MAX + 1)), b"m", "'source' must be"),
    ],
)  # fmt: skip
def test_what_is_no_message_of_labels_is_refused_in_a_sentence(
    value: bytes, key: bytes | None, reason: str
) -> None:
    with pytest.raises(LabelMessageError) as refusal:
        parse(value, key)
    assert reason in str(refusal.value)


def of(model: str, count: int, size: int = 2) -> LabelMessage:
    return LabelMessage(model, count, b"x" * size)


def test_a_request_is_of_one_model_in_order_and_bounded() -> None:
    many = POST_LABELS_MAX - 1
    items = [
        ("a", of("m", many)),
        ("b", of("n", 1)),
        ("c", of("m", 1)),
        ("d", of("m", 1)),  # one label too many
        ("e", of("n", 1, POST_BYTES_MAX)),  # two bytes too many
        ("f", of("m", 2 * POST_LABELS_MAX)),  # alone, since it is not divided
        ("g", of("m", 1)),
    ]
    found = [[name for name, _ in post] for post in posts(items)]
    assert sorted(found) == [["a", "c"], ["b"], ["d"], ["e"], ["f"], ["g"]]
    assert list(posts([])) == []


def test_a_message_without_labels_leaves_no_comma() -> None:
    empty, one = parse(b"[]", b"m"), parse(orjson.dumps(ONE), b"m")
    assert orjson.loads(request_body([empty, one, empty, one])) == [ONE, ONE]
    assert request_body([empty]) == b"[]"
