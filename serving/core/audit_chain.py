"""A chain of hashes over audit entries, and what breaks when someone touches one.

Laws:
- entry n carries the digest of entry n - 1, and its own digest covers that, its
  number and everything it says; so an edit, a deletion or a reordering breaks it;
- a head (count and digest) is kept apart from the entries; a chain that does not
  reach the head was truncated. The head may lag behind after a crash, never lead.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Head:
    """How long a chain is, and the digest (hex) of its last entry."""

    count: int
    digest: str


GENESIS = Head(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What happened, to which model; `body` is JSON text, hashed as it stands."""

    sequence: int
    ts_ns: int
    kind: str
    model: str
    body: str
    previous: str
    digest: str

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.digest)


def entry_after(head: Head, ts_ns: int, kind: str, model: str, body: str) -> AuditEntry:
    """The entry that continues the chain that ends in `head`."""
    sequence = head.count + 1
    digest = _digest(head.digest, (sequence, ts_ns, kind, model, body))
    return AuditEntry(sequence, ts_ns, kind, model, body, head.digest, digest)


def _digest(previous: str, content: tuple[int, int, str, str, str]) -> str:
    text = json.dumps(content, ensure_ascii=True)
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def verify(entries: Iterable[AuditEntry], kept: Head = GENESIS) -> list[str]:
    """What is wrong with a chain, one sentence each, in order; empty if nothing is.

    entries: the whole chain, as stored. kept: the head that was kept apart.
    """
    found: list[str] = []
    last = GENESIS
    at_kept = kept.count == 0
    for entry in entries:
        found += _check(entry, last)
        if entry.sequence == kept.count:
            at_kept = True
            if entry.digest != kept.digest:
                found.append(f"entry {entry.sequence} is not the one that the kept head names")
        last = entry.head
    if not at_kept:
        found.append(f"the chain ends at entry {last.count}; {kept.count} were written")
    return found


def _check(entry: AuditEntry, last: Head) -> list[str]:
    found = []
    if entry.sequence != last.count + 1:
        found.append(f"entry {entry.sequence} follows entry {last.count}: entries are missing")
    if entry.previous != last.digest:
        found.append(f"entry {entry.sequence} does not continue the entry before it")
    content = (entry.sequence, entry.ts_ns, entry.kind, entry.model, entry.body)
    computed = _digest(entry.previous, content)
    if entry.digest != computed:
        found.append(f"entry {entry.sequence} was changed after it was written")
    return found
