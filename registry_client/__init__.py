"""Models by name, version and alias from a registry, as bytes that were verified.

Two registries are built in: the embedded one, and a Triton model repository.
Both implement `Source`; `fetch` turns a version of either into sealed memory.
"""

from pathlib import Path

from registry_client.core.errors import (
    Conflict,
    Corrupt,
    Invalid,
    InvalidName,
    NotFound,
    RegistryError,
    Unavailable,
    Unsafe,
)
from registry_client.core.manifest import FileRole, Manifest, ManifestFile
from registry_client.core.names import check_alias, check_model_name, check_version
from registry_client.core.signature import Feature, FeatureKind, TensorSpec
from registry_client.embedded import ANY_VERSION, EmbeddedRegistry
from registry_client.fetch import Fetched, fetch, read_file
from registry_client.index import AliasChange
from registry_client.source import Problem, Source
from registry_client.triton import TritonRepository
from registry_client.verified import verify_version

__all__ = [
    "ANY_VERSION",
    "AliasChange",
    "Conflict",
    "Corrupt",
    "EmbeddedRegistry",
    "Feature",
    "FeatureKind",
    "Fetched",
    "FileRole",
    "Invalid",
    "InvalidName",
    "Manifest",
    "ManifestFile",
    "NotFound",
    "Problem",
    "RegistryError",
    "Source",
    "TensorSpec",
    "TritonRepository",
    "Unavailable",
    "Unsafe",
    "check_alias",
    "check_model_name",
    "check_version",
    "fetch",
    "open_source",
    "read_file",
    "verify_version",
]


def open_source(registry_dir: Path, model_repository: str = "") -> Source:
    """The registry that the settings name: a Triton-layout folder, else the embedded one."""
    if model_repository:
        return TritonRepository(Path(model_repository))
    return EmbeddedRegistry(registry_dir)
