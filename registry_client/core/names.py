"""The naming rules: the only gate between a client's text and a path.

Everything that becomes part of a path or of a key passes here first. The
rules are allow-lists over ASCII, so there is nothing to decode, normalise or
case-fold: `../x`, `%2f`, NUL and look-alike letters simply do not match.
"""

import re

from registry_client.core.errors import InvalidName

NAME_BYTES_MAX = 128  # fits every file system's 255 with room for suffixes
PATH_SEGMENTS_MAX = 8  # external data in sub-folders; deeper is a mistake

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
# 18 digits fit a signed 64-bit integer; Triton ignores folders that start with 0.
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
# Exporters write weight files named after tensors: `dense/kernel:0`, `MatMul_1+2`.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+@=-]{0,127}", re.ASCII)
_SHOWN_CHARS_MAX = 80


def shown(text: object) -> str:
    """Quote what somebody sent for a message: one line, ASCII, bounded."""
    cut = text if isinstance(text, str) else repr(text)
    tail = "…" if len(cut) > _SHOWN_CHARS_MAX else ""
    return ascii(cut[:_SHOWN_CHARS_MAX]) + tail


def _check(rule: re.Pattern[str], text: str, what: str, allowed: str) -> str:
    if not isinstance(text, str) or rule.fullmatch(text) is None:
        raise InvalidName(f"{what} {shown(text)} is not allowed: use {allowed}")
    return text


def check_model_name(name: str) -> str:
    """Return `name` if it is a model name. Raises InvalidName."""
    return _check(
        _NAME, name, "model name", "1 to 128 of A-Z a-z 0-9 _ . -, first a letter or digit"
    )


def check_version(version: str) -> str:
    """Return `version` if it is a whole number of 1 to 18 digits. Raises InvalidName."""
    return _check(_VERSION, version, "version", "a whole number from 1, without leading zeros")


def check_alias(alias: str) -> str:
    """Return `alias` if it is a name that cannot be taken for a version. Raises InvalidName."""
    allowed = "1 to 128 of A-Z a-z 0-9 _ . -, not only digits"
    _check(_NAME, alias, "alias", allowed)
    if alias.isdigit():
        raise InvalidName(f"alias {shown(alias)} is not allowed: use {allowed}")
    return alias


def check_file_name(name: str) -> str:
    """Return `name` if it is a relative path of plain segments. Raises InvalidName.

    Accepts `model.onnx` and `weights/layer_1.bin`; refuses absolute paths, empty
    segments, `.` and `..`, backslashes, percent signs and anything not ASCII.
    """
    segments = name.split("/") if isinstance(name, str) else []
    if not 1 <= len(segments) <= PATH_SEGMENTS_MAX or any(
        _SEGMENT.fullmatch(segment) is None for segment in segments
    ):
        raise InvalidName(
            f"file name {shown(name)} is not allowed: use a relative path of at most "
            f"{PATH_SEGMENTS_MAX} plain names"
        )
    return name
