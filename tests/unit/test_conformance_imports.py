"""The conformance suite judges from outside: it imports nothing that it judges."""

import ast
import tomllib

import pytest

from tests.conftest import ROOT

SUITE = ROOT / "tests" / "conformance"
OURS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
)


def imported(source: str) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_ours(source: str) -> list[str]:
    return [
        name
        for name in sorted(imported(source))
        if name.split(".")[0] in OURS
        or (name.split(".")[0] == "tests" and not name.startswith("tests.conformance."))
    ]


@pytest.mark.parametrize("path", sorted(SUITE.rglob("*.py")), ids=lambda path: path.name)
def test_the_conformance_suite_imports_nothing_of_ours(path):
    assert of_ours(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from serving.core import errors",
        "def f():\n    import protos.inference_pb2 as pb",
        "from tests.integration.serving import harness",
        "from tests import conftest",
    ],
)
def test_such_an_import_would_be_found(source):
    assert of_ours(source) != []
