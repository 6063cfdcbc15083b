"""Files below a folder, opened so that nothing leads out of it.

Others may write in that folder while we do: a task's program of another user, and we may be root.  So no path is ever handed to the
system whole: each folder is opened in the one before it, and no link is followed.

1. Nothing outside the folder is read, made, changed or removed, whatever lies in it and however it changes meanwhile.
2. A file is written under another name and renamed when it is whole: under its own name it is whole or not there.
3. Only plain files are opened for reading: a FIFO would block, and a device may act.

Part of the transfer's process (see `transfer`): standard library only.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .trouble import CONFLICT, CREATE, FOLDER, WRITE, WRONG, Trouble, from_os

Owner = tuple[int, int]
"""User and group that files are given to."""

CHUNK = 1 << 20
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_unfinished: set[tuple[int, str]] = set()
"""Files under their passing names, with the descriptors of their folders."""


def parts_of(path: str) -> list[str]:
    """The names in a relative path.  Raises Trouble where it leads out, or is none."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Trouble(WRONG, f"{path!r} leads out of its folder; name files by relative paths without '..'")
    return parts


@contextmanager
def top(path: str) -> Iterator[int]:
    """The descriptor of a folder that is ours and not of those who write in it.  Raises Trouble."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os(FOLDER, f"the folder {path} cannot be opened", error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def entered(base: int, names: list[str], *, make: bool = False, owner: Owner | None = None) -> Iterator[int]:
    """The descriptor of a folder below `base`, made with all above it if `make`.  Raises Trouble if that cannot be, FileNotFoundError
    or NotADirectoryError if not asked to make it.
    """
    here = os.dup(base)
    try:
        for number, name in enumerate(names):
            after = _enter(here, name, "/".join(names[: number + 1]), make, owner)
            os.close(here)
            here = after
        yield here
    finally:
        os.close(here)


def _enter(here: int, name: str, shown: str, make: bool, owner: Owner | None) -> int:
    if not make:
        return os.open(name, FOLDER_FLAGS, dir_fd=here)
    try:
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=here)
        except FileNotFoundError:
            return _make_folder(here, name, owner)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Trouble(CONFLICT, f"{shown} is a file or a link, and a folder is needed there: links are not followed") from None
        raise from_os(FOLDER, f"the folder {shown} cannot be made", error) from None


def _make_folder(here: int, name: str, owner: Owner | None) -> int:
    try:
        os.mkdir(name, 0o777, dir_fd=here)
    except FileExistsError:
        return os.open(name, FOLDER_FLAGS, dir_fd=here)  # somebody else was faster
    made = os.open(name, FOLDER_FLAGS, dir_fd=here)
    try:
        if owner is not None and os.fstat(made).st_uid == os.geteuid():  # what was put in its place meanwhile is not ours to give away
            os.fchown(made, *owner)
    except OSError:
        os.close(made)
        raise
    return made


def write(base: int, path: str, content: Iterator[bytes], moved: Callable[[int], None], *, mode: int, owner: Owner | None = None) -> None:
    """Make the file `path` below `base` of `content`, with all folders above it; what was there is replaced.  Raises Trouble."""
    names = parts_of(path)
    if not names:
        raise Trouble(WRONG, f"{path!r} names no file")
    with entered(base, names[:-1], make=True, owner=owner) as folder, _passing(folder, names[-1], path, mode, owner) as file:
        for part in content:
            write_all(file, part, path)
            moved(len(part))


@contextmanager
def _passing(folder: int, name: str, shown: str, mode: int, owner: Owner | None) -> Iterator[int]:
    """A file under a passing name, which gets its own at the end."""
    passing = f".{os.urandom(8).hex()}.part"
    try:
        file = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        raise from_os(CREATE, f"{shown} cannot be created", error) from None
    _unfinished.add((folder, passing))
    try:
        try:
            yield file
            _finish(file, shown, mode, owner)
        finally:
            os.close(file)
        try:
            os.rename(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            raise Trouble(CONFLICT, f"{shown} is a folder already; choose another name for the file") from None
        except OSError as error:
            raise from_os(CREATE, f"{shown} cannot be created", error) from None
    except BaseException:
        _unlink(folder, passing)
        raise
    finally:
        _unfinished.discard((folder, passing))


def _finish(file: int, shown: str, mode: int, owner: Owner | None) -> None:
    try:
        if owner is not None:
            os.fchown(file, *owner)
        os.fchmod(file, mode & 0o777)
    except OSError as error:
        raise from_os(WRITE, f"{shown} cannot be given its owner and mode", error) from None


def write_all(file: int, part: bytes, shown: str) -> None:
    """Write all of it.  Raises Trouble."""
    view = memoryview(part)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        raise from_os(WRITE, f"{shown} cannot be written", error) from None


def remove_unfinished() -> None:
    """For a process that ends at once: what is half written goes."""
    for folder, name in list(_unfinished):
        _unlink(folder, name)


def _unlink(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return  # it is no file of ours any more, or its folder is gone


def open_file(folder: int, name: str) -> int:
    """The descriptor of a plain file in a folder (rule 3).  Raises OSError, with ELOOP for a link and EINVAL for what is no plain file."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a link")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    file = os.open(name, FILE_FLAGS, dir_fd=folder)
    opened = os.fstat(file)
    if not os.path.samestat(found, opened):
        os.close(file)
        raise OSError(errno.ESTALE, "it was replaced meanwhile")
    os.set_blocking(file, True)
    return file


def chunks(file: int) -> Iterator[bytes]:
    """The content of an open file.  Raises OSError."""
    while part := os.read(file, CHUNK):
        yield part
