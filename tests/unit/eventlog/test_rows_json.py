"""Rows as JSON: what tail prints, and what consumers of KServe's events read."""

import base64
import json
from dataclasses import replace

import numpy as np

from eventlog import Omitted, Status, decode_predictions, encode_predictions, fake_rows
from eventlog.core.confluent import registered_id, schema_frame, unframed
from eventlog.core.predictions import Hashed
from eventlog.core.rows_json import REQUEST, RESPONSE, EventOrigin, events, row_documents

ORIGIN = EventOrigin("urn:driftgate:test", "fraud-team")
TRACE = bytes(range(1, 26))
TS_NS = 1_700_000_000_123_456_789


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def rows():
    made = fake_rows(
        7,
        2,
        model="fraud",
        ts_ns=TS_NS,
        inputs={
            "x": np.float32([[0.1, np.nan, np.inf], [1, -np.inf, 2]]),
            "words": objects(b"caf\xc3\xa9", b"\xff"),
            "ok": np.array([True, False]),
            "brain": np.array([0x3F80, 0x4000], np.uint16),
            "half": np.float16([0.5, 2]),
            "huge": np.array([2**64 - 1, 0], np.uint64),
            "empty": np.zeros((2, 0), np.float32),
            "x2": np.arange(8, dtype=np.int64).reshape(2, 2, 2),
        },
        outputs={"y": np.float32([[0.25], [0.75]])},
    )
    return replace(
        made,
        row=np.array([0, 1], np.uint32),
        datatypes={"input:brain": "BF16"},
        masked={"input:x2": (1,)},
        dropped=("input:ssn",),
        hashed={"input:id": Hashed("BYTES", (1,), "00ff00ff", np.full((2, 16), 0xAB, np.uint8))},
        omitted={"output:big": Omitted("FP32", (9,), np.full((2, 32), 0xCD, np.uint8))},
        traces=np.stack([np.frombuffer(TRACE, np.uint8), np.zeros(25, np.uint8)]),
    )


def stored(made):
    return decode_predictions(encode_predictions(made, "0a0b0c", 0))


def sent(made, frame=b""):
    names = ["p"] * len(made)
    return [
        (dict(m.headers), json.loads(unframed(m.value)), m)
        for m in events(stored(made), names, ORIGIN, frame)
    ]


def test_an_answered_row_is_a_request_and_a_response_with_one_id_as_kserve_sends_them():
    (first, request, message), (second, response, _), *others = sent(rows())
    assert len(others) == 2
    expected = {
        "ce_specversion": b"1.0",
        "ce_id": b"p.0",
        "ce_source": b"urn:driftgate:test",
        "ce_time": b"2023-11-14T22:13:20.123456Z",
        "ce_inferenceservicename": b"fraud",
        "ce_namespace": b"fraud-team",
        "ce_component": b"predictor",
        "ce_endpoint": b"default",
        "ce_traceparent": b"00-0102030405060708090a0b0c0d0e0f10-1112131415161718-19",
        "content-type": b"application/json",
    }
    assert first == {**expected, "ce_type": REQUEST.encode()}
    assert second == {**expected, "ce_type": RESPONSE.encode()}
    assert "ce_traceparent" not in others[0][0]
    assert (message.key, message.timestamp_ms) == (b"fraud", TS_NS // 10**6)
    assert request["id"] == response["id"] == "p.0"
    assert (response["model_name"], response["model_version"]) == ("fraud", "1")
    assert response["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [0.25]}
    ]
    assert request["parameters"]["status"] == "ok"
    assert request["parameters"]["dropped"] == "input:ssn"
    assert request["parameters"]["hmac-sha256 input:id"] == "ab" * 16
    assert response["parameters"]["sha256 output:big"] == "cd" * 32


def test_every_value_has_a_form_in_an_event():
    requests = [
        document for headers, document, _ in sent(rows()) if b"request" in headers["ce_type"]
    ]
    first, second = ({t["name"]: t for t in document["inputs"]} for document in requests)
    assert first["x"]["data"] == [0.1, None, None]
    assert first["x"]["parameters"] == {"infinity": "2"}
    assert second["x"]["data"] == [1.0, None, 2.0]
    assert second["x"]["parameters"] == {"negative_infinity": "1"}
    assert first["words"]["data"] == ["café"]
    assert second["words"]["data"] == [base64.b64encode(b"\xff").decode()]
    assert second["words"]["parameters"] == {"content_type": "base64"}
    assert (first["ok"]["datatype"], first["ok"]["data"]) == ("BOOL", [True])
    assert (first["brain"]["datatype"], first["brain"]["data"]) == ("BF16", [1.0])
    assert first["half"]["data"] == [0.5]
    assert first["huge"]["data"] == [2**64 - 1]
    assert (first["empty"]["shape"], first["empty"]["data"]) == ([1, 0], [])
    assert (first["x2"]["shape"], first["x2"]["data"]) == ([1, 2, 2], [0, None, 2, 3])


def test_a_failed_row_is_a_request_alone():
    failed = replace(rows(), outputs={}, omitted={}, status=np.full(2, Status.FAILED, np.uint8))
    found = sent(failed)
    assert [headers["ce_type"] for headers, _, _ in found] == [REQUEST.encode()] * 2
    assert {document["parameters"]["status"] for _, document, _ in found} == {"failed"}


def test_a_payload_that_is_off_leaves_what_is_known_beside_it():
    off = replace(fake_rows(0, 1, inputs={}, outputs={}), dropped=("input:x", "output:y"))
    (_, request, _), (_, response, _) = sent(off)
    assert request["inputs"] == response["outputs"] == []
    assert response["parameters"]["dropped"] == "input:x,output:y"


def test_a_candidates_endpoint_is_canary():
    assert sent(replace(fake_rows(0, 1), role="candidate"))[0][0]["ce_endpoint"] == b"canary"


def test_a_frame_names_the_schema_before_each_value():
    for _, _, message in sent(rows(), schema_frame(258)):
        assert message.value[:5] == b"\x00\x00\x00\x01\x02"
        assert message.value[5:6] == b"{"
    assert registered_id(b'{"id": 7}') == 7


def test_a_rows_document_has_its_values_as_they_were_nested():
    first, second = row_documents(stored(rows()), [0, 1], ["p", "q"])
    assert first["inputs"]["x2"] == [[0, None], [2, 3]]
    assert first["inputs"]["words"] == "café"
    assert second["inputs"]["words"] == {"base64": "/w=="}
    assert first["inputs"]["id"] == "hmac-sha256:" + "ab" * 16
    assert first["outputs"]["big"] == "sha256:" + "cd" * 32
    assert first["dropped"] == ["input:ssn"]
    assert first["traceparent"].startswith("00-0102")
    assert "traceparent" not in second
    assert (first["weight"], second["prediction_id"], second["row"]) == (1.0, "q", 1)
