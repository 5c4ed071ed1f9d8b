"""Configuration: one TOML file, the environment and flags, onto the parts' settings.

Precedence: flag, then environment, then file, then the names that Kafka's clients
have in common, then default. The settings classes of the parts are the schema: a
key is a field, its type and default stand there. An unknown key is an error, with
the nearest known one named.
"""

import argparse
import dataclasses
import difflib
import os
import shlex
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftgate.config_ranges import expected_range
from driftgate.errors import CliError, Exit
from eventlog.settings import KafkaSettings, LogSettings
from monitor.settings import MonitorSettings
from serving.settings import (
    CompatSettings,
    CompressionSettings,
    GatewaySettings,
    LimitSettings,
)

DEFAULT_FILE = Path("driftgate.toml")
DEFAULT_STATE_DIR = Path(".driftgate")
PREFIX = "DRIFTGATE_"
SECTIONS: Mapping[str, type] = {
    "gateway": GatewaySettings,
    "limits": LimitSettings,
    "compat": CompatSettings,
    "compression": CompressionSettings,
    "log": LogSettings,
    "kafka": KafkaSettings,
    "monitor": MonitorSettings,
}
SECRETS = frozenset({"kafka.password"})  # never printed
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
    origins: Mapping[str, str] = field(default_factory=dict)

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
        return f"http://{_reachable(self.gateway.host)}:{self.gateway.http_port}"

    @property
    def grpc_address(self) -> str:
        return f"{_reachable(self.gateway.host)}:{self.gateway.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{_reachable(self.gateway.host)}:{self.gateway.metrics_port}/metrics"

    @property
    def monitor_url(self) -> str:
        return f"http://{_reachable(self.monitor.host)}:{self.monitor.port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def keys() -> Iterator[tuple[str, str, Any]]:
    """Every (section, key, type) that can be set."""
    for section, schema in SECTIONS.items():
        hints = typing.get_type_hints(schema)
        for item in dataclasses.fields(schema):
            if not dataclasses.is_dataclass(hints[item.name]):  # that is a section of its own
                yield section, item.name, hints[item.name]


def setting_options() -> argparse.ArgumentParser:
    """A parent parser with one flag per key, kept out of `--help` for its length."""
    parent = argparse.ArgumentParser(add_help=False)
    for section, key, _ in keys():
        flag = f"--{section}-{key}".replace("_", "-")
        parent.add_argument(flag, dest=f"{section}.{key}", help=argparse.SUPPRESS)
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
        values[section][key] = _convert(raw, kind, name, origin)
        origins[name] = origin
    state_dir, origins["state_dir"] = _state_dir(args, environment, document, path)
    gateway = GatewaySettings(
        limits=LimitSettings(**values["limits"]),
        compat=CompatSettings(**values["compat"]),
        compression=CompressionSettings(**values["compression"]),
        **values["gateway"],
    )
    return Config(
        state_dir,
        gateway,
        LogSettings(**values["log"]),
        KafkaSettings(**values["kafka"]),
        MonitorSettings(**values["monitor"]),
        origins,
    )


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
            raise _unfit("state_dir", chosen, origin, "a folder's name in quotes")
        return Path(chosen).expanduser().absolute(), origin
    return DEFAULT_STATE_DIR.absolute(), "default"


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
        if section == "state_dir":
            continue
        if section not in known:
            raise _unknown(f"[{section}]", section, [*known, "state_dir"], path)
        if not isinstance(table, dict):
            raise CliError(f"{path}: {section} must be a table", code=Exit.USAGE)
        for key in table:
            if key not in known[section]:
                raise _unknown(f"{section}.{key}", key, sorted(known[section]), path)


def _check_variables(environment: Mapping[str, str]) -> None:
    """Only names with a double underscore are ours: orchestrators set DRIFTGATE_PORT and such."""
    known = [f"{PREFIX}{section}__{key}".upper() for section, key, _ in keys()]
    for name in environment:
        if name.startswith(PREFIX) and "__" in name and name not in known:
            raise _unknown(name, name, known, "the environment")


def _unknown(shown: str, name: str, candidates: list[str], where: Path | str) -> CliError:
    close = difflib.get_close_matches(name, candidates, n=1)
    known = "`driftgate config show` lists them" if len(candidates) > 40 else ", ".join(candidates)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {known}"
    return CliError(f"unknown key {shown} in {where}", hint=hint, code=Exit.USAGE)


def _convert(raw: Any, kind: Any, name: str, origin: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        if raw not in typing.get_args(kind):
            raise _unfit(name, raw, origin, f"one of {', '.join(typing.get_args(kind))}")
        return raw
    try:
        value = _CONVERTERS[kind](raw)
    except (ValueError, TypeError) as error:
        raise _unfit(name, raw, origin, _EXPECTED[kind]) from error
    expected = expected_range(name, value)
    if expected:
        raise _unfit(name, raw, origin, expected)
    return value


def _unfit(name: str, raw: Any, origin: str, expected: str) -> CliError:
    shown = "(a secret)" if name in SECRETS else repr(raw)
    return CliError(
        f"{name} = {shown} cannot be used",
        f"expected {expected}",
        f"it comes from {'the command line' if origin == 'flag' else origin}",
        Exit.USAGE,
    )


def _to_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError(raw)


def _to_int(raw: Any) -> int:
    if isinstance(raw, (bool, float)):
        raise TypeError(raw)
    return int(raw)


def _to_float(raw: Any) -> float:
    if isinstance(raw, bool):
        raise TypeError(raw)
    return float(raw)


def _to_str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError(raw)
    return raw


def _to_ints(raw: Any) -> tuple[int, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    return tuple(_to_int(part) for part in parts)


def _to_words(raw: Any) -> tuple[str, ...]:
    parts = shlex.split(raw) if isinstance(raw, str) else raw
    return tuple(_to_str(part) for part in parts)


_EXPECTED: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple[int, ...]: "whole numbers, as 5,25,100 or a list",
    tuple[str, ...]: "words, as a list or as a shell would split them",
}

_CONVERTERS: Mapping[Any, Any] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    tuple[int, ...]: _to_ints,
    tuple[str, ...]: _to_words,
}
