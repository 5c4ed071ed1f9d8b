"""The readers in docs/examples understand real records, with nothing of ours."""

import hmac
import importlib.util
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from eventlog import encode_predictions, fake_rows
from eventlog.core.kafka_message import to_message
from eventlog.core.marks import heartbeat_record
from eventlog.core.predictions import Hashed
from eventlog.hash_key import HashKey
from tests.conftest import ROOT


@pytest.fixture
def reader() -> ModuleType:
    path = ROOT / "docs" / "examples" / "read_records.py"
    spec = importlib.util.spec_from_file_location("read_records", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_of_a_record_are_read(reader):
    rows = replace(
        fake_rows(5, 2, model="fraud"),
        masked={"input:x": (1,)},
        hashed={"input:id": Hashed("BYTES", (1,), "00ff00ff", np.full((2, 16), 7, np.uint8))},
        traces=np.full((2, 25), 1, np.uint8),
    )
    message = to_message(encode_predictions(rows, "0a0b0c", 0), "t", "fraud")
    headers = dict(message.headers)
    assert reader.is_predictions(headers)
    first, second = reader.rows_of(message.value, headers)
    assert (first["model"], first["version"], first["producer"]) == ("fraud", "1", "0a0b0c")
    assert first["input:x"] == [5.0, None, 5.0]
    assert second["output:y"] == 6.0
    assert first["input:id"] == "07" * 16
    assert first["traceparent"] == "01" * 25
    mark = to_message(heartbeat_record("0a0b0c", 0, 1), "t", "")
    assert not reader.is_predictions(dict(mark.headers))


def test_a_digest_is_found_as_the_page_says():
    value, key = b"ann", b"k" * 32
    item = len(value).to_bytes(4, "little") + value
    column = np.array([[value]], dtype=object)
    assert HashKey.of(key).digests(column)[0].tobytes() == hmac.digest(key, item, "sha256")[:16]
