"""Fuzz targets: what an operator's files hold, models and their configuration."""

from registry_client.core.errors import RegistryError
from registry_client.core.onnx_wire import check_external, check_locations, scan_onnx
from registry_client.core.triton_config import parse_config_override, parse_triton_config

SIZES = {"weights.bin": 64}


def model_file(data: bytes) -> None:
    """A model's bytes; what is found in them can be checked."""
    try:
        summary = scan_onnx(data)
        check_locations(summary)
        check_external(summary.external, SIZES)
    except RegistryError as refusal:
        str(refusal).encode()
        return
    assert scan_onnx(memoryview(data)) == summary


def model_config(data: bytes) -> None:
    """A config.pbtxt, or the JSON of a client's override."""
    text = data[1:].decode("utf-8", "replace")
    parse = parse_config_override if data[:1] == b"j" else parse_triton_config
    try:
        config = parse(text)
    except RegistryError as refusal:
        str(refusal).encode()
        return
    assert parse(text) == config
