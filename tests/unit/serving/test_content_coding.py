"""Which coding a reply gets: weights, identity, and what cannot be read."""

import gzip
import zlib

import pytest

from serving.core.content_coding import PLAIN_ONLY, Accepted, accepted_coding, pack
from serving.core.request_head import read_head

GZIP, DEFLATE = Accepted("gzip"), Accepted("deflate")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", GZIP),
        ("deflate", DEFLATE),
        ("gzip, deflate, br, zstd", GZIP),  # as aiohttp asks
        ("deflate, gzip", GZIP),
        ("gzip;q=0.5, deflate;q=0.9", DEFLATE),
        ("x-gzip", GZIP),
        ("GZip ; Q=1.000", GZIP),
        ("*", GZIP),
        ("gzip;q=0, *", DEFLATE),
        ("", PLAIN_ONLY),
        (",, ,", PLAIN_ONLY),
        ("identity", PLAIN_ONLY),
        ("br, zstd", PLAIN_ONLY),
        ("gzip;q=0", PLAIN_ONLY),
        ("gzip;q=0.000", PLAIN_ONLY),
        ("identity, gzip;q=0.5", PLAIN_ONLY),
        ("identity;q=0.5, gzip;q=0.5", GZIP),
        ("identity;q=0, gzip;q=0.1", Accepted("gzip", needed=True)),
        ("*;q=0, deflate", Accepted("deflate", needed=True)),
        ("br, *;q=0", PLAIN_ONLY),  # nothing that we have: plain all the same
        ("identity;q=0", PLAIN_ONLY),
        ("gzip;q=high", PLAIN_ONLY),
        ("gzip;q=2", PLAIN_ONLY),
        ("gzip;q=1;q=0", PLAIN_ONLY),
        ("gzip;q=0, gzip;q=0.3", GZIP),
    ],
)
def test_the_coding_is_what_the_client_weighs_most(header, accepted):
    assert accepted_coding(header) == accepted


def test_several_headers_are_one_list_and_none_is_plain():
    host = (b"host", b"h")
    head = read_head([host, (b"accept-encoding", b"br"), (b"accept-encoding", b"deflate")], "1.1")
    assert head.accepts == DEFLATE
    assert read_head([host], "1.1").accepts == PLAIN_ONLY


@pytest.mark.parametrize("body", [b"", b"x", b"1.25," * 10_000, bytes(range(256)) * 3])
def test_what_is_packed_comes_back(body):
    assert gzip.decompress(pack(body, "gzip")) == body
    assert zlib.decompress(pack(body, "deflate")) == body
