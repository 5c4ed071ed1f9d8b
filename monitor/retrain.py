"""Running the retrain hook: a program of the operator's, in a thread of its own.

Laws:
- the hook is argv, never a shell line; the evidence goes to its standard input;
- it may run HOOK_TIMEOUT_S, then its whole process group is killed;
- of its output the last OUTPUT_TAIL bytes are kept.
"""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOOK_TIMEOUT_S = 3600.0
OUTPUT_TAIL = 4096
LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class HookEnded:
    key: str  # of the action
    model: str
    exit_code: int | None  # None: it could not be started, or ran too long
    output: str
    ended_ns: int


class RetrainHooks:
    """Starts hooks; what they came to is fetched with `ended()`."""

    def __init__(self, argv: Sequence[str], state_dir: Path, timeout_s: float = HOOK_TIMEOUT_S):
        self._argv, self._state_dir, self._timeout_s = tuple(argv), state_dir, timeout_s
        self._ended: queue.SimpleQueue[HookEnded] = queue.SimpleQueue()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def configured(self) -> bool:
        return bool(self._argv)

    def start(self, key: str, evidence: Mapping[str, Any]) -> None:
        threading.Thread(target=self._run, args=(key, evidence), daemon=True).start()

    def ended(self) -> list[HookEnded]:
        found = []
        while not self._ended.empty():
            found.append(self._ended.get())
        return found

    def kill(self) -> None:
        """End what is still running; called once, when the monitor stops."""
        for process in list(self._running.values()):
            _kill_group(process)

    def _run(self, key: str, evidence: Mapping[str, Any]) -> None:
        exit_code, output = self._execute(key, evidence)
        ended_ns = _now_ns()
        self._ended.put(HookEnded(key, str(evidence["model"]), exit_code, output, ended_ns))

    def _execute(self, key: str, evidence: Mapping[str, Any]) -> tuple[int | None, str]:
        with tempfile.TemporaryFile() as told:
            told.write(json.dumps(evidence).encode())
            told.seek(0)
            try:
                process = subprocess.Popen(
                    self._argv,
                    stdin=told,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=os.environ | self._environment(evidence),
                    start_new_session=True,
                )
            except OSError as exc:
                return None, f"{self._argv[0]}: {exc.strerror}"
        output = OutputTail(process)
        self._running[key] = process
        try:
            exit_code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.wait()
            return None, f"killed after {self._timeout_s:.0f} s\n{output.text()}"
        finally:
            del self._running[key]
        return exit_code, output.text()

    def _environment(self, evidence: Mapping[str, Any]) -> dict[str, str]:
        return {
            "DRIFTGATE_MODEL": str(evidence["model"]),
            "DRIFTGATE_STATE_DIR": str(self._state_dir),
            "DRIFTGATE_WINDOW_START_NS": str(evidence["window_start_ns"]),
            "DRIFTGATE_WINDOW_END_NS": str(evidence["window_end_ns"]),
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


def _now_ns() -> int:
    import time

    return time.time_ns()
