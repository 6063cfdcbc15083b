"""The ledger in one SQLite file: the embedded default.

Invariants.
1. A batch, the head's move and the replies are one transaction: all recorded and durable when `append` returns, or nothing.
2. The position comes from the head's row inside the write lock, never from a sequence; so a reader that tails the log
   sees every position once and in order.
3. Reading has a connection of its own and takes some rows at a time: it never waits for a writer and never holds one up.
4. A whole log is checked as it is read: positions without a gap, each hash from the one before, the last one the head's.
5. After a failed write whose outcome the disk left open, this object writes no more: open the ledger again and read what it says.

The file's tables and views are for everybody with an SQL shell (`docs/reference`); `schema.py` says how it is made and opened.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from ..core.errors import AppendConflict, JobledgerError, LedgerCorrupt, StoreError
from ..core.ids import Duration, Micros
from ..core.ports import Head, InboxReply, InboxRequest, Lease, NewEvent, RecordedEvent
from . import rules, schema
from .chain import genesis, link, recorded, seal
from .codec import default_codec

CHUNK: Final = 1_000
"""Rows that a read takes at a time: enough to make the query's cost vanish, few enough to hold nobody up."""

POLL_S: Final = 0.02
"""How often `wait` looks for what another process appended."""

_HEAD = "SELECT position, hash FROM head"
_END = (
    "SELECT head.position, head.hash, events.position, events.hash FROM head LEFT JOIN events ON events.position = (SELECT max(position) FROM events)"
)
_LEASE = "SELECT owner, epoch, expires_at FROM lease"
_SET_LEASE = "UPDATE lease SET owner = ?, epoch = ?, expires_at = ?"
_APPEND = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE_HEAD = "UPDATE head SET position = ?, hash = ?"
_STREAM_ID = "SELECT id FROM streams WHERE name = ?"
_NEW_STREAM = "INSERT INTO streams (name) VALUES (?)"
_STREAM_NAME = "SELECT name FROM streams WHERE id = ?"
_LOG = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
_BY_STREAM = "SELECT * FROM events WHERE position > ? AND position <= ? AND stream = ? ORDER BY position LIMIT ?"
_HASH_AT = "SELECT hash FROM events WHERE position = ?"
_PUT = "INSERT INTO inbox (id, kind, data, actor, reason, submitted_at) VALUES (?, ?, ?, ?, ?, ?)"
_PENDING = "SELECT id, kind, data, actor, reason, submitted_at FROM inbox WHERE answered_at IS NULL ORDER BY number"
_ANSWER = "UPDATE inbox SET accepted = ?, code = ?, message = ?, position = ?, answered_at = ? WHERE id = ? AND answered_at IS NULL"
_REPLY = "SELECT accepted, code, message, position, answered_at FROM inbox WHERE id = ? AND answered_at IS NOT NULL"
_WITHDRAW = "DELETE FROM inbox WHERE id = ? AND answered_at IS NULL"


class SqliteStore:
    """One ledger in one file.  All methods may be called from any thread."""

    def __init__(self, path: Path, writer: sqlite3.Connection | None, reader: sqlite3.Connection) -> None:
        """Use `open`."""
        self._path = path
        self._writer = writer
        self._reader = reader
        self._writing = threading.RLock()
        self._reading = threading.Lock()
        self._appended = threading.Condition()
        self._stream_ids: dict[str, int] = {}
        self._stream_names: dict[int, str] = {}
        self._broken: str | None = None
        self._closed = False
        self._ledger_id: str = self._one("SELECT ledger_id FROM head")[0]
        self._check_end()

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        durability: schema.Durability = "full",
        create: bool = True,
        read_only: bool = False,
        ledger_id: str | None = None,
    ) -> Self:
        """The ledger at `path`, made if there is none and `create`, and brought to this version's schema unless `read_only`.

        `ledger_id`, eight hexadecimal digits, is for one that is made: nobody else must have the same, unless nothing real happens there.

        Raises `StoreError` (no ledger, no access), `LedgerTooNew` and `LedgerCorrupt`.
        """
        where = Path(path).absolute()
        if not schema.is_there(where):
            if not create or read_only:
                raise StoreError(f"there is no ledger at {where}")
            schema.create(where, ledger_id)
        writer = None if read_only else schema.open_writer(where, durability).conn
        try:
            reader = schema.open_reader(where, writable=not read_only).conn
            try:
                return cls(where, writer, reader)
            except BaseException:
                reader.close()
                raise
        except BaseException:
            if writer is not None:
                writer.close()
            raise

    @property
    def ledger_id(self) -> str:
        return self._ledger_id

    @property
    def path(self) -> Path:
        return self._path

    @property
    def durability(self) -> schema.Durability:
        """What is in force, asked of SQLite.  Raises `StoreError` where the ledger was opened read-only."""
        with self._write() as writer:
            return "full" if writer.execute("PRAGMA synchronous").fetchone()[0] >= 2 else "relaxed"

    def head(self) -> Head:
        position, hash_ = self._one(_HEAD)
        return Head(position=position, hash=hash_)

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        """See `EventStore.append`."""
        new_streams: dict[str, int] = {}
        with self._write() as writer:
            with schema.transaction(writer):
                head = self._check_append(writer, expected, lease)
                rows = seal(
                    events, head, default_codec(), lambda stream: self._stream_ids.get(stream) or self._stream_id(writer, stream, new_streams)
                )
                if rows:
                    writer.executemany(_APPEND, rows)
                    head = Head(position=rows[-1][0], hash=rows[-1][-1])
                    writer.execute(_MOVE_HEAD, (head.position, head.hash))
                self._answer(writer, replies)
            self._stream_ids.update(new_streams)
        with self._appended:
            self._appended.notify_all()
        return head

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`.  What is appended while it runs is not part of it."""
        head = self.head()
        after = max(after, 0)
        last = head.position if until is None else min(until, head.position)
        if after >= last:
            return
        if stream is None:
            yield from self._read_log(after, last, head)
        else:
            yield from self._read_stream(stream, after, last)

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """See `EventStore.wait`.  Appends of this object are seen at once, others within `POLL_S`."""
        deadline = time.monotonic() + timeout_s
        with self._appended:
            while self.head().position <= after:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._appended.wait(min(left_s, POLL_S))
        return True

    def acquire_lease(self, owner: str, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.acquire_lease`."""
        with self._write() as writer, schema.transaction(writer):
            current, epoch = _stored_lease(writer.execute(_LEASE).fetchone())
            lease = rules.grant(current, epoch, owner, now, ttl)
            writer.execute(_SET_LEASE, (lease.owner, lease.epoch, lease.expires_at))
            return lease

    def renew_lease(self, lease: Lease, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.renew_lease`."""
        with self._write() as writer, schema.transaction(writer):
            current, _ = _stored_lease(writer.execute(_LEASE).fetchone())
            renewed = rules.renew(current, lease, now, ttl)
            writer.execute(_SET_LEASE, (renewed.owner, renewed.epoch, renewed.expires_at))
            return renewed

    def release_lease(self, lease: Lease) -> None:
        """See `EventStore.release_lease`."""
        with self._write() as writer, schema.transaction(writer):
            current, epoch = _stored_lease(writer.execute(_LEASE).fetchone())
            if rules.in_force(current, lease):
                writer.execute(_SET_LEASE, (None, epoch, 0))

    def current_lease(self) -> Lease | None:
        return _stored_lease(self._one(_LEASE))[0]

    def put_request(self, request: InboxRequest) -> None:
        """Leave a request for the engine.  Raises `StoreError` where its id was used before, and for an unsealed secret."""
        row = (request.id, request.kind, rules.letter_text(request), request.actor, request.reason, request.submitted_at)
        with self._write() as writer, schema.transaction(writer):
            try:
                writer.execute(_PUT, row)
            except sqlite3.IntegrityError:
                raise rules.already_put(request.id) from None

    def pending_requests(self) -> Sequence[InboxRequest]:
        return [
            InboxRequest(id=id_, kind=kind, data=json.loads(data), actor=actor, reason=reason, submitted_at=submitted_at)
            for id_, kind, data, actor, reason, submitted_at in self._rows(_PENDING)
        ]

    def reply_to(self, request: str) -> InboxReply | None:
        rows = self._rows(_REPLY, request)
        if not rows:
            return None
        accepted, code, message, position, answered_at = rows[0]
        return InboxReply(request=request, accepted=bool(accepted), code=code, message=message, position=position, answered_at=answered_at)

    def withdraw_request(self, request: str) -> bool:
        """See `EventStore.withdraw_request`."""
        with self._write() as writer, schema.transaction(writer):
            return writer.execute(_WITHDRAW, (request,)).rowcount == 1

    def close(self) -> None:
        """Let the file go; closing twice does nothing.  The last to close leaves one file, without a write-ahead log."""
        self._closed = True
        with self._appended:
            self._appended.notify_all()
        with self._writing, self._reading, schema.translated(self._path):
            self._reader.close()
            if self._writer is not None:
                self._writer.close()

    # --- writing ---

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._writing:
            if self._broken is not None:
                raise StoreError(self._broken)
            if self._writer is None:
                raise StoreError(f"the ledger {self._path} was opened read-only")
            try:
                yield self._writer
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> JobledgerError:
        if self._closed:
            return StoreError(f"the ledger {self._path} is closed")
        if schema.failed_midway(error):
            # A later sync could succeed without what this one lost.
            self._broken = f"the disk failed under the ledger {self._path} ({error}): the last batch is recorded whole or not at all; open it again"
            return StoreError(self._broken)
        return schema.explain(error, self._path)

    def _check_append(self, writer: sqlite3.Connection, expected: int, lease: Lease) -> Head:
        current, _ = _stored_lease(writer.execute(_LEASE).fetchone())
        rules.check(current, lease)
        position, hash_ = writer.execute(_HEAD).fetchone()
        if position != expected:
            raise AppendConflict(f"the ledger {self._path} is at position {position}, not {expected}")
        return Head(position=position, hash=hash_)

    def _stream_id(self, writer: sqlite3.Connection, name: str, new: dict[str, int]) -> int:
        """The number of a stream; one made in this transaction is kept in `new` until it is committed."""
        id_ = new.get(name)
        if id_ is None:
            row = writer.execute(_STREAM_ID, (name,)).fetchone()
            # A row's number is never None after an INSERT; sqlite3 types it so for statements of other kinds.
            id_ = new[name] = row[0] if row is not None else writer.execute(_NEW_STREAM, (name,)).lastrowid or 0
        return id_

    def _answer(self, writer: sqlite3.Connection, replies: Sequence[InboxReply]) -> None:
        for reply in replies:
            row = (reply.accepted, reply.code, reply.message, reply.position, reply.answered_at, reply.request)
            if writer.execute(_ANSWER, row).rowcount != 1:
                raise rules.not_open(reply.request)

    # --- reading ---

    def _one(self, sql: str, *parameters: Any) -> Any:
        rows = self._rows(sql, *parameters)
        if not rows:
            raise LedgerCorrupt(f"the ledger {self._path} has lost a row of its own", 0)
        return rows[0]

    def _rows(self, sql: str, *parameters: Any) -> list[Any]:
        rows, damage = self._some_rows(sql, parameters, 0)
        if damage is not None:
            raise damage
        return rows

    def _some_rows(self, sql: str, parameters: Sequence[Any], after: int) -> tuple[list[Any], JobledgerError | None]:
        """The rows, and where reading broke off, the error, placed after the last row that could be read."""
        rows: list[Any] = []
        with self._reading:
            try:
                rows.extend(self._reader.execute(sql, parameters))
            except sqlite3.Error as error:
                if self._closed:
                    return rows, StoreError(f"the ledger {self._path} is closed")
                broken_at = (rows[-1][0] if rows else after) + 1
                if isinstance(error, sqlite3.OperationalError) and "UTF-8" in str(error):
                    return rows, LedgerCorrupt(f"a text in the ledger {self._path} is not UTF-8", broken_at)
                return rows, schema.explain(error, self._path, broken_at)
        return rows, None

    def _read_log(self, after: int, last: int, head: Head) -> Iterator[RecordedEvent]:
        decode, names = default_codec().decode, self._stream_names
        before = genesis(self._ledger_id) if after == 0 else self._hash_at(after)
        position = after
        while position < last:
            rows, damage = self._some_rows(_LOG, (position, last, CHUNK), position)
            for at, stream_id, type_, version, recorded_at, causation, correlation, actor, data, hash_ in rows:
                position += 1
                if at != position:
                    raise LedgerCorrupt(f"the ledger {self._path} lacks an event", position)
                stream = names.get(stream_id) or self._stream_name(stream_id, at)
                before = link(before, at, stream, type_, version, recorded_at, causation, correlation, actor, data)
                if before != hash_:
                    raise LedgerCorrupt(f"an event of the ledger {self._path} is not what its hash says", at)
                yield recorded(at, stream, decode(type_, version, data, at), recorded_at, causation, correlation, actor, hash_)
            if damage is not None:
                raise damage
            if not rows:
                raise LedgerCorrupt(f"the ledger {self._path} lacks an event", position + 1)
        if last == head.position and before != head.hash:
            raise LedgerCorrupt(f"the last event of the ledger {self._path} is not the one its head names", last)

    def _read_stream(self, stream: str, after: int, last: int) -> Iterator[RecordedEvent]:
        decode = default_codec().decode
        found = self._rows(_STREAM_ID, stream)
        position = after
        while found and position < last:
            rows, damage = self._some_rows(_BY_STREAM, (position, last, found[0][0], CHUNK), position)
            for at, _, type_, version, recorded_at, causation, correlation, actor, data, hash_ in rows:
                yield recorded(at, stream, decode(type_, version, data, at), recorded_at, causation, correlation, actor, hash_)
            if damage is not None:
                raise damage
            if len(rows) < CHUNK:
                return
            position = rows[-1][0]

    def _hash_at(self, position: int) -> bytes:
        rows = self._rows(_HASH_AT, position)
        if not rows:
            raise LedgerCorrupt(f"the ledger {self._path} lacks an event", position)
        hash_: bytes = rows[0][0]
        return hash_

    def _stream_name(self, stream_id: int, position: int) -> str:
        rows = self._rows(_STREAM_NAME, stream_id)
        if not rows:
            raise LedgerCorrupt(f"the ledger {self._path} does not know stream {stream_id}", position)
        name: str = self._stream_names.setdefault(stream_id, rows[0][0])
        return name

    def _check_end(self) -> None:
        """What can be told at once when a ledger is opened: that its last event is the one its head names.

        One statement, because between two an engine may append.
        """
        head_position, head_hash, position, hash_ = self._one(_END)
        if position is None:
            position, hash_ = 0, genesis(self._ledger_id)
        if (position, hash_) != (head_position, head_hash):
            raise LedgerCorrupt(f"the last event of the ledger {self._path} is not the one its head names", min(position, head_position))


def _stored_lease(row: tuple[str | None, int, int]) -> tuple[Lease | None, int]:
    """The lease of a row, None where nobody holds it, and the last epoch that was handed out."""
    owner, epoch, expires_at = row
    return (None if owner is None else Lease(owner=owner, epoch=epoch, expires_at=Micros(expires_at))), epoch
