"""Stores: where the ledger is kept.  `open_store` opens the one that a path or `memory:` names."""

from os import PathLike

from .codec import decode_request, encode_request, event_as_json, refuse_unless_sealed, refuse_unless_unicode, rfc3339
from .memory import MemoryStore
from .schema import Durability
from .sqlite import SqliteStore

__all__ = [
    "Durability",
    "MemoryStore",
    "SqliteStore",
    "decode_request",
    "encode_request",
    "event_as_json",
    "open_store",
    "refuse_unless_sealed",
    "refuse_unless_unicode",
    "rfc3339",
]


def open_store(
    where: str | PathLike[str], *, durability: Durability = "full", create: bool = True, read_only: bool = False, ledger_id: str | None = None
) -> MemoryStore | SqliteStore:
    """The ledger at a path, or a new one in memory for `memory:`; the options are those of `SqliteStore.open`.

    Raises `StoreError`, `LedgerTooNew`, `LedgerCorrupt`.
    """
    if where == "memory:":
        return MemoryStore(ledger_id=ledger_id)
    return SqliteStore.open(where, durability=durability, create=create, read_only=read_only, ledger_id=ledger_id)
