"""No signal is lost around an exec, in whichever instant it comes."""

import subprocess
import sys

import pytest

# The handlers of the two signals run before the loop hears of either.
PROGRAM = """
import asyncio, os, signal, sys
from serving.supervisor.signals import Told, hold_back

async def hear(*numbers):
    told = Told()
    told.heed()
    for number in numbers:
        os.kill(os.getpid(), number)
    first = await told.first
    if first is signal.SIGHUP:
        await told.rest_passed_on()
    return first

hold_back()
if len(sys.argv) > 1:
    numbers = [signal.Signals[name] for name in sys.argv[1:]]
    print(asyncio.run(hear(*numbers)).name, flush=True)
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"]])
print(*sorted(number.name for number in signal.sigpending()))
"""


@pytest.mark.parametrize(
    ("sent", "first", "passed_on"),
    [
        (["SIGHUP"], "SIGHUP", ""),
        (["SIGHUP", "SIGTERM"], "SIGHUP", "SIGTERM"),
        (["SIGHUP", "SIGINT", "SIGHUP", "SIGTERM"], "SIGHUP", "SIGHUP SIGINT SIGTERM"),
        (["SIGTERM", "SIGHUP"], "SIGTERM", ""),
    ],
)
def test_what_comes_with_a_sighup_is_for_the_next_program(
    sent: list[str], first: str, passed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRAM", PROGRAM)
    command = [sys.executable, "-c", PROGRAM, *sent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [first, passed_on]
