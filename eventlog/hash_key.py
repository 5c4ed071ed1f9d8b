"""The key of hashed fields: equal values have equal digests, and nobody guesses them.

A digest is HMAC-SHA256 of a row's bytes (see `Omitted`), cut to 16 bytes. The key lies
in a file of 64 hex characters; gateways that share it write digests that can be
compared. A new key makes all earlier digests strangers, so each column names its key.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventlog.core.predictions import HASH_BYTES, Array, values_bytes
from eventlog.core.record import LogError
from eventlog.key_file import create_key
from eventlog.settings import LogSettings

KEY_FILE = "log.key"
KEY_BYTES = 32
_NAME = b"driftgate: the name of this key"


@dataclass(frozen=True, slots=True)
class HashKey:
    """name: 8 hex characters that tell keys apart and nothing of the key itself."""

    name: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> "HashKey":
        return cls(hmac.digest(key, _NAME, "sha256")[:4].hex(), key)

    @classmethod
    def of_log(cls, state_dir: Path, settings: LogSettings) -> "HashKey":
        """The key in the configured file, else that of the state directory, made at need.

        Raises: LogError if the file is missing or malformed, OSError.
        """
        path = Path(settings.hash_key_file or state_dir / KEY_FILE)
        if not settings.hash_key_file and not path.exists():
            create_key(path, KEY_BYTES)
        try:
            key = bytes.fromhex(path.read_text("ascii").strip())
        except ValueError:
            key = b""
        except FileNotFoundError as error:
            raise LogError(f"log.hash_key_file {path} does not exist") from error
        if len(key) != KEY_BYTES:
            raise LogError(f"{path}: expected {2 * KEY_BYTES} hex digits")
        return cls.of(key)

    def digests(self, array: Array) -> NDArray[np.uint8]:
        """One digest per row: uint8 (n, 16)."""
        key = self._key
        found = [
            hmac.digest(key, values_bytes(array[i : i + 1]), "sha256")[:HASH_BYTES]
            for i in range(len(array))
        ]
        return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, HASH_BYTES)
