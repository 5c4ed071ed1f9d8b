"""The monitor's statistics on disk: state, history, verdicts, labels, profiles.

Law: the engine's state (with its position in the log) and everything its blocks
gave are stored in one transaction. All of it can be rebuilt from the log; what
was done about it lies apart, in `monitor.action_store`.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.action_store import ACTIONS_FILE, read_actions
from monitor.core.block import Sample
from monitor.core.label_book import PAGES_MAX, PageKey
from monitor.database import open_database, transaction

FORMAT = 10
BLOCKS_HANDED = 300  # per model, to whoever takes a partition over: five minutes of 1 s blocks
BLOCKS_KEPT = 100_000  # per model: 28 h of 1 s blocks
VERDICTS_KEPT = 10_000
PROFILES_KEPT = 64  # per model, those that were used last; one takes about as much as a state
PRUNE_EVERY = 512  # commits

SCHEMA = """
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 0), data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
  model TEXT NOT NULL, start_ns INTEGER NOT NULL,
  stable_rows INTEGER NOT NULL, stable_stands_for INTEGER NOT NULL,
  candidate_rows INTEGER NOT NULL, candidate_stands_for INTEGER NOT NULL,
  data TEXT NOT NULL, PRIMARY KEY (model, start_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
  id TEXT PRIMARY KEY, model TEXT NOT NULL, start_ns INTEGER NOT NULL, data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (model, start_ns);
CREATE TABLE IF NOT EXISTS label_pages (
  producer TEXT NOT NULL, page INTEGER NOT NULL, stamp INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (producer, page)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profiles (
  model TEXT NOT NULL, digest TEXT NOT NULL, data BLOB, stamp INTEGER NOT NULL,
  PRIMARY KEY (model, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claim (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class BlockRow:
    model: str
    start_ns: int
    stable: Sample
    candidate: Sample
    data: Mapping[str, Any]


class Store:
    """One connection, used by one thread."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """fingerprint: of the settings that the statistics depend on.

        Raises: StoreDamaged when the file is no sound database of this format.
        """
        meta = {"format": str(FORMAT), "fingerprint": fingerprint}
        self._db = open_database(path, SCHEMA, meta, synchronous="NORMAL")
        self._commits = 0
        self._touched: set[str] | None = None  # parts since `changes`; None: it was never called

    def close(self) -> None:
        self._db.close()

    # -- the engine's side ---------------------------------------------------------

    def state(self) -> bytes | None:
        row = self._db.execute("SELECT data FROM state").fetchone()
        return bytes(row[0]) if row else None

    def commit(
        self,
        state: bytes,
        blocks: Sequence[BlockRow],
        verdicts: Sequence[Mapping[str, Any]],
        pages: Mapping[PageKey, bytes],
    ) -> None:
        """Store a step of the engine, all or nothing.

        verdicts: documents with `id`, `model` and `block_start_ns`.
        """
        stamp = time.time_ns()
        with transaction(self._db) as db:
            db.execute("INSERT OR REPLACE INTO state VALUES (0, ?)", (state,))
            db.executemany(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)",
                [_block_values(block) for block in blocks],
            )
            db.executemany(
                "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?)",
                [(v["id"], v["model"], v["block_start_ns"], json.dumps(v)) for v in verdicts],
            )
            db.executemany(
                "INSERT OR REPLACE INTO label_pages VALUES (?, ?, ?, ?)",
                [(producer, page, stamp, data) for (producer, page), data in pages.items()],
            )
            if self._commits % PRUNE_EVERY == 0:
                _prune(db)
        self._commits += 1
        if self._touched is not None:
            self._touched |= {_page_part(producer, page) for producer, page in pages}

    def label_page(self, key: PageKey) -> bytes | None:
        row = self._db.execute(
            "SELECT data FROM label_pages WHERE producer = ? AND page = ?", key
        ).fetchone()
        return bytes(row[0]) if row else None

    def profile(self, model: str, digest: str) -> tuple[bool, bytes | None]:
        """Whether it is known what the version's profile is, and the profile, if any.

        It counts as used.
        """
        _touch_profile(self._db, model, digest)
        row = self._db.execute(
            "SELECT data FROM profiles WHERE model = ? AND digest = ?", (model, digest)
        ).fetchone()
        return row is not None, row[0] if row else None

    def keep_profile(
        self, model: str, digest: str, data: bytes | None, in_use: Sequence[str] = ()
    ) -> None:
        """Keep a version's profile; of the model's others those that were used last stay.

        in_use: digests of the model whose profiles are at hand, the last used one last.
        """
        with transaction(self._db) as db:
            for used in in_use:
                _touch_profile(db, model, used)
            db.execute(
                "INSERT OR IGNORE INTO profiles VALUES (?, ?, ?, ?)",
                (model, digest, data, _next_stamp(db)),
            )
            db.execute(
                "DELETE FROM profiles WHERE model = ? AND digest IN (SELECT digest FROM profiles "
                "WHERE model = ? ORDER BY stamp DESC LIMIT -1 OFFSET ?)",
                (model, model, PROFILES_KEPT),
            )
        if self._touched is not None:
            self._touched.add(_profile_part(model, digest))

    # -- the automation's side -----------------------------------------------------

    def extend_verdict(self, id: str, data: Mapping[str, Any]) -> None:
        """Add what came of a verdict to its document; nothing for an unknown one."""
        with transaction(self._db) as db:
            row = db.execute("SELECT data FROM verdicts WHERE id = ?", (id,)).fetchone()
            if row is not None:
                merged = json.dumps({**json.loads(row[0]), **data})
                db.execute("UPDATE verdicts SET data = ? WHERE id = ?", (merged, id))

    def rows_since(self, model: str, since_ns: int) -> tuple[Sample, Sample]:
        """Of the stable version and of the candidate, in blocks from `since_ns` on."""
        row = self._db.execute(
            "SELECT TOTAL(stable_rows), TOTAL(stable_stands_for), TOTAL(candidate_rows), "
            "TOTAL(candidate_stands_for) FROM blocks WHERE model = ? AND start_ns >= ?",
            (model, since_ns),
        ).fetchone()
        stable, of_stable, candidate, of_candidate = map(int, row)
        return Sample(stable, of_stable), Sample(candidate, of_candidate)

    def verdict(self, id: str) -> dict[str, Any]:
        """Raises: KeyError when no such verdict was stored."""
        row = self._db.execute("SELECT data FROM verdicts WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise KeyError(id)
        found: dict[str, Any] = json.loads(row[0])
        return found

    # -- handing over --------------------------------------------------------------

    def epoch(self) -> int:
        """Of the claim under which this state came about; 0: of none."""
        row = self._db.execute("SELECT epoch FROM claim").fetchone()
        return int(row[0]) if row else 0

    def claimed(self, epoch: int) -> None:
        """The state goes on under a new claim."""
        self._db.execute("INSERT OR REPLACE INTO claim VALUES (0, ?)", (epoch,))

    def changes(self, standing: Collection[str]) -> tuple[dict[str, bytes], set[str]]:
        """What was stored, in named parts: those that may have changed since the last call, and
        the names of all. After a failure to write them, call `changes_lost`.

        standing: ids of the verdicts that are needed to go on.
        """
        pages = self._db.execute("SELECT producer, page FROM label_pages").fetchall()
        profiles = self._db.execute("SELECT model, digest FROM profiles").fetchall()
        found = {"recent": json.dumps(self._recent(standing)).encode()}
        if (state := self.state()) is not None:  # None until the first step
            found["engine"] = state
        present = set(found)
        for key in pages:
            present.add(name := _page_part(*key))
            if self._touched is None or name in self._touched:
                found[name] = self.label_page(key) or b""
        for model, digest in profiles:
            present.add(name := _profile_part(model, digest))
            if self._touched is None or name in self._touched:
                (data,) = self._db.execute(
                    "SELECT data FROM profiles WHERE model = ? AND digest = ?", (model, digest)
                ).fetchone()
                found[name] = b"" if data is None else b"+" + data
        self._touched = set()
        return found, present

    def changes_lost(self) -> None:
        """The next `changes` has everything."""
        self._touched = None

    def inherit(self, parts: Mapping[str, bytes], epoch: int) -> None:
        """Put what another monitor stored in place of all of this, in one transaction.

        Raises: ValueError or KeyError when it is not what `changes` gives.
        """
        recent = json.loads(parts["recent"])
        if recent.get("format") != FORMAT:
            raise ValueError(f"a state of format {recent.get('format')}, expected {FORMAT}")
        with transaction(self._db) as db:
            for table in ("state", "blocks", "verdicts", "label_pages", "profiles"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
            if "engine" in parts:
                db.execute("INSERT INTO state VALUES (0, ?)", (parts["engine"],))
            db.execute("INSERT OR REPLACE INTO claim VALUES (0, ?)", (epoch,))
            db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", recent["blocks"])
            db.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?)", recent["verdicts"])
            for name, data in parts.items():
                kind, _, rest = name.partition("/")
                if kind == "page":
                    producer, page = rest.split("/")
                    row = (producer, int(page), time.time_ns(), data)
                    db.execute("INSERT INTO label_pages VALUES (?, ?, ?, ?)", row)
                elif kind == "profile":
                    digest, model = rest.split("/", 1)
                    profile = data[1:] if data else None
                    db.execute(
                        "INSERT INTO profiles VALUES (?, ?, ?, ?)",
                        (model, digest, profile, _next_stamp(db)),
                    )

    def _recent(self, standing: Collection[str]) -> dict[str, Any]:
        blocks = []
        for (model,) in self._db.execute("SELECT DISTINCT model FROM blocks").fetchall():
            blocks += self._db.execute(
                "SELECT * FROM blocks WHERE model = ? ORDER BY start_ns DESC LIMIT ?",
                (model, BLOCKS_HANDED),
            ).fetchall()
        verdicts = []
        for verdict in sorted(standing):
            verdicts += self._db.execute(
                "SELECT id, model, start_ns, data FROM verdicts WHERE id = ?", (verdict,)
            ).fetchall()
        return {"format": FORMAT, "blocks": blocks, "verdicts": verdicts}


def _block_values(block: BlockRow) -> tuple[Any, ...]:
    stable, candidate = block.stable, block.candidate
    arms = (stable.rows, stable.stands_for, candidate.rows, candidate.stands_for)
    return (block.model, block.start_ns, *arms, json.dumps(block.data))


def _next_stamp(db: sqlite3.Connection) -> int:
    """Above that of every profile."""
    (last,) = db.execute("SELECT COALESCE(MAX(stamp), 0) FROM profiles").fetchone()
    return int(last) + 1


def _touch_profile(db: sqlite3.Connection, model: str, digest: str) -> None:
    db.execute(
        "UPDATE profiles SET stamp = ? WHERE model = ? AND digest = ? AND stamp < "
        "(SELECT MAX(stamp) FROM profiles WHERE model = ?)",
        (_next_stamp(db), model, digest, model),
    )


def _page_part(producer: str, page: int) -> str:
    return f"page/{producer}/{page}"


def _profile_part(model: str, digest: str) -> str:
    return f"profile/{digest}/{model}"


def read_history(
    path: Path, model: str, after_ns: int, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The newest blocks, verdicts and actions of a model, oldest of them first.

    limit: of each. On a connection of its own.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as db:
        blocks = db.execute(
            "SELECT data FROM (SELECT start_ns, data FROM blocks WHERE model = ? AND start_ns > ? "
            "ORDER BY start_ns DESC LIMIT ?) ORDER BY start_ns",
            (model, after_ns, limit),
        ).fetchall()
        verdicts = db.execute(
            "SELECT data FROM (SELECT start_ns, data FROM verdicts WHERE model = ? "
            "AND start_ns > ? ORDER BY start_ns DESC LIMIT ?) ORDER BY start_ns",
            (model, after_ns, limit),
        ).fetchall()
    return (
        [json.loads(row[0]) for row in blocks],
        [json.loads(row[0]) for row in verdicts],
        read_actions(path.with_name(ACTIONS_FILE), model, after_ns, limit),
    )


def read_blocks(path: Path, model: str, after_ns: int) -> Iterator[dict[str, Any]]:
    """The blocks of a model that begin after `after_ns`, oldest first, one at a time.

    On a connection of its own, which is closed with the iterator.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as db:
        for (data,) in db.execute(
            "SELECT data FROM blocks WHERE model = ? AND start_ns > ? ORDER BY start_ns",
            (model, after_ns),
        ):
            yield json.loads(data)


def _prune(db: sqlite3.Connection) -> None:
    for (model,) in db.execute("SELECT DISTINCT model FROM blocks").fetchall():
        db.execute(
            "DELETE FROM blocks WHERE model = ? AND start_ns <= (SELECT start_ns FROM blocks "
            "WHERE model = ? ORDER BY start_ns DESC LIMIT 1 OFFSET ?)",
            (model, model, BLOCKS_KEPT),
        )
    db.execute(
        "DELETE FROM verdicts WHERE id IN (SELECT id FROM verdicts "
        "ORDER BY start_ns DESC LIMIT -1 OFFSET ?)",
        (VERDICTS_KEPT,),
    )
    db.execute(
        "DELETE FROM label_pages WHERE (producer, page) IN (SELECT producer, page "
        "FROM label_pages ORDER BY stamp DESC LIMIT -1 OFFSET ?)",
        (PAGES_MAX,),
    )
