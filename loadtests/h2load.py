"""h2load, the HTTP/2 load generator: one run of a gRPC method, its figures."""

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PREFIX_BYTES = 5  # of a message: whether it is packed, and its length
INSTALL = "h2load is not installed (Debian: apt-get install nghttp2-client)"


class H2loadError(Exception):
    """h2load is missing, failed, or saw replies that were not what was asked for."""


@dataclass(frozen=True, slots=True)
class Run:
    requests: int
    requests_per_s: float
    data_bytes: int  # of all replies, with their length prefixes


def installed() -> bool:
    return shutil.which("h2load") is not None


def framed(message: bytes) -> bytes:
    """A message as it travels: not compressed, with its length before it."""
    return b"\0" + struct.pack(">I", len(message)) + message


def run(
    url: str,
    message: bytes,
    *,
    channels: int,
    calls: int,
    seconds: int,
    core: int | None,
    reply_bytes: int,
) -> Run:
    """Call a unary method as fast as replies come.

    calls: of each of the channels, which are connections, at a time.
    reply_bytes: of a good reply with its prefix. h2load does not read the status
    of a call, but one that failed has no message, so their bytes tell.
    Raises: H2loadError, also when a single call failed.
    """
    if not installed():
        raise H2loadError(INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(framed(message))
        pin = [] if core is None else ["taskset", "-c", str(core)]
        command = [*pin, "h2load", f"-c{channels}", f"-m{calls}", f"-D{seconds}"]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        done = subprocess.run(
            [*command, "-d", str(body), *headers, url],
            capture_output=True, text=True, timeout=seconds + 30, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise H2loadError(f"h2load failed: {done.stderr.strip() or done.stdout.strip()}")
    return check(parse(done.stdout), reply_bytes)


def parse(text: str) -> Run:
    """The figures of h2load's report.

    Raises: H2loadError if replies failed or the report is not understood.
    """
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    counts = re.search(
        r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
        text,
    )
    data = re.search(r"traffic: .*\((\d+)\) data", text)
    if rate is None or counts is None or data is None:
        raise H2loadError(f"h2load's report is not understood: {text[-300:]}")
    done, succeeded, *bad = (int(group) for group in counts.groups())
    if succeeded != done or any(bad) or not done:
        raise H2loadError(f"replies failed under load: {counts.group(0)}")
    return Run(done, float(rate.group(1)), int(data.group(1)))


def check(run: Run, reply_bytes: int) -> Run:
    """Raises: H2loadError if some replies were shorter than a good one."""
    if run.data_bytes < run.requests * reply_bytes:
        raise H2loadError(
            f"calls failed under load: {run.requests} replies have {run.data_bytes} bytes, "
            f"a good one {reply_bytes}"
        )
    return run
