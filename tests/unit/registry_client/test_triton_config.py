import pytest

from registry_client import Invalid, TensorSpec
from registry_client.core.triton_config import VersionPolicy, parse_triton_config

FULL = """
name: "fraud"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: 64
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 30 ] },
  { name: "tag" data_type: TYPE_STRING dims: [ -1, 2 ] }
]
output { name: "y" data_type: TYPE_INT64 dims: 1 }
dynamic_batching {
  preferred_batch_size: [ 8, 32 ]
  max_queue_delay_microseconds: 100
}
version_policy: { latest { num_versions: 2 } }
instance_group [ { count: 2 kind: KIND_CPU } ]
model_warmup { name: "w" batch_size: 1 }
optimization { execution_accelerators { } }
"""


def test_everything_that_is_honoured_is_read() -> None:
    config = parse_triton_config(FULL)
    assert config.name == "fraud"
    assert config.inputs == [TensorSpec("x", "FP32", (30,)), TensorSpec("tag", "BYTES", (-1, 2))]
    assert config.with_batch(config.outputs) == (TensorSpec("y", "INT64", (-1, 1)),)
    assert config.version_policy == VersionPolicy(latest=2)
    assert config.warmups == 1
    assert config.serving() == {
        "max_batch_size": 64,
        "max_queue_delay_us": 100,
        "preferred_batch_sizes": [8, 32],
        "instance_count": 2,
    }


def test_everything_else_is_a_warning_that_names_line_and_key() -> None:
    warnings = parse_triton_config(FULL).warnings
    assert len(warnings) == 3
    assert "line 16" in warnings[0]
    assert "'instance_group.kind'" in warnings[0]
    assert "'model_warmup'" in warnings[1]
    assert "line 18: 'optimization'" in warnings[2]


def test_an_empty_file_says_nothing() -> None:
    config = parse_triton_config("")
    assert config.serving() == {}
    assert config.max_batch_size is None
    assert config.warnings == []


def test_without_batching_the_dims_are_the_whole_shape() -> None:
    config = parse_triton_config(
        'max_batch_size: 0 input { name: "x" data_type: TYPE_BF16 dims: [1, 2] }'
    )
    assert config.with_batch(config.inputs) == (TensorSpec("x", "BF16", (1, 2)),)
    assert config.serving() == {"max_batch_size": 0}


def test_dynamic_batching_without_settings_still_counts() -> None:
    assert parse_triton_config("dynamic_batching { }").serving() == {"max_queue_delay_us": 0}


def test_the_number_of_warnings_is_bounded() -> None:
    assert len(parse_triton_config("odd: 1\n" * 5000).warnings) == 100


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", ["1", "2", "10"]),
        ("version_policy { all { } }", ["1", "2", "10"]),
        ("version_policy { latest { num_versions: 2 } }", ["2", "10"]),
        ("version_policy { latest { } }", ["10"]),
        ("version_policy { specific { versions: [2, 1, 7] } }", ["1", "2"]),
    ],
)
def test_the_version_policy_selects(text: str, selected: list[str]) -> None:
    assert parse_triton_config(text).version_policy.select(["1", "2", "10"]) == selected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('platform: "tensorflow_savedmodel"', "only ONNX"),
        ('backend: "python"', "only ONNX"),
        ("max_batch_size: -1", "whole number from 0"),
        ("max_batch_size: 1.5", "whole number"),
        ("max_batch_size: '8'", "whole number"),
        ("name: 5", "quoted string"),
        ("input: 5", "message in braces"),
        ("input { name: 'x' }", "a name and a data_type"),
        ("input { name: 'x' data_type: FP32 }", "TYPE_FP32"),
        ("input { name: 'x' data_type: 'TYPE_FP32' }", "TYPE_FP32"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: -2 }", "whole number from -1"),
        ("version_policy { specific { } }", "at least one"),
        ("version_policy { latest { num_versions: 0 } }", "whole number from 1"),
        ("instance_group { count: 0 }", "whole number from 1"),
        ("dynamic_batching { max_queue_delay_microseconds: -1 }", "whole number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as refusal:
        parse_triton_config("\n" + text)
    assert "config.pbtxt line 2" in str(refusal.value)
