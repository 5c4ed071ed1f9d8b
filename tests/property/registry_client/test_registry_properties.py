"""What holds of any manifest, any text and any bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry_client import (
    Corrupt,
    Feature,
    FeatureKind,
    FileRole,
    Invalid,
    InvalidName,
    Manifest,
    ManifestFile,
    RegistryError,
    TensorSpec,
    check_model_name,
)
from registry_client.core.onnx_wire import scan_onnx
from registry_client.core.pbtxt import Message, PbtxtError, parse_pbtxt
from registry_client.core.signature import DATATYPES
from registry_client.core.triton_config import parse_triton_config
from tests.registry_models import plain_model

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True)
PLAIN_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FILES = st.builds(
    ManifestFile,
    name=NAMES,
    role=st.sampled_from([role for role in FileRole if role is not FileRole.MODEL]),
    bytes=st.integers(0, 2**63),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)
TENSORS = st.lists(
    st.builds(
        TensorSpec,
        name=st.text(min_size=1, max_size=20),
        datatype=st.sampled_from(sorted(DATATYPES)),
        shape=st.lists(st.integers(-1, 2**31), max_size=8).map(tuple),
    ),
    max_size=4,
    unique_by=lambda spec: spec.name,
).map(tuple)
MANIFESTS = st.builds(
    Manifest,
    model=NAMES,
    version=st.integers(1, 10**18 - 1).map(str),
    files=st.lists(FILES, max_size=5, unique_by=lambda file: file.name)
    .filter(lambda files: all(file.name != "model.onnx" for file in files))
    .map(lambda files: (ManifestFile("model.onnx", FileRole.MODEL, 1, "0" * 64), *files)),
    inputs=TENSORS,
    outputs=TENSORS,
    features=st.lists(
        st.builds(
            Feature,
            name=st.text(max_size=20),
            kind=st.sampled_from(list(FeatureKind)),
            tensor=st.text(max_size=5),
            index=st.integers(0, 2**31),
        ),
        max_size=5,
        unique_by=lambda feature: feature.name,
    ).map(tuple),
    lineage=st.dictionaries(st.text(), PLAIN_JSON, max_size=4),
    serving=st.dictionaries(st.text(), PLAIN_JSON, max_size=4),
    created_ns=st.integers(0, 2**63),
)


@given(MANIFESTS)
def test_every_manifest_reads_back_as_itself_with_its_digest(manifest: Manifest) -> None:
    copy = Manifest.from_json(manifest.to_json())
    assert copy == manifest
    assert copy.digest == manifest.digest


@given(MANIFESTS, st.data())
def test_no_change_of_one_byte_keeps_the_digest(manifest: Manifest, data: st.DataObject) -> None:
    text = bytearray(manifest.to_json())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = Manifest.from_json(bytes(text))
    except Corrupt:
        return
    assert changed.digest != manifest.digest


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_a_manifest_fail_in_its_own_way(data: bytes) -> None:
    with pytest.raises(Corrupt):
        Manifest.from_json(data)


def only_these_errors(text: str) -> None:
    try:
        parsed = parse_pbtxt(text)
    except PbtxtError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(parsed, Message)
    try:
        config = parse_triton_config(text)
    except Invalid:
        return
    assert len(config.warnings) <= 100


@given(st.text(max_size=300))
@example('a: "\\x"')
@example("a: 1." + "0" * 400 + "e999999999")
def test_no_text_makes_the_parser_fail_in_its_own_way(text: str) -> None:
    only_these_errors(text)


KEYS = ["input", "name", "dims", "data_type", "max_batch_size", "version_policy", "latest"]
MARKS = ["{", "}", "<", ">", "[", "]", ":", ",", ";", "#", "\n", '"', "\\"]
VALUES = ['"x"', "'y'", "1", "-1", "0x", "1.5f", "TYPE_FP32"]
PIECES = st.sampled_from([*KEYS, *MARKS, *VALUES])


@given(st.lists(PIECES, max_size=60).map(" ".join))
def test_no_order_of_real_tokens_does_either(text: str) -> None:
    only_these_errors(text)


@given(st.dictionaries(NAMES.filter(lambda n: n.isidentifier()), st.integers(), max_size=8))
def test_what_is_written_as_text_format_is_read_back(numbers: dict[str, int]) -> None:
    text = "\n".join(f"{name}: {value} # {name}" for name, value in numbers.items())
    assert {field.name: field.value for field in parse_pbtxt(text).fields} == numbers


@given(st.binary(max_size=300))
def test_no_bytes_make_the_scanner_fail_in_its_own_way(data: bytes) -> None:
    try:
        scan_onnx(data)
    except RegistryError as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(st.data())
def test_no_damage_to_a_model_makes_the_scanner_fail_in_its_own_way(data: st.DataObject) -> None:
    model = bytearray(plain_model())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(model) - 1))
        model[place] = data.draw(st.integers(0, 255))
    try:
        scan_onnx(model)
    except RegistryError as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(st.text(max_size=140))
def test_a_name_that_passes_is_ascii_and_stays_in_its_folder(name: str) -> None:
    try:
        check_model_name(name)
    except InvalidName:
        return
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) <= 128
