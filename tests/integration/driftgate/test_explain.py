"""`driftgate explain` against a running gateway with a real model."""

import http.client
import json

import pytest

from driftgate.cli import main
from driftgate.errors import Exit
from loadtests.gateway import running
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import tensor

REQUESTS = 5


@pytest.fixture(scope="module")
def gateway():
    push = {"bench": ["--max-batch-size", "8"]}
    with running(onnx_models.scale(2.0), workers=2, core=None, push=push) as gateway:
        yield gateway


@pytest.fixture
def explain(gateway, monkeypatch, capsys):
    monkeypatch.setenv("DRIFTGATE_GATEWAY__ADMIN_PORT", str(gateway.admin_port))

    def run(*words):
        """(exit code, what was printed, what went to stderr)"""
        code = main(["explain", *words, "--state-dir", str(gateway.state_dir)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def infer(gateway):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=30)
    body = json.dumps({"inputs": [tensor("x", "FP32", [2, 3], [1.0] * 6)]})
    for _ in range(REQUESTS):
        connection.request("POST", "/v2/models/bench/infer", body)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        reply.read()
    connection.request("POST", "/v2/models/bench/infer", b"{}")
    assert connection.getresponse().status == 400
    connection.close()


def test_a_served_model_is_explained_from_all_workers_and_their_counts(gateway, explain):
    infer(gateway)
    code, text, _ = explain("bench", "-o", "json")
    assert code == 0
    document = json.loads(text)
    (version,) = document["versions"]
    assert (version["version"], version["role"], version["weight"]) == ("1", "stable", 100)
    assert version["silent_workers"] == []
    assert [worker["index"] for worker in version["workers"]] == [0, 1]
    assert version["in_force"]["max_batch_size"] == 8
    assert version["together"]["inline_workers"] == version["together"]["workers"] == 2
    assert version["counted"]["requests"] == REQUESTS
    assert version["counted"]["batches"][0]["rows"] == 2
    assert document["counted"]["refused"] == {"invalid": 1}

    code, text, _ = explain("bench")
    assert code == 0
    assert "bench version 1: stable, 100 % of the traffic, on 2 workers" in text
    assert "Runs are on the event loop: the largest batch tried at load, of 8 rows" in text
    assert "1 request refused: not as the model takes them." in text


def test_a_model_that_is_not_served_is_named_with_those_that_are(explain):
    code, _, told = explain("nobody")
    assert code == Exit.FAILED
    assert "there is no deployment of nobody" in told
    assert "this gateway serves bench" in told


def test_without_a_gateway_there_is_nothing_to_explain(tmp_path, capsys):
    assert main(["explain", "m", "--state-dir", str(tmp_path)]) == Exit.UNREACHABLE
    assert "no gateway answers" in capsys.readouterr().err
