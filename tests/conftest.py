"""What every test may lean on."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def require(program: str) -> str:
    """The path of `program`; skips without it, unless this run may not skip it."""
    path = shutil.which(program)
    if path is None:
        if program in os.environ.get("DRIFTGATE_TESTS_REQUIRE", "").split():
            pytest.fail(f"{program} is required in this run and is not installed")
        pytest.skip(f"{program} is not installed")
    return path


@pytest.fixture
def promtool() -> str:
    return require("promtool")
