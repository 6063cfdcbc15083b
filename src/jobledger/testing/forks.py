"""Processes that a test may kill: forked, one at a time, from one that is made ready once, since to import all of this anew takes half a second.

    with Forks() as forks:
        fork = forks.start("package.module:function", {...}, told=path)    # its argument is plain JSON
        fork.kill()
        assert fork.wait() == -signal.SIGKILL

What a fork writes to stdout and stderr goes to the file `told`.  It ends with 0 when its function returns, and with 1 when that raises.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import attrs

from .elsewhere import Address, find

BOUND_S = 60.0
"""For the process to go when it is told that nobody needs it any more."""


class Fork:
    """One of them, from the side of the test."""

    def __init__(self, server: "subprocess.Popen[str]", pid: int, told: Path) -> None:
        self._server = server
        self._status: int | None = None
        self.pid = pid
        self.told = told

    def kill(self) -> None:
        """SIGKILL, unless it has been waited for."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)  # It is a zombie at worst: nobody else has its number until its end was told.

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        if self._status is None:
            self._status = int(_answer(self._server))
        return self._status


class Forks:
    """The process that forks them.  `suite` is where a class lies that they need, to be imported once."""

    def __init__(self, suite: Address | None = None) -> None:
        words = [sys.executable, "-m", __name__, json.dumps([sys.path, None if suite is None else attrs.asdict(suite)])]
        self._server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._server.communicate(timeout=BOUND_S)

    def start(self, target: str, argument: dict[str, Any], *, told: Path) -> Fork:
        """Call a function in a process of its own; the one before it has to be waited for."""
        if self._server.stdin is None:
            raise AssertionError
        self._server.stdin.write(json.dumps([target, argument, str(told)]) + "\n")
        self._server.stdin.flush()
        return Fork(self._server, int(_answer(self._server)), told)


def _answer(server: "subprocess.Popen[str]") -> str:
    line = server.stdout.readline() if server.stdout is not None else ""
    if not line:
        raise AssertionError("the process that forks others has ended")
    return line


def _be(target: str, argument: dict[str, Any], told: str) -> NoReturn:
    """Be a fork."""
    code = 1
    try:
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        module, _, name = target.partition(":")
        getattr(importlib.import_module(module), name)(argument)
        sys.stdout.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def main(path: list[str], suite: dict[str, Any] | None) -> None:
    sys.path[:] = path
    if suite is not None:
        find(Address(**suite))
    for line in sys.stdin:
        target, argument, told = json.loads(line)
        importlib.import_module(target.partition(":")[0])
        pid = os.fork()
        if pid == 0:
            _be(target, argument, told)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
