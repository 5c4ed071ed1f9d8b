"""wrk, the HTTP load generator: one run, its figures."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

JSON: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class WrkError(Exception):
    """wrk is missing, failed, or saw replies that were not 200."""


@dataclass(frozen=True, slots=True)
class Run:
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds


def run(
    url: str,
    body: bytes,
    headers: Mapping[str, str] = JSON,
    *,
    connections: int,
    seconds: int,
    core: int | None,
) -> Run:
    """POST `body` to `url` from `connections` connections, as fast as replies come.

    Raises: WrkError, also when a single reply was not 2xx.
    """
    if shutil.which("wrk") is None:
        raise WrkError("wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        (Path(folder) / "body").write_bytes(body)
        script.write_text(
            f'local file = io.open("{folder}/body", "rb")\n'
            'wrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
            + "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in headers.items())
        )
        pin = [] if core is None else ["taskset", "-c", str(core)]
        command = [*pin, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        done = subprocess.run(
            [*command, "-s", str(script), url],
            capture_output=True, text=True, timeout=seconds + 30, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise WrkError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def parse(text: str) -> Run:
    """The figures of wrk's report.

    Raises: WrkError if replies failed or the report is not understood.
    """
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", text):
        raise WrkError(f"replies failed under load: {bad.group(0)}")
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    if total is None:
        raise WrkError(f"wrk's report is not understood: {text[-300:]}")
    seconds = float(total.group(2)) * UNITS_MS[total.group(3)] / 1000.0
    return Run(int(total.group(1)), seconds, _percentile(text, 50), _percentile(text, 99))


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    if found is None:
        raise WrkError(f"wrk's report has no {percent} % line: {text[-600:]}")
    return float(found.group(1)) * UNITS_MS[found.group(2)]
