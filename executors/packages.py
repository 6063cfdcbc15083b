"""Application packages: zip archives, deployed once per node.

1. A package is looked at whole before anything of it is written: names that lead out, links, devices, names given twice, secrets and bombs
   are refused.
2. It is unpacked beside its place and renamed into it, with the mark of completeness in it: what is in place is whole.
3. Of several that deploy the same one at a time goes, and the others find its work.
4. Nobody's set-user-id bit is kept, and only who deploys may write in what is deployed.

Part of the transfer's process (see `transfer`): standard library only.
"""

# Paths are text, as they come from the parent.
# ruff: noqa: PTH102, PTH103, PTH104, PTH108, PTH112, PTH114, PTH118, PTH120, PTH123

import fcntl
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo

from .beneath import CHUNK, write_all
from .trouble import CONFLICT, CREATE, FOLDER, WRITE, WRONG, Trouble, from_os

MARK = ".jobledger-package"
"""In a complete deployment: what it was made of."""
WAIT_S = 0.1
RENAMES_MAX = 5

Moved = Callable[[int], None]


def deploy(to: str, sha256: str | None, content: Callable[[], Iterator[bytes]], limits: dict[str, int], moved: Moved) -> None:
    """Have the package's files below `to`; nothing is done where they are.  Raises Trouble."""
    mask = os.umask(0o022)  # tasks of other users read what is deployed, and nobody writes in it
    try:
        _deploy(to.rstrip("/"), sha256, content, limits, moved)
    finally:
        os.umask(mask)


def _deploy(to: str, sha256: str | None, content: Callable[[], Iterator[bytes]], limits: dict[str, int], moved: Moved) -> None:
    parent, name = os.path.split(to)
    try:
        os.makedirs(parent, 0o755, exist_ok=True)
    except OSError as error:
        raise from_os(FOLDER, f"the folder {parent} cannot be made", error) from None
    with _alone(parent, name, moved):
        if _is_there(to, sha256):
            return
        _remove_left_overs(parent, name)
        staging = os.path.join(parent, f".{name}.{os.urandom(4).hex()}.new")
        try:
            os.mkdir(staging, 0o700)
            digest = _fetch(f"{staging}/package.zip", sha256, content, limits["package_bytes"], moved)
            os.mkdir(f"{staging}/files", 0o755)
            _unpack(f"{staging}/package.zip", f"{staging}/files", limits, moved)
            _mark(f"{staging}/files", digest)
            _put_in_place(f"{staging}/files", to)
        except OSError as error:
            raise from_os(WRITE, f"the package cannot be deployed to {to}", error) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _alone(parent: str, name: str, moved: Moved) -> Iterator[None]:
    """As the only one who deploys this package here.  Who waits says that it lives: the other one has its own limit."""
    path = os.path.join(parent, f".{name}.lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os(CREATE, f"{path} cannot be created", error) from None
    try:
        while not _locked(lock):
            moved(0)
            time.sleep(WAIT_S)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(to: str, sha256: str | None) -> bool:
    """Whether a complete deployment is in place.  Raises Trouble if it is of another package."""
    try:
        with open(f"{to}/{MARK}", encoding="utf-8") as file:
            there = json.load(file)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if sha256 is not None and there != sha256.lower():
        text = f"{to} holds another package already (sha256 {there}); give a changed package a version of its own"
        raise Trouble(CONFLICT, text)
    return True


def _remove_left_overs(parent: str, name: str) -> None:
    """What those left who were killed in the middle; nobody else is at it now."""
    wanted = re.compile(re.escape(f".{name}.") + r"[0-9a-f]{8}\.(new|old)")
    with os.scandir(parent) as entries:
        for entry in entries:
            if wanted.fullmatch(entry.name):
                shutil.rmtree(entry.path, ignore_errors=True)


def _fetch(path: str, sha256: str | None, content: Callable[[], Iterator[bytes]], most: int, moved: Moved) -> str:
    """Write the archive to `path` and look at its digest, which is what comes back.  Raises Trouble."""
    digest, size = hashlib.sha256(), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for part in content():
            size += len(part)
            if size > most:
                raise Trouble(WRONG, f"the package is larger than {most} bytes")
            digest.update(part)
            write_all(file, part, "the package")
            moved(len(part))
    finally:
        os.close(file)
    if sha256 is not None and digest.hexdigest() != sha256.lower():
        text = f"the package has the digest {digest.hexdigest()} and not {sha256.lower()}: it is another one, or was changed on its way"
        raise Trouble(WRONG, text)
    return digest.hexdigest()


def _unpack(path: str, to: str, limits: dict[str, int], moved: Moved) -> None:
    """All files of the archive below `to`, which is empty, and on the disk.  Raises Trouble, OSError."""
    with open(path, "rb") as file:
        _check_directory(file, limits["package_directory_bytes"])
        try:
            with ZipFile(file) as archive:
                entries = checked(archive.infolist(), os.fstat(file.fileno()).st_size, limits)
                written = [_extract(archive, info, names, to, moved) for info, names in entries]
        except (BadZipFile, EOFError, UnicodeDecodeError, struct.error, zlib.error, lzma.LZMAError) as error:
            raise Trouble(WRONG, f"the package is no zip archive, or a damaged one: {error}") from None
        except (NotImplementedError, RuntimeError) as error:  # zipfile's words for a compression or encryption it does not know
            raise Trouble(WRONG, f"the package cannot be unpacked: {error}; make it with deflate and without a password") from None
    for each in written:
        _sync(each)
        moved(0)


def _check_directory(file: IO[bytes], most: int) -> None:
    """Refuse a list of contents that would fill the memory, before it is read.  Raises Trouble."""
    size = os.fstat(file.fileno()).st_size
    tail_size = min(size, 22 + 65_535)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise Trouble(WRONG, "the package is no zip archive: its end is missing")
    directory = struct.unpack_from("<L", tail, end + 12)[0]
    if directory == 0xFFFFFFFF:  # told in the larger form, right before
        larger = tail.rfind(b"PK\x06\x06", 0, end)
        directory = struct.unpack_from("<Q", tail, larger + 40)[0] if 0 <= larger <= len(tail) - 48 else size
    if directory > most:
        raise Trouble(WRONG, f"the package's list of contents is larger than {most} bytes")
    file.seek(0)


def checked(infos: list[ZipInfo], size: int, limits: dict[str, int]) -> list[tuple[ZipInfo, list[str]]]:
    """The entries of an archive of `size` bytes, each with its names from folder to folder.  Raises Trouble (rule 1)."""
    if len(infos) > limits["package_entries"]:
        raise Trouble(WRONG, f"the package has {len(infos)} entries, and may have {limits['package_entries']}")
    total = sum(info.file_size for info in infos)
    if total > limits["package_bytes"]:
        raise Trouble(WRONG, f"the package unpacks to {total} bytes, and may have {limits['package_bytes']}")
    if total > max(limits["package_ratio_free_bytes"], size * limits["package_ratio"]):
        raise Trouble(WRONG, f"the package of {size} bytes unpacks to {total}: such a ratio is that of a bomb")
    entries, files = [], set()
    for info in infos:
        names = names_of(info)
        if names and not _is_folder(info):
            if tuple(names) in files:
                raise Trouble(WRONG, f"the package has {info.filename!r} twice")
            files.add(tuple(names))
        entries.append((info, names))
    return entries


def names_of(info: ZipInfo) -> list[str]:
    """The names that lead to an entry.  Raises Trouble where they lead elsewhere, or the entry is neither file nor folder."""
    name = info.orig_filename  # zipfile itself stops at a NUL
    names = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in names or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        raise Trouble(WRONG, f"the package's entry {name!r} leads out of its folder; names are relative, with '/' and without '..'")
    if not names and not _is_folder(info):
        raise Trouble(WRONG, f"the package has an entry without a name: {name!r}")
    if names == [MARK]:
        raise Trouble(WRONG, f"the package must not have an entry {MARK}")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Trouble(WRONG, f"the package's entry {name!r} is a link or a device, and only files and folders are unpacked")
    return names


def _is_folder(info: ZipInfo) -> bool:
    return info.orig_filename.endswith("/")  # zipfile's own question fails on an empty name


def _extract(archive: ZipFile, info: ZipInfo, names: list[str], to: str, moved: Moved) -> str:
    """Write one entry, and return its path.  Raises Trouble, OSError."""
    path = os.path.join(to, *names)
    try:
        if _is_folder(info):
            os.makedirs(path, 0o755, exist_ok=True)
            return path
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        executable = bool(info.external_attr >> 16 & 0o111)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise Trouble(WRONG, f"the package's entry {info.filename!r} is in the way of another, or of one that differs in case only") from None
    try:
        with archive.open(info) as source:
            _copy(source, file, info.filename, moved)
        os.fchmod(file, 0o755 if executable else 0o644)
    finally:
        os.close(file)
    return path


def _copy(source: IO[bytes], file: int, name: str, moved: Moved) -> None:
    while part := source.read(CHUNK):
        write_all(file, part, name)
        moved(len(part))


def _mark(folder: str, digest: str) -> None:
    """The last thing written: whoever finds it finds all."""
    with open(f"{folder}/{MARK}", "x", encoding="utf-8") as file:
        json.dump({"sha256": digest}, file)
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def _put_in_place(folder: str, to: str) -> None:
    """Rename the finished folder; what is there without a mark was made by nobody of us, and is put aside.  Raises OSError, Trouble."""
    for _ in range(RENAMES_MAX):
        try:
            os.rename(folder, to)
        except OSError:
            if not os.path.lexists(to):
                raise
        else:
            _sync(os.path.dirname(to))
            return
        parent, name = os.path.split(to)
        aside = os.path.join(parent, f".{name}.{os.urandom(4).hex()}.old")
        os.rename(to, aside)
        if os.path.isdir(aside) and not os.path.islink(aside):
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.unlink(aside)
    raise Trouble(CONFLICT, f"{to} cannot be replaced: something comes back there")


def _sync(path: str) -> None:
    """Have a file or folder on the disk: a mark that survives a power cut has to find all that it stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
