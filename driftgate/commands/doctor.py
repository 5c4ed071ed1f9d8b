"""`driftgate doctor`: what on this machine would keep driftgate from running well."""

import argparse
import asyncio
import fcntl
import importlib.util
import json
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from driftgate.cli import common_options
from driftgate.config import Config, load_config, setting_options
from driftgate.errors import Exit
from driftgate.processes import running_gateway

OPEN_FILES_MIN = 8192  # twice the connections a gateway takes by default
KAFKA_TIMEOUT_S = 3.0  # per request; somebody is waiting for the findings
FREE_BYTES_MIN = 6 * 2**30  # the log keeps up to 5 GiB


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, and what mends it."""

    check: str
    ok: bool
    found: str
    hint: str = ""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine",
        parents=[common_options(), setting_options()],
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    findings = list(examine(load_config(args)))
    if args.output == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.found}")
            if not finding.ok:
                print(f"     hint: {finding.hint}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.FAILED


def examine(config: Config) -> Iterator[Finding]:
    yield Finding(
        "python",
        sys.version_info >= (3, 11),
        sys.version.split()[0],
        "install Python 3.11 or newer",
    )
    yield _runtime()
    yield _platform()
    yield _open_files()
    yield _disk(config)
    yield from _ports(config)
    yield _grpc(config)
    yield from _tls(config)
    yield _retrain(config)
    if config.log.kafka:
        yield from _kafka(config)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _runtime() -> Finding:
    cpu, gpu = _installed("onnxruntime"), _installed("onnxruntime-gpu")
    if cpu and gpu:
        return Finding(
            "onnxruntime", False, f"both onnxruntime {cpu} and onnxruntime-gpu {gpu}",
            "they overwrite each other's files: uninstall both, then install one",
        )  # fmt: skip
    found = f"onnxruntime {cpu}" if cpu else f"onnxruntime-gpu {gpu}" if gpu else "not installed"
    return Finding("onnxruntime", bool(cpu or gpu), found, 'pip install "driftgate[cpu]"')


def _platform() -> Finding:
    present = sys.platform == "linux" and importlib.util.find_spec("uvloop") is not None
    return Finding("platform", present, sys.platform, "driftgate runs on Linux with uvloop")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(
        "open files",
        soft >= OPEN_FILES_MIN or hard >= OPEN_FILES_MIN,
        f"limit {soft} (hard {hard})",
        f"raise it to {OPEN_FILES_MIN}: ulimit -n {OPEN_FILES_MIN}",
    )


def _disk(config: Config) -> Finding:
    folder = config.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Finding(
        "disk",
        free >= FREE_BYTES_MIN,
        f"{free / 2**30:.1f} GiB free at {folder}",
        "free some space, or lower log.retention_bytes",
    )


def _ports(config: Config) -> Iterator[Finding]:
    gateway, monitor = config.gateway, config.monitor
    for name, host, port in (
        ("gateway.http_port", gateway.host, gateway.http_port),
        ("gateway.grpc_port", gateway.host, gateway.grpc_port),
        ("gateway.metrics_port", gateway.host, gateway.metrics_port),
        ("gateway.admin_port", gateway.admin_host, gateway.admin_port),
        ("monitor.port", monitor.host, monitor.port),
    ):
        free, found = _port_state(host, port)
        if not free and _is_ours(config, port):
            free, found = True, f"{host}:{port} is open, by what runs on this state directory"
        yield Finding(name, free, found, f"stop what listens there, or set {name}")


def _is_ours(config: Config, port: int) -> bool:
    """Whether a port in use belongs to the gateway or the monitor of this state directory."""
    if port == config.monitor.port:
        return _locked(config.state_dir / "monitor" / "lock")
    announced = running_gateway(config)
    held = _locked(config.state_dir / "supervisor.lock")
    return announced is not None and held and port in announced[1].values()


def _locked(path: Path) -> bool:
    """Whether a process holds the lock on `path`, which has been there for a while."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _port_state(host: str, port: int) -> tuple[bool, str]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return False, f"{host}:{port}: {(error.strerror or str(error)).lower()}"
    return True, f"{host}:{port} is free"


def _grpc(config: Config) -> Finding:
    """What serves gRPC; that it is the slower engine is said, and is no failure."""
    from serving.grpc_engine import choose_engine
    from serving.nghttp2 import PACKAGES, LibraryError

    try:
        engine = choose_engine(config.gateway.grpc.engine)
    except LibraryError as error:
        return Finding("grpc", False, str(error), f"{PACKAGES}, or set grpc.engine = auto")
    return Finding("grpc", True, str(engine))


def _tls(config: Config) -> Iterator[Finding]:
    from serving.tls import Certificates, TlsError

    if not config.gateway.tls.enabled:
        return
    try:
        Certificates(config.gateway.tls)
    except TlsError as error:
        yield Finding("tls", False, str(error), "see docs/operating.md")
    else:
        yield Finding("tls", True, f"on both data ports, by {config.gateway.tls.certificate_file}")


def _retrain(config: Config) -> Finding:
    """Whether a training can be asked for; that it is a dry run is said, and is no failure."""
    from monitor.triggers.compose import make_trigger
    from monitor.triggers.trigger import InvalidTrigger

    kind, command = config.retrain.trigger, config.monitor.retrain_hook
    try:
        trigger = make_trigger(
            config.retrain, command, config.state_dir, (config.log.kafka, config.kafka)
        )
    except InvalidTrigger as error:
        return Finding("retrain", False, str(error), "see docs/retraining.md")
    if trigger is None:
        return Finding("retrain", True, "no trigger is configured, so retraining is a dry run")
    if problem := trigger.check():
        return Finding("retrain", False, problem, "see docs/retraining.md")
    return Finding("retrain", True, f"by {kind}")


def _kafka(config: Config) -> Iterator[Finding]:
    from eventlog import LogError
    from eventlog.kafka.admin import check_topics, count_brokers

    yield Finding(
        "kafka codec",
        importlib.util.find_spec("cramjam") is not None,
        "zstd, by cramjam",
        "pip install cramjam",
    )
    timeout_s = min(config.kafka.request_timeout_s, KAFKA_TIMEOUT_S)
    settings = replace(config.kafka, request_timeout_s=timeout_s)
    try:
        brokers = asyncio.run(count_brokers(config.log.kafka, settings))
        yield Finding("kafka", brokers > 0, f"{brokers} brokers behind {config.log.kafka}")
        sentences = asyncio.run(check_topics(config.log.kafka, settings))
    except LogError as error:
        yield Finding("kafka", False, str(error), "see log.kafka and the section [kafka]")
        return
    if not sentences:
        yield Finding("kafka topics", True, f"as they should be, in {settings.namespace}")
    for sentence in sentences:
        yield Finding("kafka topics", False, sentence, "driftgate log init says what differs")
