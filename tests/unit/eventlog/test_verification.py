"""What a verdict says of rows that are found, lost, doubled, or known to be elsewhere."""

from eventlog import GapReason, encode_predictions, fake_rows
from eventlog.core.kafka_message import place
from eventlog.core.marks import gap_record, heartbeat_record
from eventlog.core.record import Record
from eventlog.core.verification import RowCount, judge

A = "aaaaaa"


def data(first: int, rows: int) -> Record:
    return encode_predictions(fake_rows(first, rows), A, 0)


def gap(first: int, rows: int) -> Record:
    return gap_record(A, [(first, rows)], GapReason.CRASH, watermark_ns=0)


def count_of(*records: Record) -> RowCount:
    count = RowCount()
    for record in records:
        count.add(record)
    return count


def test_every_row_is_in_one_record_or_the_other() -> None:
    count = count_of(data(0, 10), gap(10, 5), heartbeat_record(A, 15, 0), data(15, 5))
    verdict = judge(A, 20, count)
    assert (verdict.found, dict(verdict.gaps), verdict.unexplained) == (15, {"crash": 5}, 0)
    assert (verdict.missing, verdict.duplicates) == ((), 0)


def test_what_is_nowhere_is_named_by_its_runs() -> None:
    verdict = judge(A, 30, count_of(data(0, 10), data(12, 8)))
    assert verdict.missing == ((10, 2), (20, 10))
    assert verdict.unexplained == 12


def test_rows_beyond_those_that_were_asked_for_are_no_question() -> None:
    verdict = judge(A, 5, count_of(data(0, 10)))
    assert verdict.missing == ()


def test_a_row_that_came_again_is_counted_and_still_one_row() -> None:
    verdict = judge(A, 10, count_of(data(0, 10), data(5, 5), gap(0, 2)))
    assert (verdict.found, verdict.duplicates, verdict.unexplained) == (10, 7, 0)
    assert sum(verdict.gaps.values()) == 0


def test_a_nameless_loss_counts_once_over_all_partitions() -> None:
    copies = [item.record for item in place(gap(0, 5), 3)]
    verdict = judge(A, 5, count_of(*copies))
    assert (dict(verdict.gaps), verdict.duplicates) == ({"crash": 5}, 0)


def test_rows_that_are_elsewhere_are_explained_in_their_turn() -> None:
    count = count_of(data(20, 10))
    verdict = judge(A, 40, count, spooled=[(30, 5)], earlier=[(0, 8)], earlier_rows=12)
    assert (verdict.spooled, verdict.earlier) == (5, 20)
    assert verdict.missing == ((35, 5),)


def test_rows_older_than_the_topic_are_not_called_lost() -> None:
    verdict = judge(A, 40, count_of(data(20, 20)), may_have_expired=True)
    assert (verdict.expired, verdict.unexplained) == (20, 0)


def test_a_producer_that_nobody_has_heard_of_is_missing_whole() -> None:
    assert judge(A, 4, RowCount()).missing == ((0, 4),)
