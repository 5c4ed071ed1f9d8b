"""Signatures of webhooks, as the Standard Webhooks specification 1.0 has them.

A secret is `whsec_` and base64, of 24 to 64 bytes. What is signed is the message's id,
the Unix second of this attempt and the body, with points between; the receiver knows a
repetition by the id, and an old one by the second.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = (24, 64)


class InvalidSecret(ValueError):
    """The message says what is wrong, and nothing of the secret."""


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """One secret per line, the newest first; two while one is replaced by another.

    Raises: InvalidSecret.
    """
    secrets = tuple(_parse(line.strip()) for line in text.splitlines() if line.strip())
    if not secrets:
        raise InvalidSecret("it holds no secret")
    return secrets


def _parse(line: str) -> bytes:
    try:
        secret = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidSecret(f"a secret is {PREFIX} and base64") from exc
    low, high = SECRET_BYTES
    if not low <= len(secret) <= high:
        raise InvalidSecret(f"a secret has {low} to {high} bytes, this one {len(secret)}")
    return secret


def signature(secrets: Sequence[bytes], id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    signed = f"{id}.{timestamp_s}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
