"""What the supervisor tells a worker at its start: one JSON document."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from eventlog.settings import LogSettings
from serving.settings import CompressionSettings, LimitSettings, TlsSettings

CONFIG_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A worker's place in the gateway."""

    incarnation: str
    index: int
    workers: int
    state_dir: Path
    connections_path: Path | None
    grpc_connections_path: Path | None
    http_fd: int
    grpc_fd: int  # with grpcio, which opens a listener of its own, only bound
    grpc_host: str
    grpc_port: int
    grpc_library: str  # the path of libnghttp2; empty: grpcio serves
    server_name: str
    drain_s: float
    orphan_s: float
    max_batch_size: int
    shared_memory: bool
    limits: LimitSettings
    compression: CompressionSettings
    tls: TlsSettings
    log: LogSettings

    @property
    def run_dir(self) -> Path:
        return self.state_dir / "run"

    @property
    def threads(self) -> int:
        """Cores of one worker's share, for a session's own threads."""
        return max(1, len(os.sched_getaffinity(0)) // max(1, self.workers))


def read_config(fd: int) -> WorkerConfig:
    """Raises: ValueError, KeyError or TypeError for a document of another shape."""
    with os.fdopen(fd, "rb") as file:
        document = json.loads(file.read(CONFIG_BYTES_MAX))
    return WorkerConfig(
        incarnation=document["incarnation"],
        index=document["index"],
        workers=document["workers"],
        state_dir=Path(document["state_dir"]),
        connections_path=_path(document.get("connections_path")),
        grpc_connections_path=_path(document.get("grpc_connections_path")),
        http_fd=document["http_fd"],
        grpc_fd=document["grpc_fd"],
        grpc_host=document["grpc_host"],
        grpc_port=document["grpc_port"],
        grpc_library=document["grpc_library"],
        server_name=document["server_name"],
        drain_s=document["drain_s"],
        orphan_s=document["orphan_s"],
        max_batch_size=document["max_batch_size"],
        shared_memory=document["shared_memory"],
        limits=LimitSettings(**document["limits"]),
        compression=CompressionSettings(**document["compression"]),
        tls=TlsSettings(**document["tls"]),
        log=LogSettings(**document["log"]),
    )


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
