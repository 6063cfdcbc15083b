"""What the operating system knows about processes, asked without third-party packages.

The supervisor uses this, so it imports only small modules of the standard library (a small heap makes fork cheap).

1. A process is identified by pid and start time; a pid alone may long belong to somebody else.
2. A zombie has ended: it is never counted as living.
3. Linux answers from /proc.  Elsewhere (macOS) `ps` answers, to the second, and environments cannot be read: there only
   process groups are known, and what leaves its group is not found.
"""

# pathlib would make the supervisor's heap larger, and so each fork dearer.
# ruff: noqa: PTH101, PTH118, PTH123, PTH208

import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

LINUX = sys.platform == "linux"
START_TOLERANCE_S = 2
"""`ps` tells start times in whole seconds, and ours is taken just after the fork."""


class Row:
    """One process: `start` is opaque text to compare with `same_start`."""

    __slots__ = ("group", "parent", "pid", "session", "start", "zombie")

    def __init__(self, pid: int, parent: int, group: int, session: int, zombie: bool, start: str) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.zombie = zombie
        self.start = start


def same_start(one: str, other: str) -> bool:
    """Whether two start times of one pid mean the same process."""
    if LINUX:
        return one == other
    return abs(int(one) - int(other)) <= START_TOLERANCE_S


def start_of_child(pid: int) -> str:
    """The start time of a child just forked."""
    if LINUX and (row := look_up(pid)) is not None:
        return row.start
    return str(int(time.time()))


def look_up(pid: int) -> Row | None:
    """The process with this pid, None where there is none."""
    if not LINUX:
        return next((row for row in _ps("-p", str(pid))), None)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return _parse_stat(pid, file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def lives(pid: int, start: str) -> bool:
    """Whether the process that had this pid at that start time still runs (a zombie does not)."""
    row = look_up(pid)
    return row is not None and not row.zombie and same_start(row.start, start)


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


def marked(name: bytes, value: bytes, table: dict[int, Row]) -> Iterator[Row]:
    """The living processes of `table` whose environment says `name=value`."""
    for row in table.values():
        if not row.zombie and environment_of(row.pid).get(name) == value:
            yield row


def become_subreaper() -> bool:
    """Make orphaned descendants children of this process; False where the system has no such thing."""
    if not LINUX:
        return False
    import ctypes  # only Linux needs it

    pr_set_child_subreaper = 36
    return bool(ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0)


def remove_tree(path: "str | Path") -> None:
    """Remove a folder and all in it, also what its owner made unreadable; links are removed, never followed.

    Raises OSError where something cannot be removed; a folder that is not there is fine.
    """
    import shutil  # brings three compression libraries along, which would make each fork dearer

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(path: "str | Path") -> None:
    os.chmod(path, 0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            below = os.path.join(folder, name)
            if stat.S_ISDIR(os.lstat(below).st_mode):
                os.chmod(below, 0o700)


def _proc() -> Iterator[Row]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (row := look_up(int(name))) is not None:
            yield row


def _parse_stat(pid: int, text: bytes) -> Row:
    # The name may hold spaces and brackets: fields count from the last bracket.
    fields = text[text.rindex(b")") + 2 :].split(None, 20)
    return Row(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0] in b"ZX", fields[19].decode())


def _ps(*which: str) -> Iterator[Row]:
    """Processes as `ps` tells them; sessions are not shown everywhere, so the group stands in."""
    import subprocess

    command = ["ps", *which, "-o", "pid=,ppid=,pgid=,stat=,lstart="]
    listing = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=False).stdout
    for line in listing.decode(errors="replace").splitlines():
        pid, parent, group, state, start = line.split(None, 4)
        began = int(time.mktime(time.strptime(start.strip(), "%a %b %d %H:%M:%S %Y")))
        yield Row(int(pid), int(parent), int(group), int(group), state.startswith("Z"), str(began))
