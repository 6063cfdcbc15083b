"""Watches one program that runs as another user through `sudo`, for a supervisor that is not root.

Started by its path as `python -I -S -X utf8 through_sudo.py STATUS` with the order as JSON on stdin, in the root of the nodes.  It
leads the execution in the program's stead, is of this user (so the next supervisor recognises it), and ends as the program did.

1. The program leads a session of its own: no signal that is meant for it reaches `sudo`, which would pass it on a second time.
2. The user makes `wd` and the output itself, in a task's folder that is open for that moment.  It is closed and looked at before
   the program runs: what is in it then is what we read later, and no link.
   What was fetched for the program is given to the user as a stream, for the user to write.
3. What goes wrong until the program has taken over is said by STATUS, as `as_user` does.
4. Orphans of the program become children of this process, which ends when nothing of it is left, or cannot be ended.

It imports the standard library only, and reaches its neighbours as `supervisor` does.
"""

# pathlib costs more than the calls it wraps, and is refused what another user owns as they are.
# ruff: noqa: PTH100, PTH101, PTH112, PTH120

import errno
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

if __name__ == "__main__":
    __package__ = "jobledger_through_sudo"
    sys.modules[__package__] = bare = type(sys)(__package__)
    bare.__path__ = [os.path.dirname(os.path.abspath(__file__))]

from . import as_user, processes, spawn, spawn_as, sudo
from .processes import Row

OPEN = 0o3733
"""Others may make things in the folder, which get our group; they may neither look nor touch what is not theirs."""
CLOSED = 0o755

COMPLAINT_BYTES_MAX = 4096
KILL_BOUND_S = 10.0
"""How long SIGKILL is repeated before what is left is called unkillable."""
PAUSE_S = 0.05
SIGNAL_TIMEOUT_S = 10.0


class Watch:
    """One program, from the call of `sudo` until nothing of it is left."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._name: str = order["user"]["name"]
        self._folder: str = order["task_folder"]
        self._sudo = 0
        self._complaints, self._complaining = os.pipe()
        self._told_to_end = False

    def launch(self, entered: Callable[[], None]) -> None:
        """Have the user run the program; comes back when that has taken over.  `entered` is called once the user is there.  Raises NotLaunched."""
        ours, theirs = socket.socketpair()
        with ours:
            try:
                os.chmod(self._folder, OPEN)
                self._sudo = self._call(theirs)
                status = self._let_in(ours)
            except OSError as error:
                raise spawn.NotLaunched(spawn.STAGE_PROCESS, error.errno or 0) from None
            finally:
                os.chmod(self._folder, CLOSED)
            self._look()
            entered()
            signal.signal(signal.SIGTERM, self._be_told)
            self._give(ours, self._order.get("staged"))
        said = _all_of(status).splitlines()
        if said != [spawn_as.READY]:
            stopped = spawn.NotLaunched(spawn.STAGE_STOPPED if self._told_to_end else spawn.STAGE_IDENTITY, 0, "it ended before the program began")
            raise _told(said[-1]) if said else stopped

    def wait(self) -> int:
        """The status with which `sudo`, and so the program, ended; nothing of it is left then, or cannot be ended."""
        while True:
            pid, status = os.waitpid(-1, os.WUNTRACED)
            if pid == self._sudo and os.WIFSTOPPED(status):
                self._wake_when_program_goes_on()
            elif pid == self._sudo:
                break
        self._drain()
        return status

    def _call(self, theirs: socket.socket) -> int:
        """Start `sudo` with the other end of the channel; its pid."""
        words = sudo.words(self._name, "enter")
        nothing = os.open(os.devnull, os.O_WRONLY)
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_DUP2, nothing, 1), (os.POSIX_SPAWN_DUP2, self._complaining, 2)]
        try:
            return os.posix_spawn(words[0], words, sudo.ENVIRONMENT, file_actions=actions)
        finally:
            theirs.close()
            os.close(nothing)
            os.close(self._complaining)

    def _let_in(self, channel: socket.socket) -> int:
        """Give the order to who is the user now; the end of the pipe by which the rest is said.  Raises NotLaunched."""
        try:
            channel.sendall(json.dumps(self._order).encode() + b"\n")
            said, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        except OSError:
            said, descriptors = b"", []
        if descriptors:
            return descriptors[0]
        if said:
            raise _told(said)
        os.waitpid(self._sudo, 0)
        complaint = os.read(self._complaints, COMPLAINT_BYTES_MAX).decode(errors="replace").splitlines()
        raise spawn.NotLaunched(spawn.STAGE_IDENTITY, 0, sudo.about_refusal(self._name, complaint))

    def _look(self) -> None:
        """See that there is what the user should have made, and nothing else.  Raises NotLaunched."""
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(self._folder)}
        uid = self._order["user"]["uid"]
        kinds = {name: (stat.S_IFMT(one.st_mode), one.st_uid) for name, one in found.items()}
        expected = {"wd": (stat.S_IFDIR, uid), **dict.fromkeys(spawn.OUTPUTS, (stat.S_IFREG, uid))}
        if kinds != expected or any(found[name].st_nlink != 1 for name in spawn.OUTPUTS):
            raise spawn.NotLaunched(spawn.STAGE_FOLDER, errno.EEXIST)

    def _wake_when_program_goes_on(self) -> None:
        """`sudo` stops itself when the program stops, and would not see that it goes on or ends; when woken, it wakes the program."""
        while not self._told_to_end and any(processes.is_stopped(row.pid) for row in processes.snapshot().values() if row.parent == self._sudo):
            time.sleep(PAUSE_S)
        os.kill(self._sudo, signal.SIGCONT)

    def _give(self, channel: socket.socket, staged: str | None) -> None:
        """Let the program run, in a `wd` with what was staged for it."""
        try:
            channel.sendall(as_user.GO)
            for path in _entries(staged) if staged is not None else ():
                _send(channel, f"{staged}/{path}", path)
            channel.sendall(as_user.line({}))
        except OSError:
            return  # it ended meanwhile, and has said why

    def _be_told(self, *_: object) -> None:
        """The supervisor ends the program itself, and lets us know."""
        self._told_to_end = True

    def _drain(self) -> None:
        """End what the program left behind, as the supervisor does where it may: TERM once, a grace, and KILL until nothing is left."""
        kill_at = time.monotonic() + self._order["drain_grace_s"]
        give_up_at = kill_at + KILL_BOUND_S
        termed = self._told_to_end
        while (left := _left()) and (now := time.monotonic()) < give_up_at:
            if now >= kill_at:
                self._signal(signal.SIGKILL, left)
            elif not termed:
                termed = True
                self._signal(signal.SIGTERM, left)
            time.sleep(PAUSE_S)

    def _signal(self, number: int, rows: list[Row]) -> None:
        words = sudo.signal_words(self._name, number, ((row.pid, row.start, row.group) for row in rows))
        try:
            subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=sudo.ENVIRONMENT, timeout=SIGNAL_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return  # and so it is tried again


def main() -> int:
    """Does not come back where the program was ended by a signal: then so is this process."""
    status = int(sys.argv[1])
    os.set_inheritable(status, False)
    with open(0, "rb", closefd=False) as file:
        watch = Watch(json.load(file))
    processes.become_subreaper()
    try:
        watch.launch(lambda: as_user.say(status, spawn_as.ENTERED + b"\n"))
    except spawn.NotLaunched as refusal:
        as_user.say(status, as_user.line(refusal.fact))
        return as_user.EXIT_NOT_LAUNCHED
    as_user.say(status, spawn_as.READY + b"\n")
    os.close(status)
    return _end_alike(watch.wait())


def _left() -> list[Row]:
    """What lives of the program: all that descends from us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return []
    table = processes.snapshot()
    return [table[pid] for pid in processes.descendants(table, [os.getpid()]) - {os.getpid()} if pid in table and not table[pid].zombie]


def _entries(folder: str) -> Iterator[str]:
    """Everything in the folder, by relative paths, folders before what is in them."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield os.path.relpath(f"{where}/{name}", folder)


def _send(channel: socket.socket, source: str, path: str) -> None:
    """A folder, or a file with its mode and content."""
    if os.path.isdir(source):
        channel.sendall(as_user.line({"path": path, "size": None, "mode": 0}))
        return
    with open(source, "rb") as file:  # noqa: PTH123
        found = os.fstat(file.fileno())
        channel.sendall(as_user.line({"path": path, "size": found.st_size, "mode": stat.S_IMODE(found.st_mode)}))
        channel.sendfile(file, count=found.st_size) if found.st_size else None


def _end_alike(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _told(text: bytes) -> spawn.NotLaunched:
    fact = json.loads(text)
    return spawn.NotLaunched(fact["stage"], fact["errno"], fact["subject"])


def _all_of(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main())
