"""A partition of the monitors' topic as a list of entries, folded."""

from collections.abc import Iterable

from monitor.core.handover import HandedOver


def fold(entries: Iterable[tuple[int, str, bytes | None]]) -> HandedOver:
    """entries: offset, key, value."""
    found = HandedOver()
    for offset, key, value in entries:
        found.add(offset, key, value)
    return found
