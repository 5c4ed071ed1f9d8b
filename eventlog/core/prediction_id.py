"""Prediction ids: 122 bits of a UUIDv8 that name a row and prove that we made it.

Bits, most significant first: 48 time (Unix ms), 4 version (8), 12 high bits of
the incarnation, 2 variant (binary 10), 12 low bits of the incarnation, 34
sequence number of the request's first row, 16 MAC over all the others.

The MAC stops typing errors and foreign ids from becoming labels of other rows;
16 bits are a check, not a secret. One keyed hash holds the MACs of 32 sequence
numbers in a row, since a batch has many ids and each hash would cost as much as
the rest of its id. Row i of the request is written `ID.i`.
Source: RFC 9562, section 5.8 (UUIDv8).
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

KEY_BYTES = 32
KEYS_MAX = 2  # the one that signs, and the one it replaced
SEQUENCE_BITS = 34
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_BLOCK_BITS = 5  # of the sequence number: which of a hash's MACs is the id's
_BLOCK_MASK = (1 << _BLOCK_BITS) - 1
_MAC_BYTES = 2
_BYTE_TEXTS = tuple(f"{byte:02x}" for byte in range(256))
_VERSION, _VARIANT = 8, 0b10
_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_PRODUCER = re.compile(r"[0-9a-f]{6}")


class InvalidPredictionId(ValueError):
    """Malformed, or not made with one of our keys."""


@dataclass(frozen=True, slots=True)
class PredictionId:
    """ts_ms: arrival, Unix ms; producer: incarnation; sequence: of the request's first row."""

    ts_ms: int
    producer: str
    sequence: int


def check_producer(producer: str) -> str:
    """Returns: `producer`. Raises: ValueError unless it is 6 lower-case hex characters."""
    if not _PRODUCER.fullmatch(producer):
        raise ValueError(f"producer {producer!r}: expected 6 lower-case hex characters")
    return producer


def split_row(text: str) -> tuple[str, int]:
    """Cut `ID.i` into id and row; without a suffix the row is 0.

    Raises: InvalidPredictionId if the suffix is not a plain number below 2^32.
    """
    text, dot, suffix = text.partition(".")
    if not dot:
        return text, 0
    if not (suffix.isascii() and suffix.isdecimal() and len(suffix) <= 10):
        raise InvalidPredictionId("prediction id: the row after the dot is not a number")
    row = int(suffix)
    if row >= 1 << 32:
        raise InvalidPredictionId("prediction id: the row after the dot is too large")
    return text, row


class IdCodec:
    """Encode with the first key, decode with any."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not 1 <= len(keys) <= KEYS_MAX or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"1 to {KEYS_MAX} keys of {KEY_BYTES} bytes are needed")
        size = _MAC_BYTES << _BLOCK_BITS
        self._hashes = [hashlib.blake2b(key=key, digest_size=size) for key in keys]
        # Of the last id: a batch shares them.
        self._ts_ms, self._producer = -1, "000000"
        self._head, self._tail, self._head_text = 0, 0, ""
        self._block, self._block_text, self._macs = -1, "", ""

    def encode(self, ts_ms: int, producer: str, sequence: int) -> str:
        """The id's text. Sequence numbers wrap after 2^34 rows of one incarnation."""
        if ts_ms != self._ts_ms or producer != self._producer:
            self._begin(ts_ms, producer)
        tail = self._tail | sequence & _SEQUENCE_MASK
        if tail >> _BLOCK_BITS != self._block:
            self._begin_block(tail)
        at = (tail & _BLOCK_MASK) * 4
        return f"{self._block_text}{_BYTE_TEXTS[tail & 0xFF]}{self._macs[at : at + 4]}"

    def _begin(self, ts_ms: int, producer: str) -> None:
        """What ids of one millisecond and producer share."""
        bits = int(check_producer(producer), 16)
        head = ts_ms << 16 | _VERSION << 12 | bits >> 12
        text = f"{head:016x}"
        self._head, self._tail = head << 48, _VARIANT << 46 | (bits & 0xFFF) << 34
        self._head_text = f"{text[:8]}-{text[8:12]}-{text[12:]}-"
        self._ts_ms, self._producer = ts_ms, producer
        self._block = -1

    def _begin_block(self, tail: int) -> None:
        """What ids share whose sequence numbers have their MACs in one hash."""
        text = f"{tail:012x}"
        self._block_text = f"{self._head_text}{text[:4]}-{text[4:10]}"
        self._macs = _block_hash(self._hashes[0], self._head | tail).hex()
        self._block = tail >> _BLOCK_BITS

    def decode(self, text: str) -> PredictionId:
        """Raises: InvalidPredictionId if `text` is malformed or its MAC is wrong."""
        text = text.lower()
        if not _TEXT.fullmatch(text):
            raise InvalidPredictionId("prediction id: not a UUIDv8")
        data = bytes.fromhex(text.replace("-", ""))
        bits = int.from_bytes(data[:14], "big")
        at = (bits & _BLOCK_MASK) * _MAC_BYTES
        macs = [_block_hash(base, bits)[at : at + _MAC_BYTES] for base in self._hashes]
        if not any(hmac.compare_digest(mac, data[14:]) for mac in macs):
            raise InvalidPredictionId("prediction id: not issued by this gateway")
        head, tail = bits >> 48, bits & (1 << 48) - 1
        producer = (head & 0xFFF) << 12 | tail >> 34 & 0xFFF
        return PredictionId(head >> 16, f"{producer:06x}", tail & _SEQUENCE_MASK)


def _block_hash(base: "hashlib.blake2b", bits: int) -> bytes:
    """The MACs of a block of ids. bits: of any of them, without its MAC."""
    made = base.copy()
    made.update((bits & ~_BLOCK_MASK).to_bytes(14, "big"))
    return made.digest()
