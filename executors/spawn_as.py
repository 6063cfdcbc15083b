"""Start a task's program as another user: its folders made ready for that user, and `as_user` to take its identity.

Where the engine is root, that is done here; where not, `through_sudo` has it done.

1. The task's folder stays the engine's, and only its `wd` and its output become the user's: who owned the folder could put a link
   where the engine, as root, will read or change owners.
2. On the way down from the root each folder may be passed through and no more: what else there is cannot be listed.  The task's
   own folder may, which has no names but ours.
3. The order goes by a file that has no name, on Linux in memory alone: command line and environment are nobody else's to see.
"""

# The working directory is the root, and pathlib costs more than the calls it wraps.
# ruff: noqa: PTH100, PTH101, PTH108, PTH116, PTH118, PTH120

import json
import os
import stat
import sys
from typing import Any

from . import spawn

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "as_user.py")
THROUGH_SUDO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "through_sudo.py")
PYTHON = (sys.executable, "-I", "-S", "-X", "utf8")

ENTERED = b"entered"
"""Said through `sudo` when the user is there; what is staged may still take its time to be copied."""
READY = b"ready"
"""What is said last before the program takes over."""

PASS = stat.S_IXGRP | stat.S_IXOTH
LOOK = PASS | stat.S_IRGRP | stat.S_IROTH
FOR_ALL = 0o1777

KEPT = (b"PATH", b"LANG", b"LANGUAGE", b"TZ")
"""What another user gets of the engine's environment, with all of LC_*: the rest may be secret, or mean another home."""


class Started:
    """A process that is to become the program; `status` is the end of the pipe by which it tells how that went."""

    __slots__ = ("pid", "put_aside", "status")

    def __init__(self, pid: int, put_aside: bool, status: int) -> None:
        self.pid = pid
        self.put_aside = put_aside
        self.status = status


def bare(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """What another user gets of the engine's environment."""
    return {name: value for name, value in environment.items() if name in KEPT or name.startswith(b"LC_")}


def start(order: dict[str, Any], root: str, aside: str, environment: dict[bytes, bytes], marks: dict[bytes, bytes]) -> Started:
    """Start what becomes the program of `order`, or watches it, with nothing but `marks` in its environment until then.

    `aside` is where an earlier run's folder is put; `put_aside` tells whether it was.  Raises NotLaunched.
    """
    folder, user = order["folder"], order["user"]
    if "refused" in user:
        raise spawn.NotLaunched(spawn.STAGE_IDENTITY, 0, user["refused"])
    held: list[int] = []
    stage = spawn.STAGE_FOLDER
    try:
        put_aside = spawn.make_folder(folder, aside)
        _open_ways(order["node"], [folder, *order["ways"]])
        if not user["through_sudo"]:
            _allow(folder, LOOK)
            # What was fetched is the user's already, all but this folder, which is the engine's as long as it fetches.
            os.lchown(spawn.make_wd(folder, order.get("staged")), user["uid"], user["gid"])
            stage = spawn.STAGE_OUTPUT
            for name in spawn.OUTPUTS:
                held.append(spawn.open_output(f"{folder}/{name}"))
                os.fchown(held[-1], user["uid"], user["gid"])
        stage = spawn.STAGE_PROCESS
        whole = {**order, "folder": f"{root}/{folder}/wd", "task_folder": folder, "environment": _texts(environment)}
        held.insert(0, _handed_over(f"{aside}.order", whole))
        pid, status = _run([*PYTHON, THROUGH_SUDO] if user["through_sudo"] else [*PYTHON, PROGRAM, "launch"], held, marks)
        return Started(pid, put_aside, status)
    except OSError as error:
        raise spawn.NotLaunched(stage, error.errno or 0) from error
    finally:
        for descriptor in held:
            os.close(descriptor)


def _run(words: list[str], descriptors: list[int], marks: dict[bytes, bytes]) -> tuple[int, int]:
    """Run `words` with these for stdin and so on; its pid, and the end of the pipe whose other end it is given and told the number of."""
    status, told = os.pipe()
    try:
        os.set_inheritable(told, True)
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(descriptors)]
        pid = os.posix_spawn(words[0], [*words, str(told)], marks, file_actions=actions, setsid=True)
    except OSError:
        os.close(status)
        raise
    finally:
        os.close(told)
    os.set_blocking(status, False)
    return pid, status


def _handed_over(path: str, order: dict[str, Any]) -> int:
    """The order in a file that only who is given its descriptor can read, and that is on no disk where the system has such files."""
    descriptor = _nameless(path)
    try:
        text = json.dumps(order).encode()
        while text:
            text = text[os.write(descriptor, text) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _nameless(path: str) -> int:
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return os.memfd_create("order")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.unlink(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open_ways(node: str, folders: list[str]) -> None:
    """Let every user pass through these folders, those that are there, and use the node's `shared`."""
    seen = set()
    for folder in (*folders, f"{node}/shared"):
        parts = folder.split("/")
        for length in range(len(parts) + 1):
            way = "/".join(parts[:length]) or "."
            if way not in seen:
                seen.add(way)
                _allow(way, PASS)
    _allow(f"{node}/shared", FOR_ALL)


def _allow(folder: str, more: int) -> None:
    try:
        mode = stat.S_IMODE(os.stat(folder).st_mode)
    except FileNotFoundError:
        return
    if mode & more != more:
        os.chmod(folder, mode | more)


def _texts(environment: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, value in environment.items()}
