"""The frame of the command line: what it loads, what it prints, how it ends."""

import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest

from driftgate.cli import COMMANDS, build_parser, main
from driftgate.errors import CliError
from tests.conftest import ROOT

HEAVY = ("numpy", "onnxruntime", "pyarrow", "grpc", "numba", "starlette", "uvicorn", "google")


def test_help_loads_nothing_heavy():
    program = (
        "import sys\nfrom driftgate.cli import build_parser\nbuild_parser().format_help()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_command_is_listed_with_one_line_of_help():
    text = build_parser().format_help()
    for name in COMMANDS:
        assert f"\n    {name} " in text, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage: driftgate" in capsys.readouterr().out


def test_an_error_reads_as_error_cause_and_hint():
    error = CliError("no such model", "the registry has fraud", "driftgate model list")
    assert str(error).splitlines() == [
        "error: no such model",
        "  caused by: the registry has fraud",
        "  hint: driftgate model list",
    ]


def test_an_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["rolback"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_config_show_says_where_a_value_came_from(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driftgate.toml").write_text("[gateway]\nhttp_port = 9000\n")
    assert main(["config", "show", "--gateway-grpc-port", "9001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["gateway.http_port", "9000", "driftgate.toml"] for line in lines)
    assert any(line.split() == ["gateway.grpc_port", "9001", "flag"] for line in lines)
    assert any(line.split() == ["gateway.admin_port", "8003", "default"] for line in lines)


def test_doctor_names_a_port_that_is_taken(capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = main(["doctor", "--state-dir", str(tmp_path), "--gateway-http-port", str(port)])
    assert code == 1
    assert f"FAIL gateway.http_port: 127.0.0.1:{port}" in capsys.readouterr().out


def test_doctor_knows_the_ports_of_the_gateway_that_runs_on_its_state_directory(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    with socket.socket() as own, (tmp_path / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own.bind(("127.0.0.1", 0))
        own.listen()
        port = own.getsockname()[1]
        document = {"pid": os.getpid(), "ports": {"http": port}}
        (tmp_path / "run" / "supervisor.json").write_text(json.dumps(document))
        main(["doctor", "--state-dir", str(tmp_path), "--gateway-http-port", str(port)])
    said = capsys.readouterr().out
    assert f"ok   gateway.http_port: 127.0.0.1:{port} is open, by what runs on" in said


def test_a_duration_that_is_none_is_told_in_words(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["rollout", "hold", "fraud", "--for", "soon"])
    assert ended.value.code == 2
    assert "'soon' is not a duration such as 90s, 60m or 24h" in capsys.readouterr().err


def test_without_a_gateway_the_state_directory_is_named_and_the_exit_code_is_4(capsys, tmp_path):
    assert main(["status", "--state-dir", str(tmp_path)]) == 4
    assert capsys.readouterr().err.splitlines() == [
        "error: no gateway answers",
        f"  caused by: no gateway has run in {tmp_path}",
        "  hint: start one with `driftgate up`, or name the right --state-dir",
    ]
    (tmp_path / "admin.token").write_text("secret")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody can be there
        port = str(closed.getsockname()[1])
        environment = {"DRIFTGATE_GATEWAY__ADMIN_PORT": port}
        done = subprocess.run(
            [sys.executable, "-m", "driftgate", "status", "--state-dir", str(tmp_path)],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert f"caused by: http://127.0.0.1:{port}: Connection refused" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("config", "show"), ("--help",)])
def test_a_reader_that_leaves_early_is_no_error(words, unbuffered):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "driftgate", *words],
            cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_bench_says_what_is_missing_before_it_starts_anything(capsys, monkeypatch):
    assert main(["bench", "requests", "--seconds", "0"]) == 2
    assert "--seconds must be 1 or more" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["bench", "requests"]) == 1
    said = capsys.readouterr().err
    assert "caused by: wrk is not installed" in said
    assert "hint: apt-get install wrk" in said
