"""Heads that came before: the same bytes mean the same, everything else is parsed."""

import pytest

from serving.core.known_heads import HEAD_BYTES_MAX, HEADS_MAX, KnownHead, KnownHeads, head_end
from serving.core.request_head import Head

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
TARGET = ("m", "")


def heads(*known: bytes) -> KnownHeads:
    found = KnownHeads()
    for head in known:
        found.learn(head, TARGET, Head(content_length=4))
    return found


def test_a_known_head_gives_its_meaning_and_where_it_ends():
    for body in (b"", b"BO", b"BODY"):
        matched = heads(HEAD).match(HEAD + body)
        assert matched == (KnownHead(TARGET, Head(content_length=4), 4), len(HEAD))


def test_a_head_that_differs_in_one_byte_is_not_known():
    assert heads(HEAD).match(HEAD.replace(b"Host: h", b"Host: i") + b"BODY") is None


def test_more_than_one_request_or_no_whole_head_goes_to_the_parser():
    known = heads(HEAD)
    for data in (HEAD + b"BODY" + HEAD, HEAD + b"BODYX", HEAD[:-1], b"", b"x" * 10_000):
        assert known.match(data) is None


def test_a_head_that_does_not_say_how_much_follows_is_not_kept():
    found = KnownHeads()
    found.learn(HEAD, TARGET, Head(content_length=None))
    assert found.match(HEAD) is None


def test_long_heads_are_not_kept():
    long = HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n")
    assert heads(long).match(long) is None


def test_the_memory_is_bounded():
    found = heads(*[HEAD.replace(b"Host: h", b"Host: %d" % n) for n in range(HEADS_MAX + 1)])
    assert found.match(HEAD.replace(b"Host: h", b"Host: 0")) is None
    assert found.match(HEAD.replace(b"Host: h", b"Host: %d" % HEADS_MAX)) is not None


@pytest.mark.parametrize(
    ("data", "end"),
    [(HEAD, len(HEAD)), (HEAD + HEAD, len(HEAD)), (HEAD[:-1], 0), (b"", 0), (b"\r\n\r\n", 4)],
)
def test_the_end_of_a_head_is_its_first_empty_line(data, end):
    assert head_end(data) == end
