"""What an application writes into the topic of labels, as JSON, read into labels of one model.

Three forms: an object with one label, an object with `labels`, an array of labels. Whether
a label is a good one says the gateway that takes it, as it does of every other; here is
checked what is needed to bring it there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from eventlog.core.kafka_message import Message
from eventlog.core.record import LogError

MODEL_CHARACTERS_MAX = 256  # it becomes part of a path
SOURCE_CHARACTERS_MAX = 256
POST_LABELS_MAX = 5_000  # of one request to the gateway; a message is never divided
POST_BYTES_MAX = 256 * 1024  # likewise; JSON in work counts many times its size there
_FIELDS = ("prediction_id", "label", "ts")  # of a label; others are the application's own

Item = TypeVar("Item")


class LabelMessageError(LogError):
    """Why a message holds no labels, in a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class LabelMessage:
    """count: how many labels; body: their JSON objects, with commas between them."""

    model: str
    count: int
    body: bytes


def parse_label_message(message: Message) -> LabelMessage:
    """The labels of one message. Its key is the model's name where the value says none.

    Raises: LabelMessageError.
    """
    if not message.value:
        raise LabelMessageError("it is empty")
    try:
        document = orjson.loads(message.value)
    except orjson.JSONDecodeError as error:
        raise LabelMessageError(f"it is not JSON: {error}") from error
    labels, about = _labels(document)
    for item in (about, *labels):
        _check_source(item)
    try:
        parts = [orjson.dumps({key: x[key] for key in _FIELDS if key in x}) for x in labels]
    except TypeError as error:  # deeper than can be written
        raise LabelMessageError(f"it is nested too deeply: {error}") from error
    return LabelMessage(_model(about, message.key), len(parts), b",".join(parts))


def request_body(messages: Iterable[LabelMessage]) -> bytes:
    """The labels of several messages as the gateway takes them."""
    return b"[" + b",".join(message.body for message in messages if message.count) + b"]"


def posts(items: Iterable[tuple[Item, LabelMessage]]) -> Iterator[list[tuple[Item, LabelMessage]]]:
    """What goes into one request each: of one model, in order, and not too much."""
    open_posts: dict[str, list[tuple[Item, LabelMessage]]] = {}
    filled: dict[str, tuple[int, int]] = {}  # labels and bytes in them
    for item, message in items:
        post = open_posts.setdefault(message.model, [])
        labels, size = filled.get(message.model, (0, 0))
        if post and (
            labels + message.count > POST_LABELS_MAX or size + len(message.body) > POST_BYTES_MAX
        ):
            yield post
            post = open_posts[message.model] = []
            labels = size = 0
        post.append((item, message))
        filled[message.model] = labels + message.count, size + len(message.body)
    yield from open_posts.values()


def _labels(document: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The labels, and the object that speaks of all of them."""
    if isinstance(document, list):
        entries, about = document, {}
    elif isinstance(document, dict):
        about = document
        entries = document.get("labels", [document])
    else:
        raise LabelMessageError("it is neither a JSON object nor an array")
    if not isinstance(entries, list):
        raise LabelMessageError("'labels' is not an array")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise LabelMessageError(f"label {index} is not an object")
    return entries, about


def _model(about: dict[str, Any], key: bytes | None) -> str:
    model = about.get("model")
    if model is None:
        try:
            model = (key or b"").decode()
        except UnicodeDecodeError as error:
            raise LabelMessageError("it names no 'model', and its key is not UTF-8") from error
        if not model:
            raise LabelMessageError("it names no 'model' and has no key")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_CHARACTERS_MAX:
        raise LabelMessageError(f"'model' must be text of 1 to {MODEL_CHARACTERS_MAX} characters")
    return model


def _check_source(item: dict[str, Any]) -> None:
    source = item.get("source")
    if source is None or (isinstance(source, str) and len(source) <= SOURCE_CHARACTERS_MAX):
        return
    raise LabelMessageError(f"'source' must be text of at most {SOURCE_CHARACTERS_MAX} characters")
