"""What the supervisor does for the prediction log: names for workers, and their books.

Everything here may block on the disk, so it runs in threads; one at a time.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventlog import (
    LedgerLine,
    LogError,
    allocate_incarnation,
    close_books,
    delivery_group,
    enforce_retention,
    ledger,
)
from eventlog.settings import LogSettings
from serving.supervisor.say import say

RETENTION_S = 60.0


class Books:
    """Incarnations and their ledgers in one log directory."""

    def __init__(self, directory: Path, settings: LogSettings) -> None:
        self._directory, self._settings = directory, settings
        self._group = delivery_group(settings)
        self._one_at_a_time = asyncio.Lock()
        self._retained_at = 0.0

    async def allocate(self) -> str:
        """A name that no worker ever had, durably reserved."""
        return await asyncio.to_thread(allocate_incarnation, self._directory)

    async def close(self) -> None:
        """Account for every incarnation whose process is gone, and drop what is too old.

        What cannot be done now (a full disk) is done at the next call.
        """
        try:
            await self._close()
        except (OSError, LogError, sqlite3.Error) as error:
            say(f"the log's books stay open: {error}")

    async def _close(self) -> None:
        for closed in await self._run(close_books, self._directory, time.time_ns, self._group):
            if closed.gaps or closed.damaged:
                say(
                    f"incarnation {closed.producer} ended with {closed.acknowledged} rows, "
                    f"lost {dict(closed.gaps)}, set aside {list(closed.damaged)}"
                )
        if time.monotonic() - self._retained_at > RETENTION_S:
            self._retained_at = time.monotonic()
            await self._run(enforce_retention, self._directory, self._settings, time.time_ns())

    async def ledger(self) -> list[dict[str, Any]]:
        """Acknowledged, delivered, spooled and lost rows of every producer."""
        lines: list[LedgerLine] = await self._run(ledger, self._directory, self._group)
        return [
            {
                "producer": line.producer,
                "live": line.live,
                "acknowledged": line.acknowledged,
                "delivered": line.delivered,
                "elsewhere": line.elsewhere,
                "spooled": line.spooled,
                "gaps": dict(line.gaps),
                "uncertain": line.uncertain,
            }
            for line in lines
        ]

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        async with self._one_at_a_time:
            return await asyncio.to_thread(work, *args)
