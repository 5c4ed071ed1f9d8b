"""A client's configuration laid over a version's settings."""

import json

import pytest

from serving.core.config_override import merge_override, override_parameter
from serving.core.errors import GrpcStatus, InvalidRequest, Unsupported
from tests.unit.serving.test_model_config import SETTINGS, WARMUP


def merge(**fields):
    return merge_override("m", SETTINGS, json.dumps(fields))


def test_an_override_replaces_what_it_gives_and_keeps_the_rest():
    merged = merge(max_batch_size="8")
    assert merged == SETTINGS | {"max_batch_size": 8}
    merged = merge(dynamic_batching={"max_queue_delay_microseconds": "300"})
    assert merged["max_queue_delay_us"] == 300
    assert not any(merged[key] for key in ("preferred_batch_sizes", "max_queue_size"))
    assert merged["log_mode"] == "durable"
    merged = merge(dynamic_batching={"default_queue_policy": {"max_queue_size": 5}})
    assert (merged["max_queue_size"], merged["max_queue_delay_us"]) == (5, 0)
    assert merge(version_policy={"latest": {"num_versions": 2}})["version_policy"] == {
        "latest": {"num_versions": 2}
    }


def test_the_settings_that_were_merged_stay_as_they_were():
    before = json.dumps(SETTINGS)
    merge(max_batch_size=8, dynamic_batching={}, model_warmup=[])
    assert json.dumps(SETTINGS) == before


def test_a_batch_size_of_zero_ends_batching_and_dims_are_whole_then():
    settings = SETTINGS | {"preferred_batch_sizes": None, "warmup": None}
    override = {
        "max_batch_size": 0,
        "output": [{"name": "y", "data_type": "TYPE_BF16", "dims": [-1]}],
    }
    assert merge_override("m", settings, json.dumps(override))["max_batch_size"] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"optimization": {"priority": "PRIORITY_MAX"}}, "'optimization'"),
        ({"sequence_batching": {}}, "'sequence_batching'"),
        ({"maxBatchSizes": 4}, "'maxBatchSizes'"),
        ({"dynamic_batching": {"priority_levels": 2}}, "default_priority_level from 1 to 2"),
        ({"instance_group": [{"kind": "KIND_GPU"}]}, "'instance_group.kind'"),
        ({"parameters": {"threads": {"string_value": "3"}}}, "'parameters.threads'"),
        ({"max_batch_size": "many"}, "max_batch_size must be a whole number"),
        ({"max_batch_size": -1}, "max_batch_size must be a whole number"),
        ({"max_batch_size": 2}, "preferred_batch_size 8 must be <= max_batch_size 2"),
        ({"max_batch_size": True}, "max_batch_size must be"),
        ({"name": "other"}, "name is 'm', got 'other'"),
        ({"default_model_filename": "x.onnx"}, "default_model_filename is 'net.onnx'"),
        ({"backend": "python"}, "only ONNX"),
        ({"output": [{"name": "z", "data_type": "TYPE_BF16"}]}, "output names must be"),
        ({"output": [{"name": "y", "data_type": "TYPE_FP16"}]}, "output 'y' is BF16"),
        ({"output": [{"name": "y", "data_type": "TYPE_BF16", "dims": [1]}]}, "dims [1]"),
        ({"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]}, "input names must be"),
        (
            {"model_warmup": [{"name": "q", "inputs": {"x": WARMUP[0]["inputs"]["x"]}}]},
            "model_warmup 'q' must have the inputs",
        ),
        ({"model_warmup": [WARMUP[0] | {"batch_size": 17}]}, "has batch_size 17"),
        (
            {
                "model_warmup": [
                    WARMUP[0]
                    | {
                        "inputs": WARMUP[0]["inputs"]
                        | {
                            "x": {
                                "data_type": "TYPE_FP32",
                                "dims": ["4"],
                                "input_data_file": "none",
                            }
                        }
                    }
                ]
            },
            "input_data_file 'none' is not among",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_name(override, message):
    with pytest.raises(InvalidRequest) as refusal:
        merge(**override)
    assert message in refusal.value.message


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"name": NaN}', '{"name":"a","name":"b"}', "[" * 99_999]
)
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(InvalidRequest, match="config override"):
        merge_override("m", SETTINGS, text)


def test_a_graph_with_a_fixed_first_dimension_takes_no_batches():
    settings = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4]}], "outputs": None}
    with pytest.raises(InvalidRequest, match="first dimension of any size"):
        merge_override("m", settings, '{"max_batch_size": 4}')
    assert merge_override("m", settings, '{"max_batch_size": 0}')["max_batch_size"] == 0


def test_the_config_is_found_among_the_parameters_and_files_are_refused():
    assert override_parameter({}) == ""
    assert override_parameter({"config": "{}"}) == "{}"
    with pytest.raises(Unsupported, match="files come from the registry") as refusal:
        override_parameter({"config": "{}", "file:1/model.onnx": b"AAAA"})
    assert refusal.value.grpc_status is GrpcStatus.UNIMPLEMENTED
    with pytest.raises(InvalidRequest, match="unknown load parameter 'confg'"):
        override_parameter({"confg": "{}"})
    with pytest.raises(InvalidRequest, match="must be a string"):
        override_parameter({"config": 3})
