"""Prediction ids round-trip, and a changed character is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import InvalidPredictionId, PredictionId
from eventlog.core.prediction_id import IdCodec

CODEC = IdCodec([bytes(range(32))])
IDS = st.builds(
    PredictionId,
    st.integers(0, (1 << 48) - 1),
    st.integers(0, (1 << 24) - 1).map(lambda number: f"{number:06x}"),
    st.integers(0, (1 << 34) - 1),
)


@given(IDS)
def test_every_id_round_trips(identity: PredictionId) -> None:
    text = CODEC.encode(identity.ts_ms, identity.producer, identity.sequence)
    assert CODEC.decode(text) == identity


@given(st.text(max_size=40))
def test_no_text_makes_the_decoder_fail_otherwise(text: str) -> None:
    with pytest.raises(InvalidPredictionId):
        CODEC.decode(text)


def test_changed_digits_are_noticed_as_often_as_16_bits_allow() -> None:
    text = CODEC.encode(1_700_000_000_000, "abcdef", 77)
    changed = [
        text[:i] + digit + text[i + 1 :]
        for i in range(len(text))
        for digit in "0123456789abcdef"
        if text[i] not in ("-", digit)
    ]
    accepted = 0
    for candidate in changed:
        try:
            CODEC.decode(candidate)
            accepted += 1
        except InvalidPredictionId:
            pass
    assert len(changed) > 400
    assert accepted <= 1  # 480 / 65,536 are expected
