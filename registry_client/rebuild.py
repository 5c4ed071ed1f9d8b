"""Making an index again from the files beside it.

A manifest's file name says which version it is; anything that does not read
back as exactly that is skipped and counted, and nothing is deleted.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from registry_client.core.errors import Corrupt, RegistryError
from registry_client.core.manifest import MANIFEST_BYTES_MAX, Manifest
from registry_client.core.names import check_alias, check_model_name, check_version
from registry_client.index import AliasChange, has_version, move_alias
from registry_client.paths import open_beneath

_SUFFIX = ".json"


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found."""

    versions: int = 0
    aliases: int = 0
    skipped: int = 0

    def text(self) -> str:
        """One clause for the start-up note."""
        return (
            f"rebuilt from {self.versions} manifests and {self.aliases} aliases"
            f" ({self.skipped} unreadable files skipped)"
        )


def set_aside(path: Path) -> str:
    """Rename a damaged database and its companions; returns the new file name."""
    aside = f"{path.name}.corrupt-{time.time_ns()}"
    for suffix in ("-wal", "-shm", ""):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            os.replace(companion, path.with_name(aside + suffix))
    return aside


def rebuild_index(directory: Path, connection: sqlite3.Connection) -> Rebuilt:
    """Fill an empty index from `manifests/` and `aliases/`; inside one transaction."""
    counts = Rebuilt()
    for model, version, data in _files(directory, "manifests", counts):
        try:
            manifest = Manifest.from_json(data)
            if (manifest.model, manifest.version) != (model, check_version(version)):
                raise Corrupt("manifest of another version")
        except RegistryError:
            counts.skipped += 1
            continue
        row = (model, int(version), manifest.digest, data)
        connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", row)
        counts.versions += 1
    for model, alias, data in _files(directory, "aliases", counts):
        try:
            changes = _changes(check_alias(alias), data)
        except (RegistryError, ValueError, TypeError, KeyError):
            counts.skipped += 1
            continue
        kept = [change for change in changes if has_version(connection, model, change.version)]
        for change in kept:
            move_alias(connection, model, alias, change)
        counts.aliases += bool(kept)
    return counts


def alias_document(changes: Sequence[AliasChange]) -> bytes:
    """The file that `rebuild_index` reads an alias's history from."""
    return json.dumps({"schema": 1, "changes": [asdict(change) for change in changes]}).encode()


def _changes(alias: str, data: bytes) -> list[AliasChange]:
    document = json.loads(data)
    changes = [
        AliasChange(
            int(item["serial"]),
            check_version(item["version"]),
            None if item["previous"] is None else check_version(item["previous"]),
            str(item["reason"]),
            int(item["at_ns"]),
        )
        for item in document["changes"]
    ]
    serials = [change.serial for change in changes]
    if serials != sorted(set(serials)):
        raise Corrupt(f"history of alias {alias} is not in order")
    return changes


def _files(directory: Path, kind: str, counts: Rebuilt) -> Iterator[tuple[str, str, bytes]]:
    """Yield (model, stem, contents) of `<kind>/<model>/<stem>.json`, sorted."""
    root = directory / kind
    if not root.is_dir():
        return
    for model in sorted(os.listdir(root)):
        for name in sorted(os.listdir(root / model)) if (root / model).is_dir() else []:
            if name.endswith(".tmp"):
                continue  # a write that a crash cut short: its rename never happened
            try:
                descriptor = open_beneath(root, name, (check_model_name(model),))
            except RegistryError:
                counts.skipped += 1
                continue
            with open(descriptor, "rb") as stream:
                yield model, name.removesuffix(_SUFFIX), stream.read(MANIFEST_BYTES_MAX + 1)
