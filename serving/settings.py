"""What an operator can set about the gateway; defaults and units stand here."""

from dataclasses import dataclass, field
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Bounds on what a client may send; each is checked before it is allocated."""

    body_bytes_max: int = 64 * MIB
    message_bytes_max: int = 64 * MIB  # of a gRPC message; 0: what bytes_in_flight_max admits
    request_line_bytes_max: int = 8 * 1024
    header_bytes_max: int = 16 * 1024
    headers_max: int = 100
    json_depth_max: int = 100
    tensors_max: int = 64
    rows_in_flight_max: int = 16_384
    bytes_in_flight_max: int = 2048 * MIB  # a JSON body counts 24 times its size
    connections_max: int = 4_096
    first_byte_s: float = 10.0  # idle before a connection's first byte
    header_s: float = 5.0
    body_s: float = 30.0  # plus one second per body_bytes_per_s_min
    body_bytes_per_s_min: int = 8 * 1024
    keep_alive_s: float = 75.0
    request_s_max: float = 30.0  # deadline of a request that names none
    # How long a request that names no deadline may have to wait while a queue stands; 0: until
    # request_s_max. Proxies give up after 15 s (Envoy) or later, so beyond this an answer
    # finds few who still wait, while clients that only send many at once are not refused.
    standing_wait_s_max: float = 10.0
    # Header, and gRPC metadata key, whose value says which tenant a request is of; empty:
    # all are one's. To be set by something in front that clients cannot get round.
    tenant_header: str = ""


@dataclass(frozen=True, slots=True)
class CompatSettings:
    """How far to behave as Triton does where driftgate has a way of its own."""

    # "none": models follow the registry, and Triton's load and unload are refused;
    # "explicit": they are commands, for whoever reaches the data ports.
    model_control: Literal["none", "explicit"] = "none"
    shared_memory: bool = False  # clients on this machine may register system shared memory
    triton_metrics: bool = False  # nv_inference_* beside our own on /metrics


@dataclass(frozen=True, slots=True)
class CompressionSettings:
    """Of replies; requests may always come compressed."""

    # Shorter infer replies over HTTP go out plain; 0: all do. A client library that asks
    # for gzip without being told to is common, and below this it pays on no network.
    http_bytes_min: int = 4096
    grpc_replies: bool = False  # to clients that take it; costs more than most networks do


GrpcEngineName = Literal["auto", "nghttp2", "grpcio"]


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """What serves gRPC. "auto": nghttp2 where a safe libnghttp2 is found, else grpcio."""

    engine: GrpcEngineName = "auto"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Of the data ports, HTTP and gRPC alike; files in PEM, read again when they change."""

    certificate_file: str = ""  # the server's chain, its own first; empty: plain text
    key_file: str = ""  # without a password
    client_ca_file: str = ""  # who signs clients' certificates; empty: none is asked for

    @property
    def enabled(self) -> bool:
        return bool(self.certificate_file)

    @property
    def scheme(self) -> str:
        """Of the HTTP port's addresses."""
        return "https" if self.enabled else "http"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Listeners, processes and where state lives."""

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    admin_host: str = "127.0.0.1"
    admin_port: int = 8003
    admin_hosts: tuple[str, ...] = ()  # Host names allowed on the admin port beside its own
    admin_plaintext: bool = False  # let admin_host be reachable from other machines without TLS
    workers: int = 0  # 0: one per core
    model_repository: str = ""  # a Triton-layout folder; empty: the embedded registry
    registry_poll_s: float = 2.0
    drain_s: float = 10.0
    orphan_s: float = 30.0  # how long workers outlive their supervisor
    # A worker whose event loop has not turned for so long is killed and replaced; 0: never.
    # Five times the longest honest turn: 64 MiB of JSON numbers of one digit took 3 s to read.
    hang_s: float = 15.0
    # Rows that one worker process numbers before it is replaced: prediction ids hold 34
    # bits, and at half of them a worker that no replacement can be started for has hours.
    worker_rows_max: int = 2**33
    keep_previous: int = 1
    server_name: str = "driftgate"
    rollout_steps: tuple[int, ...] = (5, 25, 100)
    max_batch_size: int = 256  # rows per execution of a batchable model without a setting
    limits: LimitSettings = field(default_factory=LimitSettings)
    compat: CompatSettings = field(default_factory=CompatSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
