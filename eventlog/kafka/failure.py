"""What Kafka can refuse, and how that is said to people."""

import logging
import os
import ssl

from aiokafka import errors

from eventlog.core.kafka_message import Placed
from eventlog.core.record import LogError
from eventlog.log import StorageError

# What happens to a connection is said once, by whoever needed it; the client library
# says it again for each attempt.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class Unavailable(StorageError):
    """Kafka cannot be used now; the same may work later."""


class Unsendable(LogError):
    """Kafka will never take this record as it is.

    index:  its place in what was to be sent; placed: itself, if it was a record.
    """

    def __init__(self, index: int, reason: str, placed: Placed | None = None) -> None:
        super().__init__(reason)
        self.index, self.reason, self.placed = index, reason, placed


_SENTENCES: dict[type[Exception], str] = {
    errors.SaslAuthenticationFailed: "the user name or password was refused",
    errors.AuthenticationFailedError: "the user name or password was refused",
    errors.UnsupportedSaslMechanismError: "the brokers do not offer this SASL mechanism",
    errors.IllegalSaslStateError: "the brokers expect no SASL here; see kafka.security_protocol",
    errors.UnknownTopicOrPartitionError: "a topic does not exist; `driftgate log init` makes it",
    errors.NotLeaderForPartitionError: "a partition has no leader",
    errors.LeaderNotAvailableError: "a partition has no leader",
    errors.NotEnoughReplicasError: "fewer replicas are in sync than min.insync.replicas asks for",
    errors.NotEnoughReplicasAfterAppendError: (
        "fewer replicas are in sync than min.insync.replicas asks for"
    ),
    errors.TopicAuthorizationFailedError: "this user may not use the topic",
    errors.ClusterAuthorizationFailedError: "this user may not do that on the cluster",
    errors.GroupAuthorizationFailedError: "this user may not use the consumer group",
    errors.MessageSizeTooLargeError: "it is larger than the topic's max.message.bytes",
    errors.RecordListTooLargeError: "it is larger than the topic's segment.bytes",
    errors.InvalidTimestampError: "its time is beyond what the topic's message.timestamp.* allow",
    errors.RequestTimedOutError: "the broker did not answer in time",
    errors.KafkaTimeoutError: "the broker did not answer in time",
    errors.NodeNotReadyError: "a broker cannot be reached",
    errors.KafkaConnectionError: "the connection was lost",
    errors.ProducerFenced: "another producer took this one's place",
    errors.OutOfOrderSequenceNumber: "the broker has lost track of this producer",
    errors.UnknownProducerId: "the broker has lost track of this producer",
    errors.CorruptRecordException: "what was sent arrived damaged",
    errors.KafkaStorageError: "a broker's disk failed",
    errors.UnknownError: "the broker could not say why",
    TimeoutError: "no answer in time",
}


def sentence(error: BaseException) -> str:
    """Why it failed, without its last full stop."""
    for kind, text in _SENTENCES.items():
        if type(error) is kind:
            return text
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, OSError):
        return os.strerror(error.errno).lower() if error.errno else str(error)
    return str(error) or type(error).__name__
