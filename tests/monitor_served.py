"""A monitor's HTTP server in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.http_api import MonitorServer
from monitor.published import Published


@contextmanager
def served(published: Published, history: Path) -> Iterator[str]:
    """Its URL. history: the monitor's database, which need not be there."""
    server = MonitorServer("127.0.0.1", 0, published, history)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
