"""What every registry offers, whatever it stores its models in."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from registry_client.core.manifest import Manifest, ManifestFile


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that `verify` found. file: "" where it concerns the version itself."""

    model: str
    version: str
    file: str
    text: str


class Source(Protocol):
    """Models by name, version and alias. Names are checked before anything is looked up.

    Every method may raise the RegistryError family and nothing else. A model that
    is not there has no versions and no aliases; its manifest is NotFound.
    """

    def models(self) -> list[str]:
        """Names of all models, sorted."""
        ...

    def versions(self, model: str) -> list[str]:
        """Version numbers, ascending as numbers."""
        ...

    def aliases(self, model: str) -> dict[str, str]:
        """Alias -> version."""
        ...

    def alias(self, model: str, alias: str) -> tuple[str | None, int]:
        """(version, serial) at one moment; the serial rises whenever the alias moves.

        (None, 0) while there is none. Read one by one, a version could be taken for
        the one of a move that came in between.
        """
        ...

    def manifest(self, model: str, version: str) -> Manifest:
        """What the version consists of. Raises NotFound."""
        ...

    def open(self, manifest: Manifest, file: ManifestFile) -> BinaryIO:
        """Read one file, unverified and unbuffered: `fetch` verifies while it copies."""
        ...
