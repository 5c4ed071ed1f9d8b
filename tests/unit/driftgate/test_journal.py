"""The journal reader, and that its oracle can say no."""

import json

import numpy as np
import pytest

from driftgate.story.journal import Journal, mismatches, share_wrong
from driftgate.story.scans import PIXELS
from loadtests.process_tree import usage


@pytest.fixture(scope="module")
def models():
    """Two tiny models of the demo's signature that disagree on every row."""
    from onnx import TensorProto, helper, numpy_helper

    def model(label: int) -> bytes:
        bias = np.zeros(10, np.float32)
        bias[label] = 5.0
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["pixels", "w"], ["m"]),
                helper.make_node("Add", ["m", "b"], ["s"]),
                helper.make_node("Softmax", ["s"], ["probabilities"]),
                helper.make_node("ArgMax", ["s"], ["label"], axis=1, keepdims=0),
            ],
            "g",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [None, PIXELS])],
            [
                helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 10]),
            ],
            [
                numpy_helper.from_array(np.zeros((PIXELS, 10), np.float32), "w"),
                numpy_helper.from_array(bias, "b"),
            ],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return made.SerializeToString()

    return {"1": model(1), "2": model(2)}


def write(folder, lines, rows):
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.zeros((rows, PIXELS), np.float32).tofile(folder / "rows.f32")
    journal = Journal(folder)
    journal.refresh()
    return journal


def line(version, label, truth=1, rows=2):
    score = float(np.exp(5) / (np.exp(5) + 9))
    return {
        "rows": rows, "sent_ns": 0, "seconds": 0.1, "version": version, "id": "x",
        "labels": [label] * rows, "scores": [round(score, 6)] * rows, "truth": [truth] * rows,
    }  # fmt: skip


def test_replies_that_are_their_versions_own_are_no_mismatch(tmp_path, models):
    journal = write(tmp_path, [line("1", 1), line("2", 2)], 4)
    assert mismatches(journal, models) == 0


def test_a_reply_of_another_version_is_found(tmp_path, models):
    journal = write(tmp_path, [line("1", 1), line("2", 1)], 4)
    assert mismatches(journal, models) == 2


def test_a_reply_that_mixes_versions_is_found(tmp_path, models):
    mixed = line("1", 1) | {"labels": [1, 2]}
    assert mismatches(write(tmp_path, [mixed], 2), models) == 1


def test_a_version_nobody_pushed_is_found(tmp_path, models):
    assert mismatches(write(tmp_path, [line("9", 1)], 2), models) == 1


def test_a_failed_request_keeps_its_rows_place(tmp_path, models):
    failed = {"rows": 3, "sent_ns": 0, "seconds": 0.1, "error": "gone"}
    journal = write(tmp_path, [failed, line("1", 1)], 5)
    assert journal.requests[0].failed
    assert journal.requests[1].first_row == 3
    assert mismatches(journal, models) == 0


def test_a_line_still_being_written_is_read_once_it_is_whole(tmp_path):
    journal = write(tmp_path, [line("1", 1)], 4)
    whole = json.dumps(line("2", 2)) + "\n"
    path = tmp_path / "requests.jsonl"
    with path.open("a") as file:
        file.write(whole[:20])
    journal.refresh()
    assert len(journal.requests) == 1
    with path.open("a") as file:
        file.write(whole[20:])
    journal.refresh()
    assert [sent.version for sent in journal.requests] == ["1", "2"]


def test_loss_is_the_share_of_wrong_rows(tmp_path):
    journal = write(tmp_path, [line("1", 1, truth=1), line("1", 1, truth=0, rows=6)], 8)
    assert share_wrong(journal.requests) == pytest.approx(0.75)
    assert np.isnan(share_wrong([]))


def test_a_process_that_is_gone_uses_nothing():
    assert usage(2**22 - 1).cpu_s == 0.0
