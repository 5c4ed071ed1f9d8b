"""Statistics, repository and settings, through tritonclient, of a gateway with two workers."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from registry_client import FileRole
from serving.settings import CompatSettings

from .conftest import FakeGateway, eventually, tiny_model

CLIENTS = ["http", "grpc"]
DURATIONS = {
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
}


class Client:
    """What both of tritonclient's classes do, with dictionaries out of either."""

    def __init__(self, gateway: FakeGateway, protocol: str) -> None:
        self._grpc = protocol == "grpc"
        self._library = tritonclient.grpc if self._grpc else tritonclient.http
        self.client = self._library.InferenceServerClient(f"127.0.0.1:{gateway.ports[protocol]}")

    def infer(self, rows: int, model: str = "digits") -> Any:
        sent = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        tensor = self._library.InferInput("x", [rows, 2], "FP32")
        tensor.set_data_from_numpy(sent)
        reply = self.client.infer(model, [tensor])
        assert (reply.as_numpy("y") == sent).all()
        return reply

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        if self._grpc:
            options["as_json"] = True
        return getattr(self.client, method)(*arguments, **options)

    def statistics(self, *arguments: str) -> dict[str, Any]:
        """By model and version; numbers, also where protobuf's JSON has texts."""
        found = self.ask("get_inference_statistics", *arguments)
        numbers = json.loads(json.dumps(found), object_hook=_numbers)
        return {f"{each['name']}:{each['version']}": each for each in numbers["model_stats"]}

    def index(self) -> list[dict[str, str]]:
        found = self.ask("get_model_repository_index")
        return list(found.get("models", [])) if self._grpc else list(found)


def _numbers(found: dict[str, Any]) -> dict[str, Any]:
    keep = {"name", "version"}
    return {
        key: int(value) if isinstance(value, str) and value.isdigit() and key not in keep else value
        for key, value in found.items()
    }


@contextmanager
def client(gateway: FakeGateway, protocol: str) -> Iterator[Client]:
    made = Client(gateway, protocol)
    with closing(made.client):
        yield made


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGateway]:
    """One for all tests that change nothing in it but models of their own."""
    gateway = started(FakeGateway(tmp_path_factory.mktemp("gateway")))
    yield gateway
    gateway.clean_up()


@pytest.fixture
def explicit(make_gateway: Callable[..., FakeGateway]) -> FakeGateway:
    return started(make_gateway(compat=CompatSettings(model_control="explicit")))


def started(gateway: FakeGateway) -> FakeGateway:
    gateway.argv = ("-m", "serving")
    gateway.push()
    return gateway.start()


@pytest.mark.parametrize("protocol", CLIENTS)
def test_statistics_count_requests_rows_and_executions_of_all_workers(
    gateway: FakeGateway, protocol: str
) -> None:
    model = f"counted-{protocol}"
    gateway.push(model=model)
    with client(gateway, protocol) as first, client(gateway, "grpc") as second:
        eventually(lambda: first.client.is_model_ready(model) and live(gateway, model))
        for rows in (1, 1, 3):
            first.infer(rows, model)
            second.infer(rows, model)
        found = first.statistics(model, "1")[f"{model}:1"]
        assert first.statistics(model) == {f"{model}:1": found}
        assert first.statistics()[f"{model}:1"] == found
    assert (found["inference_count"], found["execution_count"]) == (10, 6)
    assert found["last_inference"] > 1_700_000_000_000
    inference = found["inference_stats"]
    if protocol == "http":  # protobuf's own JSON leaves zeros out
        assert set(inference) == DURATIONS
        assert all(set(each) == {"count", "ns"} for each in inference.values())
    assert inference["success"]["count"] == 6
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert all(inference[part]["count"] == 6 for part in parts)
    assert 0 < sum(inference[part]["ns"] for part in parts) <= inference["success"]["ns"]
    batches = {each["batch_size"]: each for each in found["batch_stats"]}
    assert {size: each["compute_infer"]["count"] for size, each in batches.items()} == {1: 4, 3: 2}
    assert (
        sum(each["compute_infer"]["ns"] for each in batches.values())
        == (inference["compute_infer"]["ns"])
    )


def live(gateway: FakeGateway, model: str) -> bool:
    """On all workers."""
    state = gateway.admin.status()["models"][model]
    return bool(state["applied_generation"] == int(state["deployment"]["generation"]))


def test_statistics_outlive_the_worker_that_counted_them(gateway: FakeGateway) -> None:
    with client(gateway, "http") as asker:
        before = asker.statistics()["digits:1"]["inference_count"]
        asker.infer(2)
        for pid in gateway.pids():
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(gateway.pids()) == 2)
    with client(gateway, "http") as asker:
        eventually(lambda: asker.statistics()["digits:1"]["inference_count"] == before + 2)
        assert asker.infer(1)
        assert asker.statistics()["digits:1"]["inference_count"] == before + 3


@pytest.mark.parametrize("protocol", CLIENTS)
def test_an_unknown_model_has_no_statistics(gateway: FakeGateway, protocol: str) -> None:
    with client(gateway, protocol) as asker:
        for name in (("nothing",), ("digits", "7")):
            with pytest.raises(InferenceServerException, match="is not found"):
                asker.statistics(*name)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_the_index_names_what_is_served_and_what_could_be(
    gateway: FakeGateway, protocol: str
) -> None:
    gateway.push(model=f"waiting-{protocol}", champion=False)
    with client(gateway, protocol) as asker:
        index = asker.index()
        assert {"name": "digits", "version": "1", "state": "READY"} in index
        assert {"name": f"waiting-{protocol}"} in index
        assert [entry["name"] for entry in index] == sorted(entry["name"] for entry in index)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_models_are_not_loaded_by_clients_unless_that_is_configured(
    gateway: FakeGateway, protocol: str
) -> None:
    with client(gateway, protocol) as asker:
        for method in ("load_model", "unload_model"):
            with pytest.raises(InferenceServerException, match="explicit model load / unload is"):
                getattr(asker.client, method)("digits")
        asker.infer(1)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_under_explicit_control_clients_load_and_unload(
    explicit: FakeGateway, protocol: str
) -> None:
    gateway = explicit
    with client(gateway, protocol) as asker:
        assert asker.index() == [{"name": "digits"}]
        assert not asker.client.is_model_ready("digits")
        asker.client.load_model("digits")
        assert asker.infer(1)
        asker.client.load_model("digits")  # what serves already is loaded
        gateway.push("better")
        asker.client.load_model("digits")
        assert gateway.deployment()["stable"]["version"] == "2"
        assert gateway.deployment()["previous"]["version"] == "1"
        asker.client.unload_model("digits")
        asker.client.unload_model("digits")
        with pytest.raises(InferenceServerException, match="unknown model"):
            asker.infer(1)
        assert eventually(lambda: asker.index() == [{"name": "digits"}])
        assert gateway.tell("UNDO")["accepted"]  # an operator has the last word
        assert asker.infer(1)
    audited = json.dumps(gateway.admin.audit())
    assert "LOAD" in audited.upper()
    assert "UNLOAD" in audited.upper()


@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_configuration_is_laid_over_a_version_under_load_until_the_next_load(
    explicit: FakeGateway, protocol: str
) -> None:
    def rows_max(asker: Client) -> int:
        found = asker.ask("get_model_config", "digits")
        return int((found["config"] if protocol == "grpc" else found)["max_batch_size"])

    failed: list[str] = []
    stop = threading.Event()

    def ask_on() -> None:
        with client(explicit, protocol) as other:
            while not stop.is_set():
                try:
                    other.infer(1)
                except (InferenceServerException, AssertionError) as error:
                    failed.append(str(error))

    with client(explicit, protocol) as asker:
        asker.client.load_model("digits")
        own = rows_max(asker)
        assert own > 2
        askers = [threading.Thread(target=ask_on) for _ in range(2)]
        for each in askers:
            each.start()
        try:
            for _ in range(3):
                asker.client.load_model("digits", config='{"max_batch_size": "2"}')
                assert rows_max(asker) == 2
                with pytest.raises(InferenceServerException, match="batch-size must be <= 2"):
                    asker.infer(3)
                asker.client.load_model("digits")
                assert rows_max(asker) == own
                asker.infer(3)
        finally:
            stop.set()
            for each in askers:
                each.join()
        assert failed == []
        with pytest.raises(InferenceServerException, match="optimization"):
            asker.client.load_model("digits", config='{"optimization": {"priority": 1}}')
        with pytest.raises(InferenceServerException, match="are verified"):
            asker.client.load_model("digits", config="{}", files={"file:1/model.onnx": b"x"})
        assert explicit.tell("UNDO")["accepted"]
        assert rows_max(asker) == 2


@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_model_that_cannot_be_loaded_says_why_and_what_served_serves_on(
    explicit: FakeGateway, protocol: str
) -> None:
    gateway = explicit
    with client(gateway, protocol) as asker:
        with pytest.raises(InferenceServerException, match="failed to load 'nothing'"):
            asker.client.load_model("nothing")
        with pytest.raises(InferenceServerException, match="name 'no name' is not allowed"):
            asker.client.load_model("no name")
        asker.client.load_model("digits")
        unknown = tiny_model().replace(b"Identity", b"Ydentity")  # of no operator set
        files = {"model.onnx": (FileRole.MODEL, unknown)}
        broken = gateway.registry.push("digits", files).version
        gateway.registry.set_alias("digits", "champion", broken)
        with pytest.raises(InferenceServerException, match=f"failed to load 'digits'.*{broken}"):
            asker.client.load_model("digits")
        assert asker.infer(1)


@pytest.mark.parametrize("protocol", CLIENTS)
def test_settings_are_told_and_those_that_are_so_may_be_set(
    gateway: FakeGateway, protocol: str
) -> None:
    with client(gateway, protocol) as asker:
        trace = asker.ask("get_trace_settings")
        log = asker.ask("get_log_settings")
        asker.client.update_trace_settings(settings={"trace_level": ["OFF"]})
        asker.client.update_trace_settings("digits", {"trace_rate": None})
        asker.client.update_log_settings({"log_error": True, "log_verbose_level": 0})
        for settings in ({"trace_level": ["TIMESTAMPS"]}, {"trace_file": "/etc/passwd"}):
            with pytest.raises(InferenceServerException, match="cannot be changed"):
                asker.client.update_trace_settings(settings=settings)
        with pytest.raises(InferenceServerException, match="Unknown trace setting"):
            asker.client.update_trace_settings(settings={"colour": "red"})
        with pytest.raises(InferenceServerException, match="is not found"):
            asker.client.update_trace_settings("nothing", {})
        with pytest.raises(InferenceServerException, match="cannot be changed"):
            asker.client.update_log_settings({"log_verbose_level": 3})
        asker.client.update_log_settings({"log_info": None} if protocol == "grpc" else {})
    if protocol == "http":
        with (
            client(gateway, "http") as asker,
            pytest.raises(
                InferenceServerException, match="'log_error' must be a boolean, got 'yes'"
            ),
        ):
            asker.client.update_log_settings({"log_error": "yes"})
        assert trace["trace_level"] == ["OFF"]
        assert trace["trace_count"] == "-1"
        assert log["log_error"] is True
        assert log["log_verbose_level"] == 0
    else:
        assert trace["settings"]["trace_level"]["value"] == ["OFF"]
        assert log["settings"]["log_error"]["bool_param"] is True
