"""Configuration: one TOML file, the environment and flags, onto the parts' settings.

Precedence: flag, then environment, then file, then the names that Kafka's clients
have in common, then default. The settings classes of the parts are the schema: a
key is a field, its type and default stand there. An unknown key is an error, with
the nearest known one named.
"""

import argparse
import dataclasses
import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftgate.config_models import MODELS, read_model_logs, read_model_slices, set_for_models
from driftgate.config_slices import SLICES
from driftgate.config_values import convert, unfit, unknown_key
from driftgate.errors import CliError, Exit
from eventlog.settings import KafkaSettings, LogSettings, ModelLogSettings
from monitor.settings import MonitorSettings
from monitor.triggers.settings import RetrainSettings
from serving.settings import (
    CompatSettings,
    CompressionSettings,
    GatewaySettings,
    GrpcSettings,
    LimitSettings,
    TlsSettings,
)

DEFAULT_FILE = Path("driftgate.toml")
DEFAULT_STATE_DIR = Path(".driftgate")
PREFIX = "DRIFTGATE_"
SECTIONS: Mapping[str, type] = {
    "gateway": GatewaySettings,
    "limits": LimitSettings,
    "compat": CompatSettings,
    "compression": CompressionSettings,
    "grpc": GrpcSettings,
    "tls": TlsSettings,
    "log": LogSettings,
    "kafka": KafkaSettings,
    "monitor": MonitorSettings,
    "retrain": RetrainSettings,
}
# What applications and Kafka's own images are commonly configured with. Somebody
# else may have set them, so they count for nothing until `log.kafka` is set.
COMMON_VARIABLES: Mapping[str, str] = {
    "log.kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "kafka.security_protocol": "KAFKA_SECURITY_PROTOCOL",
    "kafka.sasl_mechanism": "KAFKA_SASL_MECHANISM",
    "kafka.username": "KAFKA_SASL_USERNAME",
    "kafka.password": "KAFKA_SASL_PASSWORD",
    "kafka.ca_file": "KAFKA_SSL_CA_LOCATION",
    "kafka.certificate_file": "KAFKA_SSL_CERTIFICATE_LOCATION",
    "kafka.key_file": "KAFKA_SSL_KEY_LOCATION",
}


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator has set; `origins` says where each key came from."""

    state_dir: Path
    gateway: GatewaySettings
    log: LogSettings
    kafka: KafkaSettings
    monitor: MonitorSettings
    model_logs: Mapping[str, ModelLogSettings] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def retrain(self) -> RetrainSettings:
        return self.monitor.retrain

    @property
    def registry_dir(self) -> Path:
        return self.state_dir / "registry"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"

    @property
    def admin_token_path(self) -> Path:
        return self.state_dir / "admin.token"

    @property
    def admin_url(self) -> str:
        return f"http://{self.gateway.admin_host}:{self.gateway.admin_port}"

    @property
    def http_url(self) -> str:
        return (
            f"{self.gateway.tls.scheme}://{reachable(self.gateway.host)}:{self.gateway.http_port}"
        )

    @property
    def grpc_address(self) -> str:
        return f"{reachable(self.gateway.host)}:{self.gateway.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{reachable(self.gateway.host)}:{self.gateway.metrics_port}/metrics"

    @property
    def monitor_url(self) -> str:
        return f"http://{reachable(self.monitor.host)}:{self.monitor.port}"


def reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def keys() -> Iterator[tuple[str, str, Any]]:
    """Every (section, key, type) that can be set."""
    for section, schema in SECTIONS.items():
        hints = typing.get_type_hints(schema)
        for item in dataclasses.fields(schema):
            hint = hints[item.name]
            # A section of its own, and what stands in the tables of models.
            if not dataclasses.is_dataclass(hint) and typing.get_origin(hint) is not Mapping:
                yield section, item.name, hint


def setting_options() -> argparse.ArgumentParser:
    """A parent parser with one flag per key, kept out of `--help` for its length."""
    parent = argparse.ArgumentParser(add_help=False)
    for section, key, _ in keys():
        flag = f"--{section}-{key}".replace("_", "-")
        parent.add_argument(flag, dest=f"{section}.{key}", help=argparse.SUPPRESS)
    parent.add_argument("--models", dest=MODELS, help=argparse.SUPPRESS)
    return parent


def gateway_options() -> argparse.ArgumentParser:
    """A parent parser with the gateway's flags that stand in `--help`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--model-repository",
        dest="gateway.model_repository",
        metavar="DIR",
        help="serve a folder in Triton's layout as it is, instead of the embedded registry",
    )
    parent.add_argument(
        "--triton-metrics",
        dest="compat.triton_metrics",
        action="store_const",
        const="true",
        help="also export nv_inference_* on the metrics port",
    )
    return parent


def load_config(args: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration that `args`, the environment and the file add up to.

    Raises: CliError for an unknown key, a value of the wrong type, or a file
            that cannot be read.
    """
    environment = os.environ if environment is None else environment
    path, document = _read_file(getattr(args, "config", None))
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins: dict[str, str] = {}
    _check_document(document, path)
    _check_variables(environment)
    for section, key, kind in keys():
        name = f"{section}.{key}"
        variable = f"{PREFIX}{section}__{key}".upper()
        flag = getattr(args, name, None)
        if flag is not None:
            raw, origin = flag, "flag"
        elif variable in environment:
            raw, origin = environment[variable], variable
        elif key in document.get(section, {}):
            raw, origin = document[section][key], str(path)
        elif COMMON_VARIABLES.get(name, "") in environment and (
            name == "log.kafka" or values["log"].get("kafka")
        ):
            origin = COMMON_VARIABLES[name]
            raw = environment[origin]
        else:
            continue
        values[section][key] = convert(raw, kind, name, origin)
        origins[name] = origin
    kafka = KafkaSettings(**values["kafka"])
    _check_labels_topic(kafka, origins)
    state_dir, origins["state_dir"] = _state_dir(args, environment, document, path)
    tables, origin = _model_tables(args, environment, document, path)
    model_logs, slices = read_model_logs(tables, origin), read_model_slices(tables, origin)
    origins |= {
        f"{MODELS}.{model}.log.{key}": origin for model, key, _ in set_for_models(model_logs)
    }
    origins |= {
        f"{MODELS}.{model}.{SLICES}.{item.name}": origin
        for model, items in slices.items()
        for item in items
    }
    gateway = GatewaySettings(
        limits=LimitSettings(**values["limits"]),
        compat=CompatSettings(**values["compat"]),
        compression=CompressionSettings(**values["compression"]),
        grpc=GrpcSettings(**values["grpc"]),
        tls=TlsSettings(**values["tls"]),
        **values["gateway"],
    )
    return Config(
        state_dir,
        gateway,
        LogSettings(**values["log"]),
        kafka,
        MonitorSettings(
            **values["monitor"], retrain=RetrainSettings(**values["retrain"]), slices=slices
        ),
        model_logs,
        origins,
    )


def _check_labels_topic(kafka: KafkaSettings, origins: Mapping[str, str]) -> None:
    """What driftgate itself writes is no label from outside. Raises: CliError."""
    topic = kafka.labels_topic
    own = topic.startswith(f"{kafka.namespace}.") and topic.endswith(".v1")
    if topic and (own or topic == kafka.rows_topic):
        wanted = f"a topic that driftgate does not write, such as {kafka.namespace}.label-input"
        raise unfit("kafka.labels_topic", topic, origins["kafka.labels_topic"], wanted)


def _state_dir(
    args: argparse.Namespace,
    environment: Mapping[str, str],
    document: Mapping[str, Any],
    path: Path,
) -> tuple[Path, str]:
    """The state directory, absolute, and where it was set."""
    variable = f"{PREFIX}STATE_DIR"
    for chosen, origin in (
        (getattr(args, "state_dir", None), "flag"),
        (environment.get(variable), variable),
        (document.get("state_dir"), str(path)),
    ):
        if not chosen:
            continue
        if not isinstance(chosen, str | Path):
            raise unfit("state_dir", chosen, origin, "a folder's name in quotes")
        return Path(chosen).expanduser().absolute(), origin
    return DEFAULT_STATE_DIR.absolute(), "default"


def _model_tables(
    args: argparse.Namespace,
    environment: Mapping[str, str],
    document: Mapping[str, Any],
    path: Path,
) -> tuple[Mapping[str, Any], str]:
    """The tables of models, and where they were set: all of them in one place.

    A model's name may hold what names of variables and flags cannot, so in those the
    tables stand as they would in the file.
    """
    variable = f"{PREFIX}{MODELS}".upper()
    for text, origin in (
        (getattr(args, MODELS, None), "flag"),
        (environment.get(variable), variable),
    ):
        if text is None:
            continue
        try:
            return tomllib.loads(text), origin
        except tomllib.TOMLDecodeError as error:
            where = "--models" if origin == "flag" else variable
            raise CliError(f"{where} is not valid TOML", str(error), code=Exit.USAGE) from error
    return document.get(MODELS, {}), str(path)


def _read_file(given: Path | None) -> tuple[Path, dict[str, Any]]:
    path = given or DEFAULT_FILE
    if given is None and not path.exists():
        return path, {}
    try:
        return path, tomllib.loads(path.read_text())
    except OSError as error:
        raise CliError(
            f"{path} cannot be read",
            error.strerror or str(error),
            "name another file with --config",
            Exit.USAGE,
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path} is not valid TOML", str(error), code=Exit.USAGE) from error


def _check_document(document: Mapping[str, Any], path: Path) -> None:
    known = {section: {key for s, key, _ in keys() if s == section} for section in SECTIONS}
    for section, table in document.items():
        if section in ("state_dir", MODELS):
            continue
        if section not in known:
            raise unknown_key(f"[{section}]", section, [*known, "state_dir", MODELS], path)
        if not isinstance(table, dict):
            raise CliError(f"{path}: {section} must be a table", code=Exit.USAGE)
        for key in table:
            if key not in known[section]:
                raise unknown_key(f"{section}.{key}", key, sorted(known[section]), path)


def _check_variables(environment: Mapping[str, str]) -> None:
    """Only names with a double underscore are ours: orchestrators set DRIFTGATE_PORT and such."""
    known = [f"{PREFIX}{section}__{key}".upper() for section, key, _ in keys()]
    for name in environment:
        if name.startswith(PREFIX) and "__" in name and name not in known:
            raise unknown_key(name, name, known, "the environment")
