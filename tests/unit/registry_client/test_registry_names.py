import pytest

from registry_client import InvalidName, check_alias, check_model_name, check_version
from registry_client.core.names import check_file_name, shown
from tests.registry_names import HOSTILE_NAMES


@pytest.mark.parametrize("name", ["a", "fraud", "Fraud-2.1_b", "9lives", "a" * 128, "a..b"])
def test_a_plain_name_is_a_model_name(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_in_one_line_of_ascii(name: str) -> None:
    for check in (check_model_name, check_alias, check_version, check_file_name):
        with pytest.raises(InvalidName) as refusal:
            check(name)
        message = str(refusal.value)
        assert message.isprintable()
        assert len(message) < 300


@pytest.mark.parametrize("version", ["1", "42", "9" * 18])
def test_a_whole_number_is_a_version(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["0", "01", "-1", "+1", "1.0", "1_0", "x", "9" * 19, "٣"])
def test_anything_but_a_whole_number_is_no_version(version: str) -> None:
    with pytest.raises(InvalidName):
        check_version(version)


def test_an_alias_cannot_be_taken_for_a_version() -> None:
    assert check_alias("champion") == "champion"
    with pytest.raises(InvalidName, match="only digits"):
        check_alias("12")


@pytest.mark.parametrize("name", ["model.onnx", "weights/layer_1.bin", "dense/kernel:0", "_w"])
def test_external_data_may_lie_in_sub_folders(name: str) -> None:
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    "name", ["a/../b", "a//b", "/a", "a/", "a/./b", "a\\b", "a/" * 8 + "b", "a/%2e%2e/b", "~/a"]
)
def test_a_path_that_is_not_plain_and_relative_is_no_file_name(name: str) -> None:
    with pytest.raises(InvalidName):
        check_file_name(name)


def test_what_is_shown_of_a_long_name_is_cut() -> None:
    assert shown("x" * 1000) == "'" + "x" * 80 + "'…"
    assert shown(b"\x00") == "\"b'\\\\x00'\""
