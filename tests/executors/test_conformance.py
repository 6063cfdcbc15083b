"""The built-in executors pass the suites that third parties run on theirs."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

import psutil

from jobledger.core.ids import SECOND, Duration
from jobledger.executors import processes, supervisor
from jobledger.executors.local import LocalExecutor
from jobledger.executors.local_link import socket_path
from jobledger.executors.local_nodes import host_boot_id
from jobledger.testing.crashes import HELD, CrashConformance, Held
from jobledger.testing.driver import BOUND_S, LEDGER_ID, POLL_S, lives
from jobledger.testing.processes import ProcessConformance

HERE = Path(__file__).parent


class HeldSupervisor:
    """A supervisor that stops itself at a point; it is there already when the executor looks for one."""

    def __init__(self, root: Path, point: str) -> None:
        root.mkdir(mode=0o700)
        self._sign = root / "stands"
        words = [sys.executable, "-I", "-S", "-X", "utf8", str(HERE / "held_supervisor.py"), str(Path(supervisor.__file__).parent), point]
        words += [str(self._sign), str(root), LEDGER_ID, host_boot_id(), str(socket_path(root, LEDGER_ID)), "0"]
        subprocess.run(words, check=True, timeout=20, stdin=subprocess.DEVNULL)

    def reached(self) -> bool:
        return self._sign.exists() and self._process.status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Dead is also who waits to be buried: its parent is not ours to hurry."""
        pid = self._process.pid
        self._process.kill()
        deadline = time.monotonic() + BOUND_S
        while lives(pid):
            assert time.monotonic() < deadline
            time.sleep(POLL_S)

    def end(self) -> None:
        """Leave none behind that stands for ever."""
        if self._sign.exists() and psutil.pid_exists(int(self._sign.read_text())) and self.reached():
            self.kill()

    @property
    def _process(self) -> psutil.Process:
        return psutil.Process(int(self._sign.read_text()))


class TestLocalExecutor(ProcessConformance, CrashConformance):
    known_when_killed = frozenset({"exit recorded"})
    not_applicable: ClassVar = {} if processes.LINUX else {f"hold: {point}": "needs /proc to find what a dead supervisor left" for point in HELD}

    def make_executor(self, folder: Path) -> LocalExecutor:
        return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))

    def hold(self, folder: Path, point: str) -> AbstractContextManager[Held] | None:
        return self._held(folder, point) if processes.LINUX else None

    @contextmanager
    def _held(self, folder: Path, point: str) -> Iterator[Held]:
        held = HeldSupervisor(folder / "nodes", point)
        try:
            yield held
        finally:
            held.end()


def test_local_executors_are_spared_no_test() -> None:
    assert TestLocalExecutor.not_applicable == {} or not processes.LINUX
