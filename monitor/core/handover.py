"""How a partition goes from one monitor to another, through a compacted topic.

A partition's owner writes under these keys, all of them into one partition of the
topic, so that everybody sees them in one order:

- `claim`: "I own this now". Its offset + 1 is the claim's epoch; the highest wins;
- `EPOCH/part/NAME/SLOT/CHUNK`: a piece of the owner's state;
- `EPOCH/manifest`: which slot of which parts make up one whole state;
- `action/KEY`: what was done to a model, or is being done.

Laws:
- a state is whole or does not exist: it counts once its manifest is there, and the
  manifest names the size and digest of each part;
- a part that changed goes into the slot that the last manifest does not name, so what
  is being written never spoils what is in force;
- every key but `claim` and `action/` bears the epoch, so that an owner who has not
  noticed yet that it is none spoils nothing either. What it writes is passed over.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

CLAIM, MANIFEST, ACTION, PART = "claim", "manifest", "action/", "part"
CHUNK_BYTES = 256 * 1024  # far below any broker's bound for a message

Entry = tuple[str, bytes | None]  # key and value; None: it is gone


@dataclass(frozen=True, slots=True)
class Claim:
    epoch: int
    owner: str


@dataclass(frozen=True, slots=True)
class Part:
    """Where a part of a state is, and what it must be."""

    slot: int
    chunks: int
    digest: str


class HandedOver:
    """A fold of the topic's entries in their order. Mutable."""

    def __init__(self) -> None:
        self.claim: Claim | None = None
        self.previous: Claim | None = None  # the one before it, as far as it is still there
        self.actions: dict[str, bytes] = {}
        self._values: dict[str, bytes] = {}
        self._state: tuple[int, dict[str, Part]] = (0, {})

    def add(self, offset: int, key: str, value: bytes | None) -> None:
        """offset: Kafka's. Keys that are none of ours are passed over."""
        if key == CLAIM and value is not None:
            self.previous, self.claim = self.claim, Claim(offset + 1, _owner(value))
        elif key.startswith(ACTION):
            _put(self.actions, key, value)
        elif (epoch := _epoch(key)) is not None:
            _put(self._values, key, value)
            current = max(self._state[0], self.claim.epoch if self.claim else 0)
            if key.endswith(f"/{MANIFEST}") and value is not None and epoch >= current:
                self._state = (epoch, _parts(value))

    def state(self) -> dict[str, bytes] | None:
        """The parts of the newest whole state; None if there is none."""
        epoch, parts = self._state
        found: dict[str, bytes] = {}
        for name, part in parts.items():
            keys = [_key(epoch, name, part.slot, chunk) for chunk in range(part.chunks)]
            data = b"".join(self._values.get(key, b"") for key in keys)
            if _digest(data) != part.digest:
                return None
            found[name] = data
        return found or None

    def foreign(self, epoch: int) -> list[Entry]:
        """What removes everything that was written under other epochs."""
        return [(key, None) for key in self._values if _epoch(key) != epoch]


@dataclass(slots=True)
class Snapshots:
    """What an owner has written of its state under its epoch. Mutable."""

    epoch: int
    _written: dict[str, Part] = field(default_factory=dict)

    def plan(self, changed: Mapping[str, bytes], present: Collection[str]) -> "Plan":
        """What to write when `changed` parts are new and all others of `present` as they were."""
        parts = {name: part for name, part in self._written.items() if name in present}
        entries: list[Entry] = []
        for name, data in changed.items():
            last = self._written.get(name)
            slot, digest = 1 - last.slot if last else 0, _digest(data)
            if last is not None and last.digest == digest:
                continue
            chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
            parts[name] = Part(slot, len(chunks), digest)
            entries += [(_key(self.epoch, name, slot, n), item) for n, item in enumerate(chunks)]
        document = {name: [p.slot, p.chunks, p.digest] for name, p in parts.items()}
        entries.append((f"{self.epoch}/{MANIFEST}", json.dumps(document).encode()))
        gone: list[Entry] = [
            (_key(self.epoch, name, slot, chunk), None)
            for name, part in self._written.items()
            if name not in parts
            for slot in (0, 1)
            for chunk in range(part.chunks)
        ]
        return Plan(entries, gone, parts)

    def written(self, plan: "Plan") -> None:
        """All of it is there."""
        self._written = plan.parts


@dataclass(frozen=True, slots=True)
class Plan:
    """Entries in the order in which they must be there; then what nobody needs any more."""

    entries: list[Entry]
    gone: list[Entry]
    parts: dict[str, Part]


def claim_entry(owner: str) -> Entry:
    return CLAIM, json.dumps({"owner": owner}).encode()


def _put(values: dict[str, bytes], key: str, value: bytes | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


def _key(epoch: int, name: str, slot: int, chunk: int) -> str:
    return f"{epoch}/{PART}/{name}/{slot}/{chunk}"


def _epoch(key: str) -> int | None:
    text = key.partition("/")[0]
    return int(text) if text.isascii() and text.isdecimal() else None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]


def _owner(value: bytes) -> str:
    document = _json(value)
    return str(document.get("owner", "")) if isinstance(document, dict) else ""


def _parts(value: bytes) -> dict[str, Part]:
    """None at all of a manifest that cannot be read: it names no state."""
    document = _json(value)
    try:
        return {
            str(name): Part(int(slot), int(chunks), str(digest))
            for name, (slot, chunks, digest) in document.items()
        }
    except (AttributeError, TypeError, ValueError):
        return {}


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None
