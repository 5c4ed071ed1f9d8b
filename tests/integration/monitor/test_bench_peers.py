"""The benchmark beside other monitors, with peers that take no time and say what they are told."""

import sys
from pathlib import Path

import pytest

from driftgate.cli import main
from monitor.bench_peers import MOVED, PeerError, measure

FEATURES = 8
PEER = """
import json, sys
import numpy as np
reference, live = (np.load(path) for path in sys.argv[1:3])
print(json.dumps({"version": "1.0"}), flush=True)
for _ in sys.stdin:
    values = (live.mean(axis=0) - reference.mean(axis=0)).tolist()
    print(json.dumps({"fit_s": 1.0, "answer_s": 2.0, "values": values}), flush=True)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # with our own packages
    python.chmod(0o755)
    return tmp_path / "env"


def run(environment: Path, script: str) -> dict:
    (environment.parent / "other_drift.py").write_text(script)
    peers = {"other": environment}
    return measure(peers, environment.parent, rounds=2, rows=1000, features=FEATURES)


def test_a_peer_is_measured_beside_ours(environment: Path) -> None:
    result = run(environment, PEER)
    ours, other = result["monitors"]["driftgate"], result["monitors"]["other"]
    assert ours["answer_times_ours"] == ours["both_times_ours"] == 1.0
    assert (other["fit_s"], other["answer_s"], other["version"]) == (1.0, 2.0, "1.0")
    assert other["answer_times_ours"] == pytest.approx(
        sum(2.0 / answer for answer in ours["answers_s"]) / 2
    )
    lines = result["text"].splitlines()
    assert len(lines) == 4
    assert lines[3].split()[:2] == ["other", "1.0"]


def test_ours_is_measured_alone_where_there_is_no_peer() -> None:
    result = measure({}, Path(), rounds=1, rows=1000, features=MOVED + 1)
    assert list(result["monitors"]) == ["driftgate"]


def test_a_peer_that_does_not_find_what_moved_is_no_figure(environment: Path) -> None:
    backwards = PEER.replace("live.mean(axis=0) - reference", "reference.mean(axis=0) - live")
    with pytest.raises(PeerError, match="other did not find what moved"):
        run(environment, backwards)


def test_what_a_peer_says_as_it_ends_is_told(environment: Path) -> None:
    with pytest.raises(PeerError, match=r"other ended: .*no such thing"):
        run(environment, "raise SystemExit('no such thing')")


def test_a_folder_without_environments_is_refused(tmp_path: Path, capsys) -> None:
    assert main(["bench", "monitor", "--envs", str(tmp_path)]) == 1
    assert "make bench-monitor" in capsys.readouterr().err
