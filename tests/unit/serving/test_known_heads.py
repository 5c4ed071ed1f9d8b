"""Heads that came before: the same bytes mean the same, everything else is parsed."""

from serving.core.known_heads import HEAD_BYTES_MAX, HEADS_MAX, KnownHeads
from serving.core.request_head import Head

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
TARGET = ("m", "")


def heads(*known: bytes) -> KnownHeads:
    found = KnownHeads()
    for head in known:
        found.learn(head + b"body", TARGET, Head(content_length=4))
    return found


def test_a_known_head_gives_its_meaning_and_the_body():
    matched = heads(HEAD).match(HEAD + b"BODY")
    assert matched is not None
    known, body = matched
    assert (known.target, known.head, body) == (TARGET, Head(content_length=4), b"BODY")


def test_a_head_that_differs_in_one_byte_is_not_known():
    assert heads(HEAD).match(HEAD.replace(b"Host: h", b"Host: i") + b"BODY") is None


def test_less_or_more_than_one_request_goes_to_the_parser():
    known = heads(HEAD)
    for data in (HEAD, HEAD + b"BOD", HEAD + b"BODY" + HEAD, HEAD[:-1], b"", b"x" * 10_000):
        assert known.match(data) is None


def test_a_head_that_does_not_end_where_its_length_says_is_not_learned():
    found = KnownHeads()
    found.learn(HEAD + b"bodyXY", TARGET, Head(content_length=4))
    found.learn(HEAD + b"body", TARGET, Head(content_length=None))
    assert found.match(HEAD + b"body") is None
    assert found.match(HEAD + b"bodyXY") is None


def test_long_heads_are_not_kept():
    long = HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n")
    assert heads(long).match(long + b"BODY") is None


def test_the_memory_is_bounded():
    found = heads(*[HEAD.replace(b"Host: h", b"Host: %d" % n) for n in range(HEADS_MAX + 1)])
    assert found.match(HEAD.replace(b"Host: h", b"Host: 0") + b"BODY") is None
    assert found.match(HEAD.replace(b"Host: h", b"Host: %d" % HEADS_MAX) + b"BODY") is not None
