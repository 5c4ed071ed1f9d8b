"""Brokers in this process that answer as they are told: librdkafka's mock cluster.

For what a real broker does rarely and at no one's command: error codes, and answers
that come late or get lost. They keep records in memory, have no admin requests and
know no duplicates; everything else is shown against a real Kafka.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import cffi
from aiokafka.errors import KafkaError

from tests.conftest import require_module

PACKAGE = "confluent_kafka"  # its wheels bring librdkafka along
PRODUCER = 0  # the kind of the handle that the cluster hangs on; it sends nothing
DECLARATIONS = """
typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_mock_cluster_s rd_kafka_mock_cluster_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
rd_kafka_t *rd_kafka_new(int type, rd_kafka_conf_t *conf, char *errstr, size_t errstr_size);
void rd_kafka_destroy(rd_kafka_t *);
rd_kafka_mock_cluster_t *rd_kafka_mock_cluster_new(rd_kafka_t *, int broker_cnt);
void rd_kafka_mock_cluster_destroy(rd_kafka_mock_cluster_t *);
void rd_kafka_mock_group_initial_rebalance_delay_ms(rd_kafka_mock_cluster_t *, int32_t);
const char *rd_kafka_mock_cluster_bootstraps(const rd_kafka_mock_cluster_t *);
int rd_kafka_mock_topic_create(rd_kafka_mock_cluster_t *, const char *, int, int);
int rd_kafka_mock_partition_set_leader(rd_kafka_mock_cluster_t *, const char *, int32_t, int32_t);
int rd_kafka_mock_broker_set_rtt(rd_kafka_mock_cluster_t *, int32_t, int);
void rd_kafka_mock_push_request_errors_array(rd_kafka_mock_cluster_t *, int16_t, size_t,
                                             const int *);
int rd_kafka_mock_broker_push_request_error_rtts(rd_kafka_mock_cluster_t *, int32_t, int16_t,
                                                 size_t, ...);
"""


class Api(IntEnum):
    """Kafka's numbers of requests."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    INIT_PRODUCER_ID = 22


class MockBrokers:
    """Broker ids begin at 1."""

    def __init__(self, library: Any, ffi: cffi.FFI, cluster: Any, count: int) -> None:
        self._library, self._ffi, self._cluster, self._count = library, ffi, cluster, count

    @property
    def address(self) -> str:
        text = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return bytes(self._ffi.string(text)).decode()

    def create_topic(self, name: str, partitions: int) -> None:
        arguments = (self._cluster, name.encode(), partitions, self._count)
        self._check(self._library.rd_kafka_mock_topic_create(*arguments))

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make `broker` the leader; the former one says so when it is asked next."""
        arguments = (self._cluster, topic.encode(), partition, broker)
        self._check(self._library.rd_kafka_mock_partition_set_leader(*arguments))

    def fail(self, api: Api, errors: Sequence[type[KafkaError]]) -> None:
        """The next requests of this kind, at any broker, are answered so and do nothing."""
        codes = [error.errno for error in errors]
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, api, len(codes), self._ffi.new("int[]", codes)
        )

    def delay(self, api: Api, broker: int, milliseconds: int, requests: int = 1) -> None:
        """The next requests of this kind are done at once and answered late."""
        pair = (self._ffi.cast("int", 0), self._ffi.cast("int", milliseconds))
        push = self._library.rd_kafka_mock_broker_push_request_error_rtts
        self._check(push(self._cluster, broker, api, requests, *(pair * requests)))

    def delay_all(self, milliseconds: int) -> None:
        """Every answer of every broker, from now on."""
        for broker in range(1, self._count + 1):
            set_rtt = self._library.rd_kafka_mock_broker_set_rtt
            self._check(set_rtt(self._cluster, broker, milliseconds))

    @staticmethod
    def _check(code: int) -> None:
        assert code == 0, f"librdkafka refuses with {code}"


@contextmanager
def mock_brokers(count: int = 3) -> Iterator[MockBrokers]:
    """Skips without confluent-kafka."""
    require_module(PACKAGE)
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    library: Any = ffi.dlopen(str(_library()))
    said, conf = ffi.new("char[512]"), library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(conf, b"log_level", b"2", said, len(said))
    handle = library.rd_kafka_new(PRODUCER, conf, said, len(said))
    assert handle != ffi.NULL, ffi.string(said)
    cluster = library.rd_kafka_mock_cluster_new(handle, count)
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    try:
        yield MockBrokers(library, ffi, cluster, count)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)


def _library() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folders = (package.parent / f"{PACKAGE}.libs", package / ".dylibs")  # Linux, macOS
    (found,) = (path for folder in folders for path in folder.glob("librdkafka*"))
    return found
