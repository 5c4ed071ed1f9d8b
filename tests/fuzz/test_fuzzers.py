"""Fuzzers of everything that decodes a client's bytes, and the proof that they find bugs.

Each runs in a process of its own, from the corpus kept here: the decoders of what
every request brings for `--fuzz-seconds`, the others for a third of that. An input
that fails is printed with the seed; minimise it with `tests.fuzz.minimise` and put it
into the corpus, which every run replays.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.nghttp2 import LibraryError, find
from tests.conftest import ROOT, require_module
from tests.fuzz.minimise import failure, smaller
from tests.fuzz.planted import PLANTED
from tests.fuzz.seeds import CORPUS, SEEDS
from tests.fuzz.targets import TARGETS

HANG_S = 20  # for inputs that take microseconds; a busy machine is not a hang
RSS_MIB_MAX = 1024
INPUT_BYTES_MAX = 4096
PLANTS_FOUND_WITHIN_S = 120
EVERY_REQUEST = ("http_infer", "http_connection", "grpc_message", "bytes_tensor")


def fuzz(
    target: str, folder: Path, *options: str, plant: str = "", seconds: int, seed: int
) -> "subprocess.CompletedProcess[str]":
    """Run a fuzzer to its end. folder: gets what it finds; the kept corpus is only read."""
    found = folder / "found"
    found.mkdir()
    command = [
        sys.executable, "-m", "tests.fuzz.drive", target, *(["--plant", plant] if plant else []),
        f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={HANG_S}",
        f"-rss_limit_mb={RSS_MIB_MAX}", f"-max_len={INPUT_BYTES_MAX}", "-print_final_stats=1",
        f"-artifact_prefix={folder}/failed-", *options, str(found), str(CORPUS / target),
    ]  # fmt: skip
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 600,
    )


def need(target: str) -> None:
    """Skips what drives a library that is not here."""
    if target == "http2_connection":
        try:
            find()
        except LibraryError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, "Future[subprocess.CompletedProcess[str]]"]]]:
    """All fuzzers, two at a time."""
    require_module("atheris")
    longest = request.config.getoption("fuzz_seconds")
    seed = request.config.getoption("fuzz_seed") or random.getrandbits(31) | 1
    print(f"libFuzzer seed {seed}")
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        folders = {target: tmp_path_factory.mktemp(target) for target in TARGETS}
        started = {}
        for target, folder in folders.items():
            seconds = longest if target in EVERY_REQUEST else -(-longest // 3)
            run = pool.submit(fuzz, target, folder, seconds=seconds, seed=seed)
            started[target] = (folder, run)
        yield started


@pytest.mark.ci
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_arrives_is_decoded_or_refused(runs, target):
    need(target)
    folder, run = runs[target]
    done = run.result()
    print(done.stderr[-6000:])
    failed = list(folder.glob("failed-*"))
    for path in failed:
        print(f"{path.name}: {path.read_bytes()!r}")
    assert not failed
    assert done.returncode == 0
    executed = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert executed is not None
    assert int(executed[1]) > len(list((CORPUS / target).iterdir()))


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_decoded_or_refused(target):
    need(target)
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            pytest.fail(f"{path.name}: {error!r}")


@pytest.mark.parametrize("target", SEEDS)
def test_the_seeds_in_the_corpus_are_those_that_are_written(target):
    for name, data in SEEDS[target]().items():
        assert (CORPUS / target / name).read_bytes() == data, f"{name}: run tests.fuzz.seeds"


FOUND = {
    "wrong_error": ("bytes_tensor", "crash", "KeyError"),
    "hang": ("bytes_tensor", "timeout", "ERROR: libFuzzer: timeout"),
    "network": ("bytes_tensor", "crash", "a decoder used the network"),
    "memory": ("bytes_tensor", "crash", "MemoryError"),
    "head": ("http_connection", "crash", "what was seen before is answered differently"),
    "kept_budget": ("http2_connection", "crash", "bytes of the budget are not given back"),
    "cut_off": ("grpc_message", "crash", "where its tensors lie changes what a message means"),
    "template": ("http_infer", "crash", "a template changes a meaning"),
}


@pytest.mark.ci
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found(tmp_path, plant):
    require_module("atheris")
    target, kind, words = FOUND[plant]
    sooner = ["-timeout=2"] if kind == "timeout" else []
    done = fuzz(target, tmp_path, *sooner, plant=plant, seconds=PLANTS_FOUND_WITHIN_S, seed=1)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert list(tmp_path.glob(f"failed-{kind}-*"))


def test_an_input_that_fails_is_made_small():
    def target(data: bytes) -> None:
        if b"!" in data and data.count(b"?") > 1:
            raise KeyError(data)
        if data == b"!":
            raise IndexError(data)

    found = smaller(target, bytes(100) + b"?" + bytes(33) + b"!ab" + bytes(7) + b"??" + bytes(500))
    assert sorted(found) == sorted(b"?!?")
    assert failure(target, found) == "KeyError"
