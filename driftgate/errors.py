"""What the command line tells a person when something is wrong."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    FAILED = 1  # the command was understood and refused, or a check failed
    USAGE = 2
    TIMEOUT = 3
    UNREACHABLE = 4  # no gateway answers at the admin address
    CANNOT_START = 5  # a port or the state directory cannot be had; trying again will not help


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
