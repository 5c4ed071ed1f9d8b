"""What gRPC puts around messages: prefixes, deadlines, codings, status messages."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.content_coding import PLAIN_ONLY, Accepted
from serving.core.errors import InvalidRequest, ServeError, TooLarge, Unsupported
from serving.core.grpc_framing import (
    MessageReader,
    is_grpc,
    message_coding,
    percent_encoded,
    prefix,
    prefixed,
    reply_coding,
    timeout_ns,
)


class Buffers:
    """Counts what is asked for; a bytearray stands in for the engine's bytes."""

    def __init__(self):
        self.asked = []

    def __call__(self, size):
        self.asked.append(size)
        made = bytearray(size)
        return made, made


def read(reader, data, pieces):
    """Everything that comes of `data` in pieces of these sizes."""
    found, at = [], 0
    for size in [*pieces, len(data)]:
        found += [bytes(message) for message in reader.feed(data[at : at + size])]
        at += size
    return found


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=6),
    st.lists(st.integers(0, 30), max_size=12),
)
def test_messages_come_out_whole_however_they_were_cut(messages, pieces):
    data = b"".join(
        prefixed(gzip.compress(text) if packed else text, packed=packed)
        for text, packed in messages
    )
    reader = MessageReader(100, "gzip", Buffers())
    assert read(reader, data, pieces) == [text for text, _ in messages]
    assert reader.between_messages


@given(st.binary(min_size=1, max_size=40), st.data())
def test_what_is_missing_of_a_message_is_known(text, data):
    sent = prefixed(text)
    cut = data.draw(st.integers(1, len(sent) - 1))
    reader = MessageReader(100, "", Buffers())
    assert read(reader, sent[:cut], []) == []
    assert not reader.between_messages


def test_the_limit_is_held_against_the_length_before_anything_is_made():
    buffers = Buffers()
    reader = MessageReader(1000, "gzip", buffers)
    with pytest.raises(TooLarge, match="1001 bytes exceeds the limit of 1000"):
        read(reader, prefix(1001), [])
    assert buffers.asked == []
    with pytest.raises(TooLarge):
        read(reader, prefixed(gzip.compress(bytes(1001)), packed=True), [])
    assert read(MessageReader(1000, "", Buffers()), prefixed(bytes(1000)), []) == [bytes(1000)]


def test_deflate_is_zlibs_format():
    data = prefixed(zlib.compress(b"text"), packed=True)
    assert read(MessageReader(100, "deflate", Buffers()), data, []) == [b"text"]
    with pytest.raises(InvalidRequest):
        read(MessageReader(100, "gzip", Buffers()), data, [])


@pytest.mark.parametrize("data", [b"\1\0\0\0\1x", b"\2\0\0\0\1x", b"\xff\0\0\0\1x"])
def test_a_flag_that_cannot_be_is_an_error(data):
    with pytest.raises(ServeError):
        read(MessageReader(100, "", Buffers()), data, [])


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1H", 3_600 * 10**9), (b"2M", 120 * 10**9), (b"3S", 3 * 10**9), (b"4m", 4 * 10**6),
        (b"5u", 5000), (b"6n", 6), (b"000000001S", None), (b"99999999H", 99_999_999 * 3600 * 10**9),
        (b"0n", 0), (b"", None), (b"1", None), (b"S", None), (b"1s", None), (b"1 S", None),
        (b"+1S", None), (b"1.5S", None), (b"123456789n", None), ("١S".encode(), None),
    ],
    ids=range(18),
)  # fmt: skip
def test_deadlines(text, ns):
    if ns is None:
        with pytest.raises(InvalidRequest):
            timeout_ns(text)
    else:
        assert timeout_ns(text) == ns


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json", True),
        (b"Application/gRPC; charset=x", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_types(kind, ours):
    assert is_grpc(kind) == ours


def test_codings():
    assert [message_coding(name) for name in (b"", b"identity", b"gzip", b"Deflate")] == [
        *("", "", "gzip", "deflate")
    ]
    with pytest.raises(Unsupported, match="'snappy' is not supported"):
        message_coding(b"snappy")
    assert reply_coding(b"identity, deflate, gzip") == Accepted("gzip")
    assert reply_coding(b"identity,deflate") == Accepted("deflate")
    assert reply_coding(b"identity") == reply_coding(b"") == reply_coding(b"br") == PLAIN_ONLY


@given(st.text())
def test_a_status_message_is_ascii_and_comes_back(text):
    sent = percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in sent)
    back, at = bytearray(), 0
    while at < len(sent):
        if sent[at] == 0x25:
            back.append(int(sent[at + 1 : at + 3], 16))
            at += 3
        else:
            back.append(sent[at])
            at += 1
    assert bytes(back) == text.encode("utf-8", "replace")
