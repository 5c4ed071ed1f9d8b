"""Read driftgate's records with Spark Structured Streaming.

    spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0 \\
        spark_records.py localhost:9092 driftgate.predictions.v1

Beside it must lie read_records.py, and pyarrow must be installed where Spark runs Python.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession
from read_records import is_predictions, rows_of

SCHEMA = (
    "model string, version string, role string, ts_ns long, latency_ns long, weight float, "
    "tensors string"
)
COLUMNS = ("model", "version", "role", "ts_ns", "latency_ns", "weight")


def decode(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """A row per prediction; its tensors as a JSON object by `input:NAME` and `output:NAME`."""
    for frame in frames:
        rows = []
        for value, headers in zip(frame["value"], frame["headers"], strict=True):
            named = {header["key"]: header["value"] for header in headers}
            if not is_predictions(named):
                continue
            for row in rows_of(value, named):
                tensors = {
                    name: row[name] for name in row if name.startswith(("input:", "output:"))
                }
                rows.append([*(row[name] for name in COLUMNS), json.dumps(tensors, default=str)])
        yield pd.DataFrame(rows, columns=[*COLUMNS, "tensors"])


def main(bootstrap: str, topic: str) -> None:
    spark = SparkSession.builder.appName("driftgate").getOrCreate()
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("read_records.py")))
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .load()
    )
    predictions = records.select("value", "headers").mapInPandas(decode, SCHEMA)
    query = predictions.writeStream.format("console").trigger(availableNow=True).start()
    query.awaitTermination()


if __name__ == "__main__":
    main(*sys.argv[1:3])
