"""The model that is to be measured: from the registry, a Triton-layout folder, or a file.

It is loaded as a worker would load it, so what cannot be served cannot be measured.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from driftgate.config import Config
from driftgate.errors import CliError, Exit
from registry_client import (
    FileRole,
    NotFound,
    RegistryError,
    Source,
    TritonRepository,
    fetch,
    open_source,
)
from registry_client.core.onnx_wire import check_locations
from registry_client.verified import scan_file
from serving.supervisor.models import ROLES, newest, settings_document

FILE_VERSION = "1"  # of a file, which has none


class Origin(Enum):
    REGISTRY = "registry"
    FOLDER = "folder"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Target:
    """Descriptors are open as long as the context that gave the target.

    settings: how a worker is told to serve it.
    """

    name: str
    version: str
    origin: Origin
    model_fd: int
    external_fds: Mapping[str, int] = field(default_factory=dict)
    golden_fd: int | None = None
    warmup_fds: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def open_target(config: Config, model: str, version: str | None) -> Iterator[Target]:
    """The model called `model`; of a path, the ONNX file or the model's folder as Triton has it.

    Raises: CliError.
    """
    path = Path(model)
    is_path = "/" in model or path.suffix == ".onnx"  # else a folder here could hide a model
    with ExitStack() as stack:
        try:
            if is_path and (path.suffix == ".onnx" or path.is_file()):
                yield _of_file(stack, path, version)
                return
            if is_path:
                source: Source = TritonRepository(path.absolute().parent)
                name, origin = path.absolute().name, Origin.FOLDER
            else:
                name = model
                folder = config.gateway.model_repository
                source = open_source(config.registry_dir, folder)
                origin = Origin.FOLDER if folder else Origin.REGISTRY
            yield _of_source(stack, source, origin, name, version)
        except RegistryError as error:
            hint = None
            if isinstance(error, NotFound):
                hint = (
                    "`driftgate model list` shows what is there; a .onnx file can be named as well"
                )
            raise CliError(f"{model} cannot be measured", str(error), hint) from error


def _of_source(
    stack: ExitStack, source: Source, origin: Origin, name: str, version: str | None
) -> Target:
    """Raises: RegistryError."""
    number = version or newest(source, name).version
    fetched = stack.enter_context(fetch(source, name, number, ROLES))
    by_role: dict[FileRole, dict[str, int]] = {}
    for file, descriptor in fetched.files:
        by_role.setdefault(file.role, {})[file.name] = descriptor
    golden = by_role.get(FileRole.GOLDEN, {})
    return Target(
        name,
        number,
        origin,
        fetched.files[0][1],
        by_role.get(FileRole.EXTERNAL, {}),
        next(iter(golden.values()), None),
        by_role.get(FileRole.WARMUP, {}),
        settings_document(fetched.manifest, [file for file, _ in fetched.files]),
    )


def _of_file(stack: ExitStack, path: Path, version: str | None) -> Target:
    """Raises: CliError, RegistryError."""
    if version is not None:
        raise CliError("a file has no versions", f"{path} is a file", code=Exit.USAGE)
    model_fd = _open(stack, path)
    external = {
        location: _open(stack, path.parent / location)
        for location in check_locations(scan_file(model_fd))
    }
    return Target(path.stem, FILE_VERSION, Origin.FILE, model_fd, external)


def _open(stack: ExitStack, path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CliError(f"{path} cannot be read", error.strerror) from error
    stack.callback(os.close, descriptor)
    return descriptor
