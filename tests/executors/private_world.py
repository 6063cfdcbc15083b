"""A machine of its own for tests: other users and another sudoers file, seen by one command and all it starts, and by nobody else.

    unshare --mount --propagation private python private_world.py FOLDER USER PATH[:PATH...] COMMAND...

Lays the files of FOLDER/etc over those of /etc, opens the way to each PATH for all users, and runs COMMAND as USER.  Needs root.
"""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def lay_over(folder: Path) -> None:
    for path in folder.iterdir():
        mount("--bind", str(path), f"/etc/{path.name}")


def closed_above(path: Path) -> Path | None:
    """The uppermost folder above `path` that others may not pass through."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)


def open_ways(paths: list[Path], stage: Path) -> None:
    """Make everything that is closed above them empty and open, and put them back where they were."""
    hidden = [path for path in paths if closed_above(path) is not None]
    closed = {folder for path in hidden if (folder := closed_above(path)) is not None}
    for number, path in enumerate(hidden):
        (stage / str(number)).mkdir(parents=True)
        mount("--bind", str(path), str(stage / str(number)))
    for folder in closed:
        mount("-t", "tmpfs", "-o", "mode=755", "none", str(folder))
    for number, path in enumerate(hidden):
        path.mkdir(parents=True, exist_ok=True)
        mount("--bind", str(stage / str(number)), str(path))


def main() -> None:
    folder, user, paths, *command = sys.argv[1:]
    lay_over(Path(folder) / "etc")
    open_ways([Path(path) for path in paths.split(":")], Path(folder) / "stage")
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.execvpe(command[0], command, {**os.environ, "HOME": "/nonexistent", "USER": user, "LOGNAME": user})  # noqa: S606


main()
