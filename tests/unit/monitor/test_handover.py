"""What a successor finds in the topic, whatever its predecessor was doing when it died."""

import json

import numpy as np
import pytest

from monitor.core.handover import (
    ACTION,
    CHUNK_BYTES,
    Entry,
    HandedOver,
    Snapshots,
    claim_entry,
)
from tests.handover import fold


class Topic:
    """One partition of it; `compacted` is what is left when only the newest of a key is kept."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, bytes | None]] = []

    def append(self, *entries: Entry) -> int:
        for key, value in entries:
            self.entries.append((len(self.entries), key, value))
        return len(self.entries)  # the last one's offset + 1

    def claim(self, owner: str) -> Snapshots:
        return Snapshots(self.append(claim_entry(owner)))

    def write(
        self, snapshots: Snapshots, parts: dict[str, bytes], *, stop_after: int = 999
    ) -> None:
        plan = snapshots.plan(parts, parts.keys())
        self.append(*plan.entries[:stop_after])
        if stop_after >= len(plan.entries):
            self.append(*plan.gone)
            snapshots.written(plan)

    @property
    def compacted(self) -> list[tuple[int, str, bytes | None]]:
        newest = {key: offset for offset, key, _ in self.entries}
        return [item for item in self.entries if newest[item[1]] == item[0]]

    def both(self) -> list[HandedOver]:
        return [fold(self.entries), fold(self.compacted)]


BIG = bytes(range(256)) * (CHUNK_BYTES // 128)  # two chunks


def test_a_state_is_handed_over_whole() -> None:
    topic = Topic()
    own = topic.claim("a")
    topic.write(own, {"engine": BIG, "page/x/1": b"1"})
    topic.write(own, {"engine": BIG[::-1], "page/x/1": b"1"})
    for found in topic.both():
        assert found.state() == {"engine": BIG[::-1], "page/x/1": b"1"}
        assert found.claim is not None
        assert (found.claim.owner, found.claim.epoch) == ("a", own.epoch)


@pytest.mark.parametrize("died_after", range(5))
def test_a_state_that_was_being_written_leaves_the_one_before_it(died_after: int) -> None:
    topic = Topic()
    own = topic.claim("a")
    first = {"engine": BIG, "page/x/1": b"1", "page/x/2": b"2"}
    second = {"engine": BIG[::-1], "page/x/1": b"one", "page/x/2": b"two"}
    topic.write(own, first)
    topic.write(own, second, stop_after=died_after)
    complete = died_after >= 5
    for found in topic.both():
        assert found.state() == (second if complete else first)


@pytest.mark.parametrize("seed", range(20))
def test_at_any_moment_the_last_whole_state_is_found(seed: int) -> None:
    random, topic = np.random.default_rng(seed), Topic()
    own, expected = topic.claim("a"), None
    for step in range(60):
        if random.random() < 0.15:
            own = topic.claim(f"owner {step}")
        parts = {
            f"page/p/{n}": random.bytes(int(random.integers(0, 9)))
            for n in range(int(random.integers(1, 5)))
        }
        stop_after = int(random.integers(0, 8))
        before = len(topic.entries)
        topic.write(own, parts, stop_after=stop_after)
        if any(key.endswith("/manifest") for _, key, _ in topic.entries[before:]):
            expected = parts
        for found in topic.both():
            assert found.state() == expected


def test_an_owner_who_does_not_know_that_it_is_none_spoils_nothing() -> None:
    topic = Topic()
    old = topic.claim("old")
    topic.write(old, {"engine": b"of old"})
    new = topic.claim("new")
    assert fold(topic.entries).state() == {"engine": b"of old"}
    topic.write(new, {"engine": b"of new"})
    for text in (b"late 1", b"late 2", b"late 3"):
        topic.write(old, {"engine": text})
    for found in topic.both():
        assert found.state() == {"engine": b"of new"}
        topic.append(*found.foreign(new.epoch))
    assert {key.split("/")[0] for _, key, value in topic.compacted if value is not None} == {
        "claim", str(new.epoch)
    }  # fmt: skip


def test_a_part_that_did_not_change_is_written_once() -> None:
    topic = Topic()
    own = topic.claim("a")
    plan = own.plan({"a": b"1", "b": b"2"}, {"a", "b"})
    own.written(plan)
    again = own.plan({"a": b"1", "b": b"3"}, {"a", "b"})
    assert [key for key, _ in again.entries] == [
        f"{own.epoch}/part/b/1/0", f"{own.epoch}/manifest"
    ]  # fmt: skip
    own.written(again)
    assert own.plan({}, {"a"}).gone


def test_actions_are_handed_over_until_they_are_taken_out() -> None:
    topic = Topic()
    topic.append((f"{ACTION}x", b"1"), (f"{ACTION}y", b"1"), (f"{ACTION}x", None))
    assert fold(topic.entries).actions == {f"{ACTION}y": b"1"}


@pytest.mark.parametrize("value", [b"", b"[]", b"nonsense", json.dumps({"a": [1]}).encode()])
def test_what_is_no_manifest_names_no_state(value: bytes) -> None:
    topic = Topic()
    own = topic.claim("a")
    topic.append((f"{own.epoch}/manifest", value), ("something else", b"x"), ("claim", None))
    assert fold(topic.entries).state() is None


def test_the_claim_before_ours_is_known() -> None:
    topic = Topic()
    assert fold(topic.entries).claim is None
    first, second = topic.claim("a"), topic.claim("b")
    found = fold(topic.entries)
    assert found.previous is not None
    assert found.claim is not None
    assert (found.previous.epoch, found.claim.epoch) == (first.epoch, second.epoch)
