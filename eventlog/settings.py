"""What an operator can set about the prediction log; defaults and units stand here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

MIB = 1024 * 1024
Mode = Literal["async", "durable", "sampled", "off"]
MODES: tuple[str, ...] = get_args(Mode)
Payload = Literal["full", "features", "off"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Modes: async (reply at once), durable (reply after commit), sampled, off."""

    mode: Mode = "async"
    sample_rate: float = 1.0  # share of rows kept in mode `sampled`
    flush_ms: int = 50
    record_rows_max: int = 4096
    record_bytes_max: int = 768 * 1024
    buffer_rows_max: int = 65_536  # rows waiting for the spool, per worker
    buffer_bytes_max: int = 256 * MIB
    heartbeat_ms: int = 1000
    segment_bytes: int = 64 * MIB
    segment_s: float = 60.0
    retention_s: float = 7 * 86_400.0
    retention_bytes: int = 5 * 1024 * MIB  # all segments of a state_dir, WAL included
    kafka: str = ""  # bootstrap servers, "host:9092,host:9092"; empty: the log stays here
    hash_key_file: str = ""  # of hashed fields; empty: log.key of the state directory


@dataclass(frozen=True, slots=True)
class ModelLogSettings:
    """What is logged of one model; None: as `*` says, then the version, then LogSettings.

    Fields are tensors (`NAME`, `input:NAME`, `output:NAME`), all of a side (`input:*`),
    elements of a row of a tensor (`NAME.3`), or features by the names that the model was
    pushed with.
    """

    mode: Mode | None = None
    sample_rate: float | None = None
    payload: Payload | None = None  # full: inputs and outputs; features: inputs; off: neither
    keep: tuple[str, ...] | None = None  # only these fields; None or empty: all
    drop: tuple[str, ...] | None = None  # never these
    hash: tuple[str, ...] | None = None  # these as keyed digests, equal for equal values

    def over(self, other: "ModelLogSettings") -> "ModelLogSettings":
        """These settings, and those of `other` where these say nothing."""
        mine = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **mine)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ModelLogSettings":
        """The inverse of `asdict`, also after JSON. Raises: TypeError."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document.items()
        }
        return cls(**values)


ANY_MODEL = "*"


def log_settings_of(model: str, settings: Mapping[str, ModelLogSettings]) -> ModelLogSettings:
    """What `settings` say of `model`: its own first, then those of all models."""
    everybody = settings.get(ANY_MODEL, ModelLogSettings())
    own = settings.get(model)
    return everybody if own is None else own.over(everybody)


SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka and what `driftgate log init` makes there; unused without `log.kafka`."""

    namespace: str = "driftgate"  # what the names of all topics begin with
    partitions: int = 6  # of predictions and labels: at most so many monitors share the work
    replication: int = 0  # of every topic; 0: as the brokers have it
    min_insync_replicas: int = 0  # 0: as the brokers have it
    retention_s: float = 7 * 86_400.0  # of predictions and labels
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = ""
    password_file: str = ""  # read at each connection, so that a secret can be rotated
    ca_file: str = ""  # PEM; empty: the system's authorities
    certificate_file: str = ""  # PEM, of this client
    key_file: str = ""  # PEM, its key
    request_timeout_s: float = 15.0
    batch_bytes: int = 512 * 1024  # of one request to one partition, before compression
    message_bytes_max: int = 1_000_000  # of one record; the brokers' default bound is 1 MiB
    control_wait_s: float = 10.0  # a gateway that starts waits so long for what it has missed
    control_timeout_s: float = 3.0  # an operator's command waits so long for the control topic
    labels_topic: str = ""  # that applications write labels to; empty: none
    rows_topic: str = ""  # for a request and a response event per row, as KServe's; empty: none
    rows_source: str = "driftgate"  # of these events, a URI
    rows_namespace: str = "default"  # likewise, as of Kubernetes
    schema_id: int = 0  # what frames these events in Confluent's way; 0: as the registry says
    schema_registry: str = ""  # URL where their schema is registered; empty and no id: no frame
    schema_registry_username: str = ""
    schema_registry_password: str = ""
    schema_registry_password_file: str = ""
