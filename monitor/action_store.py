"""What the monitor has done and is doing: a file apart from its statistics.

Laws:
- an action is stored, durably, before it is done, under a key that a second run
  would give it too;
- statistics may be rebuilt at any time, after damage or with other settings; what
  was done stays done, and its cool-downs with it;
- if this file itself is lost, a retraining counts as just done: nobody knows how
  long ago the last one was. A rollback needs no such care, the gateway knows its key.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.core.guards import Action, PastAction
from monitor.database import StoreDamaged, open_database, set_aside, transaction

FORMAT = 1
ACTIONS_KEPT = 10_000
ACTIONS_FILE = "actions.db"
_COLUMNS = "key, model, action, at_ns, state, verdict, data"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS actions (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, action TEXT NOT NULL, at_ns INTEGER NOT NULL,
  state TEXT NOT NULL, verdict TEXT NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS actions_by_time ON actions (model, at_ns);
"""

# An action's life: waiting (for an operator), pending (to be sent), running (a hook), then
# another state.
PENDING, RUNNING, REFUSED, DRY_RUN = "pending", "running", "refused", "dry run"
WAITING, DENIED, EXPIRED = "waiting", "denied", "expired"
UNFINISHED = (PENDING, RUNNING)
NOT_BEGUN = (DRY_RUN, WAITING, DENIED, EXPIRED)  # nothing has been changed by it
ONCE_MORE = (REFUSED, EXPIRED)  # it may be begun again under its key
# What the gateway refused, or nobody approved in time, has not happened; if it is still
# wanted after this while, it may be begun again under its key.
REFUSED_AGAIN_NS = 5 * 10**9

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActionRow:
    key: str
    model: str
    action: Action
    at_ns: int
    state: str
    verdict: str
    data: Mapping[str, Any]


class ActionStore:
    """One connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        """Opens `path`; a damaged one is set aside, and a new one begun."""
        try:
            self._open(path)
        except StoreDamaged as exc:
            aside = set_aside(path)
            logger.warning("%s: %s; set aside as %s, retraining cools down", path, exc, aside.name)
            self._open(path)
            self._db.execute("INSERT INTO meta VALUES ('lost_ns', ?)", (str(time.time_ns()),))
        row = self._db.execute("SELECT value FROM meta WHERE key = 'lost_ns'").fetchone()
        self._lost_ns = int(row[0]) if row else None

    def _open(self, path: Path) -> None:
        meta = {"format": str(FORMAT)}
        self._db = open_database(path, _SCHEMA, meta, synchronous="FULL")

    def close(self) -> None:
        self._db.close()

    def begin(self, row: ActionRow) -> bool:
        """Store an action before it is done; False when its key was used before.

        One that was refused or has expired may be begun again, see REFUSED_AGAIN_NS.
        """
        values = (row.key, row.model, row.action.value, row.at_ns, row.state, row.verdict)
        with transaction(self._db) as db:
            cursor = db.execute(
                f"INSERT INTO actions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
                "ON CONFLICT (key) DO UPDATE SET at_ns = excluded.at_ns, state = excluded.state, "
                "verdict = excluded.verdict, data = excluded.data "
                "WHERE actions.state IN (?, ?) AND abs(excluded.at_ns - actions.at_ns) >= ?",
                (*values, json.dumps(row.data), *ONCE_MORE, REFUSED_AGAIN_NS),
            )
            db.execute(
                "DELETE FROM actions WHERE key IN "
                "(SELECT key FROM actions ORDER BY at_ns DESC LIMIT -1 OFFSET ?)",
                (ACTIONS_KEPT,),
            )
        return cursor.rowcount == 1

    def finish(self, key: str, state: str, data: Mapping[str, Any]) -> None:
        """Note how an action ended; `data` is added to its own."""
        with transaction(self._db) as db:
            row = db.execute("SELECT data FROM actions WHERE key = ?", (key,)).fetchone()
            if row is None:
                return
            merged = {**json.loads(row[0]), **data}
            db.execute(
                "UPDATE actions SET state = ?, data = ? WHERE key = ?",
                (state, json.dumps(merged), key),
            )

    def may_begin(self, row: ActionRow) -> bool:
        """Whether `begin` would store it."""
        found = self.action(row.key)
        if found is None:
            return True
        return found.state in ONCE_MORE and abs(row.at_ns - found.at_ns) >= REFUSED_AGAIN_NS

    def action(self, key: str) -> ActionRow | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM actions WHERE key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        return _action(row) if row else None

    def adopt(self, row: ActionRow) -> None:
        """Take over what another monitor did; what is known here to have ended has ended."""
        mine = self.action(row.key)
        if (
            mine is not None
            and mine.at_ns >= row.at_ns
            and mine.state not in (*UNFINISHED, WAITING)
        ):
            return
        values = (row.key, row.model, row.action.value, row.at_ns, row.state, row.verdict)
        self._db.execute(
            f"INSERT OR REPLACE INTO actions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (*values, json.dumps(row.data)),
        )

    def verdict_of(self, key: str) -> str:
        """The id of the verdict that an action came from; empty if there is none."""
        row = self._db.execute("SELECT verdict FROM actions WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def actions(self, model: str, limit: int = 1000) -> list[ActionRow]:
        """Newest first."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM actions WHERE model = ? ORDER BY at_ns DESC LIMIT ?",  # noqa: S608
            (model, limit),
        )
        return [_action(row) for row in rows]

    def unfinished(self) -> list[ActionRow]:
        return _in_states(self._db, UNFINISHED)

    def waiting(self) -> list[ActionRow]:
        """For an operator, with `answer_waiting`'s answer in the data once there is one."""
        return _in_states(self._db, (WAITING,))

    def past(self, model: str) -> list[PastAction]:
        """Actions that were begun and not refused, newest first.

        A hook that died with the monitor counts: it may have got far, or run on.
        """
        found = [
            PastAction(
                row.action,
                row.at_ns,
                row.state in (*UNFINISHED, WAITING),
                row.state in NOT_BEGUN,
            )
            for row in self.actions(model)
            if row.state != REFUSED
        ]
        return (
            found if self._lost_ns is None else [*found, PastAction(Action.RETRAIN, self._lost_ns)]
        )

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Model, action, state, how many."""
        return list(
            self._db.execute(
                "SELECT model, action, state, COUNT(*) FROM actions "
                "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            )
        )


def pack_action(row: ActionRow) -> bytes:
    document = {name: getattr(row, name) for name in _COLUMNS.split(", ")}
    return json.dumps({**document, "action": row.action.value}).encode()


def unpack_action(data: bytes) -> ActionRow:
    """Raises: ValueError, KeyError or TypeError when the bytes were not made by `pack_action`."""
    document = json.loads(data)
    return ActionRow(**{**document, "action": Action(document["action"])})


def read_actions(path: Path, model: str, after_ns: int, limit: int) -> list[dict[str, Any]]:
    """The newest actions of a model as documents, oldest of them first.

    On a connection of its own.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as db:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM actions WHERE model = ? AND at_ns > ? "  # noqa: S608
            "ORDER BY at_ns DESC LIMIT ?",
            (model, after_ns, limit),
        ).fetchall()
    return [_document(_action(row)) for row in reversed(rows)]


def read_waiting(path: Path) -> list[ActionRow]:
    """The actions that wait for an operator. On a connection of its own."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as db:
        return _in_states(db, (WAITING,))


def answer_waiting(path: Path, key: str, answer: Mapping[str, Any]) -> bool:
    """Put an operator's answer where the monitor finds it; False unless the action waits.

    answer: `answer` (as `Answer`), `answered_by`, `answered_ns` and `why`. A second one is
            none: the first counts.
    On a connection of its own.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5.0)) as db:
        db.isolation_level = None
        with transaction(db):
            row = db.execute(
                "SELECT data FROM actions WHERE key = ? AND state = ?", (key, WAITING)
            ).fetchone()
            if row is None or "answer" in (data := json.loads(row[0])):
                return False
            merged = json.dumps({**data, **answer})
            db.execute("UPDATE actions SET data = ? WHERE key = ?", (merged, key))
    return True


def _in_states(db: sqlite3.Connection, states: Sequence[str]) -> list[ActionRow]:
    """Oldest first."""
    marks = ", ".join("?" * len(states))
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM actions WHERE state IN ({marks}) ORDER BY at_ns",  # noqa: S608
        states,
    )
    return [_action(row) for row in rows]


def _action(row: Sequence[Any]) -> ActionRow:
    return ActionRow(row[0], row[1], Action(row[2]), row[3], row[4], row[5], json.loads(row[6]))


def _document(row: ActionRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "action": row.action.value,
        "at_ns": row.at_ns,
        "state": row.state,
        "verdict": row.verdict,
        **row.data,
    }
