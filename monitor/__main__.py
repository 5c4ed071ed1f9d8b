"""`python -m monitor --config-fd N`: the sidecar as a process of its own.

The document on descriptor N is JSON: state_dir, registry_dir, model_repository,
admin_urls, admin_token_path, `monitor` with the fields of MonitorSettings, and, where
the log or the retrain trigger is on Kafka, `kafka` with the fields of KafkaSettings;
`bootstrap` where the log is.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor.core.slice import Slice
from monitor.settings import MonitorSettings
from monitor.triggers.settings import RetrainSettings
from monitor.triggers.trigger import InvalidTrigger

if TYPE_CHECKING:  # numba comes with it
    from monitor.world import World

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
    from monitor.comparisons import refresh_for_ever
    from monitor.http_api import MonitorServer
    from monitor.published import Published
    from monitor.service import gate_limits
    from monitor.world import World

    settings = read_settings(document["monitor"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    published = Published()
    try:
        world = World(document, settings, state_dir, home, published)
    except InvalidTrigger as exc:
        return refuse(f"no training can be asked for: {exc}")
    try:
        database, limits = home / "monitor.db", gate_limits(settings)
        server = MonitorServer(settings.host, settings.port, published, database, limits)
    except OSError as exc:
        where = f"monitor port {settings.host}:{settings.port}"
        if exc.errno == errno.EADDRINUSE:
            return refuse(f"{where} is in use; free it or set monitor.port")
        return refuse(f"{where} cannot be opened: {exc.strerror or exc}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    compared = (published.comparisons, lambda: published.snapshot.spaces, stop)
    threading.Thread(target=refresh_for_ever, args=compared, daemon=True).start()
    (home / "address").write_text(f"{settings.host}:{server.server_port}\n")
    try:
        watch = watch_kafka if document.get("bootstrap") else watch_here
        watch(world, stop)
    finally:
        world.kill_hooks()
        server.shutdown()
    return 0


def watch_here(world: "World", stop: threading.Event) -> None:
    """Over the log of a gateway on this machine."""
    from eventlog import LogError, PredictionIds, record_elsewhere
    from monitor.service import Monitor, core_settings, open_log
    from monitor.task import open_parts

    directory = world.state_dir / "log"
    log = open_log(directory, stop)
    if log is None:
        return
    try:
        record_elsewhere(directory)
    except (LogError, OSError) as exc:
        logging.warning("what went to Kafka earlier cannot be written down: %s", exc)
    ids = PredictionIds.load(world.state_dir)
    settings = core_settings(world.settings)
    path = world.home / "monitor.db"
    parts = open_parts(path, settings, log, ids.decode, world.source, encode_id=ids.encode)
    try:
        Monitor(parts, directory, world.published, world.automate(parts)).run(stop)
    finally:
        parts.close()
        log.close()


def watch_kafka(world: "World", stop: threading.Event) -> None:
    """As one of a group, over the log in Kafka."""
    from monitor.kafka.compose import open_group_monitor

    monitor = open_group_monitor(world)
    try:
        monitor.run(stop)
    finally:
        monitor.close()


def read_settings(values: dict[str, Any]) -> MonitorSettings:
    """The inverse of `asdict`, also after JSON, which has no tuples."""
    retrain = RetrainSettings(**_tuples(values.get("retrain", {})))
    slices = {
        model: tuple(Slice(**_tuples(item)) for item in items)
        for model, items in values.get("slices", {}).items()
    }
    return MonitorSettings(**{**_tuples(values), "retrain": retrain, "slices": slices})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


if __name__ == "__main__":
    sys.exit(main())
