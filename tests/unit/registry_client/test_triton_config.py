import pytest

from registry_client import Invalid, InvalidName, TensorSpec
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
  default_queue_policy {
    timeout_action: REJECT
    default_timeout_microseconds: 5000
    allow_timeout_override: true
    max_queue_size: 16
  }
}
version_policy: { latest { num_versions: 2 } }
instance_group [ { count: 2 kind: KIND_GPU } ]
model_warmup {
  name: "w"
  batch_size: 2
  inputs [
    { key: "x" value: { data_type: TYPE_FP32 dims: 30 random_data: true } },
    { key: "tag" value: { data_type: TYPE_STRING dims: [ 3, 2 ] input_data_file: "tags" } }
  ]
  count: 5
}
model_transaction_policy { decoupled: false }
optimization { execution_accelerators { } }
"""


def test_everything_that_is_honoured_is_read() -> None:
    config = parse_triton_config(FULL)
    assert config.name == "fraud"
    assert config.inputs == [TensorSpec("x", "FP32", (30,)), TensorSpec("tag", "BYTES", (-1, 2))]
    assert config.with_batch(config.outputs) == (TensorSpec("y", "INT64", (-1, 1)),)
    assert config.version_policy == VersionPolicy(latest=2)
    assert config.serving() == {
        "max_batch_size": 64,
        "max_queue_delay_us": 100,
        "preferred_batch_sizes": [8, 32],
        "max_queue_size": 16,
        "default_timeout_us": 5000,
        "allow_timeout_override": True,
        "instance_count": 2,
        "version_policy": {"latest": {"num_versions": 2}},
        "warmup": [
            {
                "name": "w",
                "batch_size": 2,
                "inputs": {
                    "x": {"data_type": "TYPE_FP32", "dims": [30], "random_data": True},
                    "tag": {"data_type": "TYPE_STRING", "dims": [3, 2], "input_data_file": "tags"},
                },
                "count": 5,
            }
        ],
    }


def test_everything_else_is_a_warning_that_names_line_and_key() -> None:
    warnings = parse_triton_config(FULL).warnings
    assert len(warnings) == 2
    assert "line 22: 'instance_group.kind'" in warnings[0]
    assert "line 33: 'optimization'" in warnings[1]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 2 } } }",
            "'dynamic_batching.priority_queue_policy'",
        ),
        ("sequence_batching { }", "'sequence_batching'"),
        ("response_cache { enable: true }", "'response_cache'"),
        ('parameters { key: "k" value { string_value: "v" } }', "'parameters.k'"),
        ('input { name: "x" data_type: TYPE_FP32 optional: true }', "'input.optional'"),
    ],
)
def test_what_would_have_no_effect_is_said(text: str, warning: str) -> None:
    (found,) = parse_triton_config(text).warnings
    assert warning in found


@pytest.mark.parametrize(
    "text",
    [
        "dynamic_batching { preserve_ordering: false priority_levels: 0 }",
        "response_cache { enable: false }",
        'instance_group { name: "m_0" count: 1 kind: KIND_CPU }',
        'input { name: "x" data_type: TYPE_FP32 format: FORMAT_NONE optional: false }',
        'output { name: "y" data_type: TYPE_FP32 label_filename: "" }',
    ],
)
def test_a_key_at_its_default_is_no_warning(text: str) -> None:
    assert parse_triton_config(text).warnings == []


def test_order_priorities_and_a_timeout_that_delays_are_read() -> None:
    config = parse_triton_config(
        "dynamic_batching { preferred_batch_size: 4 default_queue_policy {"
        " timeout_action: DELAY default_timeout_microseconds: 100 max_queue_size: 3 }"
        " priority_levels: 3 default_priority_level: 2 }"
    )
    assert config.serving() == {
        "max_queue_delay_us": 0,
        "preferred_batch_sizes": [4],
        "max_queue_size": 3,
        "default_timeout_us": 100,
        "timeout_action": "DELAY",
        "priority_levels": 3,
        "default_priority_level": 2,
    }
    assert config.warnings == []
    ordered = parse_triton_config("dynamic_batching { preserve_ordering: true }")
    assert ordered.serving() == {"max_queue_delay_us": 0, "preserve_ordering": True}


@pytest.mark.parametrize(
    ("batching", "wanted"),
    [
        ("default_priority_level: 1", "left out without priority_levels"),
        ("priority_levels: 2", "default_priority_level from 1 to 2"),
        ("priority_levels: 2 default_priority_level: 3", "default_priority_level from 1 to 2"),
        (
            "priority_levels: 2 default_priority_level: 1 preserve_ordering: true",
            "at most 1 with preserve_ordering",
        ),
    ],
)
def test_priorities_that_contradict_each_other_are_refused(batching: str, wanted: str) -> None:
    with pytest.raises(Invalid, match=wanted):
        parse_triton_config(f"dynamic_batching {{ {batching} }}")


def test_a_sample_whose_source_is_given_twice_has_the_last_one() -> None:
    (sample,) = parse_triton_config(
        'model_warmup { inputs { key: "x" value { data_type: TYPE_INT8 dims: 1'
        ' zero_data: true input_data_file: "f" } } }'
    ).warmup
    assert sample == {
        "name": "",
        "batch_size": 1,
        "inputs": {"x": {"data_type": "TYPE_INT8", "dims": [1], "input_data_file": "f"}},
        "count": 1,
    }


def test_a_preferred_size_beyond_the_maximum_is_refused() -> None:
    with pytest.raises(Invalid, match="preferred_batch_size 9 must be <= max_batch_size 8"):
        parse_triton_config("dynamic_batching { preferred_batch_size: [2, 9] } max_batch_size: 8")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/../b", "", "a b"])
def test_warm_up_data_lies_nowhere_else(name: str) -> None:
    text = f"data_type: TYPE_FP32 dims: 1 input_data_file: '{name}'"
    with pytest.raises(InvalidName):
        parse_triton_config(f"model_warmup {{ inputs {{ key: 'x' value {{ {text} }} }} }}")


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
        ("dynamic_batching { default_queue_policy { timeout_action: LATER } }", "REJECT or DELAY"),
        ("dynamic_batching { default_queue_policy { max_queue_size: -1 } }", "whole number"),
        (
            "dynamic_batching { default_queue_policy { allow_timeout_override: 3 } }",
            "true or false",
        ),
        ("model_warmup { name: 'w' }", "given inputs"),
        ("model_warmup { inputs { key: 'x' } }", "one key and one value"),
        ("model_warmup { count: 100000000 }", "whole number"),
        (
            "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 dims: 1 } } }",
            "a data_type and one of input_data_file, random_data, zero_data",
        ),
        (
            "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 dims: -1 } } }",
            "whole number from 0",
        ),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as refusal:
        parse_triton_config("\n" + text)
    assert "config.pbtxt line 2" in str(refusal.value)
