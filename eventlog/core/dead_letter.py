"""A message that could not be sent or not be understood, as it is kept: itself, and why."""

from dataclasses import replace

from eventlog.core.kafka_message import Message

# Besides its value and headers: what a batch adds to a message.
MESSAGE_OVERHEAD_BYTES = 512
REASON_CHARACTERS_MAX = 1000
HEADERS_BYTES_MAX = 64 * 1024  # ours take 1 KB; somebody else's may be anything
_OURS = "dlq."


def dead_letter(message: Message, topic: str, partition: int, offset: int, reason: str) -> Message:
    """`message`, which was to be in or is in `partition` of `topic`, with the reason it is not.

    offset: in that partition, or, of a record that never got there, in its producer's log.
    """
    headers = [
        ("dlq.topic", topic),
        ("dlq.partition", str(partition)),
        ("dlq.offset", str(offset)),
        ("dlq.reason", reason[:REASON_CHARACTERS_MAX]),
    ]
    own = [(name, text.encode("utf-8", "replace")) for name, text in headers]
    return replace(message, headers=[*message.headers, *own])


def truncated(message: Message, bytes_max: int) -> Message:
    """A letter with as much of its value as fits; a header says how long it was.

    Headers that are not ours go when they alone are too large.
    """
    headers = list(message.headers)
    if _bytes_of(headers) > HEADERS_BYTES_MAX:
        headers = [pair for pair in headers if pair[0].startswith(_OURS)]
    cut = [*headers, ("dlq.value_bytes", str(len(message.value)).encode())]
    taken = _bytes_of(cut) + len(message.key or b"") + MESSAGE_OVERHEAD_BYTES
    room = max(0, bytes_max - taken)
    if len(message.value) <= room:
        return (
            message if len(headers) == len(message.headers) else replace(message, headers=headers)
        )
    return replace(message, value=message.value[:room], headers=cut)


def _bytes_of(headers: list[tuple[str, bytes]]) -> int:
    return sum(len(name) + len(value) + 8 for name, value in headers)
