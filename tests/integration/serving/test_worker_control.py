"""The worker's end of the control channel: loading, routes, drains, lost supervisors."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import numpy as np
import pytest

from protos import channel_pb2 as pb
from serving.worker.run_threads import RUN_THREADS
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import (
    HOST,
    WAIT_S,
    eventually,
    golden_file,
    listen_http,
    tensor,
)

DOCUMENT = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
BODY = json.dumps(DOCUMENT).encode()


def output(worker, model="m", **headers):
    status, reply = worker.infer(model, DOCUMENT, **headers)
    assert status == 200, reply
    return reply["outputs"][0]["data"][0]


def explained(worker, model, version="1"):
    worker.send(pb.ToWorker(explain=pb.Explain(id=5, model=model, version=version)))
    answer = worker.receive().explained
    assert answer.id == 5
    return json.loads(answer.document_json) if answer.document_json else None


def test_a_version_explains_its_batcher(start_worker):
    worker = start_worker()
    worker.serve(
        {"m": onnx_models.scale(2.0)}, max_batch_size=8, max_queue_size=9, instance_count=9
    )
    assert output(worker) == 2
    document = explained(worker, "m")
    facts, force = document["facts"], document["in_force"]
    assert facts["inline"] is facts["inline_at_load"] is True
    assert 0 < facts["load_run_ns"] <= force["inline_ns_max"]
    assert facts["mean_run_ns"] > 0
    assert (facts["instances"], facts["hold_ns"]) == (RUN_THREADS, 0)
    assert [point["work"] for point in facts["profile"]] == [1, 2, 4, 8]
    assert (facts["queued"], facts["oldest_wait_ns"]) == (0, 0)
    assert (facts["refused_full"], facts["refused_late"]) == (0, 0)
    assert (force["max_batch_size"], force["max_queue_size"], force["open_inputs"]) == (8, 9, [])
    assert document["admission"]["rows"] == 0 < document["admission"]["rows_max"]
    assert explained(worker, "m", "2") is None


def test_a_version_explains_what_waits_behind_a_slow_run(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow()}, max_batch_size=2, max_queue_size=3)
    body = {"inputs": [tensor("x", "FP32", [1, 1], [1])]}
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(worker.infer, "slow", body) for _ in range(40)]

        def waits():
            facts = explained(worker, "slow")["facts"]
            return facts if facts["queued"] and facts["running"] else None

        facts = eventually(waits)
        refused = [reply.result()[0] for reply in replies].count(503)
    # Those of them that were refused unread count elsewhere.
    assert 0 <= explained(worker, "slow")["facts"]["refused_full"] <= refused
    assert refused > 0
    assert facts["inline"] is False
    assert facts["running"] == facts["shapes_queued"] == 1
    assert 0 < facts["queued"] == facts["rows_queued"] <= 3
    assert facts["oldest_wait_ns"] > 0


def test_a_loaded_version_says_what_it_is(start_worker):
    worker = start_worker()
    loaded = worker.load("m", "1", onnx_models.two_inputs()).loaded
    assert (loaded.model, loaded.version, loaded.batchable) == ("m", "1", True)
    signature = json.loads(loaded.signature_json)
    assert [spec["name"] for spec in signature["inputs"]] == ["a", "b"]
    assert not worker.load("s", "1", onnx_models.not_batchable()).loaded.batchable
    assert not worker.load("f", "1", onnx_models.fixed_shape()).loaded.batchable
    forced = worker.load("s", "2", onnx_models.not_batchable(), max_batch_size=0).loaded
    assert not forced.batchable


SPEC = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}


def golden(**arrays):
    return {"golden": "g.npz", "files": {"g.npz": golden_file(**arrays)}}


ONES, OFF = np.ones((70, 3)), np.full((70, 3), 2.001)
X = onnx_models.identity()
REFUSED = [
    (b"not a model", {}, "ONNX Runtime refused the model"),
    (X, {"inputs": [SPEC | {"name": "q"}]}, "names inputs ['q'], the model has ['x']"),
    (X, {"inputs": [SPEC | {"shape": [-1, 4]}]}, "input 'x' is FP32 [-1, 4] in the manifest"),
    (X, {"inputs": [SPEC | {"datatype": "INT64"}]}, "is INT64"),
    (X, {"inputs": [5]}, "signature is malformed"),
    (onnx_models.fixed_shape(), {"max_batch_size": 8}, "max_batch_size is 8, but"),
    (X, {"log_mode": "loud"}, "settings are malformed"),
    (X, {"golden": "g.npz", "files": {"g.npz": b"nonsense"}}, "not a readable .npz"),
    (X, golden(output__y=ONES), "lack 'input:x'"),
    (onnx_models.scale(2.0), golden(input__x=ONES, output__y=OFF), "by more than 1e-05"),
]


def test_versions_that_may_not_serve_are_refused_in_one_line_and_nothing_else_is_touched(
    start_worker,
):
    worker = start_worker()
    worker.serve({"other": onnx_models.identity()})
    for onnx, options, reason in REFUSED:
        failed = worker.load("m", "1", onnx, **options).load_failed
        assert reason in failed.reason
        assert "\n" not in failed.reason
        assert "/proc" not in failed.reason
        assert output(worker, "other") == 1


def test_golden_samples_that_come_out_as_recorded_let_a_version_serve(start_worker):
    worker = start_worker()
    samples = golden(input__x=ONES, output__y=np.full((70, 3), 2.000001))
    answer = worker.load("m", "1", onnx_models.scale(2.0), **samples)
    assert answer.HasField("loaded"), answer


def test_routes_follow_keys_and_the_split_is_monotone(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", -1.0)):
        worker.load("m", version, onnx_models.scale(factor))
    on_candidate: set[str] = set()
    for weight in (0, 10, 50, 100):
        worker.route({"m": [("2", "candidate", weight), ("1", "stable", 100 - weight)]})
        chosen = {f"user-{i}" for i in range(60) if output(worker, X_Routing_Key=f"user-{i}") == -1}
        assert on_candidate <= chosen
        on_candidate = chosen
    assert len(on_candidate) == 60


def test_the_parameter_chooses_when_no_header_does(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", -1.0)):
        worker.load("m", version, onnx_models.scale(factor))
    worker.route({"m": [("2", "candidate", 50), ("1", "stable", 50)]})

    def chosen(**parameters):
        _, reply = worker.infer("m", DOCUMENT | {"parameters": parameters})
        return reply["model_version"]

    for i in range(1, 20):
        same = {chosen(routing_key=str(i)), chosen(sequence_id=i), chosen(sequence_id=str(i))}
        assert len(same) == 1
    assert {chosen() for _ in range(60)} == {"1", "2"}  # no key: each request by itself
    assert {chosen(sequence_id=0) for _ in range(60)} == {"1", "2"}


def test_swaps_under_load_fail_nothing_and_mix_nothing(start_worker):
    worker = start_worker()
    factors = {"1": 1.0, "2": 2.0, "3": 3.0}
    for version, factor in factors.items():
        worker.load("m", version, onnx_models.scale(factor))
    worker.route({"m": [("1", "stable", 100)]})
    stop = threading.Event()
    body = json.dumps({"inputs": [tensor("x", "FP32", [2, 3], [1, 1, 1, 5, 5, 5])]}).encode()

    def client(_):
        count = 0
        connection = HTTPConnection(HOST, worker.http_port, timeout=WAIT_S)
        while not stop.is_set():
            connection.request("POST", "/v2/models/m/infer", body)
            response = connection.getresponse()
            reply = json.loads(response.read())
            assert response.status == 200, reply
            factor = factors[reply["model_version"]]
            assert reply["outputs"][0]["data"] == [factor] * 3 + [5 * factor] * 3
            count += 1
        connection.close()
        return count

    def total():
        cells = worker.metrics().cells.items()
        return sum(value[0] for key, value in cells if key[0] == "driftgate_requests_total")

    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, i) for i in range(6)]
        for round_ in range(30):
            version = str(1 + round_ % 3)
            worker.route({"m": [(version, "candidate", 50), ("1", "stable", 50)]})
            worker.route({"m": [(version, "stable", 100)]})
            answered = total()
            eventually(lambda seen=answered: total() > seen + 5)
        stop.set()
        assert sum(future.result() for future in clients) > 100


def lowered_threads(worker):
    """How many of the worker's threads have a lower priority than this process."""
    threads = [int(tid) for tid in os.listdir(f"/proc/{worker.process.pid}/task")]
    nices = [os.getpriority(os.PRIO_PROCESS, tid) for tid in threads]
    assert min(nices) == os.getpriority(os.PRIO_PROCESS, 0)
    return sum(nice > min(nices) for nice in nices)


def test_loads_beside_traffic_give_way_to_it_and_nothing_else_does(start_worker):
    worker = start_worker(workers=len(os.sched_getaffinity(0)))
    assert worker.load("m", "1", onnx_models.identity()).HasField("loaded")
    assert lowered_threads(worker) == 0  # readiness waits for this one
    worker.route({"m": [("1", "stable", 100)]})
    assert worker.load("m", "2", onnx_models.slow()).HasField("loaded")
    assert lowered_threads(worker) == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a session has threads on more cores")
def test_the_threads_of_a_session_do_not_inherit_a_loads_priority(start_worker):
    worker = start_worker(workers=1)
    worker.route({})
    assert worker.load("m", "1", onnx_models.slow()).HasField("loaded")
    assert lowered_threads(worker) == 0


def memory_mb(pid):
    """Of the process itself, in MB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.mark.parametrize("again", ["other versions", "the same version"])
def test_the_memory_of_versions_that_left_is_given_back(start_worker, again):
    """Whatever came in between: collections of cycles, frozen objects, requests."""
    worker = start_worker()
    heavy, megabytes, loads = onnx_models.heavy(64), 64, 8
    worker.serve({"m": onnx_models.scale(2.0)})
    sizes = []
    for number in range(loads):
        version = str(number) if again == "other versions" else "1"
        assert worker.load("heavy", version, heavy).HasField("loaded")
        worker.route({"m": [("1", "stable", 100)], "heavy": [(version, "stable", 100)]})
        assert output(worker, "heavy") == 1
        if again == "other versions":
            worker.route({"m": [("1", "stable", 100)]})
            worker.send(pb.ToWorker(unload=pb.Unload(model="heavy", version=version)))
            assert worker.receive().unloaded.version == version
        assert output(worker) == 2
        sizes.append(memory_mb(worker.process.pid))
    # Held, they would be `loads - 2` times as many; the first ones bring the allocator's own.
    assert sizes[-1] - sizes[1] < 2 * megabytes, sizes


def test_an_unloaded_version_answers_its_last_requests_first(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow(), "m": onnx_models.identity()})
    document = {"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(worker.infer, "slow", document)
        eventually(lambda: worker.metric("driftgate_connections", "http") >= 1)
        worker.route({"m": [("1", "stable", 100)]})
        worker.send(pb.ToWorker(unload=pb.Unload(model="slow", version="1")))
        assert worker.receive().unloaded.model == "slow"
        assert waiting.result()[0] in {200, 404}
    assert worker.infer("slow", document)[0] == 404
    worker.send(pb.ToWorker(unload=pb.Unload(model="never", version="1")))
    assert worker.receive().unloaded.model == "never"


def test_a_drain_under_load_fails_no_request(start_worker):
    listener = listen_http()
    first = start_worker(listener=listener)
    second = start_worker(listener=listener.dup())
    for worker in (first, second):
        worker.serve({"m": onnx_models.identity()})
    stop = threading.Event()
    problems: list[str] = []

    def client(keep_alive):
        count = 0
        connection = HTTPConnection(HOST, first.http_port, timeout=WAIT_S)
        headers = {} if keep_alive else {"Connection": "close"}
        while not stop.is_set():
            try:
                connection.request("POST", "/v2/models/m/infer", BODY, headers)
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    problems.append(str(response.status))
            except OSError as error:
                problems.append(repr(error))
                connection.close()
            count += 1
        connection.close()
        return count

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, i % 2 == 0) for i in range(8)]
        eventually(lambda: first.metric("driftgate_requests_total", "m", "1", "http", "200") > 50)
        assert first.drain() == 0
        before = second.metric("driftgate_requests_total", "m", "1", "http", "200")
        eventually(
            lambda: second.metric("driftgate_requests_total", "m", "1", "http", "200") > before + 50
        )
        stop.set()
        assert sum(future.result() for future in clients) > 100
    assert problems == []


def test_a_drain_waits_for_a_slow_request(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow()})
    document = {"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(worker.infer, "slow", document) for _ in range(3)]
        eventually(lambda: worker.metric("driftgate_connections", "http") == 3)
        assert worker.drain() == 0
        assert [future.result()[0] for future in waiting] == [200] * 3


def test_readiness_ends_with_the_drain_not_with_load(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    probe, witness = (HTTPConnection(HOST, worker.http_port, timeout=WAIT_S) for _ in range(2))

    def ask(connection):
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        response.read()
        return response.status, response.headers["connection"]

    assert ask(probe) == ask(witness) == (200, None)
    worker.send(pb.ToWorker(drain=pb.Drain(grace_ms=5000)))
    # The reply that ends the probe may be one that was made before the drain.
    eventually(lambda: ask(probe)[1] == "close")
    assert ask(witness) == (503, "close")
    probe.close()
    witness.close()
    assert worker.process.wait(WAIT_S) == 0


def test_a_worker_outlives_its_supervisor_and_obeys_the_next(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    worker.hang_up()
    assert output(worker) == 1
    started = worker.connect()
    assert started.incarnation == worker.incarnation
    worker.serve({"m2": onnx_models.scale(4.0)})
    assert output(worker, "m2") == 4
    assert worker.drain() == 0


def test_an_orphan_drains_and_exits(start_worker):
    worker = start_worker(orphan_s=0.5)
    worker.serve({"m": onnx_models.identity()})
    worker.hang_up()
    assert worker.process.wait(WAIT_S) == 0


def test_a_terminated_worker_drains_too(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    assert output(worker) == 1
    worker.process.terminate()
    assert worker.process.wait(WAIT_S) == 0


def test_two_workers_share_connections_evenly(start_worker):
    listener = listen_http()
    first = start_worker(listener=listener, workers=2, index=0)
    second = start_worker(listener=listener.dup(), workers=2, index=1, state_dir=first.state_dir)
    for worker in (first, second):
        worker.serve({"m": onnx_models.identity()})
    connections = [HTTPConnection(HOST, first.http_port, timeout=WAIT_S) for _ in range(20)]
    for connection in connections:
        connection.request("GET", "/v2/health/live")
        assert connection.getresponse().read()
    held = [worker.metric("driftgate_connections", "http") for worker in (first, second)]
    assert sum(held) == 20
    assert min(held) >= 8
    for connection in connections:
        connection.close()
