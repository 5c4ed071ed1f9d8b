"""`driftgate bench model` on real models: from the registry, a folder, and a file."""

import json
import os

import pytest

from driftgate.cli import main
from driftgate.errors import Exit
from tests.integration.serving import onnx_models

CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def bench(tmp_path, capsys):
    def run(*words):
        """(exit code, what was printed, what went to stderr)"""
        state = ("--state-dir", str(tmp_path / "state"))
        code = main(["bench", "model", "--seconds", "200ms", *map(str, words), *state])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_a_model_of_the_registry_is_measured_on_its_golden_samples(bench, tmp_path, capsys):
    file = tmp_path / "scale.onnx"
    file.write_bytes(onnx_models.scale(2.0))
    push = ["model", "push", "scale", str(file), "--state-dir", str(tmp_path / "state")]
    assert main([*push, "--max-batch-size", "8"]) == 0
    capsys.readouterr()
    code, text, _ = bench("scale", "-o", "json")
    found = json.loads(text)
    assert code == 0
    assert (found["model"], found["version"], found["from"]) == ("scale", "1", "registry")
    assert found["inputs"] == "golden samples"
    measured = {(t["threads"], t["rows"]) for t in found["timings"]}
    assert {(1, rows) for rows in (1, 2, 4, 8)} <= measured
    assert {threads for threads, _ in measured} >= {1, CORES}
    assert all(t["p99_ns"] >= t["median_ns"] > 0 and t["runs"] >= 1 for t in found["timings"])
    advice = found["recommended"]
    assert advice["max_batch_size"] in (1, 2, 4, 8)
    assert advice["workers"] == CORES
    assert advice["inline"] is True
    assert len(advice["reasons"]) == 3
    assert f"--max-batch-size {advice['max_batch_size']}" in found["paste"][-1]


def test_a_triton_folder_keeps_its_setting_and_gets_lines_for_its_config(bench, tmp_path):
    folder = tmp_path / "models" / "scale"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(onnx_models.scale(2.0))
    (folder / "config.pbtxt").write_text("max_batch_size: 4\n")
    code, text, _ = bench(folder)
    assert code == 0
    assert "scale version 1, from the folder: made-up inputs" in text
    assert "max_batch_size: " in text.split("# config.pbtxt")[1]
    sizes = [line.split()[1] for line in text.splitlines() if line.strip().startswith("1 ")]
    assert sizes == ["1", "2", "4"]


def test_a_file_whose_inputs_have_open_dimensions_needs_a_shape(bench, tmp_path):
    file = tmp_path / "alone.onnx"
    file.write_bytes(onnx_models.not_batchable())
    code, _, told = bench(file)
    assert code == Exit.USAGE
    assert "--shape x=128,2" in told
    code, text, _ = bench(file, "--shape", "x=16,2", "-o", "json")
    assert code == 0
    assert json.loads(text)["recommended"]["max_batch_size"] == 0


def test_what_is_too_slow_for_the_time_is_left_out_and_said(bench, tmp_path):
    file = tmp_path / "slow.onnx"
    file.write_bytes(onnx_models.slow(steps=20_000))
    code, text, _ = bench(file, "--max-batch-size", "4", "--seconds", "10ms")
    assert code == 0
    assert "left out, for lack of time (rows with threads): 2 with 1, 4 with 1" in text
    assert "in a thread: a run of 1 takes" in text
    if CORES > 1:
        assert f"{CORES} sessions with 1 thread at once: " in text
        assert "threads a lone run takes" in text


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["nobody"], Exit.FAILED, "no such model"),
        (["nothing.onnx"], Exit.FAILED, "nothing.onnx cannot be read"),
        (["{file}", "--shape", "z=3"], Exit.USAGE, "no such input"),
        (["{file}", "--shape", "x=4"], Exit.USAGE, "does not fit"),
        (["{file}", "2"], Exit.USAGE, "a file has no versions"),
        (["{text}"], Exit.FAILED, "text.onnx cannot be measured"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(bench, tmp_path, words, code, sentence):
    file, text = tmp_path / "scale.onnx", tmp_path / "text.onnx"
    file.write_bytes(onnx_models.scale(2.0))
    text.write_text("no model")
    given = [word.format(file=file, text=text) for word in words]
    found, _, told = bench(*given)
    assert found == code
    assert sentence in told


def test_a_shape_of_another_form_is_a_usage_error(bench, capsys):
    with pytest.raises(SystemExit) as ended:
        bench("m", "--shape", "x:3")
    assert ended.value.code == Exit.USAGE
    assert "NAME=3,224,224" in capsys.readouterr().err
