"""`GET /metrics`: the counts of all workers, living and dead, and the supervisor's own.

A counter never falls: what a dead worker counted is folded into a file before its
slab is removed, and the file names whom it has folded, so nothing counts twice.
While the disk refuses, the slabs stay, and the next fold writes the file.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.metrics import CATALOGUE, Kind, Totals, read_slab, width
from serving.store.files import write_atomically

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_KEPT = (Kind.COUNTER, Kind.HISTOGRAM, Kind.RECORD)  # a dead worker has no queue and no connections


class DeadTotals:
    """What workers counted that are gone, in `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.totals = Totals()
        self._folded: list[str] = []  # whose slab may still lie there after a crash
        self._unsaved: list[Path] = []  # slabs that are in the totals and not in the file
        try:
            document = json.loads(path.read_bytes())
            self._folded = [str(item) for item in document["folded"]]
            for key, values in document["cells"]:
                metric = CATALOGUE.get(key[0])
                if metric is not None and len(values) == width(metric):
                    self.totals.cells[tuple(key)] = [float(value) for value in values]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            self.totals, self._folded = Totals(), []

    def fold(self, slab: Path) -> None:
        """Take over a dead worker's counters and remove its slab; idempotent."""
        if slab.stem not in self._folded:
            with contextlib.suppress(OSError, ValueError):  # there is nothing to take over
                self.totals.add(read_slab(slab), kinds=_KEPT)
            self._folded = [*self._folded[-255:], slab.stem]
        self._unsaved.append(slab)
        with contextlib.suppress(OSError):
            self._save()

    def _save(self) -> None:
        cells = [[list(key), values] for key, values in self.totals.cells.items()]
        document = {"folded": self._folded, "cells": cells}
        write_atomically(self._path, json.dumps(document).encode())
        while self._unsaved:
            self._unsaved[-1].unlink(missing_ok=True)
            self._unsaved.pop()


def collect(dead: DeadTotals, slabs: Iterable[Path]) -> Totals:
    """What workers have counted until now; a slab that is going away is skipped."""
    totals = Totals()
    totals.add(dead.totals)
    for slab in slabs:
        try:
            totals.add(read_slab(slab))
        except (OSError, ValueError):
            continue
    return totals


def metrics_app(exposition: Callable[[], bytes]) -> Starlette:
    """The read-only application of the metrics port."""

    async def metrics(_: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE)

    app = Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
    app.router.redirect_slashes = False
    return app
