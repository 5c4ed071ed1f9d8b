"""Read driftgate's records from Kafka with aiokafka and pyarrow; nothing of driftgate is needed.

pip install aiokafka cramjam pyarrow
python read_records.py localhost:9092 driftgate.predictions.v1
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa


def is_predictions(headers: Mapping[str, bytes]) -> bool:
    """Heartbeats, ends and gaps share the topic; they hold no rows."""
    return headers.get("stream") == b"predictions" and headers.get("kind") == b"DATA"


def rows_of(value: bytes, headers: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """One dictionary per prediction of a record.

    A tensor's elements of a row come as one flat list; digests as hex; a tensor that the
    log's policy left out is not there, and elements it left out are None.
    """
    batch = pa.ipc.open_stream(value).read_next_batch()
    masked = {
        field.name: json.loads(field.metadata[b"masked"])
        for field in batch.schema
        if field.metadata and b"masked" in field.metadata
    }
    about = {name: headers[name].decode() for name in ("model", "version", "role", "producer")}
    for row in batch.to_pylist():
        for name, elements in masked.items():
            for element in elements:
                row[name][element] = None
        for field in batch.schema:
            if pa.types.is_fixed_size_binary(field.type):
                row[field.name] = row[field.name].hex()
        yield {**about, **row}


async def main(bootstrap: str, topic: str) -> None:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async for message in consumer:
            headers = dict(message.headers)
            if is_predictions(headers):
                for row in rows_of(message.value, headers):
                    print(row, flush=True)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
