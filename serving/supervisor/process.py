"""Starting worker processes and noticing, through a pidfd, when one has ended.

A pidfd works alike for our children, for children from before an exec, and for
the orphans of a killed supervisor.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

# -P: a file of the same name in the folder we were started in is not ours.
WORKER_ARGV = (sys.executable, "-P", "-m", "serving.worker")

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb"


def spawn(argv: Sequence[str], config_fd: int, listeners: Sequence[int]) -> int:
    """Start a worker in a session of its own, with its listeners; returns its pid.

    A terminal's Ctrl-C must reach the supervisor alone, which then drains.
    """
    process = subprocess.Popen(
        [*argv, "--config-fd", str(config_fd)],
        pass_fds=(config_fd, *listeners),
        env=worker_environment(os.environ),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # we reap it ourselves; Popen must not warn that it runs on
    return process.pid


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: weights in huge pages, where the kernel gives them on request.

    In pages of 4 KiB a model takes twice as long to load, and to let one of 200 MB go stops
    the worker's event loop for 12 ms instead of 1. What the user set for it stands.
    """
    tunables = environment.get(TUNABLES, "")
    if HUGE_PAGES in tunables:
        return dict(environment)
    return {**environment, TUNABLES: f"{tunables}:{HUGE_PAGES}=1".lstrip(":")}


async def ended(pid: int) -> int | None:
    """Wait until a process is gone.

    Returns: its exit code (negative: the signal), None if it was not our child.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return _reap(pid)
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, lambda: None if gone.done() else gone.set_result(None))
    try:
        await gone
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return _reap(pid)


def _reap(pid: int) -> int | None:
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    return None
