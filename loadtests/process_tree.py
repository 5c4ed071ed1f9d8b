"""CPU time and memory of a process and all its descendants, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_s: user + system seconds, of ended children too; rss_bytes: resident now."""

    cpu_s: float
    rss_bytes: int


def usage(root: int) -> Usage:
    """The usage of process `root` and everything below it; 0 once it is gone."""
    children = _children()
    cpu_s, rss_bytes, pending = 0.0, 0, [root]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, ())
        fields = _stat(pid)
        if fields is not None:
            # utime, stime, and those of children already waited for.
            cpu_s += sum(int(field) for field in fields[11:15]) / TICKS_PER_S
            rss_bytes += int(fields[21]) * PAGE_BYTES
    return Usage(cpu_s, rss_bytes)


def own_cpu_s(pid: int) -> float:
    """User + system seconds of one process alone; 0 once it is gone."""
    fields = _stat(pid)
    return 0.0 if fields is None else sum(int(field) for field in fields[11:13]) / TICKS_PER_S


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command name, or None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
