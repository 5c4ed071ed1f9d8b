"""Standard Webhooks: its published example, and secrets that are none."""

import base64

import pytest

from monitor.triggers.core.signature import InvalidSecret, parse_secrets, signature

# The example of the specification's reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIME_S, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_as_in_the_published_example():
    assert signature(parse_secrets(SECRET), ID, TIME_S, BODY) == SIGNED


@pytest.mark.parametrize(
    ("id", "time_s", "body"), [("x", TIME_S, BODY), (ID, TIME_S + 1, BODY), (ID, TIME_S, b"{}")]
)
def test_id_time_and_body_are_signed(id, time_s, body):
    assert signature(parse_secrets(SECRET), id, time_s, body) != SIGNED


def test_while_a_secret_is_replaced_both_sign():
    fresh = "whsec_" + base64.b64encode(b"n" * 32).decode()
    signed = signature(parse_secrets(f"{fresh}\n\n{SECRET}\n"), ID, TIME_S, BODY).split()
    assert len(signed) == 2
    assert signed[1] == SIGNED


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no secret"),
        ("whsec_%%%", "base64"),
        ("whsec_" + base64.b64encode(b"short").decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"l" * 65).decode(), "24 to 64 bytes"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text, word):
    with pytest.raises(InvalidSecret, match=word) as caught:
        parse_secrets(text)
    assert not text or text.removeprefix("whsec_") not in str(caught.value)
