"""`sudo`, where the engine is not root: the only way to start, end and remove what belongs to another user.

1. Never a password and never a terminal: `sudo -n`.  What it refuses is told in its own words.
2. What is run by it is `as_user` alone.  Command lines, variables and names of files reach that by its standard input, and so are
   in no list of processes and in no log.

Standard library only: the supervisor uses this.
"""

# The supervisor's part works with paths as text, and pathlib costs more than the calls it wraps.
# ruff: noqa: PTH100, PTH101, PTH118, PTH120

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), "as_user.py")
PYTHON = (os.path.realpath(sys.executable), "-I", "-S", "-X", "utf8")
"""Not that of a virtual environment, which may lie where the other user may not go."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""Of `sudo` itself; what it runs gets little of it, and a program what its order says."""

REMOVAL_TIMEOUT_S = 600.0


def find() -> str | None:
    """The path of `sudo`."""
    return shutil.which("sudo")


def words(user: str, *arguments: str) -> list[str]:
    """The command that runs `as_user` as that user.  Raises FileNotFoundError where there is no sudo."""
    if (sudo := find()) is None:
        raise FileNotFoundError("sudo")
    return [sudo, "-n", "-u", user, "--", *PYTHON, PROGRAM, *arguments]


def about_refusal(user: str, complaint: list[str]) -> str:
    """What to tell where `sudo` does not let us become the user; `complaint` is what it said."""
    said = complaint[-1].strip() if complaint else "it gave no reason"
    return f"`sudo -n -u {user}` does not work ({said}): let the engine's user become '{user}' without a password, or run the engine as root or as '{user}'"


def signal_words(user: str, number: int, targets: Iterable[tuple[int, int, int]]) -> list[str]:
    """The command that signals the groups of these processes: pid, start time and group of each.  Raises FileNotFoundError."""
    return words(user, "signal", str(number), *(":".join(map(str, target)) for target in targets))


def remove_others(path: str) -> bool:
    """Have the files of other users below `path` removed by these users; whether any of it could be tried."""
    tried = False
    for uid, folders in _foreign(os.path.abspath(path)).items():
        try:
            name = pwd.getpwuid(uid).pw_name
            subprocess.run(
                words(name, "remove"),
                input=json.dumps(folders).encode(),
                capture_output=True,
                env=ENVIRONMENT,
                timeout=REMOVAL_TIMEOUT_S,
                check=False,
            )
        except (KeyError, OSError, subprocess.TimeoutExpired):
            continue  # what is still there will be complained of
        tried = True
    return tried


def _foreign(path: str) -> dict[int, list[str]]:
    """The uppermost folders below `path` that are not ours, by owner."""
    found: dict[int, list[str]] = {}
    for folder in _uppermost(path):
        found.setdefault(os.lstat(folder).st_uid, []).append(folder)
        _let_pass(os.path.dirname(folder), down_from=os.path.dirname(path))
    return found


def _let_pass(folder: str, *, down_from: str) -> None:
    """Let everybody come to the folder, as far as it is ours to say."""
    while len(folder) >= len(down_from):
        found = os.lstat(folder)
        if found.st_uid == os.geteuid():
            os.chmod(folder, stat.S_IMODE(found.st_mode) | stat.S_IXGRP | stat.S_IXOTH)  # noqa: S103 - to pass is all that it lets them
        folder = os.path.dirname(folder)


def _uppermost(path: str) -> Iterator[str]:
    if os.lstat(path).st_uid != os.geteuid():
        yield path
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _uppermost(entry.path)
