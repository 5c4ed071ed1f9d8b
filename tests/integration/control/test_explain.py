"""The admin API about batchers, when workers do not answer as they should."""

import os
import signal

import pytest

from .conftest import FakeGateway, eventually

pytestmark = pytest.mark.ci


def test_a_worker_that_stands_still_is_named_and_not_waited_for(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    # The fake workers have no batchers; the one that stands still does not even say that.
    stopped = gateway.pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        document = gateway.admin.batching("digits")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert document is not None
    (version,) = document["versions"]
    assert sorted(version["silent_workers"]) == [0, 1]
    assert version["together"] is None
    assert (version["role"], version["weight"]) == ("stable", 100)
    assert gateway.admin.batching("nobody") is None
    again = gateway.admin.batching("digits")  # late answers hurt nothing
    assert again is not None
    assert again["versions"][0]["version"] == "1"


def test_a_candidate_and_its_share_are_told_beside_the_stable_version(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    gateway.push("second", champion=False)
    assert gateway.tell("START", version={"version": "2"}, steps=[25, 100])["accepted"]

    def told() -> bool:
        document = gateway.admin.batching("digits")
        assert document is not None
        found = [(each["version"], each["role"], each["weight"]) for each in document["versions"]]
        return found == [("1", "stable", 75), ("2", "candidate", 25)]

    assert eventually(told)
