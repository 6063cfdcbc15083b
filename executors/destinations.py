"""Where output files go: a folder of this machine, a web server that takes PUT, or a store that fsspec knows.

1. A container is not made up: what an address names has to be there.  A folder of this machine is made if the one above it is there.
2. Folders below the container are made as needed, and what has the same name is replaced.

Part of the transfer's process (see `transfer`): standard library only, and fsspec where an address needs it.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from . import beneath
from .sources import file_system, system_trouble
from .trouble import CONFLICT, DENIED, FAILED, MISSING, Trouble, from_os, reason
from .urls import LOCAL, WEB, below, local_path, scheme_of, shown
from .web import web_opened

Moved = Callable[[int], None]


class Destination(Protocol):
    """Where the files of one step go."""

    def put(self, name: str, file: int, moved: Moved) -> None:
        """Bring the open file there, under a name with `/` between folders.  Raises Trouble."""


@contextmanager
def destination(url: str, timeout_s: float) -> Iterator[Destination]:
    """What an address means as a place for files.  Raises Trouble."""
    scheme = scheme_of(url)
    if scheme == LOCAL:
        with _local_folder(local_path(url)) as folder:
            yield LocalFolder(folder)
    elif scheme in WEB:
        yield WebContainer(url, timeout_s)
    else:
        yield SystemContainer(url)


@contextmanager
def _local_folder(path: str) -> Iterator[int]:
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise Trouble(MISSING, f"neither the folder {path} nor the one above it is there; make it, or correct the address") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise Trouble(CONFLICT, f"{path} is a file, and a folder is needed there") from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield folder
    finally:
        os.close(folder)


def _unwritable(path: str, error: OSError) -> Trouble:
    if isinstance(error, PermissionError):
        return Trouble(DENIED, f"the folder {path} may not be used by user {os.geteuid()}; change its mode or owner")
    return from_os(FAILED, f"the folder {path} cannot be used", error)


def _umask() -> int:
    """What the user does not want new files to allow; the system tells it only to who sets it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def put(self, name: str, file: int, moved: Moved) -> None:
        try:
            beneath.write(self._folder, name, _content(name, file), moved, mode=0o666 & ~_umask())
        except Trouble as trouble:
            if trouble.number in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise Trouble(DENIED, f"{trouble.text}; change the mode or owner of the folder") from None
            raise


class WebContainer:
    """What lies below a web address: each file is PUT there, as Azure's block blobs and WebDAV have it."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def put(self, name: str, file: int, moved: Moved) -> None:
        size = os.fstat(file).st_size
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream", "x-ms-blob-type": "BlockBlob"}
        body = _Body(name, file, size, moved)
        with web_opened(below(self._url, name), self._timeout_s, method="PUT", body=body, headers=headers) as answer:
            answer.read()


class _Body:
    """A file as http.client reads one: as many bytes as were announced, whatever the file becomes meanwhile."""

    def __init__(self, name: str, file: int, size: int, moved: Moved) -> None:
        self._name = name
        self._file = file
        self._left = size
        self._moved = moved

    def read(self, most: int = -1) -> bytes:
        wanted = self._left if most < 0 else min(most, self._left)
        if not wanted:
            return b""
        part = os.read(self._file, min(wanted, beneath.CHUNK))
        if not part:
            raise Trouble(FAILED, f"{self._name} became shorter while it was uploaded")
        self._left -= len(part)
        self._moved(len(part))
        return part


class SystemContainer:
    """A place in a file system of fsspec."""

    def __init__(self, url: str) -> None:
        self._shown = shown(url)
        self._system, top = file_system(url)
        self._top = top.rstrip("/")
        self._made: set[str] = set()

    def put(self, name: str, file: int, moved: Moved) -> None:
        where = f"{self._shown.rstrip('/')}/{name}"
        try:
            self._make_folders(name.split("/")[:-1])
            self._write(f"{self._top}/{name}", name, file, moved)
        except IsADirectoryError:
            raise Trouble(CONFLICT, f"{where} is a folder already; choose another path") from None
        except OSError as error:
            raise system_trouble(where, error) from None

    def _make_folders(self, names: list[str]) -> None:
        """Make folders where the store has such; where it has none, nothing happens, and no container is made by the way."""
        for number in range(len(names)):
            folder = "/".join([self._top, *names[: number + 1]])
            if folder not in self._made and not self._system.isdir(folder):
                self._system.mkdir(folder, create_parents=False)
            self._made.add(folder)

    def _write(self, path: str, name: str, file: int, moved: Moved) -> None:
        target: Any = self._system.open(path, "wb")
        try:
            for part in _content(name, file):
                target.write(part)
                moved(len(part))
        except BaseException:
            # Closing it would make a whole file of a half one, and so would its end as an object.
            if hasattr(target, "discard"):
                target.discard()
            target.closed = True
            raise
        target.close()


def _content(name: str, file: int) -> Iterator[bytes]:
    try:
        yield from beneath.chunks(file)
    except OSError as error:
        raise Trouble(FAILED, f"{name} cannot be read: {reason(error)}") from None
