"""One segment: an SQLite file with records of one producer, in offset order.

Laws:
- an offset is written once; rows are never updated or deleted;
- each row carries a CRC-32 over its columns and body, since SQLite notices a
  damaged page structure but no flipped bit in a blob;
- the table `meta` says what the producer had accounted for before this segment,
  so that the books of an incarnation need no more than its last segment;
- offsets of an original (revision 0) are consecutive: a hole is damage.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from eventlog.core.intervals import Intervals
from eventlog.core.marks import parse_gap
from eventlog.core.record import (
    PREDICTIONS,
    RUNS_HEADER,
    Record,
    RecordKind,
    Run,
    StoredRecord,
    runs_of,
)
from eventlog.log import StorageError
from eventlog.segment_files import SCRATCH_SUFFIX, SegmentName, list_segments, sync_directory

FORMAT = 1
PAGE_BYTES = 8192  # record bodies take tens to hundreds of KiB
# Each checkpoint is two fsyncs and stalls the writing thread; a larger log makes
# sealing slow. 4 MiB keeps both in the tens of milliseconds.
CHECKPOINT_PAGES = 4 * 1024 * 1024 // PAGE_BYTES
BUSY_TIMEOUT_MS = 2000
UNBOUNDED = 1 << 62
RECORD_OVERHEAD_BYTES = 1024  # of a record in memory, besides its body

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
  "offset" INTEGER PRIMARY KEY, stream TEXT NOT NULL, kind INTEGER NOT NULL,
  reason INTEGER NOT NULL, first INTEGER NOT NULL, stop INTEGER NOT NULL,
  rows INTEGER NOT NULL, watermark_ns INTEGER NOT NULL, headers TEXT NOT NULL,
  crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX located ON records (stop, first) WHERE kind = 1 AND stream = 'predictions';
"""
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = '"offset", stream, kind, reason, first, stop, rows, watermark_ns, headers, crc, body'
_READ = f'SELECT {_COLUMNS} FROM records WHERE "offset" > ? ORDER BY "offset" LIMIT ?'  # noqa: S608
_READ_BACK = f'SELECT {_COLUMNS} FROM records WHERE "offset" < ? ORDER BY "offset" DESC'  # noqa: S608
# Without bodies: what a look from the back passes over costs no pages of theirs.
_GLANCE = (
    'SELECT "offset", kind, watermark_ns, headers FROM records WHERE "offset" < ?'
    " AND kind IN (1, 2) AND stream = 'predictions' ORDER BY \"offset\" DESC LIMIT ?"
)
_LOCATE = (
    f"SELECT {_COLUMNS} FROM records WHERE kind = 1 AND stream = 'predictions'"  # noqa: S608
    " AND stop > ? AND first <= ? ORDER BY stop"
)

Row = tuple[int, str, int, int, int, int, int, int, str, int, bytes]
Connect = Callable[[Path], sqlite3.Connection]


class SegmentDamaged(StorageError):
    """The file, or a record in it, cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a segment says about itself.

    accounted:  prediction rows that were in records, of any kind, before it.
    labels:     the next number in the producer's numbering of labels.
    tombstone:  only gaps are left of what was here.
    """

    producer: str
    first_offset: int
    accounted: tuple[Run, ...]
    labels: int
    opened_ns: int
    tombstone: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """Prediction rows beyond some offset of a segment: in DATA, and in GAPs by reason."""

    data: int
    gaps: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Glance:
    """A DATA or GAP record of predictions without its body; not held against its checksum.

    newest_ns: the latest arrival in DATA; for a GAP, how far its producer had come.
    """

    offset: int
    kind: RecordKind
    model: str
    newest_ns: int


class LoneReader(sqlite3.Connection):
    """One that keeps everybody else out while it is open: to be closed after each use."""


def connect(
    path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """A connection in autocommit that may be handed from thread to thread."""
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """As `connect`, but refusing to write; it may still replay a dead writer's log.

    SQLite keeps an index of the write-ahead log in a file beside it. On a full disk that
    cannot be made, and a log that cannot be read can never be emptied: the index is then
    kept in memory, which takes the file for oneself. A living writer has made the index.
    """
    connection = connect(path)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE:
            return connection  # whoever reads is told
        connection.close()
        connection = connect(path, LoneReader)
        connection.execute("PRAGMA query_only = 1")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    except (sqlite3.Error, UnicodeDecodeError):
        pass  # likewise; sqlite3 cannot word an error that quotes a damaged schema
    return connection


def build_segment(
    directory: Path,
    name: SegmentName,
    meta: Meta,
    stored: Iterable[StoredRecord] = (),
    *,
    durable: bool = True,
) -> Path:
    """Create a segment with these records, visible at once and complete, or not at all.

    durable: it survives a power loss; costs two waits for the disk.
    Raises: StorageError.
    """
    path = directory / str(name)
    scratch = path.with_name(f"{path.name}.{os.getpid()}{SCRATCH_SUFFIX}")
    try:
        scratch.unlink(missing_ok=True)
        with closing(sqlite3.connect(scratch, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = MEMORY")  # nobody sees a torn scratch file
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
            _write_meta(connection, meta)
            connection.executemany(_INSERT, (to_row(item.offset, item.record) for item in stored))
            connection.execute("COMMIT")
        if durable:
            _sync_file(scratch)
        os.replace(scratch, path)
        if durable:
            sync_directory(directory)
    except (sqlite3.Error, OSError) as exc:
        scratch.unlink(missing_ok=True)
        raise StorageError(f"cannot create segment {name}: {exc}") from exc
    return path


def open_for_append(path: Path, connect: Connect = connect) -> sqlite3.Connection:
    """A writing connection in WAL mode. Raises: sqlite3.Error."""
    connection = connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def append_rows(connection: sqlite3.Connection, rows: Sequence[Row], *, durable: bool) -> None:
    """One transaction; `durable` waits for the disk. Raises: sqlite3.Error."""
    connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(_INSERT, rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def make_durable(connection: sqlite3.Connection, directory: Path) -> bool:
    """Bring the file under the write-ahead log, and both names, onto the disk.

    Through SQLite: a descriptor of our own would drop its locks when closed.
    Returns: whether that is done; a reader may be in the way. Raises: sqlite3.Error, OSError.
    """
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    sync_directory(directory)
    return not busy


def to_row(offset: int, record: Record) -> Row:
    runs = runs_of(record)
    first = record.first_sequence
    stop = max((start + count for start, count in runs), default=first)
    reason = int(parse_gap(record).reason) if record.kind is RecordKind.GAP else 0
    headers = json.dumps(dict(record.headers), ensure_ascii=False, separators=(",", ":"))
    row = (
        offset,
        record.stream,
        int(record.kind),
        reason,
        first,
        stop,
        record.rows,
        record.watermark_ns,
        headers,
        0,
        record.body,
    )
    return (*row[:9], _crc(row), record.body)


def from_row(producer: str, row: Row) -> StoredRecord:
    """Raises: SegmentDamaged if the checksum does not match."""
    offset, stream, kind, _, first, _, rows, watermark_ns, headers, crc, body = row
    try:
        if crc != _crc(row):
            raise ValueError("checksum")
        record = Record(
            stream, RecordKind(kind), producer, first, rows, watermark_ns, json.loads(headers), body
        )
    except (ValueError, TypeError) as exc:
        raise SegmentDamaged(f"record {producer}/{offset} does not match its checksum") from exc
    return StoredRecord(producer, offset, record)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Translate what SQLite says about a broken file."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        if _is_structural(exc):
            raise SegmentDamaged(f"{path.name}: {exc}") from exc
        raise StorageError(f"{path.name}: {exc}") from exc
    except (sqlite3.DatabaseError, sqlite3.DataError, UnicodeDecodeError) as exc:
        raise SegmentDamaged(f"{path.name}: {exc}") from exc


def read_meta(connection: sqlite3.Connection) -> Meta:
    """Raises: sqlite3.Error, SegmentDamaged."""
    values = dict(connection.execute("SELECT key, value FROM meta"))
    try:
        if int(values["format"]) != FORMAT:
            raise SegmentDamaged(f"segment format {values['format']}, expected {FORMAT}")
        body = values["body"]
        if int(values["crc"]) != zlib.crc32(body.encode()):
            raise SegmentDamaged("segment meta does not match its checksum")
        fields = json.loads(body)
        fields["accounted"] = tuple((first, count) for first, count in fields["accounted"])
        return Meta(**fields)
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise SegmentDamaged("segment meta is malformed") from exc


def read_records(
    connection: sqlite3.Connection,
    name: SegmentName,
    after: int,
    limit: int,
    bytes_max: int = UNBOUNDED,
) -> list[StoredRecord]:
    """Records beyond `after`, at most `limit` (-1: all), until they reach `bytes_max`.

    Fewer come back where damage follows: those before it are good.
    Raises: sqlite3.Error, SegmentDamaged if the first one is damaged or missing.
    """
    expected = max(after + 1, name.first_offset)
    found: list[StoredRecord] = []
    size = 0
    with closing(connection.execute(_READ, (after, limit))) as rows:
        for row in rows:
            try:
                if name.revision == 0 and row[0] != expected:
                    raise SegmentDamaged(f"{name}: record {expected} is missing")
                found.append(from_row(name.producer, row))
            except SegmentDamaged:
                if found:
                    return found
                raise
            expected += 1
            size += record_bytes(found[-1].record)
            if size >= bytes_max:
                break
    return found


def first_metas(directory: Path) -> dict[str, Meta]:
    """What the first segment of each producer that is left says of those before it.

    A producer whose first one cannot be read is left out.
    """
    metas: dict[str, Meta] = {}
    for producer, (first, *_) in list_segments(directory).items():
        path = directory / str(first)
        with suppress(StorageError), damage(path), closing(connect_reader(path)) as connection:
            metas[producer] = read_meta(connection)
    return metas


def record_bytes(record: Record) -> int:
    """What a record takes in memory, roughly: with many runs its headers count."""
    return len(record.body) + len(record.headers.get(RUNS_HEADER, "")) + RECORD_OVERHEAD_BYTES


def locate_record(
    connection: sqlite3.Connection, producer: str, sequence: int
) -> StoredRecord | None:
    """The DATA record of a prediction row. Raises: sqlite3.Error, SegmentDamaged."""
    for row in connection.execute(_LOCATE, (sequence, sequence)):
        stored = from_row(producer, row)
        if any(first <= sequence < first + count for first, count in runs_of(stored.record)):
            return stored
    return None


def glance_back(connection: sqlite3.Connection, before: int, limit: int) -> list[Glance]:
    """Records of prediction rows below offset `before`, the last first.

    Raises: sqlite3.Error, SegmentDamaged.
    """
    try:
        return [_glance(row) for row in connection.execute(_GLANCE, (before, limit))]
    except (ValueError, TypeError, AttributeError) as exc:
        raise SegmentDamaged("a record's headers are malformed") from exc


def _glance(row: tuple[int, int, int, str]) -> Glance:
    offset, kind, watermark_ns, text = row
    headers = json.loads(text)
    newest_ns = int(headers.get("ts_max_ns", watermark_ns))
    return Glance(offset, RecordKind(kind), headers.get("model", ""), newest_ns)


def last_offset(connection: sqlite3.Connection) -> int:
    """0 when empty. Raises: sqlite3.Error."""
    (value,) = connection.execute('SELECT coalesce(max("offset"), 0) FROM records').fetchone()
    return int(value)


def tally(connection: sqlite3.Connection, after: int) -> Tally:
    """Raises: sqlite3.Error."""
    data, gaps = 0, {}
    for kind, reason, rows in connection.execute(
        'SELECT kind, reason, sum(rows) FROM records WHERE "offset" > ? AND stream = ?'
        " GROUP BY kind, reason",
        (after, PREDICTIONS),
    ):
        if kind == RecordKind.DATA:
            data += rows
        elif kind == RecordKind.GAP:
            gaps[reason] = rows
    return Tally(data, gaps)


def accounted(meta: Meta, stored: Iterable[StoredRecord]) -> Intervals:
    """The prediction rows in records up to the end of `stored`."""
    intervals = Intervals(meta.accounted)
    for item in stored:
        if item.record.stream == PREDICTIONS:
            intervals.update(runs_of(item.record))
    return intervals


def salvage(path: Path, name: SegmentName) -> tuple[Meta | None, list[StoredRecord]]:
    """What can still be read of a damaged segment: from the front, then from the back."""
    intact: dict[int, StoredRecord] = {}
    meta: Meta | None = None
    try:
        connection = connect_reader(path)
    except sqlite3.Error:
        return None, []
    with closing(connection):
        try:
            meta = read_meta(connection)
        except (sqlite3.Error, SegmentDamaged, UnicodeDecodeError):
            meta = None
        _collect(connection, name, (_READ, (0, -1)), intact)
        _collect(connection, name, (_READ_BACK, (1 << 62,)), intact)
    return meta, [intact[offset] for offset in sorted(intact)]


def _collect(
    connection: sqlite3.Connection,
    name: SegmentName,
    query: tuple[str, tuple[int, ...]],
    intact: dict[int, StoredRecord],
) -> None:
    try:
        for row in connection.execute(*query):
            if row[0] in intact:
                continue
            try:
                stored = from_row(name.producer, row)
            except SegmentDamaged:
                continue
            if stored.offset >= name.first_offset:
                intact[stored.offset] = stored
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _is_structural(exc: sqlite3.OperationalError) -> bool:
    code = getattr(exc, "sqlite_errorcode", None)
    # A missing table is a torn header page; a short read is a truncated file;
    # text that is no UTF-8 has no code at all.
    return code in (
        None,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_SHORT_READ,
    )


def _write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    body = json.dumps({field: getattr(meta, field) for field in Meta.__slots__})
    values = {"format": str(FORMAT), "body": body, "crc": str(zlib.crc32(body.encode()))}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())


def _crc(row: Row) -> int:
    # Everything that a reader acts on; `reason` too, which the ledger adds up by.
    text = "|".join(str(value) for value in row[:9])
    return zlib.crc32(row[10], zlib.crc32(text.encode()))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
