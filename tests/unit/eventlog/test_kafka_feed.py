"""Messages out of a broker's chunks: positions, backlogs, damaged batches."""

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from eventlog.core.kafka_message import Message
from eventlog.kafka.cluster import Chunk
from eventlog.kafka.feed import Damaged, Feed


def batch(base: int, values: list[bytes | None]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for index, value in enumerate(values):
        builder.append(index, 1000 + index, b"k", value, [("h", None)])
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def take(feed: Feed, count: int = 100) -> list[tuple[int, bytes | str]]:
    return [
        (offset, item.value if isinstance(item, Message) else item.reason)
        for offset, item in feed.take(count)
    ]


def test_messages_come_from_the_position_on() -> None:
    feed = Feed(4)
    feed.fill(Chunk(batch(3, [b"3", b"4", b"5"]) + batch(6, [b"6"]), end=9))
    assert feed.backlog == 5
    assert take(feed, 2) == [(4, b"4"), (5, b"5")]
    assert (feed.position, feed.backlog) == (6, 3)
    assert take(feed) == [(6, b"6")]
    assert feed.is_empty
    assert (feed.position, feed.backlog) == (7, 0)


def test_a_reader_continues_from_what_it_was_given_to_what_was_looked_at() -> None:
    feed = Feed(0)
    feed.fill(Chunk(batch(0, [b"0", b"1", b"2", b"3"]), end=4))
    take(feed, 3)
    feed.given(0)  # 1 and 2 were passed over
    assert [feed.continues(position) for position in (0, 1, 3, 4)] == [False, True, True, False]


def test_nulls_are_empty() -> None:
    feed = Feed(0)
    feed.fill(Chunk(batch(0, [None]), end=1))
    ((_, message),) = feed.take(1)
    assert message == Message(b"k", b"", [("h", b"")], 1000)


def test_a_damaged_batch_is_asked_for_again_and_then_passed_over() -> None:
    good, bad = batch(0, [b"0"]), damaged(batch(1, [b"1", b"2"]))
    feed = Feed(0)
    feed.fill(Chunk(good + bad + batch(3, [b"3"]), end=4))
    assert take(feed) == [(0, b"0")]
    assert feed.is_empty
    assert feed.is_in_doubt
    assert feed.position == 1
    feed.fill(Chunk(bad + batch(3, [b"3"]), end=4))
    ((offset, item),) = feed.take(100)
    assert isinstance(item, Damaged)
    assert (offset, item.next_offset, feed.position) == (1, 3, 3)
    assert not feed.is_in_doubt
    feed.fill(Chunk(batch(3, [b"3"]), end=4))
    assert take(feed) == [(3, b"3")]


def test_a_batch_that_was_damaged_on_its_way_is_read() -> None:
    feed = Feed(0)
    feed.fill(Chunk(damaged(batch(0, [b"0"])), end=1))
    assert take(feed) == []
    feed.fill(Chunk(batch(0, [b"0"]), end=1))
    assert take(feed) == [(0, b"0")]
