"""What the gateway says about itself and its models, in either protocol's terms."""

from collections.abc import Mapping
from typing import Any

from serving.core.model_config import PLATFORM
from serving.core.routing import Arm, Route, version_rank
from serving.worker.dataplane import DataPlane
from serving.worker.release import VERSION
from serving.worker.version import Version

# Only what works.
EXTENSIONS = (
    "binary_tensor_data",
    "parameters",
    "model_configuration",
    "statistics",
    "model_repository",
)
SHARED_MEMORY = "system_shared_memory"  # where an operator allows it


class Metadata:
    """Reads the routing table; owns nothing."""

    def __init__(self, plane: DataPlane, server_name: str, *, shared_memory: bool = False) -> None:
        self._plane, self._server_name = plane, server_name
        self._extensions = (*EXTENSIONS, *((SHARED_MEMORY,) if shared_memory else ()))

    def ready(self) -> bool:
        """Whether new requests should be sent here. Load does not matter to it."""
        return self._plane.table.epoch > 0 and not self._plane.draining

    def server(self) -> dict[str, Any]:
        return {
            "name": self._server_name,
            "version": VERSION,
            "extensions": list(self._extensions),
        }

    def model(self, model: str, version: str) -> dict[str, Any]:
        """version: "" for the one that serves most. Raises: UnknownModel."""
        route, arm = self._arm(model, version)
        signature = arm.target.signature
        return {
            "name": signature.model,
            "versions": _versions(route.pinned, arm),
            "platform": PLATFORM,
            "inputs": [spec.to_json() for spec in signature.inputs],
            "outputs": [spec.to_json() for spec in signature.outputs],
        }

    def config(self, model: str, version: str) -> Mapping[str, Any]:
        """The model configuration in Triton's JSON form. Raises: UnknownModel."""
        _, arm = self._arm(model, version)
        return arm.target.config

    def _arm(self, model: str, version: str) -> tuple[Route[Version], Arm[Version]]:
        route = self._plane.table.find(model)
        return route, route.pick_version(version) if version else route.arms[-1]


def _versions(pinned: Mapping[str, Arm[Version]], arm: Arm[Version]) -> list[str]:
    versions = set(pinned) | {arm.version}
    return sorted(versions, key=version_rank)
