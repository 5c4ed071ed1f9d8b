"""The trigger that runs a program of the operator's.

Laws:
- the program is argv, never a shell line; the request goes to its standard input;
- it may run COMMAND_TIMEOUT_S, then its whole process group is killed;
- of its output the last OUTPUT_TAIL bytes are kept;
- it is run once: what it did before it died with the monitor nobody knows.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from monitor.triggers.core.request import Request
from monitor.triggers.core.retry import Attempt, Fate

COMMAND_TIMEOUT_S = 3600.0
OUTPUT_TAIL = 4096
LAST_WORDS_S = 1.0


class CommandTrigger:
    """See `Trigger`."""

    repeatable = False

    def __init__(
        self, argv: Sequence[str], state_dir: Path, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> None:
        self._argv, self._state_dir, self._timeout_s = tuple(argv), state_dir, timeout_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def attempt(self, request: Request) -> Attempt:
        exit_code, output = self._execute(request)
        good = exit_code == 0
        how = "ended well" if good else f"failed (exit code {exit_code})"
        return Attempt(
            Fate.DONE if good else Fate.FAILED,
            f"the retrain hook {how}",
            {"exit_code": exit_code, "output": output},
        )

    def check(self) -> str:
        program = self._argv[0]
        return "" if shutil.which(program) else f"{program} is no program that can be run"

    def show(self, request: Request) -> str:
        environment = "\n".join(f"{k}={v}" for k, v in self._environment(request).items())
        document = json.dumps(request.document, indent=2)
        return f"{shlex.join(self._argv)}\n{environment}\n\n{document}"

    def stop(self) -> None:
        for process in list(self._running.values()):
            _kill_group(process)

    def _execute(self, request: Request) -> tuple[int | None, str]:
        with tempfile.TemporaryFile() as told:
            told.write(json.dumps(request.document).encode())
            told.seek(0)
            try:
                process = subprocess.Popen(
                    self._argv,
                    stdin=told,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=os.environ | self._environment(request),
                    start_new_session=True,
                )
            except OSError as exc:
                return None, f"{self._argv[0]}: {exc.strerror}"
        output = OutputTail(process)
        self._running[request.key] = process
        try:
            exit_code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.wait()
            return None, f"killed after {self._timeout_s:.0f} s\n{output.text()}"
        finally:
            del self._running[request.key]
        return exit_code, output.text()

    def _environment(self, request: Request) -> dict[str, str]:
        document = request.document
        dataset = document["dataset"] or {}
        return {
            "DRIFTGATE_MODEL": request.model,
            "DRIFTGATE_STATE_DIR": str(self._state_dir),
            "DRIFTGATE_REQUEST_ID": request.id,
            "DRIFTGATE_WINDOW_START_NS": str(document["window_start_ns"]),
            "DRIFTGATE_WINDOW_END_NS": str(document["window_end_ns"]),
            "DRIFTGATE_DATASET": dataset.get("path", ""),
            "DRIFTGATE_DATASET_SHA256": dataset.get("sha256", ""),
        }


class OutputTail:
    """Reads a process's output as it comes, and keeps its end."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self._pipe, self._kept = process.stdout, bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), 1 << 16):
                self._kept += chunk
                del self._kept[:-OUTPUT_TAIL]

    def text(self) -> str:
        """What it said last. A child that it left behind may hold the pipe: no long wait."""
        self._reader.join(LAST_WORDS_S)
        return bytes(self._kept).decode("utf-8", "replace")


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
