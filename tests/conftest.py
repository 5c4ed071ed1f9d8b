"""What every test may lean on."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent


# A busy machine is no finding: nothing here is about how long a draw or a test took.
settings.register_profile(
    "driftgate", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("driftgate")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("driftgate")
    group.addoption("--openapi-cases", type=int, default=2000, help="cases that schemathesis makes")


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
