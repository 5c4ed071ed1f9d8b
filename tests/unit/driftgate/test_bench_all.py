"""`driftgate bench all` runs what there is, with options that exist."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from driftgate.cli import build_parser, main
from driftgate.commands.bench_all import PARTS
from driftgate.errors import Exit


def verbs() -> set[str]:
    parser = build_parser()
    bench = parser._subparsers._group_actions[0].choices["bench"]  # type: ignore[union-attr]
    return set(bench._subparsers._group_actions[0].choices)


def test_every_benchmark_of_this_machine_is_there() -> None:
    assert {part.verb for part in PARTS} == verbs() - {"all", "model", "control"}


@pytest.mark.parametrize("quick", [False, True])
def test_its_options_are_those_of_the_benchmarks(quick: bool, tmp_path: Path) -> None:
    args = SimpleNamespace(quick=quick, envs=tmp_path, output="json")
    for part in PARTS:
        parsed = build_parser().parse_args(part.argv(args))  # type: ignore[arg-type]
        assert parsed.output == "json"


def test_one_that_does_not_finish_does_not_keep_the_others_from_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command[4])
        return SimpleNamespace(returncode=int(command[4] == "log"))

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["bench", "all", "--quick"]) == Exit.FAILED
    assert set(ran) == verbs() - {"all", "model", "control", "peers"}
    said = capsys.readouterr().out
    assert "did not finish: log" in said
    assert "not measured: peers" in said
