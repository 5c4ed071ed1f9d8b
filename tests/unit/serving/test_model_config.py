"""Configurations as documents and as messages."""

import json
import subprocess
import sys

from serving.core.datatypes import Datatype
from serving.core.model_config import config_document, config_message
from serving.core.signature import Signature, TensorSpec
from tests.conftest import ROOT

X = TensorSpec("x", Datatype.FP32, (-1, 4))
TAG = TensorSpec("tag", Datatype.BYTES, (-1, -1, 2))
Y = TensorSpec("y", Datatype.BF16, (-1,))
SIGNATURE = Signature("m", "3", (X, TAG), (Y,), 16)
WARMUP = [
    {
        "name": "w",
        "batch_size": 2,
        "inputs": {
            "x": {"data_type": "TYPE_FP32", "dims": [4], "zero_data": True},
            "tag": {"data_type": "TYPE_STRING", "dims": [1, 2], "input_data_file": "tags"},
        },
        "count": 3,
    }
]
SETTINGS = {
    "max_batch_size": 16,
    "max_queue_delay_us": 2_000,
    "preferred_batch_sizes": [4, 8],
    "max_queue_size": 100,
    "default_timeout_us": 50_000,
    "allow_timeout_override": True,
    "timeout_action": "DELAY",
    "priority_levels": 3,
    "default_priority_level": 2,
    "instance_count": 2,
    "version_policy": {"specific": {"versions": [1, 3]}},
    "warmup": WARMUP,
    "model_filename": "net.onnx",
    "inputs": [X.to_json(), TAG.to_json()],
    "outputs": [Y.to_json()],
    "log_mode": "durable",
    "roles": {"net.onnx": "model", "warmup/tags": "warmup"},
}


def test_a_document_says_what_is_in_force():
    document = config_document(SIGNATURE, SETTINGS, 2)
    assert document["max_batch_size"] == 16
    assert [(each["name"], each["data_type"], each["dims"]) for each in document["input"]] == [
        ("x", "TYPE_FP32", [4]),
        ("tag", "TYPE_STRING", [-1, 2]),
    ]
    assert [(each["data_type"], each["dims"]) for each in document["output"]] == [("TYPE_BF16", [])]
    assert document["dynamic_batching"] == {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": 2_000,
        "preserve_ordering": False,
        "priority_levels": 3,
        "default_priority_level": 2,
        "default_queue_policy": {
            "timeout_action": "DELAY",
            "default_timeout_microseconds": 50_000,
            "allow_timeout_override": True,
            "max_queue_size": 100,
        },
    }
    assert document["version_policy"] == {"specific": {"versions": [1, 3]}}
    assert document["instance_group"][0]["count"] == 4
    assert document["default_model_filename"] == "net.onnx"
    assert document["model_warmup"] == WARMUP


def test_without_batching_dims_are_whole_and_there_is_no_dynamic_batching():
    one = Signature("m", "1", (X,), (Y,), 0)
    document = config_document(one, {}, 1)
    assert document["input"][0]["dims"] == [-1, 4]
    assert document["max_batch_size"] == 0
    assert "dynamic_batching" not in document
    assert document["version_policy"] == {"all": {}}
    assert document["default_model_filename"] == "model.onnx"


# In a process of its own: it registers the client library's messages.
PARSE = """
import json, sys
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as theirs
given = json.load(sys.stdin)
for document, message in given:
    parsed = json_format.ParseDict(document, theirs.ModelConfig())
    answer = theirs.ModelConfig.FromString(bytes.fromhex(message))
    assert parsed == answer, (parsed, answer)
    print(parsed.name, parsed.max_batch_size, len(parsed.input))
"""


def test_the_clients_library_reads_the_same_from_both_forms():
    documents = [
        config_document(SIGNATURE, SETTINGS, 2),
        config_document(Signature("n", "1", (X,), (Y,), 0), {}, 1),
    ]
    given = [(each, config_message(each).SerializeToString().hex()) for each in documents]
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(given),
        text=True,
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["m 16 2", "n 0 1"]
