"""Starting the system's processes: their configuration, their watch, their order.

A process gets its configuration as one JSON document on an inherited
descriptor: nothing secret stands in a command line, and no file is left behind.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from driftgate.config import Config
from driftgate.errors import CliError, Exit

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # between restarts; the last one repeats
STEADY_S = 30.0  # a process that lived this long starts again without delay
POLL_S = 0.1
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_libc = ctypes.CDLL(None)  # loaded here: the hook below runs between fork and exec


def follower() -> Callable[[], None]:
    """A hook for a child to end with SIGTERM when this process is gone, even by kill -9.

    Without it a gateway whose `driftgate up` was killed would keep its ports.
    """
    parent = os.getpid()

    def follow() -> None:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # gone before the line above
            os.kill(os.getpid(), signal.SIGTERM)

    return follow


def gateway_document(config: Config) -> dict[str, Any]:
    """What `python -m serving` reads."""
    return {
        "state_dir": str(config.state_dir),
        "registry_dir": str(config.registry_dir),
        "gateway": asdict(config.gateway),
        "log": asdict(config.log),
        "kafka": asdict(config.kafka),
        "model_logs": {model: asdict(settings) for model, settings in config.model_logs.items()},
    }


def monitor_document(config: Config) -> dict[str, Any]:
    """What `python -m monitor` reads."""
    return {
        "state_dir": str(config.state_dir),
        "registry_dir": str(config.registry_dir),
        "model_repository": config.gateway.model_repository,
        "admin_urls": list(config.monitor.admin_urls) or [config.admin_url],
        "admin_token_path": config.monitor.admin_token_file or str(config.admin_token_path),
        "monitor": asdict(config.monitor),
        **({"bootstrap": config.log.kafka} if config.log.kafka else {}),
        **(
            {"kafka": asdict(config.kafka)}
            if config.log.kafka or config.retrain.trigger == "kafka"
            else {}
        ),
    }


def shipper_document(config: Config) -> dict[str, Any]:
    """What `python -m eventlog.kafka` reads."""
    return {
        "state_dir": str(config.state_dir),
        "log": asdict(config.log),
        "kafka": asdict(config.kafka),
        "gateway_url": config.http_url,
        "gateway_certificate_file": config.gateway.tls.certificate_file,
    }


def running_gateway(config: Config) -> tuple[int, Mapping[str, int]] | None:
    """The pid and the ports that the last gateway of this state directory announced."""
    try:
        document = json.loads((config.state_dir / "run" / "supervisor.json").read_text())
        return int(document["pid"]), dict(document["ports"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def config_descriptor(document: Mapping[str, Any]) -> int:
    """An inheritable descriptor that reads as `document`."""
    descriptor = os.memfd_create("driftgate-config", 0)
    os.write(descriptor, json.dumps(document).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor


def require_runtime() -> None:
    """Raises: CliError unless an ONNX Runtime is installed; imports nothing."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise CliError(
            "a gateway cannot run without ONNX Runtime",
            "the package onnxruntime is not installed",
            'pip install "driftgate[cpu]", or "driftgate[gpu]"',
            Exit.CANNOT_START,
        )


def _command(module: str, descriptor: int) -> list[str]:
    # -P: a monitor.py in the folder that somebody stands in is not ours.
    return [sys.executable, "-P", "-m", module, "--config-fd", str(descriptor)]


def _environment() -> dict[str, str]:
    # The monitor multiplies matrices now and then: on one core, not on all that serve.
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ}


def become(module: str, document: Mapping[str, Any]) -> int:
    """Turn this process into `python -m module`; returns only by raising OSError."""
    descriptor = config_descriptor(document)
    command = _command(module, descriptor)
    os.execve(sys.executable, command, _environment())  # noqa: S606 - our own module, no shell


@dataclass
class Child:
    """One process that is to run until it is told to stop.

    after: held back until this is true, so that it does not report what another
           one is about to say.
    """

    module: str
    document: Mapping[str, Any]
    after: Callable[[], bool] = lambda: True
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    starts: int = 0
    restarts: int = 0
    due: float = field(default=0.0)

    def start(self) -> None:
        descriptor = config_descriptor(self.document)
        try:
            self.process = subprocess.Popen(
                _command(self.module, descriptor),
                env=_environment(),
                pass_fds=(descriptor,),
                process_group=0,  # Ctrl-C is for us, who stop them in their order
                preexec_fn=follower(),  # noqa: PLW1509 - one system call, and no lock taken
            )
        finally:
            os.close(descriptor)
        self.started = time.monotonic()
        self.starts += 1

    @property
    def refused(self) -> bool:
        """It said on its first start that it cannot: a person has to do something."""
        return (
            self.starts == 1
            and self.process is not None
            and self.process.poll() == Exit.CANNOT_START
        )

    def tend(self, now: float) -> None:
        """Start it, also again if it has ended: later and later while it ends early."""
        if self.process is not None:
            if self.process.poll() is None:
                return
            steady = now - self.started > STEADY_S
            self.restarts = 0 if steady else self.restarts + 1
            delay = BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)]
            with contextlib.suppress(OSError):  # a full disk behind it must not end everything
                print(
                    f"driftgate: {self.module} ended with {self.process.returncode}, "
                    f"starting it again in {delay:g} s",
                    file=sys.stderr,
                    flush=True,
                )
            self.process, self.due = None, now + delay
        elif now >= self.due and self.after():
            self.start()

    def stop(self, timeout_s: float) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_together(children: Sequence[Child], stop_timeout_s: float) -> int:
    """Run the children until SIGTERM or SIGINT, then stop them in their order.

    Returns: 0, or Exit.CANNOT_START when one of them refused to start at all.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    refused = False
    while not (stopping or refused):
        refused = any(child.refused for child in children)
        for child in () if refused else children:
            child.tend(time.monotonic())
        time.sleep(POLL_S)
    for child in children:
        child.stop(stop_timeout_s)
    return Exit.CANNOT_START if refused else Exit.OK
