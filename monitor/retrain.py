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
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOOK_TIMEOUT_S = 3600.0
OUTPUT_TAIL = 4096


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
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment(evidence),
                start_new_session=True,
            )
        except OSError as exc:
            return None, f"{self._argv[0]}: {exc.strerror}"
        self._running[key] = process
        try:
            output, _ = process.communicate(json.dumps(evidence).encode(), self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            output, _ = process.communicate()
            return None, f"killed after {self._timeout_s:.0f} s\n{_tail(output)}"
        finally:
            del self._running[key]
        return process.returncode, _tail(output)

    def _environment(self, evidence: Mapping[str, Any]) -> dict[str, str]:
        return {
            "DRIFTGATE_MODEL": str(evidence["model"]),
            "DRIFTGATE_STATE_DIR": str(self._state_dir),
            "DRIFTGATE_WINDOW_START_NS": str(evidence["window_start_ns"]),
            "DRIFTGATE_WINDOW_END_NS": str(evidence["window_end_ns"]),
        }


def _tail(output: bytes) -> str:
    return output[-OUTPUT_TAIL:].decode("utf-8", "replace")


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _now_ns() -> int:
    import time

    return time.time_ns()
