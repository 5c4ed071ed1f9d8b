"""Where requests may go: the addresses that have been used against others."""

import pytest

from monitor.triggers.core.egress import (
    InvalidUrl,
    Target,
    parse_networks,
    parse_target,
    refusal,
)

PRIVATE = (
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.1.1", "fe80::1", "fe80::1%eth0", "fc00::1", "100.64.0.1", "198.18.0.1", "192.0.2.1",
    "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "2001:db8::1",
)  # fmt: skip
METADATA = (
    "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192",
    "168.63.129.16",
)  # fmt: skip
WRAPPED = (
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1", "64:ff9b:1::a00:1",
)  # fmt: skip
PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822")


@pytest.mark.parametrize("address", [*PRIVATE, *METADATA, *WRAPPED])
def test_what_only_this_machine_can_reach_is_refused(address):
    assert refusal(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_reached(address):
    assert refusal(address, ()) is None


def test_what_an_operator_listed_is_reached_and_nothing_beside_it():
    allowed = parse_networks(("10.0.0.0/8", "127.0.0.1", "fd00::/8"))
    for address in ("10.1.2.3", "127.0.0.1", "fd00::5", "::ffff:10.0.0.1"):
        assert refusal(address, allowed) is None
    for address in ("127.0.0.2", "192.168.0.1", "fe80::1"):
        assert refusal(address, allowed)


@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_service_is_reached_only_where_it_is_listed_by_itself(address):
    assert refusal(address, parse_networks(("0.0.0.0/0", "::/0")))
    assert refusal(address, parse_networks((address,))) is None


def test_a_url_is_taken_apart():
    assert parse_target("https://a.example/b/c?d=e#f", plaintext=False) == Target(
        True, "a.example", 443, "/b/c?d=e"
    )
    assert parse_target("http://[::1]:81", plaintext=True) == Target(False, "::1", 81, "/")


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/", "ftp://a.example/", "file:///etc/passwd", "//a.example/", "a.example",
        "https://", "https:///x", "https://user:pw@a.example/", "https://a.example\\@b.example/",
        "https://a.example/ x", "https://a.example/\n", "https://ä.example/", "https://a%2fb/",
        "https://a.example:99999/", "https://a.example:x/", "https://{model}.example/",
        "https://[::1/", "javascript:alert(1)", "gopher://a/",
    ],
)  # fmt: skip
def test_what_is_no_sound_url_is_refused(url):
    with pytest.raises(InvalidUrl):
        parse_target(url, plaintext=False)
