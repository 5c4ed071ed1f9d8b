"""What cannot be understood goes to a topic of its own, as it was, with its origin.

Laws:
- at most LETTERS_MAX wait; the reader who brings more waits for them to be sent, for
  a bounded time: beyond, they are dropped and counted. A flood slows the reading of
  its partition down and does nothing else;
- a letter may be there twice after a crash; its headers say which message it is.
"""

import logging

from eventlog.core.dead_letter import dead_letter, truncated
from eventlog.core.kafka_message import Message
from eventlog.core.record import LogError
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.failure import Unsendable
from eventlog.kafka.sender import Addressed, Sender
from eventlog.settings import KafkaSettings

LETTERS_MAX = 200  # of at most 1 MB each
SEND_S = 10.0
CLOSE_S = 2.0

logger = logging.getLogger(__name__)


class DeadLetters:
    """For use by one thread at a time."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, topic: str) -> None:
        self._topic, self._settings = topic, settings
        self._loop = EventLoop("monitor-dead-letters")
        self._sender = Sender(bootstrap, settings)
        self._waiting: list[Message] = []
        self.sent = 0
        self.dropped = 0

    def add(self, topic: str, partition: int, offset: int, message: Message, reason: str) -> None:
        """As `OnPoison` of the log."""
        if len(self._waiting) >= LETTERS_MAX:
            self.flush()
        if len(self._waiting) >= LETTERS_MAX:
            self.dropped += 1
            return
        letter = dead_letter(message, topic, partition, offset, reason)
        self._waiting.append(truncated(letter, self._settings.message_bytes_max))

    def flush(self) -> None:
        """Send what waits; what cannot be sent now waits on."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            try:
                messages = [Addressed(self._topic, 0, message) for message in waiting]
                self._loop.submit(self._sender.send_messages(messages)).result(SEND_S)
                self.sent += len(waiting)
                return
            except Unsendable as refusal:
                self.dropped += 1
                logger.warning("a dead letter cannot be sent: %s", refusal.reason)
                del waiting[refusal.index]
            except (LogError, TimeoutError) as error:
                logger.warning("%d dead letters wait: %s", len(waiting), error)
                self._waiting = waiting
                return

    def close(self) -> None:
        self.flush()
        self._loop.end(lambda: self._sender.close(CLOSE_S), CLOSE_S)
