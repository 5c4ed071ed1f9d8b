"""Write labels to the topic that driftgate takes them from, with aiokafka alone.

pip install aiokafka
python send_labels.py localhost:9092 driftgate.label-input fraud ID.0=1 ID.1=0
"""

import asyncio
import json
import sys
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer


def message(model: str, labels: Mapping[str, float | str], source: str) -> tuple[bytes, bytes]:
    """Key and value of one message. labels: prediction id with its row -> what was true."""
    document = {
        "model": model,
        "source": source,
        "labels": [{"prediction_id": item, "label": label} for item, label in labels.items()],
    }
    return model.encode(), json.dumps(document).encode()


async def send(address: str, topic: str, model: str, labels: Mapping[str, float | str]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
    await producer.start()
    try:
        key, value = message(model, labels, "send_labels.py")
        await producer.send_and_wait(topic, value, key)
    finally:
        await producer.stop()


if __name__ == "__main__":
    address, topic, model, *pairs = sys.argv[1:]
    found = {}
    for pair in pairs:
        prediction_id, _, label = pair.partition("=")
        found[prediction_id] = float(label)
    asyncio.run(send(address, topic, model, found))
