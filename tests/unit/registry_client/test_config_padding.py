"""What a configuration may say about padding, and what it may not."""

import pytest

from registry_client.core.config_padding import Padding, read_padding
from registry_client.core.errors import Invalid
from registry_client.core.triton_config import parse_config_override, parse_triton_config

TEXT = """
parameters { key: "pad_axis" value { string_value: "sequence" } }
parameters [
  { key: "pad_mask" value: { string_value: "mask" } },
  { key: "pad_values" value: { string_value: "ids=1, kinds=-2" } },
  { key: "pad_lengths" value: { string_value: "16 32,64" } }
]
"""
READ = Padding("sequence", "mask", {"ids": "1", "kinds": "-2"}, (16, 32, 64))


def test_the_parameters_are_read_from_text_and_from_json():
    config = parse_triton_config(TEXT)
    assert config.padding == READ
    assert config.warnings == []
    assert config.serving()["padding"] == READ.serving()
    override = """{"parameters": {"pad_axis": {"string_value": "sequence"},
        "pad_mask": {"string_value": "mask"}, "pad_values": {"string_value": "ids=1 kinds=-2"},
        "pad_lengths": {"string_value": "16,32,64"}}}"""
    assert parse_config_override(override).padding == READ


@pytest.mark.parametrize(
    "text",
    ["", "parameters { }", 'parameters { key: "pad_axis" value { string_value: "" } }'],
)
def test_without_an_axis_nothing_is_padded(text):
    config = parse_triton_config(text)
    assert config.padding is None
    assert "padding" not in config.serving()
    assert config.warnings == []


def test_parameters_of_others_are_named_and_ours_still_count():
    config = parse_triton_config(TEXT + 'parameters { key: "threads" value { string_value: "3" } }')
    assert config.padding == READ
    (warning,) = config.warnings
    assert "'parameters.threads' is not supported" in warning


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pad_mask": "mask"}, "pad_mask without pad_axis pads nothing"),
        ({"pad_axis": "n" * 300}, "is empty or too long"),
        ({"pad_axis": "n", "pad_values": "ids"}, "must be INPUT=VALUE"),
        ({"pad_axis": "n", "pad_values": "ids=1 ids=2"}, "each input once"),
        ({"pad_axis": "n", "pad_mask": "mask", "pad_values": "mask=1"}, "padded with 0"),
        ({"pad_axis": "n", "pad_lengths": "32,16"}, "must rise"),
        ({"pad_axis": "n", "pad_lengths": "0,16"}, "must rise, from 1"),
        ({"pad_axis": "n", "pad_lengths": "16,many"}, "whole numbers"),
        ({"pad_axis": "n", "pad_lengths": ",".join(map(str, range(1, 99)))}, "at most 64"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, words):
    with pytest.raises(Invalid, match=words):
        read_padding(given)


def test_a_refusal_names_the_line():
    with pytest.raises(Invalid, match="line 2: pad_lengths 'x' must be"):
        parse_triton_config(
            '\nparameters { key: "pad_lengths" value { string_value: "x" } }\n'
            'parameters { key: "pad_axis" value { string_value: "n" } }'
        )
