"""However `driftgate demo` is ended, nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.ci


def running(mark: str) -> list[str]:
    """Command lines of live processes that have `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is not ours
            continue
    return found


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_demo_that_is_stopped_midway_leaves_no_process_behind(tmp_path, number, code):
    # Whoever runs the tests in the background may ignore it, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mark = f"DRIFTGATE_TEST_MARK={tmp_path}"
    name, _, value = mark.partition("=")
    demo = subprocess.Popen(
        [sys.executable, "-m", "driftgate", "demo", "--report", str(tmp_path / "report")],
        cwd=ROOT, env=os.environ | {name: value, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "ready after" in line:
                break
        deadline = time.monotonic() + 60
        while sum("story.traffic" in line for line in running(mark)) < 2:
            assert time.monotonic() < deadline, running(mark)
            time.sleep(0.05)
        # A terminal sends its Ctrl-C to the whole group, `kill` to one process.
        (os.killpg if number is signal.SIGINT else os.kill)(demo.pid, number)
        _, said = demo.communicate(timeout=90)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == code
    assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while left := running(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    if number is not signal.SIGKILL:
        assert list(tmp_path.glob("driftgate-demo-*")) == []
