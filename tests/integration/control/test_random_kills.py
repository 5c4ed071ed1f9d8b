"""Commands from an operator who does not stop while everything around is killed."""

import os
import random
import signal
from typing import Any

import pytest

from serving.admin_client import AdminUnreachableError

from .conftest import FakeGateway, eventually

pytestmark = pytest.mark.ci

VERBS = ("START", "ADVANCE", "ROLLBACK", "UNDO", "PAUSE", "RESUME", "SET_WEIGHT", "PROMOTE")


def some_command(dice: random.Random) -> dict[str, Any]:
    command: dict[str, Any] = {"verb": dice.choice(VERBS), "model": "digits"}
    if command["verb"] == "START":
        return {**command, "version": {"version": dice.choice("1234")}, "force": True}
    return {**command, "weight": dice.randrange(101)}


def harm(gateway: FakeGateway, dice: random.Random) -> None:
    what = dice.choice(["supervisor", "worker", "reload"])
    if what == "supervisor":
        gateway.process.kill()
        gateway.process.wait()
        gateway.start()
    elif what == "worker":
        for pid in gateway.pids()[:1]:
            os.kill(pid, signal.SIGKILL)
    else:
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.process.stdout is not None
        assert gateway.process.stdout.readline().startswith("ready ")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_answered_command_stands_and_the_workers_follow(
    gateway: FakeGateway, seed: int
) -> None:
    dice = random.Random(seed)
    for number in range(4):
        gateway.push(str(number), champion=number == 0)
    gateway.start()
    generation = 1
    for _ in range(8):
        for _ in range(dice.randrange(1, 20)):
            try:
                result = gateway.admin.apply(some_command(dice), wait_ms=dice.choice([0, 500]))
            except AdminUnreachableError:
                break
            if result["accepted"]:
                generation += 1
                assert int(result["after"]["generation"]) == generation
        harm(gateway, dice)
        deployment = eventually(gateway.deployment)
        assert int(deployment["generation"]) == generation
    eventually(lambda: gateway.admin.status()["degraded"] == [])
    eventually(lambda: len(gateway.pids()) == 2)
    weight = gateway.deployment()["weight"]
    expected = {item for item in (weight, 100 - weight) if item}
    eventually(lambda: [set(arms.values()) for arms in gateway.arms()] == [expected] * 2)
    assert gateway.admin.verify_audit()["ok"]
    assert gateway.stop() == 0
