"""Become another user, and then the program that is to run as that user: the pid stays the same.

Started by its path as `python -I -S -X utf8 as_user.py launch STATUS` by a supervisor that is root, with the order as JSON on
stdin; as `... as_user.py probe NAME ROOT` by an engine that asks beforehand.

1. Nothing of the user's environment is in force before its identity is taken: it comes with the order.  A variable such as
   LD_PRELOAD must not act as root.
2. STATUS is a pipe that ends when the program takes over.  `ready` is said before that is tried, and a line of JSON where it
   fails: stage, errno and subject, as for a program of the engine's own user.
3. The name is looked up anew, and refused where it means another user than the one who asked was told.

It imports the standard library only, and reaches its neighbours as `supervisor` does.
"""

# It runs for a few milliseconds, and pathlib would be half of them.
# ruff: noqa: PTH100, PTH112, PTH120

import json
import os
import pwd
import signal
import sys
from typing import Any, NoReturn

if __name__ == "__main__":
    __package__ = "jobledger_as_user"
    sys.modules[__package__] = bare = type(sys)(__package__)
    bare.__path__ = [os.path.dirname(os.path.abspath(__file__))]

from . import spawn, spawn_as

EXIT_NOT_LAUNCHED = 127
EXIT_REFUSED = 4
"""The probe found a reason why not, and wrote it on stdout."""


class Refused(Exception):
    """The identity cannot be taken; the message says why, and what to do."""


def become(name: str, uid: int) -> pwd.struct_passwd:
    """Take the user's id and groups, for good.  Raises Refused."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"there is no user '{name}' on this machine") from None
    if account.pw_uid != uid:
        raise Refused(f"user '{name}' is not the one it was a moment ago: its id is {account.pw_uid} and no longer {uid}")
    if os.geteuid() != uid:
        try:
            os.initgroups(name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(uid)
        except OSError as error:
            raise Refused(f"the engine cannot become '{name}': {error.strerror}") from None
    return account


def closed_folder(path: str) -> str | None:
    """The first folder on the way down to `path` that this process may not traverse; what is not there closes nothing."""
    way = ""
    for part in path.split("/"):
        way = f"{way}{part}/"
        if os.path.isdir(way) and not os.access(way, os.X_OK):
            return way.rstrip("/") or "/"
    return None


def about_closed(folder: str, name: str) -> str:
    return f"user '{name}' may not pass through the folder {folder}: allow it with `chmod o+x {folder}`, or choose another root for the nodes"


def main() -> int:
    """Do what was asked for; does not come back where a program takes over."""
    if sys.argv[1] == "probe":
        return _probe(*sys.argv[2:])
    status = int(sys.argv[2])
    os.set_inheritable(status, False)
    try:
        _launch(_read_order(), status)
    except spawn.NotLaunched as refusal:
        _say(status, _line(refusal.fact))
    except Refused as refusal:
        _say(status, _line(spawn.NotLaunched(spawn.STAGE_IDENTITY, 0, str(refusal)).fact))
    return EXIT_NOT_LAUNCHED


def _probe(name: str, uid: str, root: str) -> int:
    try:
        become(name, int(uid))
        folder = closed_folder(os.path.dirname(root))
        reason = None if folder is None else about_closed(folder, name)
    except Refused as refusal:
        reason = str(refusal)
    if reason is None:
        return 0
    os.write(1, reason.encode("utf-8", "backslashreplace"))
    return EXIT_REFUSED


def _read_order() -> dict[str, Any]:
    with open(0, "rb", closefd=False) as file:
        order: dict[str, Any] = json.load(file)
    return order


def _launch(order: dict[str, Any], status: int) -> NoReturn:
    name = order["user"]["name"]
    account = become(name, order["user"]["uid"])
    try:
        os.chdir(order["folder"])
    except OSError as error:
        if (folder := closed_folder(order["folder"])) is not None:
            raise Refused(about_closed(folder, name)) from None
        raise spawn.NotLaunched(spawn.STAGE_FOLDER, error.errno or 0) from None
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    own = {"HOME": account.pw_dir, "USER": name, "LOGNAME": name, **order["environment"]}
    environment = {os.fsencode(variable): os.fsencode(value) for variable, value in own.items()}
    words = [os.fsencode(word) for word in order["arguments"]]
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)  # Python ignores these, and a program would inherit that
    _say(status, spawn_as.READY + b"\n")
    spawn.execute(words, environment)


def _line(fact: dict[str, Any]) -> bytes:
    return json.dumps(fact).encode() + b"\n"


def _say(status: int, line: bytes) -> None:
    try:
        os.write(status, line)
    except OSError:
        return  # The supervisor died: its successor will find what has become of this process.


if __name__ == "__main__":
    sys.exit(main())
