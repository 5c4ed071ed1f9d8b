"""What the command line tells a person when something is wrong."""

import json
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.error import HTTPError


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1  # the command was understood and refused, or a check failed
    USAGE = 2
    TIMEOUT = 3
    UNREACHABLE = 4  # no gateway answers at the admin address
    CANNOT_START = 5  # a port or the state directory cannot be had; trying again will not help
    PARTLY = 6  # nothing found wrong, but not everything could be looked at


class CliError(Exception):
    """One failure as a person should read it: error, cause, hint."""

    def __init__(
        self,
        error: str,
        cause: str | None = None,
        hint: str | None = None,
        code: int = Exit.FAILED,
    ) -> None:
        super().__init__(error)
        self.error, self.cause, self.hint, self.code = error, cause, hint, code

    def __str__(self) -> str:
        lines = [f"error: {self.error}"]
        if self.cause:
            lines.append(f"  caused by: {self.cause}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def sentence_of(error: "HTTPError") -> str:
    """What a server of ours said was wrong; its status if it said nothing."""
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"it says {error.code}"
