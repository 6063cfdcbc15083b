"""Where files come from: web servers, this machine, and whatever fsspec knows.

Each content is an iterator of its parts.  It ends only when all of it has come; else it raises Trouble.

1. A web address leads to web addresses only, and from https never to http; a password in it goes to its own server only.
2. Addresses are shown without their secrets (see `urls`).

Part of the transfer's process (see `transfer`): standard library only, and fsspec where an address needs it.
"""

# Paths are text, as they come from the parent.
# ruff: noqa: PTH112, PTH116

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .beneath import chunks
from .trouble import DENIED, FAILED, LATE, MISSING, WRONG, Trouble, from_os, reason
from .urls import LOCAL, WEB, local_path, scheme_of, shown
from .web import web_opened

CHUNK = 1 << 20

Content = Iterator[bytes]
Listed = tuple[str, Callable[[], Content]]
"""A file of a container: its name, with `/` between folders, and its content."""


def content(url: str, timeout_s: float) -> Content:
    """What an address leads to.  Raises Trouble, here or on the way."""
    scheme = scheme_of(url)
    if scheme == LOCAL:
        return _local_content(local_path(url), shown(url))
    if scheme in WEB:
        return _web_content(url, timeout_s)
    system, path = file_system(url)
    return _system_content(system, path, shown(url))


def listing(url: str) -> Iterator[Listed]:
    """Every file below a container, in no promised order.  Raises Trouble."""
    scheme = scheme_of(url)
    if scheme == LOCAL:
        return _local_listing(local_path(url), shown(url))
    if scheme in WEB:
        raise Trouble(
            WRONG, f"{shown(url)}: a web server cannot be asked for a list of its files; name them one by one, or use the store's own scheme"
        )
    system, path = file_system(url)
    return _system_listing(system, path, shown(url))


# --- this machine ---------------------------------------------------------------------------------------------


def _local_content(path: str, name: str) -> Content:
    """A file of this machine, links followed: whoever names it may read it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Trouble(WRONG, f"{name} is not a plain file")
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(name, error) from None
    try:
        yield from chunks(file)
    except OSError as error:
        raise Trouble(FAILED, f"{name} cannot be read: {reason(error)}") from None
    finally:
        os.close(file)


def _local_listing(top: str, name: str) -> Iterator[Listed]:
    """Files below a folder; links to files are followed, links to folders are not: they may lead in circles."""

    def fail(error: OSError) -> None:
        raise _unreadable(name, error)

    if not os.path.isdir(top):  # walk would say nothing
        raise Trouble(MISSING, f"{name} is not a folder of this machine")
    for folder, folders, files in os.walk(top, onerror=fail):
        folders.sort()
        for file in sorted(files):
            path = f"{folder}/{file}"
            if _is_plain(path):
                yield path[len(top) :].lstrip("/"), partial(_local_content, path, path)


def _is_plain(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False  # a link that leads nowhere


def _unreadable(name: str, error: OSError) -> Trouble:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Trouble(MISSING, f"{name} is not there; check the address")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Trouble(DENIED, f"{name} may not be read by user {os.geteuid()}; change its mode or owner")
    return from_os(FAILED, f"{name} cannot be read", error)


# --- the web --------------------------------------------------------------------------------------------------


def _web_content(url: str, timeout_s: float) -> Content:
    from http.client import HTTPException  # these take a tenth of a second that a local copy does not need

    name = shown(url)
    with web_opened(url, timeout_s) as response:
        expected, arrived = response.length, 0
        try:
            while part := response.read1(CHUNK):
                arrived += len(part)
                yield part
        except TimeoutError:
            raise Trouble(LATE, f"{name}: nothing came for {timeout_s:g} s; check the server, or try again") from None
        except (OSError, HTTPException) as error:
            raise Trouble(FAILED, f"{name}: the connection broke after {arrived} bytes ({type(error).__name__})", again=True) from None
        if expected is not None and arrived < expected:
            raise Trouble(FAILED, f"{name}: the connection ended after {arrived} of {expected} bytes", again=True)


# --- fsspec ---------------------------------------------------------------------------------------------------


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it.  Raises Trouble."""
    name = shown(url)
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise Trouble(WRONG, f"{name}: this scheme needs fsspec, which is not installed: pip install 'jobledger[fsspec]'") from None
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise Trouble(WRONG, f"{name}: {error}") from None
    except ValueError as error:
        raise Trouble(WRONG, f"{name}: fsspec does not take this address: {error}") from None
    return system, path


def _system_content(system: Any, path: str, name: str) -> Content:
    try:
        with system.open(path, "rb") as file:
            while part := file.read(CHUNK):
                yield part
    except OSError as error:
        raise system_trouble(name, error) from None


def _system_listing(system: Any, top: str, name: str) -> Iterator[Listed]:
    found = False
    try:
        for folder, _, files in system.walk(top, on_error="raise"):
            for file in files:
                found = True
                path = f"{folder}/{file}"
                if file:
                    yield path[len(top) :].lstrip("/"), partial(_system_content, system, path, f"{name}/{file}")
        if not found and not system.exists(top):
            raise Trouble(MISSING, f"{name} is not there; check the address")
    except OSError as error:
        raise system_trouble(name, error) from None


def system_trouble(name: str, error: OSError) -> Trouble:
    """What a file system of fsspec says went wrong."""
    if isinstance(error, FileNotFoundError):
        return Trouble(MISSING, f"{name} is not there; check the address")
    if isinstance(error, PermissionError):
        return Trouble(DENIED, f"{name}: access was denied; check the credentials of the engine's environment")
    if isinstance(error, TimeoutError):
        return Trouble(LATE, f"{name}: nothing came for too long; check the server, or try again")
    return Trouble(FAILED, f"{name}: {error}", again=True)
