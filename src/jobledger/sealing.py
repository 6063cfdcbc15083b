"""Where the values of secrets are: in a file of their own beside the ledger, `<ledger>.secrets`, or in memory for a ledger without a file.

A secret is *sealed* by putting its keyed digest (HMAC-SHA256) in its place; the same value under the same key is the same digest, so that
a request said twice compares equal.  Whoever has a copy of the ledger alone has neither key nor values.

1. The file is whole or not there, and private to its owner whatever the umask.  One that others may read is refused and not just
   complained of: what it holds may be known already, and only its owner can tell what to do about that.
2. Several processes may use it at once.  A value that another process has just sealed, for a request that is on its way, is *held*: it is
   not forgotten before the request is answered, or the hold runs out.
3. No message and no `repr` has a value in it.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

from attrs import evolve

from .core.errors import RequestRefused, StoreError
from .core.ports import EventStore
from .core.secrecy import SEALED_PREFIX, is_sealed, settings_in, with_settings
from .core.specs import EnvironmentSetting
from .eventstore.schema import BUSY_S, sync_folder, transaction

SUFFIX: Final = ".secrets"
APPLICATION_ID: Final = 0x4A4C4753
"""Marks the file (the letters JLGS)."""
FORMAT: Final = 1
KEY_BYTES: Final = 32

_TABLES = (
    "CREATE TABLE key (bytes BLOB NOT NULL) STRICT",
    "CREATE TABLE secrets (digest TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE holds (holder TEXT NOT NULL, digest TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (holder, digest)) STRICT, WITHOUT ROWID",
)
_KEEP = "INSERT OR IGNORE INTO secrets VALUES (?, ?)"
_HOLD = "INSERT OR REPLACE INTO holds VALUES (?, ?, ?)"
_VALUE = "SELECT value FROM secrets WHERE digest = ?"
_DIGESTS = "SELECT digest FROM secrets"
_FORGET = "DELETE FROM secrets WHERE digest = ? AND digest NOT IN (SELECT digest FROM holds)"
_LET_GO = "DELETE FROM holds WHERE holder = ?"
_RUN_OUT = "DELETE FROM holds WHERE until <= ?"

T = TypeVar("T")


class _Shelf(Protocol):
    """Key and values, wherever they are."""

    def digests(self, values: Collection[str]) -> Mapping[str, str]: ...
    def keep(self, values: Collection[str], holder: str | None, until: float) -> Mapping[str, str]: ...
    def value(self, digest: str) -> str | None: ...
    def forget(self, digests: Collection[str]) -> None: ...
    def forget_all_but(self, needed: Collection[str]) -> None: ...
    def let_go(self, holder: str) -> None: ...
    def close(self) -> None: ...


class SecretStore:
    """The secrets of one ledger.  All methods may be called from any thread; each may raise `StoreError`."""

    def __init__(self, path: Path | None) -> None:
        """Use `of`."""
        self.path = path
        """Where the values are; None for memory."""
        self._shelf: _Shelf = _Memory() if path is None else _File(path)

    @classmethod
    def of(cls, store: EventStore) -> "SecretStore":
        """The secrets of a ledger: beside its file where the store has a `path`, else in this process's memory."""
        path: object = getattr(store, "path", None)
        if isinstance(path, Path):
            return cls(path.with_name(path.name + SUFFIX))
        return _in_memory.setdefault(store, cls(None))

    @property
    def where(self) -> str:
        """Where the values are, for people."""
        return "the memory of the process that was asked" if self.path is None else str(self.path)

    def seal(self, record: T, *, holder: str | None = None, hold_s: float = 0) -> T:
        """The record with every secret sealed, and the values kept; what is sealed already stays as it is.

        `holder` (a request's id) keeps the values from being forgotten for `hold_s` seconds, or until `let_go`.
        Raises `RequestRefused` for a value that no program could be given.
        """
        values = _plain_values(record)
        if not values:
            return record
        return _sealed(record, self._shelf.keep(values, holder, time.time() + hold_s))

    def sealed(self, record: T) -> T:
        """The record as `seal` would give it back, to compare it with; nothing is kept.  Without a key no secret is equal to any."""
        values = _plain_values(record)
        return _sealed(record, self._shelf.digests(values)) if values else record

    def value(self, digest: str) -> str | None:
        """What was sealed as `digest`; None where this store does not have it."""
        return self._shelf.value(digest)

    def forget(self, digests: Collection[str]) -> None:
        """Forget these values, but for those that somebody holds."""
        if digests:
            self._shelf.forget(digests)

    def forget_all_but(self, needed: Collection[str]) -> None:
        """Forget every value that is neither needed nor held."""
        self._shelf.forget_all_but(needed)

    def let_go(self, holder: str) -> None:
        """End a hold: the request was answered or taken back."""
        self._shelf.let_go(holder)

    def close(self) -> None:
        self._shelf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_in_memory: Final[WeakKeyDictionary[EventStore, SecretStore]] = WeakKeyDictionary()


def _plain_values(record: object) -> set[str]:
    """The values of a record that are to be sealed.  Raises `RequestRefused`."""
    values = set()
    for setting in settings_in(record):
        if setting.secret and not is_sealed(setting.value):
            _refuse_unless_usable(setting)
            values.add(setting.value)
    return values


def _refuse_unless_usable(setting: EnvironmentSetting) -> None:
    if "\0" in setting.value:
        raise RequestRefused("InvalidPropertyValue", f"the value of the secret environment setting {setting.name!r} holds a NUL character")
    try:
        setting.value.encode()
    except UnicodeEncodeError:
        # Not from the error, which has the value in it.
        raise RequestRefused("InvalidInput", f"the value of the secret environment setting {setting.name!r} is not Unicode") from None


def _sealed(record: T, digests: Mapping[str, str]) -> T:
    known: dict[EnvironmentSetting, EnvironmentSetting] = {}  # The many tasks of a job often have the same secret.

    def seal(setting: EnvironmentSetting) -> EnvironmentSetting:
        if not setting.secret or setting.value not in digests:
            return setting
        if (sealed := known.get(setting)) is None:
            sealed = known[setting] = evolve(setting, value=digests[setting.value])
        return sealed

    return with_settings(record, seal)


def _digests(key: bytes, values: Iterable[str]) -> dict[str, str]:
    return {value: SEALED_PREFIX + hmac.new(key, value.encode(), hashlib.sha256).hexdigest() for value in values}


# --- in memory ------------------------------------------------------------------------------------------------


class _Memory:
    """For ledgers without a file: gone with the process, as the ledger is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(KEY_BYTES)
        self._values: dict[str, str] = {}
        self._holds: dict[str, tuple[frozenset[str], float]] = {}

    def digests(self, values: Collection[str]) -> Mapping[str, str]:
        return _digests(self._key, values)

    def keep(self, values: Collection[str], holder: str | None, until: float) -> Mapping[str, str]:
        digests = _digests(self._key, values)
        with self._lock:
            self._values.update((digest, value) for value, digest in digests.items())
            if holder is not None:
                self._holds[holder] = (frozenset(digests.values()), until)
        return digests

    def value(self, digest: str) -> str | None:
        with self._lock:
            return self._values.get(digest)

    def forget(self, digests: Collection[str]) -> None:
        with self._lock:
            for digest in set(digests) - self._held():
                self._values.pop(digest, None)

    def forget_all_but(self, needed: Collection[str]) -> None:
        with self._lock:
            for digest in self._values.keys() - self._held() - set(needed):
                del self._values[digest]

    def let_go(self, holder: str) -> None:
        with self._lock:
            self._holds.pop(holder, None)

    def close(self) -> None:
        """Nothing to let go of: the values stay as long as the store object does."""

    def _held(self) -> set[str]:
        now = time.time()
        self._holds = {holder: held for holder, held in self._holds.items() if held[1] > now}
        return {digest for digests, _ in self._holds.values() for digest in digests}


# --- in a file ------------------------------------------------------------------------------------------------


class _File:
    """A small SQLite file, made with the first secret.

    Forgotten values are overwritten (`secure_delete`), and there is no write-ahead log in which they would go on for a while.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def digests(self, values: Collection[str]) -> Mapping[str, str]:
        with self._opened() as connection:
            return _digests(secrets.token_bytes(KEY_BYTES) if connection is None else _key(connection), values)

    def keep(self, values: Collection[str], holder: str | None, until: float) -> Mapping[str, str]:
        with self._opened(create=True) as connection:
            if connection is None:
                raise StoreError(f"the secrets of the ledger, {self._path}, went away as they were written")
            with transaction(connection):
                digests = _digests(_key(connection), values)
                connection.executemany(_KEEP, [(digest, value) for value, digest in digests.items()])
                if holder is not None:
                    connection.executemany(_HOLD, [(holder, digest, until) for digest in digests.values()])
            return digests

    def value(self, digest: str) -> str | None:
        with self._opened() as connection:
            row = None if connection is None else connection.execute(_VALUE, (digest,)).fetchone()
            return None if row is None else str(row[0])

    def forget(self, digests: Collection[str]) -> None:
        self._forget(lambda _: digests)

    def forget_all_but(self, needed: Collection[str]) -> None:
        self._forget(lambda connection: [digest for (digest,) in connection.execute(_DIGESTS) if digest not in needed])

    def let_go(self, holder: str) -> None:
        with self._opened() as connection:
            if connection is not None:
                connection.execute(_LET_GO, (holder,))

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _forget(self, chosen: Callable[[sqlite3.Connection], Collection[str]]) -> None:
        with self._opened() as connection:
            if connection is not None:
                with transaction(connection):
                    connection.execute(_RUN_OUT, (time.time(),))
                    connection.executemany(_FORGET, [(digest,) for digest in chosen(connection)])

    @contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[sqlite3.Connection | None]:
        """The connection to the file that is there now, which may be another one than before; None where there is none."""
        with self._lock:
            try:
                found = self._look()
                if found is None and create:
                    self._make()
                    found = self._look()
                if found != self._identity:
                    self._disconnect()
                if found is not None and self._connection is None:
                    self._connect()
                    self._identity = found
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the secrets of the ledger, {self._path}, cannot be used: {error}") from error

    def _look(self) -> tuple[int, int] | None:
        """Which file is there.  Raises `StoreError` for one that is not private."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        if found.st_uid != os.geteuid():
            raise StoreError(f"{self._path} belongs to another user, so no secret is kept in it or taken from it")
        if stat.S_IMODE(found.st_mode) & 0o077:
            text = "may be read by others, and its secrets may be known to them; renew those, and then `chmod 600` it"
            raise StoreError(f"{self._path} {text}")
        return found.st_dev, found.st_ino

    def _make(self) -> None:
        """Make the file with a new key, under another name first; where one appears meanwhile, that one stays."""
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            draft.chmod(0o600)  # The umask may have taken from it, and SQLite gives its journal the mode of this one.
            with closing(_connect(draft)) as connection, transaction(connection):
                for statement in (*_TABLES, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {FORMAT}"):
                    connection.execute(statement)
                connection.execute("INSERT INTO key VALUES (?)", (secrets.token_bytes(KEY_BYTES),))
            with suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            for leftover in (draft, Path(f"{draft}-journal")):
                leftover.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def _connect(self) -> None:
        connection = _connect(self._path)
        try:
            self._identify(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _identify(self, connection: sqlite3.Connection) -> None:
        marks = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if marks != (APPLICATION_ID, FORMAT):
            raise StoreError(f"{self._path} is not a file of secrets of this version of jobledger")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._identity = None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA secure_delete = ON")
    # macOS alone: without it fsync leaves the data in the disk's own cache.
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def _key(connection: sqlite3.Connection) -> bytes:
    key: bytes = connection.execute("SELECT bytes FROM key").fetchone()[0]
    return key
