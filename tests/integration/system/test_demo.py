"""`driftgate demo` as a user runs it: every step happens, and the last line says so."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

KEYS = {
    *("predictions", "failed", "killed_in_flight", "p50_ms", "p99_ms", "false_verdicts"),
    *("detection_rows", "detection_s", "rollback_s", "operator_rollback_s", "worker_restart_s"),
    *("acknowledged", "delivered", "gaps", "report"),
}


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_the_demo_tells_the_whole_story(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "driftgate", "demo", "--json", "--report", str(tmp_path / "r")],
        cwd=ROOT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) >= KEYS
    assert summary["failed"] == 0
    assert summary["false_verdicts"] == 0
    assert summary["predictions"] > 20_000
    assert summary["acknowledged"] == summary["delivered"] + summary["gaps"]
    assert summary["acknowledged"] >= summary["predictions"]
    page = (tmp_path / "r" / "index.html").read_text()
    assert page.count("<svg") >= 4
    assert "threshold" in page
