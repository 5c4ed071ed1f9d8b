"""What the log holds is what clients sent and got, row by row."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eventlog import (
    LABELS,
    PREDICTIONS,
    GapReason,
    PredictionIds,
    RecordKind,
    SqliteLog,
    Status,
    close_books,
    decode_labels,
    decode_predictions,
    ledger,
    parse_gap,
)
from eventlog.hash_key import HashKey
from eventlog.settings import LogSettings
from serving.core.errors import Reason
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import eventually, tensor


def read_all(worker):
    log = SqliteLog(worker.state_dir / "log", settings=LogSettings())
    try:
        stored, position = [], {}
        while batch := log.read(position, 1000):
            stored += batch
            position |= {item.partition: item.offset for item in batch}
        return [item.record for item in stored]
    finally:
        log.close()


def predictions(worker):
    return [
        decode_predictions(record)
        for record in read_all(worker)
        if record.stream == PREDICTIONS and record.kind is RecordKind.DATA
    ]


def by_sequence(worker):
    """sequence -> (record's rows, index in it)."""
    found = {}
    for rows in predictions(worker):
        for index, sequence in enumerate(rows.sequences()):
            assert int(sequence) not in found
            found[int(sequence)] = (rows, index)
    return found


def sequence_of(worker, reply):
    ids = PredictionIds.load(worker.state_dir)
    decoded = ids.decode(reply["parameters"]["prediction_id"])
    assert decoded.producer == worker.incarnation
    return decoded.sequence


def send(worker, i, model="m"):
    rows = 1 + i % 3
    data = np.float32([[i, i + 0.25, row] for row in range(rows)])
    document = {"inputs": [tensor("x", "FP32", [rows, 3], data.reshape(-1).tolist())]}
    status, reply = worker.infer(model, document)
    return data, status, reply


def test_every_row_is_logged_as_it_was_sent_also_back_to_back(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.scale(2.0)})
    with ThreadPoolExecutor(16) as pool:
        sent = list(pool.map(lambda i: send(worker, i), range(600)))
    assert worker.drain() == 0
    logged = by_sequence(worker)
    total = 0
    for data, status, reply in sent:
        assert status == 200
        first = sequence_of(worker, reply)
        for row, values in enumerate(data):
            rows, index = logged[first + row]
            assert rows.inputs["x"][index].tolist() == values.tolist()
            assert rows.outputs["y"][index].tolist() == (values * 2).tolist()
            assert rows.row[index] == row
            assert (rows.model, rows.version, rows.role) == ("m", "1", "stable")
            assert rows.status[index] == Status.OK
            assert 0 < rows.latency_ns[index] < 60e9
        total += len(data)
    assert len(logged) == total
    (line,) = ledger(worker.state_dir / "log")
    assert line.acknowledged == total
    assert line.delivered + line.spooled + sum(line.gaps.values()) == total


def test_failed_rows_are_logged_without_outputs_and_numbered(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.table_lookup()})
    for index, expected in ((1, 200), (77, 500), (2, 200)):
        document = {"inputs": [tensor("x", "INT64", [1, 1], [index])]}
        assert worker.infer("m", document)[0] == expected
    worker.drain()
    failed = [rows for rows in predictions(worker) if not rows.outputs]
    assert [(rows.inputs["x"].tolist(), rows.status.tolist()) for rows in failed] == [
        ([[77]], [Status.FAILED])
    ]


def test_requests_that_were_refused_are_not_numbered(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    assert worker.infer("m", b"{}")[0] == 400
    assert send(worker, 0)[1] == 200
    worker.drain()
    assert worker.metric("driftgate_prediction_log_acknowledged_rows_total") == 1


def test_an_unbatched_request_is_one_row(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.not_batchable()})
    document = {"inputs": [tensor("x", "FP32", [2, 2], [0, 1, 2, 3])]}
    assert worker.infer("m", document)[0] == 200
    worker.drain()
    (rows,) = predictions(worker)
    assert rows.inputs["x"].tolist() == [[[0, 1], [2, 3]]]


@pytest.mark.parametrize("mode", ["off", "durable", "sampled"])
def test_log_modes(start_worker, mode):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()}, log_mode=mode, sample_rate=0.3)
    replies = [send(worker, i) for i in range(60)]
    assert all(status == 200 for _, status, _ in replies)
    rows_sent = sum(len(data) for data, _, _ in replies)
    if mode == "durable":
        # Before anything is flushed by a drain: a reply implies a commit.
        assert len(by_sequence(worker)) == rows_sent
    worker.drain()
    logged = by_sequence(worker)
    gaps = [parse_gap(record) for record in read_all(worker) if record.kind is RecordKind.GAP]
    if mode == "off":
        assert not logged
        assert all("prediction_id" not in reply.get("parameters", {}) for _, _, reply in replies)
        assert worker.metric("driftgate_prediction_log_acknowledged_rows_total") == 0
    elif mode == "sampled":
        assert 0 < len(logged) < rows_sent
        assert len(logged) + sum(gap.rows for gap in gaps) == rows_sent
        weights = {float(rows.weight[index]) for rows, index in logged.values()}
        assert weights == {np.float32(1 / 0.3)}


def test_records_name_the_arm_that_answered(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", -1.0)):
        assert worker.load("m", version, onnx_models.scale(factor)).HasField("loaded")
    worker.route({"m": [("2", "candidate", 50), ("1", "stable", 50)]})
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda i: send(worker, i), range(200)))
    status, body, _ = worker.request(
        "POST",
        "/v2/models/m/versions/2/infer",
        json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode(),
    )
    assert status == 200
    pinned = json.loads(body)
    worker.drain()
    logged = by_sequence(worker)
    roles = {"1": "stable", "2": "candidate"}
    for _, _, reply in sent:
        rows, _ = logged[sequence_of(worker, reply)]
        assert rows.version == reply["model_version"]
        assert rows.role == roles[rows.version]
        assert rows.rollout == "r1"
    rows, _ = logged[sequence_of(worker, pinned)]
    assert (rows.role, rows.rollout) == ("pinned", "")


def test_labels_are_committed_and_strange_ids_refused(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    prediction_id = send(worker, 2)[2]["parameters"]["prediction_id"]

    def post(document, model="m"):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, reply, _ = worker.request("POST", f"/v2/models/{model}/labels", body)
        return status, json.loads(reply)

    labels = [
        {"prediction_id": f"{prediction_id}.0", "label": 1},
        {"prediction_id": f"{prediction_id}.2", "label": "cat", "ts": 1.5},
        {"prediction_id": prediction_id, "label": True, "ts": "2024-01-01T00:00:00Z"},
    ]
    assert post(labels) == (200, {"accepted": 3})
    assert post([]) == (200, {"accepted": 0})
    flipped = ("1" if prediction_id[-1] != "1" else "2").join([prediction_id[:-1], ""])
    for bad, message in [
        ([{"prediction_id": "x", "label": 1}], "prediction_id 'x' was not issued here"),
        ([{"prediction_id": flipped, "label": 1}], "was not issued here"),
        ([{"prediction_id": 5, "label": 1}], "must be a string such as ID.0"),
        ([{"prediction_id": f"{prediction_id}.x", "label": 1}], "is not a number from 0 to"),
        ([{"prediction_id": prediction_id}], "'label' must be a finite number or a string"),
        ([{"prediction_id": prediction_id, "label": 1, "ts": "noon"}], "'ts' must be"),
        ([5], "label 0 must be an object"),
        (b'[{"prediction_id": "x", "label": NaN', "failed to parse"),
        ({"a": 1}, "labels must be an array"),
    ]:
        status, reply = post(bad)
        assert status == 400, bad
        assert message in reply["error"]
    assert post(labels, "nope")[0] == 404
    worker.drain()
    (record,) = [record for record in read_all(worker) if record.stream == LABELS]
    model, stored = decode_labels(record)
    assert model == "m"
    assert [(label.row, label.value) for label in stored] == [(0, 1.0), (2, "cat"), (0, 1.0)]
    assert [label.ts_ns for label in stored][1:] == [1_500_000_000, 1_704_067_200_000_000_000]
    assert worker.metric("driftgate_labels_total", "m", "taken") == 3


def test_watermarks_wait_for_rows_that_still_run(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow(), "m": onnx_models.identity()})
    document = {"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(worker.infer, "slow", document)
        while not future.done():
            send(worker, 1)
    worker.drain()
    watermark = 0
    slow_rows = 0
    for record in read_all(worker):
        if record.kind is RecordKind.DATA and record.stream == PREDICTIONS:
            rows = decode_predictions(record)
            assert int(rows.ts_ns.min()) >= watermark
            slow_rows += rows.model == "slow"
        watermark = max(watermark, record.watermark_ns)
    assert slow_rows == 1


def test_the_ledger_is_exact_after_a_kill(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    seen = 0
    for i in range(100):
        data, status, _ = send(worker, i)
        assert status == 200
        seen += len(data)
    worker.process.kill()
    worker.process.wait()
    close_books(worker.state_dir / "log")
    (line,) = ledger(worker.state_dir / "log")
    assert line.acknowledged >= seen
    assert line.acknowledged == line.delivered + line.spooled + sum(line.gaps.values())


def test_error_series_are_there_before_the_first_error(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    cells = worker.metrics().cells
    for model in ("m", "unknown"):
        for reason in Reason:
            assert cells["driftgate_requests_rejected_total", model, reason.value] == [0.0]
    for outcome in ("taken", "refused"):
        assert cells["driftgate_labels_total", "m", outcome] == [0.0]
    for reason in GapReason:
        assert cells["driftgate_prediction_log_gap_rows_total", reason.label] == [0.0]


def test_metrics_count_what_was_answered(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    rows = sum(len(send(worker, i)[0]) for i in range(20))
    # A reply may reach its client just before it is counted: hence the waits.
    eventually(lambda: worker.metric("driftgate_requests_total", "m", "1", "http", "200") == 20)
    assert worker.metric("driftgate_inference_rows_total", "m", "1") == rows
    eventually(lambda: worker.metric("driftgate_prediction_log_written_rows_total") == rows)
    cells = worker.metrics().cells
    for stage in ("decode", "queue", "encode"):
        assert sum(cells["driftgate_request_stage_seconds", "m", stage][:-1]) == 20
    assert sum(cells["driftgate_request_duration_seconds", "m", "http"][:-1]) == 20
    assert worker.infer("nope", b"{}")[0] == 404
    key = ("driftgate_requests_rejected_total", "unknown", "unknown_model")
    eventually(lambda: worker.metric(*key) == 1)


def test_what_a_policy_leaves_out_is_not_in_the_log_and_the_rest_is(start_worker):
    worker = start_worker()
    worker.serve(
        {"m": onnx_models.identity(), "off": onnx_models.identity()},
        log={"mode": "durable", "payload": "features", "hash": ["x.0"], "features": {}},
    )
    assert worker.load("off", "1", onnx_models.identity(), log={"payload": "off"})
    worker.route({"m": [("1", "stable", 100)], "off": [("1", "stable", 100)]})
    data, _, reply = send(worker, 4)
    assert send(worker, 4, "off")[1] == 200
    worker.drain()
    by_model = {rows.model: rows for rows in predictions(worker)}
    rows = by_model["m"]
    assert rows.sequences().tolist() == [sequence_of(worker, reply) + i for i in range(len(data))]
    assert rows.inputs["x"].tolist() == [[0, *row[1:]] for row in data.tolist()]
    assert rows.hashed["input:x.0"].digests.shape == (len(data), 16)
    assert rows.dropped == ("output:y",)
    assert not by_model["off"].inputs
    assert by_model["off"].dropped == ("input:x", "output:y")
    assert len(by_model["off"]) == len(data)
    key = worker.state_dir / "log.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert rows.hashed["input:x.0"].key == HashKey.of_log(worker.state_dir, LogSettings()).name


def test_the_operators_sampling_of_a_model_goes_over_its_versions(start_worker):
    worker = start_worker()
    worker.serve(
        {"m": onnx_models.identity()},
        log_mode="durable",
        sample_rate=1.0,
        log={"mode": "sampled", "sample_rate": 0.25},
    )
    sent = sum(len(send(worker, i)[0]) for i in range(60))
    worker.drain()
    logged = by_sequence(worker)
    assert 0 < len(logged) < sent
    assert {float(rows.weight[index]) for rows, index in logged.values()} == {4.0}


def test_a_version_whose_fields_cannot_be_hashed_is_not_loaded(start_worker):
    worker = start_worker(log=LogSettings(hash_key_file="/nowhere/key"))
    answer = worker.load("m", "1", onnx_models.identity(), log={"hash": ["x"]})
    assert "log.hash_key_file /nowhere/key does not exist" in answer.load_failed.reason
    assert worker.load("m", "1", onnx_models.identity()).HasField("loaded")


def test_log_settings_that_are_none_are_refused_by_the_worker(start_worker):
    worker = start_worker()
    answer = worker.load("m", "1", onnx_models.identity(), log={"payloads": "off"})
    assert "settings are malformed" in answer.load_failed.reason
