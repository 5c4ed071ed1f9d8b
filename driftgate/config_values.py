"""One value of a key: from TOML, a variable or a flag to its type, or what is wrong with it."""

import difflib
import shlex
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driftgate.config_ranges import expected_range
from driftgate.errors import CliError, Exit

SECRETS = frozenset({"kafka.password"})  # never printed


def unknown_key(shown: str, name: str, candidates: list[str], where: Path | str) -> CliError:
    close = difflib.get_close_matches(name, candidates, n=1)
    known = "`driftgate config show` lists them" if len(candidates) > 40 else ", ".join(candidates)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {known}"
    return CliError(f"unknown key {shown} in {where}", hint=hint, code=Exit.USAGE)


def convert(raw: Any, kind: Any, name: str, origin: str) -> Any:
    """`raw` as a key's type. Raises: CliError."""
    if typing.get_origin(kind) is typing.Literal:
        if raw not in typing.get_args(kind):
            raise unfit(name, raw, origin, f"one of {', '.join(typing.get_args(kind))}")
        return raw
    try:
        value = _CONVERTERS[kind](raw)
    except (ValueError, TypeError) as error:
        raise unfit(name, raw, origin, _EXPECTED[kind]) from error
    expected = expected_range(name, value)
    if expected:
        raise unfit(name, raw, origin, expected)
    return value


def unfit(name: str, raw: Any, origin: str, expected: str) -> CliError:
    shown = "(a secret)" if name in SECRETS else repr(raw)
    return CliError(
        f"{name} = {shown} cannot be used",
        f"expected {expected}",
        f"it comes from {'the command line' if origin == 'flag' else origin}",
        Exit.USAGE,
    )


def _to_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError(raw)


def _to_int(raw: Any) -> int:
    if isinstance(raw, (bool, float)):
        raise TypeError(raw)
    return int(raw)


def _to_float(raw: Any) -> float:
    if isinstance(raw, bool):
        raise TypeError(raw)
    return float(raw)


def _to_str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError(raw)
    return raw


def _to_ints(raw: Any) -> tuple[int, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    return tuple(_to_int(part) for part in parts)


def _to_words(raw: Any) -> tuple[str, ...]:
    parts = shlex.split(raw) if isinstance(raw, str) else raw
    return tuple(_to_str(part) for part in parts)


_EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple[int, ...]: "whole numbers, as 5,25,100 or a list",
    tuple[str, ...]: "words, as a list or as a shell would split them",
}

_CONVERTERS: Mapping[Any, Any] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    tuple[int, ...]: _to_ints,
    tuple[str, ...]: _to_words,
}
