"""The methods of the inference service that the supervisor answers, as one table."""

from collections.abc import Callable, Mapping

from protos import inference_pb2 as pb
from serving.core.errors import UnknownModel, shown
from serving.core.routing import version_rank
from serving.metrics import Totals
from serving.settings import CompatSettings
from serving.statistics import model_statistics
from serving.supervisor.control import Control
from serving.supervisor.desk import (
    Document,
    Handler,
    Method,
    empty_document,
    index_document,
    regions_document,
    settings_document,
    trace_document,
)
from serving.supervisor.registry import RegistryFollower
from serving.supervisor.repository import Repository
from serving.supervisor.server_settings import ServerSettings
from serving.supervisor.shared_memory import NoCudaMemory, SharedMemory

EXPLICIT = "explicit"  # of compat.model_control


def client_methods(
    control: Control,
    registry: RegistryFollower,
    counted: Callable[[], Totals],
    memory: SharedMemory,
    compat: CompatSettings,
) -> Mapping[str, Method]:
    """counted: what all workers have counted, whenever it is asked."""
    repository = Repository(control, registry, explicit=compat.model_control == EXPLICIT)
    settings = ServerSettings(lambda: control.store.deployments)

    async def statistics(request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        return model_statistics(counted(), _asked_for(control, request))

    return {
        "ModelStatistics": Method(pb.ModelStatisticsRequest, statistics),
        "RepositoryIndex": Method(pb.RepositoryIndexRequest, repository.index, index_document),
        "RepositoryModelLoad": Method(
            pb.RepositoryModelLoadRequest, repository.load, empty_document
        ),
        "RepositoryModelUnload": Method(
            pb.RepositoryModelUnloadRequest, repository.unload, empty_document
        ),
        "TraceSetting": Method(pb.TraceSettingRequest, settings.trace, trace_document),
        "LogSettings": Method(pb.LogSettingsRequest, settings.log, settings_document),
        **_memory_methods("System", memory),
        **_memory_methods("Cuda", NoCudaMemory()),
    }


def _memory_methods(kind: str, memory: SharedMemory | NoCudaMemory) -> dict[str, Method]:
    def method(name: str, handler: Handler, document: Document) -> tuple[str, Method]:
        full = f"{kind}SharedMemory{name}"
        return full, Method(getattr(pb, f"{full}Request"), handler, document)

    return dict(
        (
            method("Status", memory.status, regions_document),
            method("Register", memory.register, empty_document),
            method("Unregister", memory.unregister, empty_document),
        )
    )


def _asked_for(control: Control, request: pb.ModelStatisticsRequest) -> list[tuple[str, str]]:
    """Loaded versions: one, all of a model, or all. Raises: UnknownModel."""
    versions = [
        (model, version)
        for model in sorted(control.store.deployments)
        for version in sorted(control.loaded(model), key=version_rank)
        if request.name in ("", model) and request.version in ("", version)
    ]
    if request.name and not versions:
        version = f" version '{shown(request.version)}'" if request.version else ""
        raise UnknownModel(
            f"Request for unknown model: '{shown(request.name)}'{version} is not found"
        )
    return versions
