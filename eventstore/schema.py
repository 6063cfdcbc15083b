"""The ledger's file: how it is made, opened and brought up to date, and what SQLite's errors mean.

Invariants.
1. A ledger is at its path whole or not at all: it is made under another name and linked into place.
2. The file, and with it SQLite's `-wal` and `-shm`, is private to its owner, whatever the umask; so are the folders that are made for it.
3. Migrations only go forward, all of them in one transaction.  A released file of SQL is never changed.
4. A file that is no ledger, or one of a newer schema, is left exactly as it was.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from ..core.errors import LedgerCorrupt, LedgerTooNew, StoreError
from .chain import genesis
from .rules import new_ledger_id

Durability = Literal["full", "relaxed"]
"""`full`: what was appended survives a power cut.  `relaxed`: it survives the death of the process, but the last batches
before a power cut may be lost, each as a whole."""

APPLICATION_ID: Final = 0x4A4C4744
"""Marks a SQLite file as a ledger (the letters JLGD)."""

PAGE_BYTES: Final = 8192
"""Measured: a batch of events touches fewer pages than with SQLite's 4096."""

BUSY_S: Final = 30
"""How long to wait for another process's write: longer than the largest batch takes (a million tasks, some ten seconds)."""

WAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""What the write-ahead log's file is cut back to after a large batch."""

_OLDEST_SQLITE: Final = (3, 37, 0)
"""The first with STRICT tables."""

_MIGRATIONS: Final = Migrations("jobledger")

_VIEWS: Final = frozenset({"0002-views", "0003-finalizers"})
"""Migrations that only make or change views: without them all events can be read, and a reader need not wait for a writer to come."""


_ID_FOR_NEW: Final = "jobledger_id_for_new"
"""What a migration asks its connection for, having no arguments: the id of the ledger that is being made."""

_FORGET_TIMES: Final = "UPDATE _sqlite_migrations SET applied_at = ?"
_NO_TIME: Final = "1970-01-01 00:00:00.000000+00:00"
"""When the migrations of a ledger were applied whose id was chosen: the file is then the same each time that it is made."""


@_MIGRATIONS(name="0001-ledger")
def _ledger(db: Database) -> None:
    _run(db, "0001-ledger.sql")
    (ledger_id,) = db.execute(f"SELECT {_ID_FOR_NEW}()").fetchone()
    db.execute("INSERT INTO head VALUES (1, ?, 0, ?)", (ledger_id, genesis(ledger_id)))


@_MIGRATIONS(name="0002-views")
def _views(db: Database) -> None:
    _run(db, "0002-views.sql")


@_MIGRATIONS(name="0003-finalizers")
def _finalizers(db: Database) -> None:
    _run(db, "0003-finalizers.sql")


def is_there(path: Path) -> bool:
    """Whether something is at `path`.  Raises `StoreError` where that cannot be told."""
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be opened: {error}") from error


def create(path: Path, ledger_id: str | None = None) -> None:
    """Make an empty ledger at `path`, and the folders above it.  Where one appears meanwhile, that one stays.

    With a `ledger_id` the file is the same, byte for byte, each time; without one it gets an id that no other has.

    Raises `StoreError`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_private_folder(path.parent)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            draft.chmod(0o600)  # The umask may have taken from it, and SQLite gives its other files the mode of this one.
            with translated(path), closing(connect(draft, "rw")) as db:
                db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                db.enable_wal()
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.conn.create_function(_ID_FOR_NEW, 0, lambda: ledger_id or new_ledger_id())
                upgrade(db, path)
                if ledger_id is not None:
                    db.execute(_FORGET_TIMES, (_NO_TIME,))
                    db.execute("VACUUM")  # Nothing is left of the time that stood there.
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm")):
                leftover.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be made: {error}") from error


def connect(path: Path, mode: Literal["rw", "ro", "immutable"]) -> Database:
    """A connection in autocommit mode that waits up to `BUSY_S` for other writers; it never makes a file.

    Raises `sqlite3.Error`, and `StoreError` for a SQLite that is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: jobledger needs {'.'.join(map(str, _OLDEST_SQLITE))} or newer")
    options = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    return Database(connection, recursive_triggers=False, execute_plugins=False)


def open_writer(path: Path, durability: Durability) -> Database:
    """The connection that appends.  Raises `StoreError`, `LedgerTooNew`, `LedgerCorrupt`."""
    with translated(path):
        db = connect(path, "rw")
        with _closed_on_error(db):
            _identify(db, path)
            _refuse_newer(db, path)
            db.enable_wal()
            db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
            # macOS alone: without it fsync leaves the data in the disk's own cache.
            db.execute(f"PRAGMA fullfsync = {'ON' if durability == 'full' else 'OFF'}")
            db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
            upgrade(db, path)
            return db


def open_reader(path: Path, *, writable: bool) -> Database:
    """The connection that reads.  Where not even the folder is `writable`, a ledger that nobody has open can still be read.

    Raises `StoreError`, `LedgerTooNew`, `LedgerCorrupt`.
    """
    with translated(path):
        db = _connect_reader(path, writable=writable)
        with _closed_on_error(db):
            _identify(db, path)
            _refuse_newer(db, path)
            if {migration.name for migration in _MIGRATIONS.pending(db)} - _VIEWS:
                raise StoreError(f"the ledger {path} was written by an older version of jobledger: open it once for writing")
            db.execute("PRAGMA query_only = ON")
            return db


def upgrade(db: Database, path: Path) -> None:
    """Apply what is pending, in one transaction; another process that does the same waits and finds nothing left to do."""
    if _MIGRATIONS.pending(db):
        with transaction(db.conn):
            _refuse_newer(db, path)
            _MIGRATIONS.apply(db)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, with the write lock from the start.  On any error nothing of it is left, and the connection is usable."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into our errors, in words that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: Path, position: int = 0) -> StoreError | LedgerCorrupt:
    """What SQLite's `error` means; damage is reported at `position`, as far as that is known."""
    match _code(error):
        case sqlite3.SQLITE_CORRUPT:
            return LedgerCorrupt(f"the ledger {path} is damaged: {error}", position)
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{path} is not a ledger: {error}")
        case sqlite3.SQLITE_FULL:
            return StoreError(f"the disk is full: nothing was recorded in the ledger {path}")
        case sqlite3.SQLITE_READONLY:
            return StoreError(f"the ledger {path} is read-only: nothing was recorded ({error})")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(f"the ledger {path} was locked by another process for {BUSY_S} s: nothing was recorded")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreError(f"the ledger {path} cannot be opened: {error}")
        case sqlite3.SQLITE_IOERR:
            return StoreError(f"the ledger {path} cannot be read or written: {error}")
        case _:
            return StoreError(f"the ledger {path}: {error}")


def failed_midway(error: sqlite3.Error) -> bool:
    """Whether the disk failed in a way that leaves open what it holds: the kernel may have dropped what it could not write."""
    return _code(error) == sqlite3.SQLITE_IOERR


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, the low byte; the extended ones say where, not what.  0 for an error of the module itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _connect_reader(path: Path, *, writable: bool) -> Database:
    if writable:
        return connect(path, "rw")
    db = connect(path, "ro")
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        db.close()
        if _code(error) not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
            raise
        # SQLite needs a -shm file beside the ledger, which cannot be made here.  Without a write-ahead log there is nothing to share.
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError(f"the ledger {path} was not closed in good order: copy it with its -wal file to a folder that can be written") from None
        return connect(path, "immutable")
    return db


def _identify(db: Database, path: Path) -> None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite database but not a ledger of jobledger")


def _refuse_newer(db: Database, path: Path) -> None:
    newer = {migration.name for migration in _MIGRATIONS.applied(db)} - _known()
    if newer:
        raise LedgerTooNew(f"the ledger {path} was written by a newer version of jobledger ({', '.join(sorted(newer))})")


@cache
def _known() -> frozenset[str]:
    with closing(Database(memory=True)) as nothing:
        return frozenset(migration.name for migration in _MIGRATIONS.pending(nothing))


def _pragma(db: Database, name: str) -> Any:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def _run(db: Database, name: str) -> None:
    """Run a file of statements inside the transaction that is open, which sqlite3's own `executescript` would commit."""
    statement = ""
    for line in resources.files(__package__).joinpath("sql", name).read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        if line.endswith(";\n") and sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""


@contextmanager
def _closed_on_error(db: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it, private to their owner.  Raises OSError."""
    if folder.is_dir():
        return
    make_private_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask took
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files they name."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
