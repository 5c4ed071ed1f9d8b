"""Bugs that the fuzzers must find, to show that they would find one. Never part of a product."""

import socket
from dataclasses import replace
from typing import Any

import numpy as np

from serving.core import binary_codec, grpc_codec, json_template, known_heads
from serving.core.json_template import Templates
from serving.core.known_heads import KnownHeads
from serving.worker.http2.call import ServerCall


def _in_texts(bug: Any) -> None:
    """Let `bug` see every string of a BYTES tensor."""
    right = binary_codec.check_text

    def check_text(signature: Any, spec: Any, text: bytes) -> bytes:
        bug(text)
        return right(signature, spec, text)

    binary_codec.check_text = check_text


def _wrong_error() -> None:
    _in_texts(lambda text: {}[text] if b"!" in text else None)


def _hang() -> None:
    def forever(text: bytes) -> None:
        while b"!" in text:
            pass

    _in_texts(forever)


def _network() -> None:
    _in_texts(lambda text: socket.socket() if b"!" in text else None)


def _memory() -> None:
    """Slots for as many strings as are claimed, before it is seen whether they can be there."""
    right = binary_codec.decode_raw

    def decode_raw(signature: Any, spec: Any, data: bytes, shape: Any, count: int) -> Any:
        np.empty(count, dtype=object)
        return right(signature, spec, data, shape, count)

    binary_codec.decode_raw = decode_raw


def _template() -> None:
    """Elements come back to front out of a body that matches a template."""
    right = json_template.Templates.match

    def match(self: Templates, body: bytes) -> Any:
        found = right(self, body)
        return (found[0], found[1][::-1]) if found else None

    json_template.Templates.match = match  # type: ignore[method-assign]


def _head() -> None:
    """A head that is known is taken for another model's."""
    right = known_heads.KnownHeads.match

    def match(self: KnownHeads, data: bytes) -> Any:
        found = right(self, data)
        return (replace(found[0], target=("other", "")), *found[1:]) if found else None

    known_heads.KnownHeads.match = match  # type: ignore[method-assign]


def _cut_off() -> None:
    """A message that lacks its last byte is split as if it had one."""
    right = grpc_codec.split_raw
    grpc_codec.split_raw = lambda data: right(data) or right(data + b"!")  # type: ignore[attr-defined]


def _kept_budget() -> None:
    """A call that is given up in the midst of a message keeps what it holds."""
    right = ServerCall.closed

    def closed(self: ServerCall) -> None:
        self._held = 0
        right(self)

    ServerCall.closed = closed  # type: ignore[method-assign]


PLANTED = {
    "wrong_error": _wrong_error,
    "hang": _hang,
    "network": _network,
    "memory": _memory,
    "template": _template,
    "head": _head,
    "cut_off": _cut_off,
    "kept_budget": _kept_budget,
}
