"""Files below a folder: whole or not there, and nothing outside is touched, whatever lies inside."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.executors import beneath
from jobledger.executors.trouble import Trouble

NAMES = st.sampled_from(["a", "b", "c", ".d", "..", ".", "", "out", "back", "loop", "ü", "x" * 255, "x" * 256])
PATHS = st.one_of(st.lists(NAMES, max_size=5).map("/".join), st.lists(NAMES, max_size=5).map(lambda parts: "/" + "/".join(parts)))


def nothing(_: int) -> None:
    return


def put(top: Path, path: str, *parts: bytes, mode: int = 0o600) -> None:
    with beneath.top(str(top)) as base:
        beneath.write(base, path, iter(parts), nothing, mode=mode)


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that a write could change."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        seen = path.lstat()
        found[str(path)] = (seen.st_mode, seen.st_ino, seen.st_mtime_ns, path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
    return found


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with traps in it, and beside it what must not change."""
    return make_world(tmp_path)


def make_world(tmp_path: Path) -> Path:
    outside, top = tmp_path / "outside", tmp_path / "top"
    (outside / "a").mkdir(parents=True)
    (outside / "b").write_text("outside")
    (top / "a" / "b").mkdir(parents=True)
    (top / "out").symlink_to("../outside")
    (top / "a" / "out").symlink_to(outside)
    (top / "a" / "back").symlink_to("../..")
    (top / "loop").symlink_to("loop")
    (top / "b").symlink_to(outside / "b")
    (top / "c").symlink_to(outside / "new")
    return top


@given(PATHS)
def test_a_write_stays_inside(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_and_look(make_world(Path(folder)), path)


def write_and_look(top: Path, path: str) -> None:
    outside = top.parent / "outside"
    before = state(outside)
    try:
        put(top, path, b"inside")
    except Trouble:
        assert not [each for each in top.rglob("*") if each.is_file() and not each.is_symlink()], "a half file was left"
    else:
        (written,) = (each for each in top.rglob("*") if each.is_file() and not each.is_symlink())
        assert written.read_bytes() == b"inside"
        assert written.parent.resolve().is_relative_to(top.resolve())
    assert state(outside) == before
    assert sorted(each.name for each in top.parent.iterdir()) == ["outside", "top"]


@pytest.mark.parametrize(
    ("path", "code"), [("out/x", "conflict"), ("a/out/x", "conflict"), ("a/back/x", "conflict"), ("../x", "wrong"), ("/x", "wrong"), ("", "wrong")]
)
def test_a_way_out_is_refused(world: Path, path: str, code: str) -> None:
    with pytest.raises(Trouble) as refusal:
        put(world, path, b"x")
    assert refusal.value.kind == code


def test_a_link_in_the_files_place_is_replaced_and_not_followed(world: Path) -> None:
    put(world, "b", b"inside")
    put(world, "c", b"inside")
    assert (world.parent / "outside" / "b").read_text() == "outside"
    assert not (world.parent / "outside" / "new").exists()
    assert not (world / "b").is_symlink()


def test_a_folder_in_the_files_place_is_kept(world: Path) -> None:
    with pytest.raises(Trouble, match="is a folder already"):
        put(world, "a/b", b"x")
    assert (world / "a" / "b").is_dir()


def test_what_breaks_off_leaves_what_was_there(world: Path) -> None:
    put(world, "file", b"old")

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise Trouble("failed", "the connection broke")

    with beneath.top(str(world)) as base, pytest.raises(Trouble):
        beneath.write(base, "file", broken(), nothing, mode=0o600)
    assert (world / "file").read_bytes() == b"old"
    assert [each.name for each in world.iterdir() if each.name.endswith(".part")] == []


def test_special_bits_are_never_set(world: Path) -> None:
    put(world, "file", b"", mode=0o7755)
    assert (world / "file").stat().st_mode & 0o7777 == 0o755


def test_a_folder_that_becomes_a_link_while_it_is_written_to(world: Path) -> None:
    def swapping() -> Iterator[bytes]:
        yield b"one"
        (world / "a" / "b").rename(world / "a" / "was b")
        (world / "a" / "b").symlink_to(world.parent / "outside")
        yield b"two"

    before = state(world.parent / "outside")
    with beneath.top(str(world)) as base:
        beneath.write(base, "a/b/file", swapping(), nothing, mode=0o600)
    assert (world / "a" / "was b" / "file").read_bytes() == b"onetwo"
    assert state(world.parent / "outside") == before


def test_a_file_that_becomes_a_link_before_it_is_renamed(world: Path) -> None:
    """Whoever owns the folder can do that; then the link is what is there, and what it means is not written to."""

    def swapping() -> Iterator[bytes]:
        yield b"one"
        (passing,) = world.glob(".*.part")
        passing.unlink()
        passing.symlink_to(world.parent / "outside" / "b")
        yield b"two"

    before = state(world.parent / "outside")
    with beneath.top(str(world)) as base:
        beneath.write(base, "file", swapping(), nothing, mode=0o777)
    assert state(world.parent / "outside") == before


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_plain_files_are_opened(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with beneath.top(str(tmp_path)) as base:
        os.close(beneath.open_file(base, "file"))
        with pytest.raises(OSError, match="it is"):
            beneath.open_file(base, kind)
