"""What the operating system knows about processes, asked without third-party packages.

The supervisor uses this.

1. A process is identified by pid and start time; a pid alone may long belong to somebody else.
2. A zombie has ended: it is never counted as living.
3. The start time of a child is known as a span around its launch: asking the system would cost a fifth of the launch itself.
4. Linux answers from /proc.  Elsewhere (macOS) `ps` answers, to the second, and environments cannot be read: there only
   process groups and descendants are known, and an orphan that left its group is not found.
"""

# pathlib would make the supervisor's heap larger, and so each fork dearer.
# ruff: noqa: PTH101, PTH102, PTH112, PTH118, PTH120, PTH123, PTH208

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import sudo

LINUX = sys.platform == "linux"
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None) if LINUX else None

Span = tuple[int, int]
"""A start time: not before the first, not after the second."""


class Row:
    """One process: `start` counts as `clock` does."""

    __slots__ = ("group", "parent", "pid", "session", "start", "zombie")

    def __init__(self, pid: int, parent: int, group: int, session: int, zombie: bool, start: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.zombie = zombie
        self.start = start


def clock() -> int:
    """The time as start times count it: clock ticks since boot on Linux, else seconds since 1970."""
    return int(time.clock_gettime(_BOOT_CLOCK) * os.sysconf("SC_CLK_TCK")) if _BOOT_CLOCK is not None else int(time.time())


def span_since(before: int) -> Span:
    """The start time of a process started between `clock() == before` and now."""
    return (before, clock()) if LINUX else (before - 1, clock() + 1)


def within(start: int, span: Span) -> bool:
    """Whether a process that started then can be the one of that span."""
    return span[0] <= start <= span[1]


def look_up(pid: int) -> Row | None:
    """The process with this pid, None where there is none."""
    if not LINUX:
        return next((row for row in _ps("-p", str(pid))), None)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return _parse_stat(pid, file.read())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # gone, or another user's where these are hidden (hidepid=1)


def lives(pid: int, span: Span) -> bool:
    """Whether the process that started within the span under this pid still runs (a zombie does not)."""
    row = look_up(pid)
    return row is not None and not row.zombie and within(row.start, span)


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal and not continued since; False where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def snapshot() -> dict[int, Row]:
    """All processes by pid.  Those that come or go meanwhile may be missed: ask again until nothing changes."""
    rows = _proc() if LINUX else _ps("-A")
    return {row.pid: row for row in rows}


def descendants(table: dict[int, Row], roots: Iterable[int]) -> set[int]:
    """The pids of `roots` and of all that descend from them in `table`."""
    children: dict[int, list[int]] = {}
    for row in table.values():
        children.setdefault(row.parent, []).append(row.pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    return found


def own_children() -> set[int] | None:
    """The pids of this process's children, zombies too; None where the system cannot say cheaply."""
    pid = os.getpid()
    try:
        descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    return {int(word) for word in b"".join(parts).split()}


def environment_of(pid: int) -> dict[bytes, bytes]:
    """The environment the process was started with; empty where it is gone or may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:
        return {}
    return dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)


def marked(marks: dict[bytes, bytes], table: dict[int, Row]) -> Iterator[Row]:
    """The living processes of `table` whose environment has all of `marks`."""
    for row in table.values():
        if not row.zombie and marks.items() <= environment_of(row.pid).items():
            yield row


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process; False where the system has no such thing."""
    if not LINUX:
        return False
    pr_set_child_subreaper = 36
    return bool(ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0)


def make_private(path: str | Path) -> None:
    """Make a folder and those above it that are missing, each private to its owner, whatever the umask.  Raises OSError.

    One that is there already stays as it is: its owner may have opened it on purpose.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        above = os.path.dirname(path)
        if above in ("", path):
            raise
        make_private(above)
        make_private(path)
    else:
        os.chmod(path, 0o700)


def remove_tree(path: str | Path) -> None:
    """Remove a folder and all in it, also what its owner made unreadable; links are removed, never followed.

    What belongs to others is removed through `sudo`, where that works.  Raises OSError where something cannot be removed; a
    folder that is not there is fine.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        open_up(path)
        try:
            shutil.rmtree(path)
        except PermissionError:
            if not sudo.remove_others(str(path)):
                raise
            shutil.rmtree(path)


def open_up(path: str | Path) -> None:
    """Make readable what is ours in a folder, and the folder."""
    _open_own(path)
    for folder, names, _ in os.walk(path):
        for name in names:
            _open_own(os.path.join(folder, name))


def _open_own(folder: str | Path) -> None:
    found = os.lstat(folder)
    if stat.S_ISDIR(found.st_mode) and os.geteuid() in (0, found.st_uid):
        os.chmod(folder, stat.S_IMODE(found.st_mode) | 0o700)


def _proc() -> Iterator[Row]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (row := look_up(int(name))) is not None:
            yield row


def _parse_stat(pid: int, text: bytes) -> Row:
    # The name may hold spaces and brackets: fields count from the last bracket.
    fields = text[text.rindex(b")") + 2 :].split(None, 20)
    return Row(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0] in b"ZX", int(fields[19]))


def _ps(*which: str) -> Iterator[Row]:
    """Processes as `ps` tells them; sessions are not shown everywhere, so the group stands in."""
    command = ["ps", *which, "-o", "pid=,ppid=,pgid=,stat=,lstart="]
    listing = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=False).stdout
    for line in listing.decode(errors="replace").splitlines():
        pid, parent, group, state, start = line.split(None, 4)
        began = int(time.mktime(time.strptime(start.strip(), "%a %b %d %H:%M:%S %Y")))
        yield Row(int(pid), int(parent), int(group), int(group), state.startswith("Z"), began)
