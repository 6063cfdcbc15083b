"""Snapshots: the world as it was at a position, so that a long ledger need not be folded from its beginning.

1. A snapshot is a convenience beside the ledger (`ledger.db.snapshot`) and never the truth: it may be deleted at any time, and is made anew.
2. It is bound to the ledger's id, to a position and the hash there, and to the code that made it.  Where anything differs, where it is damaged,
   or where others could have written it, it is not used, and the events are folded as if there were none.
3. Whoever can write it can write the ledger too: `replay` of all events is what proves, and what checks a ledger never asks a snapshot.
4. Making one costs an engine a small, bounded share of its time.
"""

import gc
import os
import secrets
import stat
import time
import zlib
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
from attrs import define, frozen

from . import __version__
from .core.ids import Micros
from .core.ports import EventStore, RecordedEvent
from .core.world import Agenda, World
from .eventstore import SqliteStore

SUFFIX: Final = ".snapshot"

EVENTS_MIN: Final = 100_000
"""Events between snapshots: what a start may have to fold beside them, in a fraction of a second."""

EVENTS_AT_END_MIN: Final = 10_000
"""Events that an engine which closes leaves to the next one's fold."""

SHARE: Final = 50
"""A snapshot is made no sooner than this many times the time that the last one took: at most two parts of a hundred."""

_HEADER_BYTES_MAX: Final = 4_096
"""More than a header takes."""

_MAGIC: Final = b"jobledger snapshot 1\n"


@frozen(kw_only=True)
class Snapshot:
    """A world, and the ledger's position that it is of; `at` is when the event there was recorded."""

    world: World
    position: int
    at: Micros


@frozen(kw_only=True)
class _Header:
    code: str
    ledger_id: str
    position: int
    hash: bytes
    at: int
    digest: bytes
    """Of the compressed world."""


def load(store: EventStore, *, until: int | None = None) -> Snapshot | None:
    """The snapshot of a ledger, if it has one that fits and is not of a position after `until`."""
    path = _path_of(store)
    if path is None or (data := _read(path)) is None or not data.startswith(_MAGIC):
        return None
    try:
        header, body = _parts(memoryview(data)[len(_MAGIC) :])
        if not _fits(header, store, until) or sha256(body).digest() != header.digest:
            return None
        world = decoded(zlib.decompress(body))
    except (msgspec.MsgspecError, zlib.error, ValueError):
        return None
    return Snapshot(world=world, position=header.position, at=Micros(header.at))


def held(store: EventStore) -> int:
    """The position of the ledger's snapshot, 0 where there is none that fits."""
    path = _path_of(store)
    data = _read(path, _HEADER_BYTES_MAX) if path is not None else None
    if data is None or not data.startswith(_MAGIC):
        return 0
    try:
        header, _ = _parts(memoryview(data)[len(_MAGIC) :])
    except msgspec.MsgspecError:
        return 0
    return header.position if _fits(header, store, None) else 0


def save(store: EventStore, world: World, position: int) -> None:
    """Keep the world of a ledger at a position of it.  A disk that cannot take it keeps none: the ledger has all."""
    if (path := _path_of(store)) is None or (last := _event_at(store, position)) is None:
        return
    body = zlib.compress(encoded(world), 1)
    header = _Header(code=code(), ledger_id=store.ledger_id, position=position, hash=last.hash, at=last.recorded_at, digest=sha256(body).digest())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        try:
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                first = msgspec.msgpack.encode(header)
                file.write(_MAGIC + len(first).to_bytes(4, "big") + first)
                file.write(body)
            draft.replace(path)  # Not synced: what a power cut leaves of it does not fit its digest.
        finally:
            draft.unlink(missing_ok=True)


@define
class SnapshotKeeper:
    """Decides for an engine when a snapshot is worth its time; `position` is that of the latest.

    A dry run makes none: it is seldom gone on with, and what it costs should be what its events cost.
    """

    store: EventStore
    position: int
    not_before: float = 0.0

    def consider(self, world: World, position: int) -> None:
        """Make one if it is time to; the world has to be the ledger's at its last position."""
        if not world.dry_run and position - self.position >= EVENTS_MIN and time.monotonic() >= self.not_before:
            self._save(world, position)

    def close(self, world: World, position: int) -> None:
        """Leave the next engine little to fold."""
        if not world.dry_run and position - self.position >= EVENTS_AT_END_MIN:
            self._save(world, position)

    def _save(self, world: World, position: int) -> None:
        began = time.monotonic()
        save(self.store, world, position)
        ended = time.monotonic()
        self.position, self.not_before = position, ended + SHARE * (ended - began)


# --- the file -------------------------------------------------------------------------------------------------


def _path_of(store: EventStore) -> Path | None:
    """Beside a ledger that is a file; other stores have none."""
    return store.path.with_name(store.path.name + SUFFIX) if isinstance(store, SqliteStore) else None


def _read(path: Path, size: int = -1) -> bytes | None:
    """The file, or its first `size` bytes, if it is there and nobody but the user and root can have written it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in {os.geteuid(), 0} or stat.S_IMODE(found.st_mode) & 0o022:
                return None
            return file.read(size)
    except OSError:
        return None


def _parts(data: memoryview) -> tuple[_Header, memoryview]:
    """The header, which its length in four bytes precedes, and what follows it."""
    end = 4 + int.from_bytes(data[:4], "big")
    return _HEADER.decode(data[4:end]), data[end:]


def _fits(header: _Header, store: EventStore, until: int | None) -> bool:
    """Whether it is of this ledger's past and of this code."""
    position = header.position
    if header.code != code() or header.ledger_id != store.ledger_id or position < 1 or (until is not None and position > until):
        return False
    found = _event_at(store, position)
    return found is not None and found.hash == header.hash


def _event_at(store: EventStore, position: int) -> RecordedEvent | None:
    return next(iter(store.read(after=position - 1, until=position)), None)


def encoded(world: World) -> bytes:
    """A world as bytes."""
    return msgspec.msgpack.encode(world)


def decoded(data: bytes) -> World:
    """The world that was `encoded`.  Raises `msgspec.MsgspecError`."""
    collecting = gc.isenabled()
    gc.disable()  # Nothing of a million new objects is garbage, and looking for it takes longer than making them.
    try:
        world = _WORLD.decode(data)
    finally:
        if collecting:
            gc.enable()
    world.agenda = Agenda()
    world.owed.fresh.clear()
    for job in world.jobs.values():
        shared = job.spec.constraints
        for task in job.tasks.values():
            if task.job_constraints == shared:
                task.job_constraints = shared  # As it was: one record for all tasks, and not one for each.
    return world


def _ordered(kind: Any, value: Any) -> Any:
    """What msgspec does not know by itself."""
    if getattr(kind, "__origin__", kind) is not OrderedDict:
        raise NotImplementedError(f"a snapshot cannot have {kind}")
    return OrderedDict(value)


_HEADER: Final = msgspec.msgpack.Decoder(_Header)
_WORLD: Final = msgspec.msgpack.Decoder(World, dec_hook=_ordered)


@cache
def code() -> str:
    """Names the code that folds: another fold may make another world of the same events."""
    digest = sha256(__version__.encode())
    for file in sorted(resources.files("jobledger.core").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
