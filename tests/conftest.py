"""What every test may lean on."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
pytest_plugins = ["tests.broker.broker"]


# A busy machine is no finding: nothing here is about how long a draw or a test took.
settings.register_profile(
    "driftgate", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("driftgate")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("driftgate")
    group.addoption("--openapi-cases", type=int, default=2000, help="cases that schemathesis makes")
    group.addoption(
        "--openapi-seed", type=int, default=20261128, help="what schemathesis draws from; 0: chance"
    )
    group.addoption(
        "--fuzz-seed", type=int, default=20261128, help="what fuzzers draw from; 0: chance"
    )
    group.addoption(
        "--promise-streams", type=int, default=500, help="that the long form of the promise watches"
    )
    group.addoption("--fuzz-seconds", type=int, default=60, help="how long each fuzzer runs")


def required(name: str) -> bool:
    """Whether this run may not skip what needs `name`."""
    return name in os.environ.get("DRIFTGATE_TESTS_REQUIRE", "").split()


def require(program: str) -> str:
    """The path of `program`; skips without it, unless this run may not skip it."""
    path = shutil.which(program)
    if path is None:
        if required(program):
            pytest.fail(f"{program} is required in this run and is not installed")
        pytest.skip(f"{program} is not installed")
    return path


def require_module(name: str) -> None:
    """Skips where `name` has no build, unless this run may not skip it."""
    if importlib.util.find_spec(name) is None:
        if required(name):
            pytest.fail(f"{name} is required in this run and is not installed")
        pytest.skip(f"{name} is not installed: it has no build for this platform")


@pytest.fixture
def promtool() -> str:
    return require("promtool")
