"""The comparison asks every server for the same prediction, and believes no wrong answer."""

import dataclasses
import sys

import numpy as np
import pytest

from driftgate.cli import main
from loadtests.bench_peers import Setup, check, ours
from loadtests.model import FEATURES, mlp
from loadtests.peers.requests import plain_json, rows_of
from loadtests.peers.servers import SCRIPTS

ROW = np.linspace(-1, 1, FEATURES, dtype=np.float32).round(4).reshape(1, -1)


def test_our_gateway_gives_the_runtimes_answer_in_every_form():
    with ours(mlp(), ROW, Setup(server_core=0)) as peer:
        assert [request.form for request in peer.requests] == ["HTTP JSON", "HTTP binary", "gRPC"]
        check([peer], mlp(), ROW)
        with pytest.raises(RuntimeError, match="driftgate answered"):
            check([peer], mlp(seed=5), ROW)
        request = dataclasses.replace(peer.requests[0], body=b"{}")
        with pytest.raises(RuntimeError, match="answered 400"):
            request.ask()


def test_a_form_of_its_own_is_read_as_the_others_are():
    request = plain_json("http://127.0.0.1:1/predict", {"x": rows_of(ROW)})
    assert request.read(b'{"y": [[1.5, 2.5]]}').tolist() == [1.5, 2.5]


def test_what_the_servers_run_is_python_without_errors():
    for path in SCRIPTS.glob("*.py"):
        compile(path.read_text(), str(path), "exec")
    assert len(list(SCRIPTS.glob("*.py"))) == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rounds", "1"), "--rounds must be 2 or more"),
        (("--only", "nginx"), "no server is named nginx"),
        (("--only", "triton", "--envs", "/nowhere"), "no environment: triton"),
    ],
)
def test_what_cannot_be_compared_is_said_at_once(words, said, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sys, "argv", ["driftgate"])
    assert main(["bench", "peers", *words]) != 0
    assert said in capsys.readouterr().err
