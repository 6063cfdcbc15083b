"""Become another user, and then the program that is to run as that user: the pid stays the same.

Started by its path as `python -I -S -X utf8 as_user.py OPERATION ...`:

    launch STATUS             by a supervisor that is root, with the order as JSON on stdin
    enter                     as the user already, by `through_sudo`, with a channel for stdin
    probe NAME UID ROOT       by an engine that asks beforehand, as root or through `sudo`
    signal NUMBER PID:START:GROUP ...   to processes of the user's, through `sudo`
    remove                    folders of the user's that stdin names, through `sudo`

1. Nothing of the program's environment is in force before its user's identity is taken: it comes with the order.  A variable such
   as LD_PRELOAD must not act as root.
2. STATUS is a pipe that ends when the program takes over.  `ready` is said before that is tried, and a line of JSON where it
   fails: stage, errno and subject, as for a program of the engine's own user.  `enter` hands over the other end of such a pipe.
3. The name is looked up anew, and refused where it means another user than the one who asked was told.

It imports the standard library only, and reaches its neighbours as `supervisor` does.
"""

# It runs for a few milliseconds, and pathlib would be half of them.
# ruff: noqa: PTH100, PTH102, PTH112, PTH120, PTH123

import errno
import json
import os
import pwd
import signal
import sys
from typing import Any, BinaryIO, NoReturn

if __name__ == "__main__":
    __package__ = "jobledger_as_user"
    sys.modules[__package__] = bare = type(sys)(__package__)
    bare.__path__ = [os.path.dirname(os.path.abspath(__file__))]

from . import spawn, spawn_as

EXIT_NOT_LAUNCHED = 127
EXIT_REFUSED = 4
"""The probe found a reason why not, and wrote it on stdout."""


GO = b"go\n"
"""The word by which the program may run, once what follows it is written."""
CHUNK = 1 << 20
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Refused(spawn.NotLaunched):
    """The identity cannot be taken; `str` says why, and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(spawn.STAGE_IDENTITY, 0, reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


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
    operation, *arguments = sys.argv[1:]
    match operation:
        case "launch":
            return _launch(int(arguments[0]))
        case "enter":
            return _enter()
        case "probe":
            return _probe(*arguments)
        case "signal":
            return _signal(int(arguments[0]), arguments[1:])
        case _:
            return _remove()


def line(fact: dict[str, Any]) -> bytes:
    return json.dumps(fact).encode() + b"\n"


def say(status: int, text: bytes) -> None:
    try:
        os.write(status, text)
    except OSError:
        return  # Who listened has died: its successor will find what has become of this process.


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


def _launch(status: int) -> int:
    os.set_inheritable(status, False)
    with open(0, "rb", closefd=False) as file:
        order = json.load(file)
    try:
        account = become(order["user"]["name"], order["user"]["uid"])
        _pass_to(order["folder"], account.pw_name)
        _give_way(order, account, status)
    except spawn.NotLaunched as refusal:
        say(status, line(refusal.fact))
    return EXIT_NOT_LAUNCHED


def _enter() -> int:
    """As `launch`, but `wd` and the output are this user's to make, and who called looks at them before the program runs."""
    import socket

    with socket.socket(fileno=os.dup(0)) as channel, channel.makefile("rb") as orders:
        order = json.loads(orders.readline())
        try:
            account = become(order["user"]["name"], order["user"]["uid"])
            _pass_to(os.path.dirname(order["folder"]), account.pw_name)
            _make_own_folder()
        except spawn.NotLaunched as refusal:
            channel.sendall(line(refusal.fact))
            return EXIT_NOT_LAUNCHED
        os.setsid()
        listened, status = os.pipe()
        socket.send_fds(channel, [b"entered"], [listened])
        os.close(listened)
        if orders.readline() != GO:
            return EXIT_NOT_LAUNCHED
        try:
            _take_files(orders)
        except spawn.NotLaunched as refusal:
            say(status, line(refusal.fact))
            return EXIT_NOT_LAUNCHED
    try:
        _give_way(order, account, status)
    except spawn.NotLaunched as refusal:
        say(status, line(refusal.fact))
    return EXIT_NOT_LAUNCHED


def _pass_to(folder: str, name: str) -> None:
    """Go there by its whole name, as the program will.  Raises NotLaunched."""
    try:
        os.chdir(folder)
    except OSError as error:
        if (closed := closed_folder(folder)) is not None:
            raise Refused(about_closed(closed, name)) from None
        raise spawn.NotLaunched(spawn.STAGE_FOLDER, error.errno or 0) from None


def _make_own_folder() -> None:
    """Make `wd` and the output here, for us and for the group of the task's folder, and go on there.  Raises NotLaunched."""
    mask = os.umask(0)
    stage = spawn.STAGE_FOLDER
    try:
        os.mkdir("wd", 0o770)
        stage = spawn.STAGE_OUTPUT
        for number, name in enumerate(spawn.OUTPUTS, 1):
            output = os.open(name, NEW_FILE | os.O_APPEND, 0o660)
            os.dup2(output, number)
        os.chdir("wd")
    except OSError as error:
        raise spawn.NotLaunched(stage, error.errno or 0) from None
    finally:
        os.umask(mask)


def _take_files(stream: BinaryIO) -> None:
    """Write here what comes: folders, and files with their modes.  Raises NotLaunched."""
    try:
        while entry := json.loads(stream.readline()):
            if entry["size"] is None:
                os.mkdir(entry["path"], 0o770)
                continue
            with open(os.open(entry["path"], NEW_FILE, 0o600), "wb") as file:
                left = entry["size"]
                while left and (part := stream.read(min(left, CHUNK))):
                    left -= file.write(part)
                os.fchmod(file.fileno(), entry["mode"])
    except (OSError, ValueError) as error:
        raise spawn.NotLaunched(spawn.STAGE_FOLDER, getattr(error, "errno", None) or errno.EIO) from None


def _give_way(order: dict[str, Any], account: pwd.struct_passwd, status: int) -> NoReturn:
    """Become the program.  Raises NotLaunched."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    name = account.pw_name
    own = {"HOME": account.pw_dir, "USER": name, "LOGNAME": name, **order["environment"]}
    environment = {os.fsencode(variable): os.fsencode(value) for variable, value in own.items()}
    words = [os.fsencode(word) for word in order["arguments"]]
    say(status, spawn_as.READY + b"\n")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)  # Python ignores these, and a program would inherit that
    spawn.execute(words, environment)


def _signal(number: int, targets: list[str]) -> int:
    """Signal the groups of processes that are still who they were."""
    from . import processes

    groups = set()
    for pid, start, group in (map(int, target.split(":")) for target in targets):
        row = processes.look_up(pid)
        if row is not None and (row.start, row.group) == (start, group):
            groups.add(group)
    for group in groups:
        for one in (number, signal.SIGCONT) if number == signal.SIGTERM else (number,):
            try:
                os.killpg(group, one)
            except OSError:
                continue  # it has just ended, or is not ours
    return 0


def _remove() -> int:
    """Remove what of these folders can be removed by this user; the rest is complained of by who asked."""
    import shutil

    from . import processes

    for folder in json.load(sys.stdin):
        processes.open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
