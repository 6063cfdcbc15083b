"""Both built-in stores pass the suite that third parties run on theirs."""

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from jobledger.core.ports import EventStore
from jobledger.eventstore import MemoryStore, SqliteStore
from jobledger.testing.stores import EventStoreConformance, FullDisk


class TestMemoryStore(EventStoreConformance):
    not_applicable: ClassVar = {"opener": "it ends with its process", "full_disk": "it has no disk"}

    def open_store(self) -> EventStore:
        return MemoryStore()


class TestSqliteStore(EventStoreConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        self.opened = 0
        self.mounted = False
        yield
        if self.mounted:
            subprocess.run(["umount", str(tmp_path / "small")], check=True)

    def open_store(self) -> EventStore:
        self.opened += 1
        return SqliteStore.open(self.folder / f"{self.opened}.db")

    def open_again(self, store: EventStore) -> EventStore:
        assert isinstance(store, SqliteStore)
        return SqliteStore.open(store.path)

    def opener(self, store: EventStore) -> Callable[[], EventStore]:
        assert isinstance(store, SqliteStore)
        return partial(SqliteStore.open, store.path)

    def full_disk(self) -> FullDisk:
        """A small file system where one can be made, else SQLite's own bound on the file."""
        small = self.folder / "small"
        small.mkdir()
        self.mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=False).returncode == 0
        store = SqliteStore.open(small / "ledger.db")
        if self.mounted:
            return FullDisk(store=store, free=lambda: subprocess.run(["mount", "-o", "remount,size=64m", small], check=True) and None)
        assert store._writer is not None
        store._writer.execute("PRAGMA max_page_count = 128").fetchone()
        return FullDisk(store=store, free=partial(store._writer.execute, "PRAGMA max_page_count = 10000"))


def test_sqlite_is_spared_no_test() -> None:
    assert TestSqliteStore.not_applicable == {}


def test_memory_is_spared_what_has_no_meaning_there() -> None:
    assert TestMemoryStore.not_applicable.keys() == {"opener", "full_disk"}
