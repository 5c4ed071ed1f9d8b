"""A database whose schema holds a byte that is no UTF-8: sqlite3 cannot word its own error."""

import sqlite3
from contextlib import closing
from pathlib import Path


def spoil_schema(path: Path) -> None:
    """Flip one bit in the first statement of the schema, where the file holds it."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    place = content.find(b"CREATE TABLE")
    assert place >= 0
    content[place] ^= 0x80
    path.write_bytes(content)
