"""The pages hold what the code holds: commands, keys, verdicts, gaps, limits."""

import dataclasses
import re
import shlex

import pytest

from driftgate.cli import build_parser
from driftgate.config import SECTIONS, keys
from eventlog import GapReason
from monitor.core.judge import Kind
from serving.settings import LimitSettings
from tests.conftest import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def commands(text: str) -> list[str]:
    """What a reader is told to type, in shell blocks and in backticks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    quoted = re.findall(r"`(driftgate [^`]+)`", prose)
    typed = [line for line in lines if line.startswith("driftgate ")]
    return typed + [line for line in quoted if "..." not in line]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_on_a_page_is_one_that_the_parser_takes(page, capsys):
    parser = build_parser()
    for command in commands(text_of(page)):
        words = shlex.split(command, comments=True)[1:]
        try:
            parser.parse_args(words)
        except SystemExit:
            said = capsys.readouterr().err
            # Prose may name a verb without its arguments, and no verb that is not there.
            assert "the following arguments are required" in said, f"{page}: {command}: {said}"


def test_some_commands_are_found():
    assert len(commands(text_of("README.md"))) > 5
    assert len(commands(text_of("docs/operating.md"))) > 5


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_page_names_can_be_set(page):
    known = {f"{section}.{key}" for section, key, _ in keys()}
    for name in re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)`", text_of(page)):
        assert name in known, f"{page}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", text_of(page)):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_protocol_page_names_every_limit():
    page = text_of("docs/protocol.md")
    for item in dataclasses.fields(LimitSettings):
        if item.name != "body_bytes_per_s_min":  # told in words, beside body_s
            assert f"`{item.name}`" in page, item.name


def test_the_monitoring_page_names_every_verdict():
    page = text_of("docs/monitoring.md")
    assert [kind.value for kind in Kind if f"`{kind.value}`" not in page] == []


def test_the_operating_page_names_every_gap():
    page = text_of("docs/operating.md")
    assert [reason.label for reason in GapReason if f"| {reason.label} |" not in page] == []
