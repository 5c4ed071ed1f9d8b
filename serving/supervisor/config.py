"""What the supervisor is told, and what it tells a worker, as JSON documents."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventlog.settings import KafkaSettings, LogSettings, ModelLogSettings
from serving.grpc_engine import GrpcEngine
from serving.settings import (
    CompatSettings,
    CompressionSettings,
    GatewaySettings,
    GrpcSettings,
    LimitSettings,
    TlsSettings,
)
from serving.supervisor.sockets import Sockets

# Open connections per worker, one int64 each, by which workers spread them.
CONNECTIONS = "connections"
GRPC_CONNECTIONS = "connections-grpc"


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """Everything that `python -m serving` reads; durable state lies in `state_dir`."""

    state_dir: Path
    registry_dir: Path
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    log: LogSettings = field(default_factory=LogSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    model_logs: Mapping[str, ModelLogSettings] = field(default_factory=dict)  # or of `*`

    @property
    def run_dir(self) -> Path:
        return self.state_dir / "run"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"

    @property
    def workers(self) -> int:
        """One per core this process may use, unless a number is set."""
        return self.gateway.workers or len(os.sched_getaffinity(0))

    def to_json(self) -> dict[str, Any]:
        return {
            "state_dir": str(self.state_dir),
            "registry_dir": str(self.registry_dir),
            "gateway": dataclasses.asdict(self.gateway),
            "log": dataclasses.asdict(self.log),
            "kafka": dataclasses.asdict(self.kafka),
            "model_logs": {
                model: dataclasses.asdict(settings) for model, settings in self.model_logs.items()
            },
        }


def config_from_json(document: dict[str, Any]) -> SupervisorConfig:
    """The inverse of `to_json`; a part that is left out has its defaults.

    Raises: KeyError or TypeError for a document of another shape.
    """
    gateway = dict(document.get("gateway", {}))
    limits = LimitSettings(**gateway.pop("limits", {}))
    compat = CompatSettings(**gateway.pop("compat", {}))
    compression = CompressionSettings(**gateway.pop("compression", {}))
    grpc = GrpcSettings(**gateway.pop("grpc", {}))
    tls = TlsSettings(**gateway.pop("tls", {}))
    steps = tuple(gateway.pop("rollout_steps", GatewaySettings().rollout_steps))
    state_dir = Path(document["state_dir"])
    return SupervisorConfig(
        state_dir=state_dir,
        registry_dir=Path(document.get("registry_dir") or state_dir / "registry"),
        gateway=GatewaySettings(
            limits=limits,
            compat=compat,
            compression=compression,
            grpc=grpc,
            tls=tls,
            rollout_steps=steps,
            **_tuples(gateway, "admin_hosts"),
        ),
        log=LogSettings(**document.get("log", {})),
        kafka=KafkaSettings(**document.get("kafka", {})),
        model_logs={
            model: ModelLogSettings.from_json(settings)
            for model, settings in document.get("model_logs", {}).items()
        },
    )


def _tuples(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: tuple(value) if key in names else value for key, value in values.items()}


def worker_document(
    config: SupervisorConfig, incarnation: str, index: int, sockets: Sockets, engine: GrpcEngine
) -> dict[str, Any]:
    """What `python -m serving.worker` reads."""
    gateway = config.gateway
    return {
        "incarnation": incarnation,
        "index": index,
        "workers": config.workers,
        "state_dir": str(config.state_dir),
        "connections_path": str(config.run_dir / CONNECTIONS),
        "grpc_connections_path": str(config.run_dir / GRPC_CONNECTIONS),
        "http_fd": sockets.http.fileno(),
        "grpc_fd": sockets.grpc.fileno(),
        "grpc_host": gateway.host,
        "grpc_port": sockets.ports["grpc"],
        "grpc_library": engine.library,
        "server_name": gateway.server_name,
        "drain_s": gateway.drain_s,
        "orphan_s": gateway.orphan_s,
        "max_batch_size": gateway.max_batch_size,
        "shared_memory": gateway.compat.shared_memory,
        "limits": dataclasses.asdict(gateway.limits),
        "compression": dataclasses.asdict(gateway.compression),
        "tls": dataclasses.asdict(gateway.tls),
        "log": dataclasses.asdict(config.log),
    }


def memory_file(name: str, document: dict[str, Any]) -> int:
    """An inheritable descriptor that reads as `document`; the caller closes it."""
    descriptor = os.memfd_create(name, 0)
    os.write(descriptor, json.dumps(document).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor
