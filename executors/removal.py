"""Removing what ended programs left: a folder is put aside at once, and removed by a helper in the background.

1. Nothing outside the node's own folder is touched: below it no link is followed, neither on the way to a folder nor within one.
2. A folder that is not there is removed.  What a supervisor that died had put aside is found again by its name.
3. Few helpers live at the same time, and each removes many folders: a job may leave 100,000.
4. What cannot be removed is said, and stays in the node's `volatile` until the node is emptied.
"""

# pathlib would make the supervisor's heap larger, and so each fork dearer.
# ruff: noqa: PTH108

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from . import processes

HELPERS_MAX = 2
"""Helpers at the same time: more would only contend for the disk."""
FOLDERS_PER_HELPER = 64
"""Folders removed by one helper: a fork costs about as much as removing a few small ones."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Removal:
    """One folder that was put aside under `name`."""

    __slots__ = ("before", "folder", "name", "node")

    def __init__(self, node: str, folder: str, before: int, name: str) -> None:
        self.node = node
        self.folder = folder
        self.before = before
        self.name = name


class Removals:
    """The folders that one supervisor is removing.  `helpers` are its children by pid, with their nodes."""

    def __init__(self, ledger: str, helpers: dict[int, str], send: Callable[[dict[str, Any]], None]) -> None:
        self._ledger = ledger
        self._helpers = helpers
        self._send = send
        self._waiting: dict[str, dict[str, Removal]] = {}
        """By node and name."""
        self._running: dict[int, list[Removal]] = {}

    @property
    def empty(self) -> bool:
        return not self._waiting and not self._running

    def begin(self, node: str, folder: str, before: int) -> None:
        """Put the folder aside, and answer `removed` when it is gone or cannot be removed."""
        below = folder.removeprefix(f"{node}/").split("/")
        removal = Removal(node, folder, before, f".{self._ledger}.{before}.{'.'.join(below)}")
        if any(one.node == node and one.name == removal.name for batch in self._running.values() for one in batch):
            return  # It is on its way, and its end is the answer.
        try:
            found = put_aside(node, below, removal.name)
        except OSError as error:
            self._answer(removal, f"{folder}: {os.strerror(error.errno or errno.EIO)}")
            return
        if found:
            self._waiting.setdefault(node, {})[removal.name] = removal
            self._start()
        else:
            self._answer(removal, None)

    def ended(self, pid: int, status: int) -> None:
        """A helper ended: answer for what it was given, and go on with what waits."""
        code = os.waitstatus_to_exitcode(status)
        for removal in self._running.pop(pid, ()):
            why = os.strerror(code) if code > 0 else "its removal was cut short"
            self._answer(removal, f"{removal.folder}: {why}" if _is_there(removal) else None)
        self._start()

    def forget(self, node: str) -> None:
        """The node goes down: what was not begun is asked for again when it is up."""
        self._waiting.pop(node, None)

    def refuse(self, node: str, folder: str, before: int, problem: str) -> None:
        """Answer a removal that must not be."""
        self._answer(Removal(node, folder, before, ""), problem)

    def _start(self) -> None:
        while self._waiting and len(self._running) < HELPERS_MAX:
            node, waiting = next(iter(self._waiting.items()))
            batch = [waiting.pop(name) for name in list(waiting)[:FOLDERS_PER_HELPER]]
            del self._waiting[node]
            if waiting:
                self._waiting[node] = waiting  # Behind the others: each node in its turn.
            try:
                pid = _fork_helper(node, [removal.name for removal in batch])
            except OSError as error:
                for removal in batch:
                    self._answer(removal, f"{removal.folder}: {os.strerror(error.errno or errno.EAGAIN)}")
                continue
            self._helpers[pid] = node
            self._running[pid] = batch

    def _answer(self, removal: Removal, problem: str | None) -> None:
        self._send({"op": "removed", "node": removal.node, "folder": removal.folder, "before": removal.before, "problem": problem})


def put_aside(node: str, below: list[str], name: str) -> bool:
    """Move a folder of the node to `name` in its `volatile`; False where neither is there.  Raises OSError, ELOOP or ENOTDIR for a link on the way."""
    opened: list[int] = []
    try:
        try:
            opened.append(os.open(node, os.O_RDONLY | os.O_DIRECTORY))
        except FileNotFoundError:
            return False  # the node's files are gone altogether
        volatile = _volatile(opened[0])
        opened.insert(0, volatile)
        try:
            for part in below[:-1]:
                opened.append(os.open(part, _FOLDER, dir_fd=opened[-1]))
            os.rename(below[-1], name, src_dir_fd=opened[-1], dst_dir_fd=volatile)
        except FileNotFoundError:
            return _exists(name, volatile)
        return True
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _volatile(node: int) -> int:
    """The node's folder for what may go at any time, made where a program has removed it."""
    try:
        return os.open("volatile", _FOLDER, dir_fd=node)
    except FileNotFoundError:
        os.mkdir("volatile", 0o700, dir_fd=node)
        return os.open("volatile", _FOLDER, dir_fd=node)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_there(removal: Removal) -> bool:
    try:
        os.lstat(f"{removal.node}/volatile/{removal.name}")
    except OSError:
        return False
    return True


def _fork_helper(node: str, names: list[str]) -> int:
    """A child that removes what lies under these names, and exits with the errno of what went wrong last.  Raises OSError."""
    pid = os.fork()
    if pid == 0:
        code = errno.EIO
        try:
            os.fchdir(_volatile(os.open(node, os.O_RDONLY | os.O_DIRECTORY)))
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # above all the lock: it must end with the supervisor
            code = _remove_all(names)
        finally:
            os._exit(code)
    return pid


def _remove_all(names: list[str]) -> int:
    code = 0
    for name in names:
        try:
            if stat.S_ISDIR(os.lstat(name).st_mode):
                processes.remove_tree(name)
            else:
                os.unlink(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            code = error.errno or errno.EIO
        except RecursionError:
            code = errno.ENAMETOOLONG  # folders nested deeper than this language goes
    return code
