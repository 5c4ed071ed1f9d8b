"""Where the tensors of a message lie is found as the parser would find it, or not at all."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from protos import inference_pb2 as pb
from serving.core.grpc_wire import FIELDS_MAX, split_raw

TEXT = st.text(max_size=4)


@st.composite
def messages(draw):
    message = pb.ModelInferRequest(
        model_name=draw(TEXT),
        model_version=draw(TEXT),
        id=draw(TEXT),
        raw_input_contents=draw(st.lists(st.binary(max_size=300), max_size=4)),
    )
    for name, value in draw(st.dictionaries(TEXT, st.integers(-9, 9), max_size=2)).items():
        message.parameters[name].int64_param = value
    for name in draw(st.lists(TEXT, max_size=3)):
        entry = message.inputs.add(name=name, datatype="FP32", shape=[1, 2])
        if draw(st.booleans()):
            entry.contents.fp32_contents.extend([1.0, 2.0])
        message.outputs.add(name=name)
    return message


def varint(value: int, padding: int = 0) -> bytes:
    """Longer than it need be by so many bytes."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * padding
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


@st.composite
def fields(draw):
    """One field as it may stand in a message of anybody: odd numbers, types, lengths."""
    number = draw(st.sampled_from([1, 3, 5, 7, 7, 7]) | st.integers(0, 40))
    wire = draw(st.sampled_from([2, 2, 2, 2, 0, 1, 3, 4, 5, 6, 7]))
    tag = varint(number << 3 | wire, draw(st.sampled_from([0, 0, 0, 0, 1, 5, 10])))
    data = draw(st.binary(max_size=12))
    if wire != 2:
        return tag + data
    length = len(data) + draw(st.sampled_from([0, 0, 0, 0, 0, -1, 1, 2**31, 2**35, 2**64]))
    return tag + varint(max(length, 0), draw(st.sampled_from([0, 0, 0, 0, 1, 4, 9]))) + data


def parsed(data: bytes) -> pb.ModelInferRequest | None:
    try:
        return pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return None


def same_as_parsed(data: bytes) -> bool:
    """Whether `data` was split; it means the same then, or means nothing both ways."""
    split = split_raw(data)
    if split is None:
        return False
    rest, raw = split
    whole, alone = parsed(data), parsed(rest)
    assert (whole is None) == (alone is None)
    if whole is not None and alone is not None:
        assert not alone.raw_input_contents
        assert [bytes(view) for view in raw] == list(whole.raw_input_contents)
        del whole.raw_input_contents[:]
        assert alone.SerializeToString(deterministic=True) == whole.SerializeToString(
            deterministic=True
        )
    assert all(view.obj is data for view in raw), "copied"
    return True


@given(messages())
def test_a_message_as_clients_write_it_is_split(message):
    assert same_as_parsed(message.SerializeToString()) == bool(message.raw_input_contents)


@given(st.lists(fields(), max_size=6).map(b"".join))
@example(b"\x3a\x80\x80\x80\x80\x08")  # a length of 2 GiB
@example(b"\x3a\x81\x80\x80\x80\x80\x00a")
@example(b"\x3a\x81\x80\x80\x80\x10a")  # beyond 32 bits, to some readers 1
@example(b"\x3a\x81\x00a")
@example(b"\xba\x00\x01a")
@example(b"\x38\x01\x3a\x01a")
@example(b"\x02\x01a")
def test_fields_of_any_form_mean_what_the_parser_says(data):
    same_as_parsed(data)


@given(messages(), st.data())
def test_a_message_cut_off_or_changed_means_what_the_parser_says(message, data):
    whole = bytearray(message.SerializeToString())
    if whole and data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    same_as_parsed(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@given(messages(), messages())
def test_messages_behind_each_other_merge_as_the_parser_merges_them(first, second):
    data = first.SerializeToString() + second.SerializeToString()
    assert same_as_parsed(data) == any(m.raw_input_contents for m in (first, second))


def test_more_fields_than_tensors_can_explain_are_the_parsers():
    """Each costs more here than there, and a message has room for millions."""
    assert split_raw(b"\x3a\x00" * FIELDS_MAX) is not None
    assert split_raw(b"\x3a\x00" * (FIELDS_MAX + 1)) is None


@pytest.mark.parametrize(
    "data",
    [b"\x3a\x81\x00a", b"\xba\x00\x01a", b"\x38\x01", b"\x42\x01u", b"\x3b\x3c", b"\x3a\x02a"],
    ids=["long length", "long tag", "a number", "unknown", "a group", "cut off"],
)
def test_what_no_client_writes_is_left_to_the_parser(data):
    assert split_raw(data) is None
