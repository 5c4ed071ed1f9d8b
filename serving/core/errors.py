"""Why a request was not answered with a prediction.

Two families: the caller's fault (4xx) and ours (5xx). Each carries its HTTP and
its gRPC status, so that adapters need one `except`. Messages name what was
wrong, the value and the limit; they are clipped, and never hold a path.
"""

from collections.abc import Iterator
from enum import Enum, IntEnum

SHOWN_CHARACTERS_MAX = 64  # of a client's own text in a message
MESSAGE_CHARACTERS_MAX = 400  # keeps a whole error body under 512 bytes


class GrpcStatus(IntEnum):
    """The gRPC status codes that we answer with; numbers are the protocol's."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Reason(Enum):
    """Why, as a metric label: the whole set, so that every series exists from the start."""

    INTERNAL = "internal"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNKNOWN_MODEL = "unknown_model"
    UNSUPPORTED = "unsupported"
    OVERLOAD = "overload"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    MODEL_FAILED = "model_failed"
    LOG_UNAVAILABLE = "log_unavailable"


class ServeError(Exception):
    """A request that gets an error instead of a prediction."""

    http_status = 500
    grpc_status = GrpcStatus.INTERNAL
    reason = Reason.INTERNAL

    def __init__(self, message: str) -> None:
        if len(message) > MESSAGE_CHARACTERS_MAX:
            message = message[: MESSAGE_CHARACTERS_MAX - 3] + "..."
        super().__init__(message)
        self.message = message


class InvalidRequest(ServeError):
    """The caller sent something that no retry will make right."""

    http_status = 400
    grpc_status = GrpcStatus.INVALID_ARGUMENT
    reason = Reason.INVALID


class TooLarge(ServeError):
    """A body or message beyond the configured size."""

    http_status = 413
    grpc_status = GrpcStatus.RESOURCE_EXHAUSTED
    reason = Reason.TOO_LARGE


class UnknownModel(ServeError):
    """No such model or version here."""

    http_status = 404
    grpc_status = GrpcStatus.NOT_FOUND
    reason = Reason.UNKNOWN_MODEL


class Unsupported(ServeError):
    """A part of the protocol that this server does not speak."""

    http_status = 501
    grpc_status = GrpcStatus.UNIMPLEMENTED
    reason = Reason.UNSUPPORTED


class Overloaded(ServeError):
    """Refused at admission; worth a retry after a pause."""

    http_status = 503
    grpc_status = GrpcStatus.UNAVAILABLE
    reason = Reason.OVERLOAD


class DeadlineExceeded(ServeError):
    """The caller's deadline passed, or could not have been met."""

    http_status = 504
    grpc_status = GrpcStatus.DEADLINE_EXCEEDED
    reason = Reason.DEADLINE


class ModelFailed(ServeError):
    """The model could not compute this request."""

    reason = Reason.MODEL_FAILED


class LogUnavailable(ServeError):
    """A model in log mode `durable` whose log could not commit."""

    http_status = 503
    grpc_status = GrpcStatus.UNAVAILABLE
    reason = Reason.LOG_UNAVAILABLE


def shown(value: object) -> str:
    """A client's value for a message: printable, short, one line.

    Costs no more than what is shown: the value may be a whole request.
    """
    if isinstance(value, str):
        text = value
    else:
        text = ""
        for piece in _pieces(value):
            text += piece
            if len(text) > SHOWN_CHARACTERS_MAX:
                break
    text = "".join(c if c.isprintable() else "?" for c in text[: SHOWN_CHARACTERS_MAX + 1])
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."


def _pieces(value: object) -> Iterator[str]:
    """What `repr` gives, in pieces."""
    if isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield ", " if index else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, str):
        yield repr(value[: SHOWN_CHARACTERS_MAX + 1])
    else:
        yield repr(value)
