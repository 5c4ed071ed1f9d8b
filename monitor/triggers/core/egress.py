"""Where a request may go: the guard against requests to where only this machine can reach.

Laws:
- a URL is taken apart once, here, and what was checked is what is used;
- the address is judged, not the name: whatever a name resolves to, however it is
  written, public addresses alone are reached, and those that an operator listed;
- an address inside another (IPv4 in IPv6, NAT64, 6to4, Teredo) is judged for itself;
- a cloud's metadata service hands out credentials: only its own address, listed by
  itself, allows it.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Of AWS, Azure, GCP, OpenStack; AWS over IPv6; Alibaba; Oracle; and Azure's host, whose
# address is a public one.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    )
)
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
# No control characters, no spaces, nothing that parsers are known to read in two ways.
_SOUND = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


class InvalidUrl(ValueError):
    """A URL that is not sent to; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. path: with its query."""

    secure: bool
    host: str
    port: int
    path: str


def parse_target(url: str, *, plaintext: bool) -> Target:
    """plaintext: whether http is allowed. Raises: InvalidUrl."""
    if not _SOUND.fullmatch(url) or "\\" in url:
        raise InvalidUrl("a URL has no spaces, backslashes or characters beyond ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InvalidUrl(f"no URL: {exc}") from exc
    if parts.scheme not in ("https", "http"):
        raise InvalidUrl("a URL begins with https://")
    if parts.scheme == "http" and not plaintext:
        raise InvalidUrl("http is not encrypted; use https, or set retrain.plaintext")
    if "@" in parts.netloc:
        raise InvalidUrl("a URL holds no user or password; use retrain.token_file")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host):
        raise InvalidUrl("the host is missing or has characters that no host has")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, host, port or (443 if secure else 80), path)


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises: ValueError for what is no address and no network."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def refusal(text: str, allowed: Sequence[Network]) -> str | None:
    """Why the address must not be reached; None when it may."""
    address = ipaddress.ip_address(text.partition("%")[0])
    for each in _all_meant(address):
        listed = [network for network in allowed if each in network]
        if each in METADATA:
            if not any(network.num_addresses == 1 for network in listed):
                return f"{text} is a metadata service"
        elif not listed and (kind := _not_public(each)):
            return f"{text} is {kind}; list it in retrain.allow_networks if it is meant"
    return None


def _all_meant(address: Address) -> Iterator[Address]:
    """The address, or those inside it."""
    inner: list[Address] = []
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            inner.append(address.ipv4_mapped)
        elif address.sixtofour is not None:
            inner.append(address.sixtofour)
        elif address.teredo is not None:
            inner += address.teredo
        elif any(address in network for network in _NAT64):
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    yield from inner or (address,)


def _not_public(address: Address) -> str:
    if address.is_loopback:
        return "this machine"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    return "" if address.is_global else "a private or reserved address"
