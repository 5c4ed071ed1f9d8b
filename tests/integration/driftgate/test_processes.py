"""`driftgate up`'s watch over its processes, with a stand-in for the real ones."""

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

import monitor.__main__
import serving.supervisor.sockets
from driftgate.cli import main
from driftgate.errors import Exit
from driftgate.processes import BACKOFF_S, Child
from serving.supervisor.say import say
from tests.conftest import ROOT

MODULE = """
import json, os, sys, signal, time
document = json.load(os.fdopen(int(sys.argv[2])))
with open(document["journal"], "a") as file:
    file.write(f"{os.getpid()}\\n")
if document["dies"]:
    sys.exit(document["dies"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "standin.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return tmp_path


def pids(journal):
    return [int(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def wait(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_killed_process_is_started_again(module):
    journal = module / "journal"
    child = Child("standin", {"journal": str(journal), "dies": 0})
    child.start()
    try:
        wait(lambda: len(pids(journal)) == 1, "first start")
        child.process.kill()
        wait(
            lambda: child.tend(time.monotonic()) or len(pids(journal)) == 2,
            "second start",
        )
        assert pids(journal)[0] != pids(journal)[1]
    finally:
        child.stop(10)
    assert child.process.returncode == 0


def test_a_process_that_keeps_ending_is_started_less_and_less_often(module):
    journal = module / "journal"
    child = Child("standin", {"journal": str(journal), "dies": 7})
    child.start()
    delays = []
    now = time.monotonic()
    for _ in range(3):
        child.process.wait(30)
        child.tend(now)
        delays.append(child.due - now)
        now = child.due
        child.tend(now)
    child.process.wait(30)
    assert delays == pytest.approx(list(BACKOFF_S[1:4]))


def test_a_full_disk_behind_standard_error_ends_nothing(module, monkeypatch):
    child = Child("standin", {"journal": str(module / "journal"), "dies": 7})
    child.start()
    child.process.wait(30)
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        child.tend(now := time.monotonic())
        say("a line for nobody")
    monkeypatch.undo()
    assert child.process is None
    assert child.due > now


def test_up_stops_its_processes_and_ends_with_0(module):
    journal = module / "journal"
    program = (
        "from driftgate.processes import Child, run_together\n"
        f"children = [Child('standin', {{'journal': {str(journal)!r}, 'dies': 0}})] * 1\n"
        "raise SystemExit(run_together(children, 10.0))"
    )
    up = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait(lambda: len(pids(journal)) == 1, "start")
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    finally:
        up.kill()
        up.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pids(journal)[0], 0)


def run_together(module, *children):
    """A process that keeps `children`, given as keyword arguments of Child, together."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from driftgate.processes import Child, run_together\n"
        f"children = [{', '.join(children)}]\n"
        "raise SystemExit(run_together(children, 10.0))"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


def standin(journal, dies=0, more=""):
    return f"Child('standin', {{'journal': {str(journal)!r}, 'dies': {dies}}}{more})"


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # nobody may be there to reap it
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_process_that_cannot_start_ends_them_all_and_is_not_tried_again(module):
    steady, refusing = module / "steady", module / "refusing"
    up = run_together(module, standin(steady), standin(refusing, Exit.CANNOT_START.value))
    _, said = up.communicate(timeout=60)
    assert up.returncode == Exit.CANNOT_START
    assert said == ""  # the process itself said why
    assert len(pids(refusing)) == 1
    assert all(gone(pid) for pid in pids(steady))


def test_a_process_waits_for_what_it_depends_on(module):
    first, second = module / "first", module / "second"
    after = f", after=lambda: Path({str(module / 'go')!r}).exists()"
    up = run_together(module, standin(second, more=after), standin(first))
    try:
        wait(lambda: pids(first), "the first start")
        assert pids(second) == []
        (module / "go").touch()
        wait(lambda: pids(second), "the second start")
    finally:
        up.terminate()
        up.communicate(timeout=60)


def test_the_processes_end_when_up_is_killed(module):
    journal = module / "journal"
    up = run_together(module, standin(journal))
    wait(lambda: pids(journal), "start")
    up.kill()
    up.communicate(timeout=60)
    wait(lambda: gone(pids(journal)[0]), "the end of the child")


def test_ctrl_c_of_a_terminal_reaches_up_alone_which_stops_them_in_order(module):
    first, second = module / "first", module / "second"
    up = run_together(module, standin(first), standin(second))
    try:
        wait(lambda: pids(first) and pids(second), "start")
        groups = {os.getpgid(pid) for pid in (up.pid, *pids(first), *pids(second))}
        assert len(groups) == 3  # a terminal signals the whole group of what it runs
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == 0


@pytest.mark.parametrize("verb", ["up", "serve", "monitor"])
def test_a_module_of_ours_is_not_looked_for_where_somebody_stands(verb, tmp_path):
    for name in ("monitor", "serving"):
        (tmp_path / f"{name}.py").write_text("print('not ours')")
    (tmp_path / "taken").write_text("a file where the state directory should be")
    words = [verb, "--state-dir", str(tmp_path / "taken")]
    # As the installed command does: where it stands is not on its path.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "driftgate", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "not ours" not in done.stdout
    assert done.returncode == Exit.CANNOT_START
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("verb", ["up", "serve"])
def test_a_gateway_without_onnx_runtime_is_refused_with_what_to_install(
    verb, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([verb, "--state-dir", str(tmp_path / "state")]) == Exit.CANNOT_START
    said = capsys.readouterr()
    assert said.out == ""
    assert "hint: pip install" in said.err
    assert not (tmp_path / "state").exists()


def test_exit_codes_of_the_processes_mean_the_same_everywhere():
    assert monitor.__main__.CANNOT_START == Exit.CANNOT_START
    assert serving.supervisor.sockets.CANNOT_START == Exit.CANNOT_START


def test_up_says_in_one_line_that_a_port_is_taken_and_ends(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        flags = [f"--gateway-{name}-port=0" for name in ("grpc", "metrics", "admin")]
        up = subprocess.run(
            [
                *(sys.executable, "-m", "driftgate", "up", "--state-dir", str(tmp_path / "state")),
                *(*flags, "--monitor-port=0", f"--gateway-http-port={port}"),
            ],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert up.returncode == Exit.CANNOT_START
    assert up.stderr == (f"error: http port 127.0.0.1:{port} is in use; free it or set http_port\n")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"certificate": "none.pem", "key": "none.key"}, "none.pem: No such file or directory"),
        ({"certificate": "a.pem"}, "tls.certificate_file is set, and tls.key_file is not"),
        ({"certificate": "a.pem", "key": "b.key"}, "a.pem and b.key cannot be used: no pem"),
    ],
)
def test_files_that_no_tls_can_be_served_with_stop_the_start(tmp_path, files, sentence):
    for name in ("a.pem", "b.key"):
        (tmp_path / name).write_text("no PEM")
    flags = [f"--tls-{what}-file={name}" for what, name in files.items()]
    for verb, code, stream in (("serve", Exit.CANNOT_START, "stderr"), ("doctor", 1, "stdout")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "driftgate", verb, "--state-dir", "state", *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code
        assert sentence in getattr(done, stream)
