"""Paths and JSON bodies of the endpoints that the supervisor answers, as its messages.

Every function takes the path's parameters and the body's object, and raises
InvalidRequest for what cannot be meant.
"""

from collections.abc import Mapping
from typing import Any

from protos import inference_pb2 as pb
from serving.core.errors import InvalidRequest, shown

Path = Mapping[str, str]
Document = Mapping[str, Any]

SETTINGS_MAX = 64  # of one request


def statistics(path: Path, _: Document) -> pb.ModelStatisticsRequest:
    return pb.ModelStatisticsRequest(name=path.get("model", ""), version=path.get("version", ""))


def index(path: Path, document: Document) -> pb.RepositoryIndexRequest:
    """body: {"ready"?: bool}"""
    ready = document.get("ready", False)
    if type(ready) is not bool:
        raise InvalidRequest(f"Invalid value for 'ready': expected a boolean, got '{shown(ready)}'")
    return pb.RepositoryIndexRequest(repository_name=path.get("repository", ""), ready=ready)


def load(path: Path, document: Document) -> pb.RepositoryModelLoadRequest:
    """body: {"parameters"?: {"config"?: JSON text, "file:<path>"?: base64}}"""
    request = pb.RepositoryModelLoadRequest(
        repository_name=path.get("repository", ""), model_name=path["model"]
    )
    _parameters(request.parameters, document)
    return request


def unload(path: Path, document: Document) -> pb.RepositoryModelUnloadRequest:
    """body: {"parameters"?: {"unload_dependents"?: bool}}"""
    request = pb.RepositoryModelUnloadRequest(
        repository_name=path.get("repository", ""), model_name=path["model"]
    )
    _parameters(request.parameters, document)
    return request


def _parameters(target: Any, document: Document) -> None:
    parameters = document.get("parameters", {})
    if not isinstance(parameters, Mapping) or len(parameters) > SETTINGS_MAX:
        raise InvalidRequest(
            f"'parameters' must be an object of at most {SETTINGS_MAX} members, "
            f"got '{shown(parameters)}'"
        )
    for name, value in parameters.items():
        if type(value) is bool:
            target[name].bool_param = value
        elif type(value) is int and -(2**63) <= value < 2**63:
            target[name].int64_param = value
        elif type(value) is str:
            target[name].string_param = value
        else:
            raise InvalidRequest(
                f"parameter '{shown(name)}' must be a boolean, an integer or a string, "
                f"got '{shown(value)}'"
            )


def trace_setting(path: Path, document: Document) -> pb.TraceSettingRequest:
    """body: name -> text, list of texts, or null (back to the setting above it)."""
    request = pb.TraceSettingRequest(model_name=path.get("model", ""))
    for name, value in _bounded(document):
        request.settings[name].SetInParent()
        values = [] if value is None else value if isinstance(value, list) else [value]
        for each in values:
            if type(each) is not str and type(each) is not int:
                raise InvalidRequest(
                    f"trace setting '{shown(name)}' must be text or a list of texts, "
                    f"got '{shown(value)}'"
                )
            request.settings[name].value.append(str(each))
    return request


def log_settings(_: Path, document: Document) -> pb.LogSettingsRequest:
    """body: name -> boolean, whole number or text."""
    request = pb.LogSettingsRequest()
    for name, value in _bounded(document):
        if type(value) is bool:
            request.settings[name].bool_param = value
        elif type(value) is int and 0 <= value < 2**32:
            request.settings[name].uint32_param = value
        elif type(value) is str:
            request.settings[name].string_param = value
        else:
            raise InvalidRequest(
                f"log setting '{shown(name)}' must be a boolean, a number from 0 or text, "
                f"got '{shown(value)}'"
            )
    return request


def system_memory_status(path: Path, _: Document) -> pb.SystemSharedMemoryStatusRequest:
    return pb.SystemSharedMemoryStatusRequest(name=path.get("region", ""))


def system_memory_register(path: Path, document: Document) -> pb.SystemSharedMemoryRegisterRequest:
    """body: {"key": text, "offset"?: bytes, "byte_size": bytes}"""
    key = document.get("key")
    if not isinstance(key, str):
        raise InvalidRequest(f"'key' must be a string, got '{shown(key)}'")
    return pb.SystemSharedMemoryRegisterRequest(
        name=path["region"],
        key=key,
        offset=_bytes(document, "offset", 0),
        byte_size=_bytes(document, "byte_size"),
    )


def system_memory_unregister(path: Path, _: Document) -> pb.SystemSharedMemoryUnregisterRequest:
    return pb.SystemSharedMemoryUnregisterRequest(name=path.get("region", ""))


def cuda_memory_status(path: Path, _: Document) -> pb.CudaSharedMemoryStatusRequest:
    return pb.CudaSharedMemoryStatusRequest(name=path.get("region", ""))


def cuda_memory_register(path: Path, _: Document) -> pb.CudaSharedMemoryRegisterRequest:
    """The body is not looked at: there is no CUDA memory to register."""
    return pb.CudaSharedMemoryRegisterRequest(name=path["region"])


def cuda_memory_unregister(path: Path, _: Document) -> pb.CudaSharedMemoryUnregisterRequest:
    return pb.CudaSharedMemoryUnregisterRequest(name=path.get("region", ""))


def _bytes(document: Document, name: str, default: int | None = None) -> int:
    value = document.get(name, default)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidRequest(f"'{name}' must be a number of bytes, got '{shown(value)}'")
    return value


def _bounded(document: Document) -> Any:
    if len(document) > SETTINGS_MAX:
        raise InvalidRequest(f"at most {SETTINGS_MAX} settings at a time, got {len(document)}")
    return document.items()
