"""What a look at a registry sees while others write to it."""

from pathlib import Path

import pytest

from registry_client import EmbeddedRegistry, FileRole, Manifest
from serving.supervisor.models import CHAMPION, look
from tests.integration.control.conftest import tiny_model


class Restless(EmbeddedRegistry):
    """Its champion moves to the other version after every read of one of its methods."""

    moves = False

    def aliases(self, model: str) -> dict[str, str]:
        found = super().aliases(model)
        self.move(model)
        return found

    def alias(self, model: str, alias: str) -> tuple[str | None, int]:
        found = super().alias(model, alias)
        self.move(model)
        return found

    def manifest(self, model: str, version: str) -> Manifest:
        found = super().manifest(model, version)
        self.move(model)
        return found

    def move(self, model: str) -> None:
        if self.moves:
            other = "1" if super().aliases(model)[CHAMPION] == "2" else "2"
            self.set_alias(model, CHAMPION, other)


@pytest.fixture
def registry(tmp_path: Path) -> Restless:
    registry = Restless(tmp_path)
    for words in ("one", "two"):
        registry.push("digits", {"model.onnx": (FileRole.MODEL, tiny_model(words))})
    registry.set_alias("digits", CHAMPION, "1")
    registry.moves = True
    return registry


def test_a_champion_that_moves_meanwhile_has_the_serial_of_its_own_move(
    registry: Restless,
) -> None:
    """Else the move that came in between would count as followed, and never be."""
    seen = {}
    for _ in range(4):
        seen = look(registry, seen).champions
        champion = seen["digits"]
        moves = {item.serial: item.version for item in registry.alias_history("digits", CHAMPION)}
        assert champion.version.version == moves[champion.serial]
        digest = EmbeddedRegistry.manifest(registry, "digits", champion.version.version).digest
        assert champion.version.digest == digest
