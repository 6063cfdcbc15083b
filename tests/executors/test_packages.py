"""Application packages: whole or not there, and only where they belong."""

import asyncio
import hashlib
import io
import os
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.executors import packages
from jobledger.executors.transfers import Transfers, Unpack
from jobledger.executors.trouble import Trouble

LIMITS = {
    "package_bytes": 1 << 30,
    "package_directory_bytes": 1 << 20,
    "package_entries": 1000,
    "package_ratio": 100,
    "package_ratio_free_bytes": 1 << 20,
}


def zipped(*entries: tuple[str, bytes | str], kind: int = stat.S_IFREG, mode: int = 0o644, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with entries of exactly these names, whatever zipfile thinks of them."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as archive:
        warnings.simplefilter("ignore")  # a name given twice is what some tests want
        for name, content in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.create_system = 3
            info.external_attr = (kind | mode) << 16
            info.compress_type = compression
            archive.writestr(info, content)
    return out.getvalue()


def deploy(to: Path, archive: bytes, sha256: str | None = None, **limits: int) -> None:
    packages.deploy(str(to), sha256, lambda: iter([archive]), LIMITS | limits, lambda _: None)


def files(folder: Path) -> dict[str, str]:
    """All files of a deployment but the mark, with their modes."""
    found = {path.relative_to(folder).as_posix(): oct(path.stat().st_mode & 0o7777) for path in folder.rglob("*") if path.is_file()}
    assert found.pop(packages.MARK)
    return found


def test_a_package_is_deployed_with_modes_that_let_others_read_and_run(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        deploy(tmp_path / "apps" / "tool" / "1", zipped(("bin/tool", "#!/bin/sh"), ("./share//data.txt", "data"), ("empty/", ""), mode=0o6755))
    finally:
        assert os.umask(mask) == 0o077
    to = tmp_path / "apps" / "tool" / "1"
    assert files(to) == {"bin/tool": "0o755", "share/data.txt": "0o755"}
    assert (to / "empty").is_dir()
    assert oct(to.stat().st_mode & 0o7777) == oct((to / "bin").stat().st_mode & 0o7777) == "0o755"
    assert sorted(path.name for path in to.parent.iterdir()) == [".1.lock", "1"]


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/x", "C:\\x", "C:x", "..\\x", "a\\b", "a/../x", "..", "", ".", "a\0b", ".jobledger-package", "//x", "./.."],
)
def test_a_name_that_leads_elsewhere_is_refused_whole(tmp_path: Path, name: str) -> None:
    with pytest.raises(Trouble, match="the package"):
        deploy(tmp_path / "to", zipped(("good", "x"), (name, "x")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".to.lock"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(Trouble, match="a link or a device"):
        deploy(tmp_path / "to", zipped(("a", "/etc/passwd"), kind=kind))
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a/b", "a//b"), ("a", "a/b"), ("a/b", "a")])
def test_a_name_given_twice_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(Trouble, match=r"twice|in the way of another"):
        deploy(tmp_path / "to", zipped((names[0], "1"), (names[1], "2")))
    assert not (tmp_path / "to").exists()


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "C:", "a\\b", "...", " ", "~"]), max_size=4).map("/".join)


@given(st.lists(NAMES, max_size=4), st.sampled_from([0, stat.S_IFREG, stat.S_IFLNK]))
def test_whatever_the_names_nothing_is_written_elsewhere(names: list[str], kind: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        to = top / "node" / "tool"
        (top / "node").mkdir()
        (top / "a").write_text("outside")
        try:
            deploy(to, zipped(*((name, "x") for name in names), kind=kind))
        except Trouble:
            assert not to.exists()
        else:
            wanted = {os.path.normpath(name) for name in names if not name.endswith("/")}
            assert set(files(to)) == wanted
        assert (top / "a").read_text() == "outside"
        assert sorted(path.name for path in top.iterdir()) == ["a", "node"]
        assert {path.name for path in (top / "node").iterdir()} <= {".tool.lock", "tool"}


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="that of a bomb"):
        deploy(tmp_path / "to", zipped(("zeros", bytes(64 << 20))))
    with pytest.raises(Trouble, match="unpacks to 2000 bytes, and may have 1999"):
        deploy(tmp_path / "to", zipped(("a", bytes(1000)), ("b", bytes(1000)), compression=zipfile.ZIP_DEFLATED), package_bytes=1999)
    with pytest.raises(Trouble, match="has 2 entries, and may have 1"):
        deploy(tmp_path / "to", zipped(("a", ""), ("b", "")), package_entries=1)
    with pytest.raises(Trouble, match="is larger than 100 bytes"):
        deploy(tmp_path / "to", zipped(("a", "x" * 200), compression=zipfile.ZIP_STORED), package_bytes=100)
    with pytest.raises(Trouble, match="list of contents is larger than 64 bytes"):
        deploy(tmp_path / "to", zipped(("a", ""), ("b", "")), package_directory_bytes=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".to.lock"]


def test_a_size_that_is_a_lie_writes_no_more_than_it_says(tmp_path: Path) -> None:
    """The list of contents says 10 bytes, the content is a million."""
    archive = bytearray(zipped(("a", bytes(1_000_000))))
    place = archive.rindex(b"PK\x01\x02")
    struct.pack_into("<L", archive, place + 24, 10)
    with pytest.raises(Trouble, match="damaged"):
        deploy(tmp_path / "to", bytes(archive))
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "encrypted", "method", "large directory"])
def test_what_is_no_whole_archive_is_refused(tmp_path: Path, damage: str) -> None:
    archive = bytearray(zipped(("a", os.urandom(1000)), ("b", "x" * 1000)))
    match damage:
        case "empty":
            archive.clear()
        case "text":
            archive[:] = b"<html>not found</html>" * 10
        case "cut":
            del archive[len(archive) // 2 :]
        case "flipped":
            archive[100] ^= 0xFF
        case "encrypted":
            archive[archive.rindex(b"PK\x01\x02") + 8] |= 1
            archive[6] |= 1
        case "method":
            struct.pack_into("<H", archive, archive.index(b"PK\x01\x02") + 10, 97)
        case "large directory":
            struct.pack_into("<L", archive, archive.rindex(b"PK\x05\x06") + 12, 0xFFFFFFFF)
    with pytest.raises(Trouble) as refusal:
        deploy(tmp_path / "to", bytes(archive))
    assert refusal.value.kind == "wrong"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".to.lock"]


def test_a_large_archive_in_the_newer_form(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number % 100}/{number}", "")
    with pytest.raises(Trouble, match="has 66000 entries"):
        deploy(tmp_path / "to", out.getvalue(), package_directory_bytes=1 << 24)
    with pytest.raises(Trouble, match="list of contents is larger"):
        deploy(tmp_path / "to", out.getvalue(), package_directory_bytes=1 << 16)


def test_the_digest_has_to_be_right(tmp_path: Path) -> None:
    archive = zipped(("a", "x"))
    digest = hashlib.sha256(archive).hexdigest()
    with pytest.raises(Trouble, match="it is another one, or was changed on its way"):
        deploy(tmp_path / "to", archive, "0" * 64)
    assert not (tmp_path / "to").exists()
    deploy(tmp_path / "to", archive, digest.upper())
    assert files(tmp_path / "to") == {"a": "0o644"}


def test_a_complete_one_is_left_alone(tmp_path: Path) -> None:
    archive, other = zipped(("a", "x")), zipped(("b", "y"))
    deploy(tmp_path / "to", archive)
    made = (tmp_path / "to" / "a").stat()

    def never() -> Iterator[bytes]:
        raise AssertionError("it was fetched again")

    packages.deploy(str(tmp_path / "to"), hashlib.sha256(archive).hexdigest(), never, LIMITS, lambda _: None)
    assert os.path.samestat((tmp_path / "to" / "a").stat(), made)
    with pytest.raises(Trouble, match="give a changed package a version of its own"):
        deploy(tmp_path / "to", other, hashlib.sha256(other).hexdigest())
    assert files(tmp_path / "to") == {"a": "0o644"}


def test_what_is_there_without_a_mark_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "to" / "half").mkdir(parents=True)
    (tmp_path / "1").symlink_to(tmp_path / "to")
    (tmp_path / ".to.0123abcd.new" / "files").mkdir(parents=True)
    deploy(tmp_path / "to", zipped(("a", "x")))
    assert files(tmp_path / "to") == {"a": "0o644"}
    deploy(tmp_path / "1", zipped(("b", "x")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".1.lock", ".to.lock", "1", "to"]


def test_several_at_once_end_with_one_whole_deployment(tmp_path: Path) -> None:
    (tmp_path / "tool.zip").write_bytes(zipped(*((f"folder/{number}", "x" * number) for number in range(60))))

    async def drive() -> list[object]:
        transfers = Transfers(most=4)
        step = Unpack(str(tmp_path / "tool.zip"), None, str(tmp_path / "apps" / "tool"))
        return await asyncio.wait_for(asyncio.gather(*(transfers.run([step], folder=tmp_path) for _ in range(4))), 60)

    assert asyncio.run(drive()) == [None] * 4
    assert len(files(tmp_path / "apps" / "tool")) == 60
    assert sorted(path.name for path in (tmp_path / "apps").iterdir()) == [".tool.lock", "tool"]


def test_what_goes_wrong_is_a_package_error(tmp_path: Path) -> None:
    (tmp_path / "tool.zip").write_bytes(zipped(("../x", "x")))

    def unpack(url: str) -> tuple[str, str, str]:
        failure = asyncio.run(asyncio.wait_for(Transfers(tries=1).run([Unpack(url, None, str(tmp_path / "to"))], folder=tmp_path), 60))
        assert failure is not None
        return failure.category, failure.code, failure.message

    assert unpack(str(tmp_path / "none.zip"))[:2] == ("usererror", "ApplicationPackageError")
    assert unpack("http://127.0.0.1:1/x.zip")[:2] == ("servererror", "ApplicationPackageError")
    category, code, message = unpack(str(tmp_path / "tool.zip"))
    assert (category, code) == ("usererror", "ApplicationPackageError")
    assert "'../x' leads out of its folder" in message
