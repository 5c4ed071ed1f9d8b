"""What the command line does while it is not known whether its command was taken."""

import argparse
from collections.abc import Iterator
from typing import Any

import pytest

from driftgate.commands import rollout
from serving.admin_client import AdminError, AdminUnreachableError

UNKNOWN = AdminError(503, "no answer in time", unknown=True)
AWAY = AdminError(503, "the shared control log is out of reach")
GONE = AdminUnreachableError("connection refused")
TAKEN = {"accepted": True, "duplicate": True}


class Gateway:
    """Answers each try with the next of `answers`."""

    def __init__(self, answers: list[Any]) -> None:
        self.ids: list[str] = []
        self._answers: Iterator[Any] = iter(answers)

    def apply(self, command: dict[str, Any], **_: Any) -> Any:
        self.ids.append(command["id"])
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "AGAIN_S", 0.0)


def send(gateway: Gateway, timeout_s: float = 60.0) -> Any:
    options = argparse.Namespace(timeout=timeout_s, dry_run=False)
    return rollout._apply(gateway, {"id": "typed-once"}, options)  # type: ignore[arg-type]


@pytest.mark.parametrize("then", [AWAY, GONE, UNKNOWN])
def test_a_try_that_nobody_takes_does_not_settle_the_one_before(then: Exception) -> None:
    gateway = Gateway([UNKNOWN, then, then, TAKEN])
    assert send(gateway) == TAKEN
    assert gateway.ids == ["typed-once"] * 4


@pytest.mark.parametrize("first", [AWAY, GONE])
def test_what_was_surely_not_taken_is_said_at_once(first: Exception) -> None:
    gateway = Gateway([first, TAKEN])
    with pytest.raises(type(first)):
        send(gateway)
    assert len(gateway.ids) == 1


def test_a_refusal_of_the_caller_is_said_at_once() -> None:
    refusal = AdminError(401, "no such token")
    with pytest.raises(AdminError) as raised:
        send(Gateway([UNKNOWN, refusal, TAKEN]))
    assert raised.value is refusal


def test_what_stays_unknown_is_said_to_be() -> None:
    with pytest.raises(AdminError) as raised:
        send(Gateway([UNKNOWN, AWAY, TAKEN]), timeout_s=0.0)
    assert raised.value is UNKNOWN
