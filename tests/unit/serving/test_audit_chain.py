"""The chain finds whatever is done to it."""

from dataclasses import replace

import pytest

from serving.core.audit_chain import GENESIS, AuditEntry, Head, entry_after, verify


def chain(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    head = GENESIS
    for number in range(length):
        entry = entry_after(head, 1000 + number, "accepted", "digits", f'{{"n":{number}}}')
        entries.append(entry)
        head = entry.head
    return entries


def test_an_untouched_chain_is_sound() -> None:
    entries = chain(5)
    assert verify(entries, entries[-1].head) == []
    assert verify([], GENESIS) == []


@pytest.mark.parametrize("field", ["ts_ns", "kind", "model", "body", "previous", "digest"])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_an_edit_of_any_field_of_any_entry_is_found(field: str, position: int) -> None:
    entries = chain(5)
    head = entries[-1].head
    value = 7 if field == "ts_ns" else "f" * 64
    entries[position] = replace(entries[position], **{field: value})  # type: ignore[arg-type]
    assert verify(entries, head)


@pytest.mark.parametrize("position", range(5))
def test_a_deleted_entry_is_found(position: int) -> None:
    entries = chain(5)
    head = entries[-1].head
    del entries[position]
    assert verify(entries, head)


def test_a_deletion_that_renumbers_what_follows_is_found() -> None:
    entries = chain(5)
    head = entries[-1].head
    forged = [*entries[:2], *(replace(e, sequence=e.sequence - 1) for e in entries[3:])]
    assert verify(forged, head)


def test_two_entries_in_the_wrong_order_are_found() -> None:
    entries = chain(5)
    head = entries[-1].head
    entries[1], entries[2] = entries[2], entries[1]
    assert verify(entries, head)


def test_a_truncated_chain_is_found_by_the_head_kept_apart() -> None:
    entries = chain(5)
    head = entries[-1].head
    assert verify(entries[:3], GENESIS) == []  # alone, the rest cannot tell
    assert verify(entries[:3], head) == ["the chain ends at entry 3; 5 were written"]
    assert verify([], head)


def test_a_chain_that_was_written_anew_is_found_by_the_head_kept_apart() -> None:
    head = chain(5)[-1].head
    forged: list[AuditEntry] = []
    last = GENESIS
    for number in range(5):
        forged.append(entry_after(last, 1, "accepted", "digits", f'{{"forged":{number}}}'))
        last = forged[-1].head
    assert verify(forged, GENESIS) == []
    assert verify(forged, head) == ["entry 5 is not the one that the kept head names"]


def test_a_head_that_lags_after_a_crash_is_no_problem() -> None:
    entries = chain(5)
    assert verify(entries, entries[3].head) == []


def test_an_unreadable_head_is_a_problem() -> None:
    assert verify(chain(2), Head(-1, ""))
