"""Heads that came before: the same bytes mean the same, everything else is parsed."""

import pytest

from serving.core.known_heads import HEAD_BYTES_MAX, HEADS_MAX, KnownHead, KnownHeads, head_end
from serving.core.request_head import Head, read_head

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
        assert matched == (KnownHead(TARGET, Head(content_length=4), 4), len(HEAD), b"")


def test_a_head_that_differs_in_one_byte_is_not_known():
    assert heads(HEAD).match(HEAD.replace(b"Host: h", b"Host: i") + b"BODY") is None


TRACE = "00-{:032x}-{:016x}-01"


def head_with(*lines: str) -> bytes:
    return HEAD.replace(b"\r\n\r\n", b"".join(f"\r\n{x}".encode() for x in lines) + b"\r\n\r\n")


def meaning(head: bytes) -> Head:
    """As the parser would have it."""
    pairs = [line.partition(b":") for line in head[:-4].split(b"\r\n")[1:]]
    return read_head([(name.lower(), value.strip(b" \t")) for name, _, value in pairs], "1.1")


def learned(head: bytes) -> KnownHeads:
    found = KnownHeads()
    found.learn(head, TARGET, meaning(head))
    return found


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_each_request_has_the_trace_that_it_names(name: str) -> None:
    found = learned(head_with(f"{name}: {TRACE.format(1, 1)}"))
    for number in (1, 2, 3):
        head = head_with(f"{name}: {TRACE.format(number, 7)}")
        matched = found.match(head + b"BODY")
        assert matched is not None
        known, end, trace = matched
        assert (known.target, known.head, end) == (TARGET, Head(content_length=4), len(head))
        assert trace == meaning(head).trace != b""


def test_a_traceparent_that_is_none_and_two_of_them_name_no_trace() -> None:
    for lines in (["traceparent: nonsense"], ["traceparent:"], ["traceparent: 00-0-0-0"]):
        matched = learned(head_with(f"traceparent: {TRACE.format(1, 1)}")).match(head_with(*lines))
        assert matched is not None
        assert matched[2] == b"" == meaning(head_with(*lines)).trace
    two = head_with(*[f"traceparent: {TRACE.format(n, n)}" for n in (1, 2)])
    matched = learned(two).match(two)
    assert matched is not None
    assert matched[2] == b"" == meaning(two).trace
    assert learned(head_with(f"traceparent: {TRACE.format(1, 1)}")).match(two) is None


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Request-Id: {}"],
        ["x-b3-traceid: {}", "x-b3-spanid: {}"],
        ["authorization: Bearer {}", "Cookie: a={}; b=c"],
        ["x-datadog-trace-id: {}", "tracestate: v={}"],
        ["X-Forwarded-For: 10.0.0.{}", "X-Real-IP:10.0.0.{}"],
    ],
)
def test_what_proxies_put_in_anew_makes_no_new_head(lines: list[str]) -> None:
    first, second = (head_with(*[line.format(n) for line in lines]) for n in (1, 22))
    matched = learned(first).match(second + b"BODY")
    assert matched == (KnownHead(TARGET, Head(content_length=4), 4), len(second), b"")


@pytest.mark.parametrize(
    "other",
    [
        ["x-request-id: 1", "x-request-id: 2"],  # one more
        ["x-request-id: 1", "x-routing-key: a"],
        ["x-request-id : 1"],
        ["x-request-id: a\nContent-Length: 9"],  # to some parsers two headers
        ["x-request-id: a\rb"],
        ["x-request-id: a\0b"],
        ["x-request-id: \u00e9"],
        ["xx-request-id: 1"],
        [" x-request-id: 1"],  # the line before goes on
        ["x-request-id: 1", " and goes on"],
        [],
    ],
)
def test_what_only_looks_like_it_goes_to_the_parser(other: list[str]) -> None:
    assert learned(head_with("x-request-id: 1")).match(head_with(*other) + b"BODY") is None


def test_what_means_something_never_varies() -> None:
    for line in ("x-routing-key: {}", "x-request-timeout-ms: {}", "accept-encoding: {}"):
        assert learned(head_with(line.format(1))).match(head_with(line.format(2))) is None


@pytest.mark.parametrize("name", ["x-tenant", "Authorization", "X-Forwarded-For", "cookie"])
def test_the_header_that_names_tenants_never_varies(name: str) -> None:
    """Also where it is one that means nothing else."""
    found = KnownHeads(name.lower().encode())
    for tenant in ("a", "b"):
        head = head_with("x-request-id: 1", f"{name}: {tenant}")
        assert found.match(head + b"BODY") is None
        pairs = [
            (name.lower().encode(), tenant.encode()),
            (b"host", b"h"),
            (b"content-length", b"4"),
        ]
        found.learn(head, TARGET, read_head(pairs, "1.1", name.lower().encode()))
    for tenant in ("a", "b"):
        matched = found.match(head_with("x-request-id: 22", f"{name}: {tenant}") + b"BODY")
        assert matched is not None
        assert matched[0].head.tenant == tenant


def test_heads_that_vary_are_bounded_with_the_others() -> None:
    found = KnownHeads()
    for number in range(3 * HEADS_MAX):
        head = head_with("x-request-id: 1", f"x-own-{number}: 1")
        found.learn(head, TARGET, meaning(head))
        found.learn(head_with(f"x-own-{number}: 1"), TARGET, Head(content_length=4))
    assert len(found._known) + len(found._varied) <= HEADS_MAX


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
