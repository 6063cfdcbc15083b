"""What the SQLite store promises beyond the conformance suite: files, damage, full disks, killed writers."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from jobledger.core.errors import LedgerCorrupt, LedgerTooNew, StoreError, UnknownEventType
from jobledger.core.ports import Lease
from jobledger.eventstore import SqliteStore, open_store
from jobledger.testing.stores import BOUND_S, NOW, TTL, new_event, new_request

NOBODY = 65534

Reopen = Callable[[], SqliteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def reopen(path: Path) -> Iterator[Reopen]:
    """Opens the ledger once more, as another process would."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(SqliteStore.open(path)))


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(path)
    yield store
    store.close()


@pytest.fixture
def lease(store: SqliteStore) -> Lease:
    return store.acquire_lease("engine-1", now=NOW, ttl=TTL)


def fill(store: SqliteStore, lease: Lease, size: int = 10) -> None:
    expected = store.head().position
    store.append([new_event(number) for number in range(size)], expected=expected, lease=lease)


@contextmanager
def shell(path: Path) -> Iterator[sqlite3.Connection]:
    """What somebody with an SQL shell has."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def tamper(path: Path, *statements: str) -> None:
    """Change what the triggers protect, as somebody with the file can."""
    with shell(path) as sql:
        for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            sql.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            sql.execute(statement)


# --- what happened stays ---


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'mallory' WHERE position = 3",
        "DELETE FROM events WHERE position = 3",
        "DELETE FROM events",
        "REPLACE INTO events SELECT * FROM events WHERE position = 3",
        "INSERT OR REPLACE INTO events SELECT 3, stream, type, version, recorded_at, causation, correlation, 'mallory', data, hash FROM events",
        "UPDATE head SET position = 3",
        "UPDATE head SET ledger_id = 'ffffffff'",
        "DELETE FROM head",
        "UPDATE streams SET name = 'job/other'",
        "DELETE FROM streams",
    ],
)
def test_the_past_is_refused_to_an_sql_shell(store: SqliteStore, lease: Lease, path: Path, statement: str) -> None:
    fill(store, lease)
    before = list(store.read())
    with shell(path) as sql, pytest.raises(sqlite3.IntegrityError):
        sql.execute(statement)
    assert list(store.read()) == before


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("UPDATE events SET data = replace(data, 'lost', 'last') WHERE position = 7", 7),
        ("UPDATE events SET actor = 'mallory' WHERE position = 1", 1),
        ("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 10", 10),
        ("UPDATE events SET data = CAST(x'7b22ff227d' AS TEXT) WHERE position = 5", 5),
        ("UPDATE events SET stream = 77 WHERE position = 4", 4),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 6", 6),
        ("DELETE FROM events WHERE position = 4", 4),
        ("DELETE FROM events WHERE position BETWEEN 1 AND 3", 1),
        ("UPDATE streams SET name = 'job/j-2'", 1),
    ],
)
def test_damage_is_found_by_its_position(store: SqliteStore, lease: Lease, path: Path, reopen: Reopen, statement: str, position: int) -> None:
    fill(store, lease)
    tamper(path, statement)
    again = reopen()
    with pytest.raises(LedgerCorrupt) as caught:
        list(again.read())
    assert caught.value.position == position


def test_what_precedes_the_damage_can_be_read(store: SqliteStore, lease: Lease, path: Path) -> None:
    fill(store, lease)
    tamper(path, "UPDATE events SET data = CAST(x'7b22ff227d' AS TEXT) WHERE position = 5")
    reading = store.read()
    assert [next(reading).position for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(LedgerCorrupt):
        next(reading)
    assert len(list(store.read(until=4))) == 4


@pytest.mark.parametrize("statement", ["DELETE FROM events WHERE position = 10", "DELETE FROM events", "UPDATE head SET position = 9"])
def test_a_log_cut_short_is_found_when_it_is_opened(store: SqliteStore, lease: Lease, path: Path, statement: str) -> None:
    fill(store, lease)
    tamper(path, statement)
    with pytest.raises(LedgerCorrupt, match="not the one its head names"):
        SqliteStore.open(path)


def test_a_head_that_was_changed_is_found_by_reading(store: SqliteStore, lease: Lease, path: Path) -> None:
    fill(store, lease)
    tamper(path, "UPDATE head SET hash = zeroblob(32)")
    assert len(list(store.read(until=9))) == 9
    with pytest.raises(LedgerCorrupt, match="not the one its head names"):
        list(store.read())


def test_an_event_put_in_with_a_hash_of_its_own_breaks_the_chain(store: SqliteStore, lease: Lease, path: Path) -> None:
    """Forging one event takes forging all that follow and the head; a reader who noted a hash finds even that."""
    fill(store, lease)
    noted = next(store.read(after=6)).hash
    other = SqliteStore.open(path.with_name("other.db"))
    fill(other, other.acquire_lease("mallory", now=NOW, ttl=TTL))
    other.close()
    tamper(path, f"ATTACH '{path.with_name('other.db')}' AS other", "REPLACE INTO events SELECT * FROM other.events WHERE position = 7")
    with pytest.raises(LedgerCorrupt) as caught:
        list(store.read())
    assert caught.value.position == 7
    assert next(store.read(after=6, stream="job/j-1")).hash != noted


@pytest.mark.parametrize("change", ["type = 'task.teleported'", "version = 2", "version = 0"])
def test_a_foreign_event_is_refused_with_its_position(store: SqliteStore, lease: Lease, path: Path, change: str) -> None:
    fill(store, lease)
    tamper(path, f"UPDATE events SET {change} WHERE position = 8")
    with pytest.raises(UnknownEventType) as caught:
        list(store.read(stream="job/j-1"))
    assert caught.value.position == 8


def test_a_damaged_page_is_reported(store: SqliteStore, lease: Lease, path: Path) -> None:
    fill(store, lease, 5000)
    store.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * 40_000)
    with pytest.raises((LedgerCorrupt, StoreError)), closing(SqliteStore.open(path)) as damaged:
        list(damaged.read())


# --- the file ---


def test_the_ledger_is_private_and_so_is_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "ledger.db"
    store = SqliteStore.open(path)
    fill(store, store.acquire_lease("e", now=NOW, ttl=TTL))
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
def test_durability_is_what_was_asked_for(path: Path, durability: str, synchronous: int) -> None:
    store = open_store(path, durability=durability)  # type: ignore[arg-type]  # the parameter is a plain str here
    assert isinstance(store, SqliteStore)
    assert store.durability == durability
    assert store._writer is not None
    assert store._writer.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    assert store._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._writer.execute("PRAGMA page_size").fetchone()[0] == 8192
    store.close()


def test_durable_is_the_default(store: SqliteStore) -> None:
    assert store.durability == "full"


def test_a_ledger_is_only_made_when_asked(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no ledger at"):
        SqliteStore.open(path, create=False)
    with pytest.raises(StoreError, match="there is no ledger at"):
        SqliteStore.open(path, read_only=True)
    assert not path.exists()


def _text(path: Path) -> None:
    path.write_text("dear diary, today nothing happened. " * 100)


def _empty(path: Path) -> None:
    path.touch()


def _database(path: Path) -> None:
    with shell(path) as sql:
        sql.execute("CREATE TABLE events (position INTEGER PRIMARY KEY)")


@pytest.mark.parametrize("make", [_text, _empty, _database])
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_ledger_is_refused_and_left_alone(path: Path, make: Callable[[Path], None], read_only: bool) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a ledger"):
        SqliteStore.open(path, read_only=read_only)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be"):
        SqliteStore.open(tmp_path / "file" / "ledger.db")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_ledger_is_refused_and_left_alone(store: SqliteStore, path: Path, read_only: bool) -> None:
    store.close()
    with shell(path) as sql:
        sql.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('jobledger', '0099-future', 'later')")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match="0099-future"):
        SqliteStore.open(path, read_only=read_only)
    assert path.read_bytes() == before


def _make_older(path: Path) -> None:
    with shell(path) as sql:
        sql.execute("DELETE FROM _sqlite_migrations WHERE name = '0002-views'")
        for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
            sql.execute(f"DROP VIEW {name}")


def test_an_older_ledger_can_be_read_and_is_brought_up_to_date_by_the_first_writer(
    store: SqliteStore, lease: Lease, path: Path, reopen: Reopen
) -> None:
    fill(store, lease)
    store.close()
    _make_older(path)
    before = path.read_bytes()
    reader = SqliteStore.open(path, read_only=True)
    assert len(list(reader.read())) == 10
    reader.close()
    assert path.read_bytes() == before
    assert len(list(reopen().read())) == 10
    with shell(path) as sql:
        assert sql.execute("SELECT count(*) FROM log").fetchone()[0] == 10


def test_a_ledger_whose_tables_are_older_waits_for_a_writer(store: SqliteStore, lease: Lease, path: Path) -> None:
    fill(store, lease)
    store.close()
    with shell(path) as sql:
        sql.execute("DELETE FROM _sqlite_migrations WHERE name = '0001-ledger'")
    with pytest.raises(StoreError, match="older version"):
        SqliteStore.open(path, read_only=True)


def _open_together(path: Path, ready: threading.Barrier) -> SqliteStore:
    ready.wait(BOUND_S)
    return SqliteStore.open(path)


def test_several_that_bring_a_ledger_up_to_date_at_once_do_it_once(store: SqliteStore, path: Path) -> None:
    store.close()
    for _ in range(5):
        _make_older(path)
        ready = threading.Barrier(4)
        with ThreadPoolExecutor(4) as threads:
            opening = [threads.submit(_open_together, path, ready) for _ in range(4)]
            for one in opening:
                one.result(BOUND_S).close()
    with shell(path) as sql:
        assert sql.execute("SELECT count(*) FROM _sqlite_migrations WHERE name = '0002-views'").fetchone()[0] == 1


def test_a_migration_that_fails_changes_nothing(store: SqliteStore, path: Path) -> None:
    """The views are there already, so that their migration fails."""
    store.close()
    with shell(path) as sql:
        sql.execute("DELETE FROM _sqlite_migrations WHERE name = '0002-views'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="already exists"):
        SqliteStore.open(path)
    assert path.read_bytes() == before


# --- reading only ---


def test_a_ledger_can_be_read_while_it_is_written(store: SqliteStore, lease: Lease, path: Path) -> None:
    reader = SqliteStore.open(path, read_only=True)
    fill(store, lease)
    assert len(list(reader.read())) == 10
    with pytest.raises(StoreError, match="read-only"):
        reader.acquire_lease("e", now=NOW, ttl=TTL)
    with pytest.raises(StoreError, match="read-only"):
        reader.put_request(new_request())
    reader.close()


def test_a_ledger_can_be_opened_at_any_moment_of_its_being_written(store: SqliteStore, lease: Lease, path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        position = 0
        while not done.is_set():
            position = store.append([new_event(position + 1)], expected=position, lease=lease).position

    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(write)
        try:
            for _ in range(100):
                SqliteStore.open(path, read_only=True).close()
        finally:
            done.set()
        writing.result()


def test_a_read_holds_up_no_writer(store: SqliteStore, lease: Lease) -> None:
    fill(store, lease, 3000)
    reading = store.read()
    next(reading)
    fill(store, lease, 1)
    assert store.head().position == 3001
    assert sum(1 for _ in reading) == 2999


@pytest.fixture
def archive() -> Iterator[Path]:
    """A folder that everybody can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def nothing_can_be_written(folder: Path) -> Iterator[None]:
    """Only reading is left, for root too."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        assert os.access(folder, os.R_OK, effective_ids=True), "set TMPDIR to a folder that others may enter: root is nobody for this test"
        yield
    finally:
        os.seteuid(0)


def test_a_ledger_where_nothing_can_be_written_can_be_read(archive: Path) -> None:
    path = archive / "ledger.db"
    store = SqliteStore.open(path)
    fill(store, store.acquire_lease("e", now=NOW, ttl=TTL))
    store.close()
    with nothing_can_be_written(archive):
        with pytest.raises(StoreError):
            SqliteStore.open(path)
        reader = SqliteStore.open(path, read_only=True)
        assert len(list(reader.read())) == 10
        reader.close()


def test_a_log_that_was_not_put_away_is_not_passed_over(store: SqliteStore, lease: Lease, path: Path, archive: Path) -> None:
    """A copy of a ledger in use: without its -shm it cannot be read where nothing can be written, and its end must not be left out."""
    fill(store, lease)
    for suffix in ("", "-wal"):
        (archive / f"ledger.db{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with nothing_can_be_written(archive), pytest.raises(StoreError, match="copy it with its -wal file"):
        SqliteStore.open(archive / "ledger.db", read_only=True)
    copy = SqliteStore.open(archive / "ledger.db")
    assert list(copy.read()) == list(store.read())
    copy.close()


# --- writing against odds ---


def test_a_full_disk_records_nothing_of_the_batch(store: SqliteStore, lease: Lease, reopen: Reopen) -> None:
    fill(store, lease)
    store.put_request(new_request())
    assert store._writer is not None
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="the disk is full: nothing was recorded"):
        fill(store, lease, 5000)
    assert store.head().position == 10
    assert len(list(store.read())) == 10
    store._writer.execute(f"PRAGMA max_page_count = {pages * 1000}")
    fill(store, lease, 5000)
    assert len(list(reopen().read())) == 5010


def test_a_disk_that_fails_stops_the_writer_and_leaves_the_ledger_whole(store: SqliteStore, lease: Lease, reopen: Reopen) -> None:
    """A limit on the size of files makes write() itself fail, as a broken disk does."""
    fill(store, lease)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreError, match="open it again"):
            fill(store, lease, 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StoreError, match="open it again"):
        fill(store, lease, 1)
    assert len(list(store.read())) == 10
    again = reopen()
    assert len(list(again.read())) == 10
    fill(again, lease, 5000)
    assert [one.position for one in again.read()] == list(range(1, 5011))


def test_a_writer_that_waits_too_long_says_why(store: SqliteStore, lease: Lease, path: Path) -> None:
    assert store._writer is not None
    store._writer.execute("PRAGMA busy_timeout = 50")
    with shell(path) as sql:
        sql.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            fill(store, lease)
        sql.execute("ROLLBACK")
    fill(store, lease)
    assert store.head().position == 10


def test_what_was_acknowledged_survives_the_death_of_the_writer(path: Path) -> None:
    for _ in range(3):
        acknowledged = _kill_a_writer(path, after=100)
        store = SqliteStore.open(path)
        events = list(store.read())
        assert [one.position for one in events] == list(range(1, store.head().position + 1))
        assert all(events[position - 1].hash.hex() == hash_ for position, hash_ in acknowledged)
        assert [one.position for one in store.read(stream="job/j-1")] == [one.position for one in events]
        store.close()


def _kill_a_writer(path: Path, *, after: int) -> list[tuple[int, str]]:
    """Start a writer, kill it -9 in mid-stream after some appends, and return all that it had acknowledged."""
    script = Path(__file__).with_name("append_forever.py")
    with subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(after)]
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -9
    return [(int(position), hash_) for position, hash_ in (line.split() for line in lines if line.endswith("\n"))]


def test_processes_that_make_the_same_ledger_at_once_all_find_it_whole(path: Path) -> None:
    script = "import sys; from jobledger.eventstore import SqliteStore; print(SqliteStore.open(sys.argv[1]).ledger_id)"
    makers = [subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {maker.communicate()[0].strip() for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0, 0, 0]
    assert len(answers) == 1
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_a_path_may_hold_what_urls_may_not(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20ü.db"
    SqliteStore.open(path).close()
    assert path.exists()
    SqliteStore.open(path, create=False).close()
