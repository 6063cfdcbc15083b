"""Both built-in stores pass the suite that third parties run on theirs."""

from pathlib import Path

import pytest

from jobledger.core.ports import EventStore
from jobledger.eventstore import MemoryStore, SqliteStore
from jobledger.testing.stores import EventStoreConformance


class TestMemoryStore(EventStoreConformance):
    def open_store(self) -> EventStore:
        return MemoryStore()


class TestSqliteStore(EventStoreConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.opened = 0

    def open_store(self) -> EventStore:
        self.opened += 1
        return SqliteStore.open(self.folder / f"{self.opened}.db")

    def open_again(self, store: EventStore) -> EventStore:
        assert isinstance(store, SqliteStore)
        return SqliteStore.open(store.path)
