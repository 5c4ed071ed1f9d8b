"""The key file behind prediction ids."""

import stat
from pathlib import Path

import pytest

from eventlog import (
    InvalidPredictionId,
    LogError,
    PredictionIds,
    rotate_keys,
    set_damaged_keys_aside,
)


def test_keys_are_created_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    first = PredictionIds.load(tmp_path / "state")
    path = tmp_path / "state" / "id.keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = first.encode(1, "abcdef", 2)
    assert PredictionIds.load(tmp_path / "state").decode(text).sequence == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["id.keys"]


def test_ids_outlive_one_rotation_and_not_two(tmp_path: Path) -> None:
    text = PredictionIds.load(tmp_path).encode(1, "abcdef", 2)
    rotate_keys(tmp_path)
    assert PredictionIds.load(tmp_path).decode(text).sequence == 2
    rotate_keys(tmp_path)
    with pytest.raises(InvalidPredictionId):
        PredictionIds.load(tmp_path).decode(text)


@pytest.mark.parametrize("content", ["", "zz", "00" * 31, "00" * 32 + "\n" + "11" * 32 + "\n22"])
def test_a_malformed_key_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "id.keys").write_text(content)
    with pytest.raises(LogError, match=r"id\.keys"):
        PredictionIds.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"abc\n", b"\xde\xad\xbe\xef" * 16, b"00" * 32 + b"\n?"])
def test_damaged_keys_are_refused_and_can_be_set_aside(tmp_path: Path, content: bytes) -> None:
    assert set_damaged_keys_aside(tmp_path) == ""
    (tmp_path / "id.keys").write_bytes(content)
    with pytest.raises(LogError, match="expected one or two lines of 64 hex digits"):
        PredictionIds.load(tmp_path)
    aside = set_damaged_keys_aside(tmp_path)
    assert (tmp_path / aside).read_bytes() == content
    ids = PredictionIds.load(tmp_path)
    assert ids.decode(ids.encode(1, "aaaaaa", 2)).sequence == 2
    assert set_damaged_keys_aside(tmp_path) == ""
