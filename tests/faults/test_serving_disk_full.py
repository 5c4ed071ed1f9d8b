"""A running worker whose disk takes nothing for a while: clients notice nothing."""

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventlog import ledger
from eventlog.settings import LogSettings
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import WorkerProcess, eventually, tensor

GAPS = "driftgate_prediction_log_gap_rows_total"
WRITTEN = "driftgate_prediction_log_written_rows_total"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path, log=LogSettings(flush_ms=20))
    try:
        worker.serve({"m": onnx_models.identity()})
        worker.load("safe", "1", onnx_models.identity(), log_mode="durable")
        worker.route({"m": [("1", "stable", 100)], "safe": [("1", "stable", 100)]})
        yield worker
    finally:
        worker.stop()


def file_bytes_max(worker: WorkerProcess, size: int) -> None:
    """Let the worker's files grow up to `size` bytes, as a full disk would."""
    hard = resource.RLIM_INFINITY
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def ask(worker: WorkerProcess, model: str, requests: int) -> set[int]:
    document = {"inputs": [tensor("x", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])]}
    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(lambda _: worker.infer(model, document)[0], range(requests)))


def test_predictions_go_on_the_gap_is_exact_and_writing_resumes(worker: WorkerProcess) -> None:
    for _ in range(2):
        written = worker.metric(WRITTEN)
        assert ask(worker, "m", 50) == {200}
        eventually(lambda at=written: worker.metric(WRITTEN) == at + 100)
        gaps = worker.metric(GAPS, "storage")
        file_bytes_max(worker, 1)
        assert ask(worker, "m", 100) == {200}
        status, reply = worker.infer("safe", {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]})
        assert status == 503  # it had promised to be in the log before it is answered
        assert reply == {"error": "the prediction log could not commit this prediction"}
        assert worker.metric(WRITTEN) == written + 100
        file_bytes_max(worker, resource.RLIM_INFINITY)
        eventually(lambda at=gaps: worker.metric(GAPS, "storage") == at + 201)
    assert ask(worker, "safe", 5) == {200}
    assert worker.drain() == 0
    (line,) = ledger(worker.state_dir / "log")
    assert line.acknowledged == 2 * (100 + 200 + 1) + 10
    assert line.spooled == 2 * 100 + 10
    assert line.gaps == {"storage": 2 * 201}
    assert worker.errors().count("predictions go on, their rows become gaps") == 2
