"""Prediction ids with the keys of a state directory.

`id.keys` holds one key of 64 hex characters per line, the signing one first; a
second line keeps ids of the previous key valid during rotation. Gateways that
share ids share the file's content.
"""

import os
import secrets
import time
from pathlib import Path

from eventlog.core.prediction_id import KEY_BYTES, IdCodec, PredictionId
from eventlog.core.record import LogError
from eventlog.key_file import create_key, replace_keys

KEY_FILE = "id.keys"


class PredictionIds:
    """See `IdCodec` for the bits; one instance per thread of a worker."""

    __slots__ = ("codec", "decode", "encode")

    def __init__(self, codec: IdCodec) -> None:
        self.codec = codec
        self.encode = codec.encode
        self.decode = codec.decode

    @classmethod
    def load(cls, state_dir: Path, *, create: bool = True) -> "PredictionIds":
        """Read the keys; if there are none, create them (mode 0600), or not.

        Raises: LogError if the file is malformed, OSError.
        """
        path = state_dir / KEY_FILE
        if create and not path.exists():
            create_key(path, KEY_BYTES)
        try:
            lines = path.read_text("ascii").split()
            return cls(IdCodec([bytes.fromhex(line) for line in lines]))
        except ValueError as exc:
            raise LogError(
                f"{path}: expected one or two lines of {2 * KEY_BYTES} hex digits"
            ) from exc


def set_damaged_keys_aside(state_dir: Path) -> str:
    """The new name of a malformed key file, "" if there is none. Raises: OSError.

    For the start of a gateway: without keys it could not answer anything.
    """
    try:
        PredictionIds.load(state_dir)
    except LogError:
        path = state_dir / KEY_FILE
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        os.replace(path, aside)
        return aside.name
    return ""


def rotate_keys(state_dir: Path) -> None:
    """Put a new signing key before the present one, whose predecessor is dropped.

    Raises: OSError.
    """
    path = state_dir / KEY_FILE
    lines = path.read_text().split()[:1]
    replace_keys(path, [secrets.token_hex(KEY_BYTES), *lines])


__all__ = ["KEY_FILE", "PredictionId", "PredictionIds", "rotate_keys", "set_damaged_keys_aside"]
