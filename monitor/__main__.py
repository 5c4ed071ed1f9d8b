"""`python -m monitor --config-fd N`: the sidecar as a process of its own.

The document on descriptor N is JSON: state_dir, registry_dir, model_repository,
admin_url, admin_token_path, and `monitor` with the fields of MonitorSettings.
"""

import argparse
import contextlib
import errno
import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from monitor.settings import MonitorSettings

CANNOT_START = 5  # exit code; tells who restarts us that trying again will not help


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m monitor", description=__doc__)
    parser.add_argument("--config-fd", type=int, required=True)
    with os.fdopen(parser.parse_args().config_fd, "rb") as stream:
        document = json.load(stream)
    state_dir = Path(document["state_dir"])
    # Before anything imports numba: the default place, beside the source, may be read-only.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(state_dir / "cache" / "numba"))
    logging.basicConfig(level=logging.INFO, format="driftgate monitor: %(message)s")
    home = state_dir / "monitor"
    with contextlib.ExitStack() as opened:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = opened.enter_context((home / "lock").open("w"))
        except OSError as exc:
            return refuse(f"{home} cannot be written ({exc.strerror}); choose another --state-dir")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return refuse(f"another monitor runs in {state_dir}; stop it first")
        return run(document, state_dir, home)


def refuse(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return CANNOT_START


def run(document: dict[str, Any], state_dir: Path, home: Path) -> int:
    """Compile, open everything, serve until SIGTERM or SIGINT; returns the exit code."""
    from eventlog import PredictionIds
    from monitor.admin import AdminClient
    from monitor.automation import Automation
    from monitor.http_api import MonitorServer
    from monitor.published import Published
    from monitor.retrain import RetrainHooks
    from monitor.service import Monitor, core_settings, guards, open_log, open_parts
    from registry_client import open_source

    settings = read_settings(document["monitor"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    published, database = Published(), home / "monitor.db"
    try:
        server = MonitorServer(settings.host, settings.port, published, database)
    except OSError as exc:
        where = f"monitor port {settings.host}:{settings.port}"
        if exc.errno == errno.EADDRINUSE:
            return refuse(f"{where} is in use; free it or set monitor.port")
        return refuse(f"{where} cannot be opened: {exc.strerror or exc}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (home / "address").write_text(f"{settings.host}:{server.server_port}\n")
    log = open_log(state_dir / "log", stop)
    if log is None:
        return 0
    source = open_source(Path(document["registry_dir"]), document.get("model_repository", ""))
    ids = PredictionIds.load(state_dir)
    parts = open_parts(database, core_settings(settings), log, ids, source)
    hooks = RetrainHooks(settings.retrain_hook, state_dir)
    automation = Automation(
        parts.store,
        parts.actions,
        AdminClient(document["admin_url"], Path(document["admin_token_path"])),
        hooks,
        guards(settings),
        rollback=settings.rollback,
        advance=settings.advance,
        retrain_window_ns=round(settings.retrain_window_s * 1e9),
        clock=time.time_ns,
    )
    try:
        Monitor(parts, state_dir / "log", published, automation).run(stop)
    finally:
        hooks.kill()
        server.shutdown()
        parts.store.close()
        parts.actions.close()
        log.close()
    return 0


def read_settings(values: dict[str, Any]) -> MonitorSettings:
    """JSON has no tuples."""
    return MonitorSettings(**{**values, "retrain_hook": tuple(values.get("retrain_hook", ()))})


if __name__ == "__main__":
    sys.exit(main())
