"""Whether a verdict that was stored comes out again, and where it first does not.

Laws:
- equal means equal to the bit: numbers are compared as they read back from their
  shortest exact notation, with no tolerance;
- what was added to a verdict later (what became of its action) is no part of it;
- where the log does not reach back to the beginning of the evidence, a verdict that
  comes out equal is the same, and one that does not proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Document = Mapping[str, Any]

# Of a verdict: by the clock of the monitor that decided it.
NOT_OF_THE_RECORDS = frozenset({"decided_ns"})


class Fate(StrEnum):
    """What a replay says of a stored verdict."""

    SAME = "same"
    DIFFERENT = "different"
    GONE = "gone"  # the log that it rests on is not kept any more


@dataclass(frozen=True, slots=True)
class Told:
    """One verdict and its block's line of history, as documents; block: None if not kept."""

    verdict: Document
    block: Document | None


@dataclass(frozen=True, slots=True)
class Finding:
    """difference: in words; empty for the same."""

    id: str
    model: str
    kind: str
    block_start_ns: int
    fate: Fate
    difference: str = ""


def compare(stored: Told | None, replayed: Told | None, *, whole: bool, outcome: str) -> Finding:
    """What to say of a verdict that was stored, came out of the log again, or both.

    whole:   the log holds everything that the verdict's evidence rests on.
    outcome: what the log gives at the verdict's block, for one that does not come out.
    """
    told = stored or replayed
    assert told is not None
    difference = _difference(stored, replayed, outcome)
    fate = Fate.SAME
    if difference:
        fate = Fate.DIFFERENT if whole else Fate.GONE
    verdict = told.verdict
    return Finding(
        str(verdict["id"]),
        str(verdict["model"]),
        str(verdict["kind"]),
        int(verdict["block_start_ns"]),
        fate,
        difference,
    )


def _difference(stored: Told | None, replayed: Told | None, outcome: str) -> str:
    if stored is None:
        return "the log gives this verdict, and it is not stored"
    if replayed is None:
        return f"stored, and the log gives {outcome}"
    own = {key: value for key, value in replayed.verdict.items() if key not in NOT_OF_THE_RECORDS}
    kept = {key: stored.verdict[key] for key in own if key in stored.verdict}
    found = first_difference(kept, own)
    if not found and stored.block is not None and replayed.block is not None:
        found = first_difference(stored.block, replayed.block, "block.")
    return found


def first_difference(stored: Any, replayed: Any, place: str = "") -> str:
    """Where two trees of plain values differ first, in words; empty: nowhere."""
    if isinstance(stored, Mapping) and isinstance(replayed, Mapping):
        keys = sorted({*stored, *replayed})
        found = (_of_key(stored, replayed, key, place) for key in keys)
        return next(filter(None, found), "")
    if isinstance(stored, list) and isinstance(replayed, list) and len(stored) == len(replayed):
        pairs = enumerate(zip(stored, replayed, strict=True))
        found = (first_difference(a, b, f"{place}{at}.") for at, (a, b) in pairs)
        return next(filter(None, found), "")
    if type(stored) is type(replayed) and stored == replayed:
        return ""
    return f"{place.removesuffix('.')}: stored {_short(stored)}, from the log {_short(replayed)}"


def _of_key(stored: Document, replayed: Document, key: str, place: str) -> str:
    if key in stored and key in replayed:
        return first_difference(stored[key], replayed[key], f"{place}{key}.")
    return f"{place}{key}: only {'stored' if key in stored else 'from the log'}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
