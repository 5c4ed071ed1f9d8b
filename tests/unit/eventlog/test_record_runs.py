"""Records name their rows by runs."""

from dataclasses import replace

import pytest

from eventlog import GapReason, RecordError, parse_end, parse_gap
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from eventlog.core.record import cut_runs, merge_adjacent, runs_header, runs_of
from protos import records_pb2


def test_one_run_needs_no_header() -> None:
    assert runs_header([(4, 3)]) == {}
    record = gap_record("abcdef", [(4, 3)], GapReason.CRASH, watermark_ns=1)
    assert runs_of(record) == ((4, 3),)


def test_several_runs_survive_the_header_in_their_order() -> None:
    record = gap_record("abcdef", [(20, 2), (4, 3)], GapReason.SAMPLED, watermark_ns=1)
    assert runs_of(record) == ((20, 2), (4, 3))
    assert (record.first_sequence, record.rows) == (4, 5)


@pytest.mark.parametrize("text", ["4+3", "4+x", "4", "4+3,", "-1+5", "4+0,1+5", "+5"])
def test_a_runs_header_that_does_not_add_up_is_refused(text: str) -> None:
    record = gap_record("abcdef", [(4, 3), (9, 2)], GapReason.CRASH, watermark_ns=1)
    with pytest.raises(RecordError):
        runs_of(replace(record, headers={"runs": text}))


def test_runs_are_cut_by_position_not_by_number() -> None:
    assert cut_runs([(10, 3), (50, 3)], 2, 5) == ((12, 1), (50, 2))


def test_only_runs_that_touch_are_merged() -> None:
    assert merge_adjacent([(0, 2), (2, 2), (5, 1)]) == ((0, 4), (5, 1))


def test_gap_reasons_are_those_of_the_wire() -> None:
    wire = {value.name: value.number for value in records_pb2.GapReason.DESCRIPTOR.values}
    del wire["GAP_REASON_UNSPECIFIED"]
    assert wire == {reason.name: int(reason) for reason in GapReason}


def test_a_gap_says_reason_model_and_rows() -> None:
    gap = parse_gap(gap_record("abcdef", [(1, 2)], GapReason.OVERFLOW, model="m", watermark_ns=7))
    assert (gap.rows, gap.reason, gap.model) == (2, GapReason.OVERFLOW, "m")


def test_a_gap_without_rows_says_where_the_uncertainty_begins() -> None:
    record = gap_record("abcdef", [], GapReason.UNKNOWN, watermark_ns=7, at=90)
    assert (record.first_sequence, record.rows, runs_of(record)) == (90, 0, ())


def test_an_end_says_how_many_rows_there_were_and_whether_it_was_orderly() -> None:
    end = parse_end(end_record("abcdef", 12, 7, clean=False))
    assert (end.next_sequence, end.clean) == (12, False)


def test_marks_of_another_kind_or_with_a_broken_body_are_refused() -> None:
    beat = heartbeat_record("abcdef", 3, 7)
    with pytest.raises(RecordError, match="expected END, got HEARTBEAT"):
        parse_end(beat)
    gap = gap_record("abcdef", [(1, 2)], GapReason.CRASH, watermark_ns=7)
    with pytest.raises(RecordError, match="malformed"):
        parse_gap(replace(gap, body=b"\xff\xff\xff"))
    with pytest.raises(RecordError, match="2 rows, record 3"):
        parse_gap(replace(gap, rows=3))
