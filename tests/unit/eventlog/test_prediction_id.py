"""Prediction ids: the bits, the keys, and what is refused."""

import uuid

import pytest

from eventlog import InvalidPredictionId, PredictionId, split_row
from eventlog.core.prediction_id import IdCodec

OLD, NEW = b"o" * 32, b"n" * 32


def test_an_id_is_a_uuid_of_version_8_that_sorts_by_time() -> None:
    codec = IdCodec([NEW])
    early, late = (
        codec.encode(1_700_000_000_000, "ffffff", 9),
        codec.encode(1_700_000_000_001, "000000", 0),
    )
    parsed = uuid.UUID(early)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert early < late
    assert parsed.int >> 80 == 1_700_000_000_000


def test_the_layout_is_the_documented_one() -> None:
    bits = uuid.UUID(IdCodec([NEW]).encode(5, "abcdef", 0x2_FEDC_BA98)).int
    assert bits >> 64 & 0xFFF == 0xABC
    assert bits >> 50 & 0xFFF == 0xDEF
    assert bits >> 16 & (1 << 34) - 1 == 0x2_FEDC_BA98


def test_two_keys_are_valid_during_rotation_and_the_first_signs() -> None:
    before, during, after = IdCodec([OLD]), IdCodec([NEW, OLD]), IdCodec([NEW])
    old_id, new_id = before.encode(1, "abcdef", 2), during.encode(1, "abcdef", 2)
    assert during.decode(old_id) == during.decode(new_id) == PredictionId(1, "abcdef", 2)
    assert after.decode(new_id).sequence == 2
    with pytest.raises(InvalidPredictionId, match="not issued"):
        after.decode(old_id)


def test_upper_case_is_the_same_id() -> None:
    codec = IdCodec([NEW])
    assert codec.decode(codec.encode(1, "abcdef", 2).upper()).producer == "abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "018bcfe5-6800-7abc-b7bc-000030390103",
        "018bcfe5-6800-8abc-c7bc-000030390103",
        "018bcfe5-6800-8abc-b7bc-00003039010",
        "018bcfe568008abcb7bc000030390103",
        " 18bcfe5-6800-8abc-b7bc-000030390103",
        "٠18bcfe5-6800-8abc-b7bc-000030390103",
        "018bcfe5-6800-8abc-b7bc-000030390103\n",
    ],
)
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidPredictionId):
        IdCodec([NEW]).decode(text)


def test_producers_can_alternate() -> None:
    codec = IdCodec([NEW])
    ids = [codec.encode(1, producer, 2) for producer in ("00000a", "fffffe", "00000a")]
    assert [codec.decode(text).producer for text in ids] == ["00000a", "fffffe", "00000a"]


def test_a_producer_that_is_no_incarnation_is_refused() -> None:
    with pytest.raises(ValueError, match="6 lower-case hex"):
        IdCodec([NEW]).encode(1, "ABCDEF", 2)


def test_a_row_is_the_suffix_after_the_dot() -> None:
    assert split_row("id.12") == ("id", 12)
    assert split_row("id") == ("id", 0)


@pytest.mark.parametrize(
    "text", ["id.", "id.-1", "id.1.2", "id.٣", "id.4294967296", "id.9999999999999"]
)
def test_a_row_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidPredictionId):
        split_row(text)


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, NEW, OLD]])
def test_a_wrong_number_or_size_of_keys_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="keys of 32 bytes"):
        IdCodec(keys)


def test_ids_in_any_order_are_those_of_a_codec_that_made_no_other() -> None:
    """What a codec keeps of the last id never ends up in the next one."""
    codec = IdCodec([NEW])
    for ts_ms, producer, sequence in [
        (1, "abcdef", 31), (1, "abcdef", 32), (1, "abcdef", 31), (2, "abcdef", 31),
        (2, "abcdee", 31), (1, "abcdef", 2**34 - 1), (1, "abcdef", 2**34 + 31),
    ]:  # fmt: skip
        made = codec.encode(ts_ms, producer, sequence)
        assert made == IdCodec([NEW]).encode(ts_ms, producer, sequence)
        assert codec.decode(made) == PredictionId(ts_ms, producer, sequence % 2**34)


def test_the_mac_of_one_id_is_not_that_of_its_neighbours() -> None:
    codec = IdCodec([NEW])
    ids = [codec.encode(1, "abcdef", sequence) for sequence in range(64)]
    assert len({made[-4:] for made in ids}) > 60
    with pytest.raises(InvalidPredictionId, match="not issued"):
        codec.decode(ids[0][:-4] + ids[1][-4:])
