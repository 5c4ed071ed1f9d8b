"""Tokens and secrets: from a file or a command, at the time they are used, never kept.

Law: nothing raised, logged or stored from here holds any of them.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.triggers.core.signature import InvalidSecret, parse_secrets

COMMAND_S = 30.0
TOKEN_BYTES_MAX = 16 * 1024
MASK = "(a secret)"
_PRINTABLE = re.compile(r"[ -~]+")  # a token with a line end would end the header it stands in


class NoCredential(Exception):
    """It cannot be had now; the message says why, without it."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """A file, or a command that prints the token; neither: there is none."""

    file: str = ""
    command: Sequence[str] = ()

    @property
    def configured(self) -> bool:
        return bool(self.file or self.command)

    def token(self) -> str:
        """Raises: NoCredential."""
        text = self._from_command() if self.command else _read(self.file)
        token = text.strip()
        if not _PRINTABLE.fullmatch(token) or len(token) > TOKEN_BYTES_MAX:
            raise NoCredential("the token is not one line of printable ASCII")
        return token

    def _from_command(self) -> str:
        name = self.command[0]
        try:
            ended = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=COMMAND_S,
                check=True,
            )
        except subprocess.TimeoutExpired as exc:
            raise NoCredential(f"{name} printed no token within {COMMAND_S:g} s") from exc
        except subprocess.CalledProcessError as exc:
            raise NoCredential(f"{name} ended with {exc.returncode} and no token") from exc
        except OSError as exc:
            raise NoCredential(f"{name}: {exc.strerror}") from exc
        return ended.stdout.decode("ascii", "replace")


def read_secrets(path: str) -> tuple[bytes, ...]:
    """Of a webhook. Raises: NoCredential."""
    try:
        return parse_secrets(_read(path))
    except InvalidSecret as exc:
        raise NoCredential(f"{path}: {exc}") from exc


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError as exc:
        raise NoCredential(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise NoCredential(f"{path} is not ASCII text") from exc
