"""What an answer means for a request, and how long to wait before the next attempt."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

FIRST_S, MOST_S = 1.0, 300.0  # between attempts; doubled each time
ASKED_MOST_S = 3600.0  # a receiver may ask for so much patience, by Retry-After


class Fate(Enum):
    DONE = "done"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended. detail: for the record of the action; wait_s: as asked for."""

    fate: Fate
    sentence: str
    detail: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Statuses:
    """HTTP statuses by what they mean; what is in none of them is a refusal, or passes if 5xx."""

    done: Collection[int]
    duplicate: Collection[int] = ()  # it was asked for before, under the same id
    retry: Collection[int] = (408, 425, 429)

    def fate(self, status: int) -> Fate:
        if status in self.done or status in self.duplicate:
            return Fate.DONE
        return Fate.RETRY if status in self.retry or status >= 500 else Fate.FAILED


def backoff_s(key: str, attempt: int) -> float:
    """Before the attempt after the `attempt`th: half of it fixed, half by chance.

    The chance comes of the key, so a test sees the same waits again, and many monitors
    that a receiver's failure set off at once do not return at once.
    """
    longest = min(MOST_S, FIRST_S * 2.0 ** min(attempt - 1, 30))
    digest = hashlib.sha256(f"{key}:{attempt}".encode()).digest()
    return longest * (0.5 + int.from_bytes(digest[:8]) / 2**65)


def retry_after_s(value: str | None) -> float:
    """Of the header in seconds; 0 where it is a date or nothing."""
    text = (value or "").strip()
    return min(float(text), ASKED_MOST_S) if text.isascii() and text.isdigit() else 0.0
