"""The engine's link to the supervisor: starts one where none runs, keeps the connection, carries messages both ways.

1. What is sent while the link is down is dropped: after each (re)connection `connected` is called, and the owner says again
   what it wants.  Saying it twice does no harm.
2. A supervisor that died is replaced.  One that keeps dying, or another engine that took over, ends the link: `failed`.
3. Who comes back is not newer than who has come meanwhile: an engine that slept through its replacement replaces nobody.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ..core.errors import ExecutorError
from . import layout, supervisor
from .processes import make_private
from .records import to_line

Message = dict[str, Any]

SOCKET_PATH_BYTES_MAX: Final = 100
"""Longest path a Unix socket takes anywhere we run (108 bytes on Linux, 104 on macOS, with some air)."""
START_TIMEOUT_S: Final = 20.0
"""For a supervisor to start and listen; it takes some 30 ms on an idle machine."""
CONNECT_ATTEMPTS_MAX: Final = 50
CONNECT_PAUSE_S: Final = 0.1
"""Fifty attempts, each with a start: a supervisor that is just ending holds its lock for a moment."""
RESTARTS_MAX: Final = 5
RESTARTS_PERIOD_S: Final = 60.0
"""More lost connections than this within the period are no accident."""
LINE_BYTES_MAX: Final = 16 * 1024 * 1024


class Link:
    """One connection at a time to the supervisor of `ledger` and `root`."""

    def __init__(
        self,
        root: Path,
        ledger: str,
        *,
        boot: str,
        linger_s: float,
        drain_grace_s: float,
        connected: Callable[[], None],
        received: Callable[[Message], None],
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._boot = boot
        self._linger_s = linger_s
        self._drain_grace_s = drain_grace_s
        self._connected = connected
        self._received = received
        self._writer: asyncio.StreamWriter | None = None
        self._runner: asyncio.Task[None] | None = None
        self._identity = os.urandom(6).hex()
        self._lost: list[float] = []
        self.failure: asyncio.Future[ExecutorError] = asyncio.get_running_loop().create_future()
        self.supervisor_pid: int | None = None

    async def open(self) -> None:
        """Connect.  Raises ExecutorError."""
        reader = await self._connect()
        self._runner = asyncio.create_task(self._run(reader), name="jobledger local executor")
        self._runner.add_done_callback(self.surface)

    def send(self, messages: Iterable[Message]) -> None:
        """Send all in one write; dropped while the link is down (rule 1)."""
        if self._writer is not None:
            self._writer.write(b"".join(to_line(message) for message in messages))

    async def close(self) -> None:
        """Let go of the supervisor, which goes on."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None
        await self._disconnect()

    def surface(self, task: asyncio.Task[Any]) -> None:
        """For tasks of the executor: an exception nobody expected ends the link too, and is not lost."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error if isinstance(error, ExecutorError) else ExecutorError(f"in {task.get_name()}: {error!r}"))

    def _fail(self, error: ExecutorError) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def _run(self, reader: asyncio.StreamReader) -> None:
        """Receive, and reconnect as often as need be."""
        try:
            while True:
                await self._receive(reader)
                await self._disconnect()
                self._count_loss()
                reader = await self._connect()
        except ExecutorError as error:
            await self._disconnect()
            self._fail(error)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Pass on messages until the connection ends."""
        while True:
            try:
                line = await reader.readline()
            except OSError:
                return
            if not line.endswith(b"\n"):
                return
            message = json.loads(line)
            if message["op"] == "replaced":
                raise self._replaced()
            self._received(message)

    async def _connect(self) -> asyncio.StreamReader:
        """Connect to the supervisor, starting one where need be.  Raises ExecutorError."""
        problem = ""
        for _ in range(CONNECT_ATTEMPTS_MAX):
            address = socket_path(self._root, self._ledger)
            try:
                reader, writer = await asyncio.open_unix_connection(str(address), limit=LINE_BYTES_MAX)
            except OSError as error:
                problem = f"{address}: {error}"
                if not await asyncio.to_thread(self._start, address):
                    await asyncio.sleep(CONNECT_PAUSE_S)
                continue
            if await self._greet(reader, writer):
                return reader
            problem = f"{address}: it closed the connection"
            await asyncio.sleep(CONNECT_PAUSE_S)
        raise ExecutorError(f"the local executor's supervisor cannot be reached at {problem}; its log is {self._log}")

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Introduce ourselves; False where the supervisor was about to end.  Raises ExecutorError for one of another version, or in another's hands."""
        hello = {
            "op": "hello",
            "version": supervisor.VERSION,
            "engine": self._identity,
            "again": self.supervisor_pid is not None,
            "drain_grace_s": self._drain_grace_s,
            "environment": layout.inherited(dict(os.environb)),
        }
        writer.write(to_line(hello))
        self._writer = writer
        try:
            answer = json.loads(await asyncio.wait_for(reader.readline(), START_TIMEOUT_S))
        except (OSError, ValueError, TimeoutError):
            await self._disconnect()
            return False
        if answer["op"] == "replaced":
            await self._disconnect()
            raise self._replaced()
        if answer["version"] != supervisor.VERSION:
            await self._disconnect()
            raise ExecutorError(
                f"a supervisor of another version of jobledger (process {answer['pid']}) still looks after running programs in {self._root}; "
                "go on with that version until they have ended"
            )
        self.supervisor_pid = answer["pid"]
        self._connected()
        return True

    def _replaced(self) -> ExecutorError:
        return ExecutorError(f"another engine of ledger {self._ledger} took over the local executor in {self._root}")

    async def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _count_loss(self) -> None:
        now = time.monotonic()
        self._lost = [at for at in self._lost if at > now - RESTARTS_PERIOD_S] + [now]
        if len(self._lost) > RESTARTS_MAX:
            raise ExecutorError(f"the local executor's supervisor ended {len(self._lost)} times in a minute; its log is {self._log}")

    @property
    def _log(self) -> Path:
        return self._root / supervisor.CONTROL / f"{self._ledger}.log"

    def _start(self, address: Path) -> bool:
        """Start a supervisor and wait until it listens; False where another one holds the lock.  Raises ExecutorError."""
        command = [sys.executable, "-I", "-S", "-X", "utf8", supervisor.__file__]
        command += [str(self._root), self._ledger, self._boot, str(address), str(self._linger_s)]
        try:
            with self._log.open("ab") as log:
                started = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, timeout=START_TIMEOUT_S, check=False
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise ExecutorError(f"the local executor's supervisor cannot be started: {error}") from error
        if started.returncode not in (0, supervisor.EXIT_ANOTHER):
            last = self._log.read_text(errors="replace").splitlines()[-1:]
            raise ExecutorError(f"the local executor's supervisor cannot be started: {''.join(last)}; its log is {self._log}")
        return started.returncode == 0


def socket_path(root: Path, ledger: str) -> Path:
    """Where the supervisor's socket lies: in the root's control folder, or where that path is too long, in a private temporary one.

    Creates the folder.  Raises ExecutorError where the temporary folder is not this user's own.
    """
    control = root / supervisor.CONTROL
    try:
        make_private(control)
        here = control / f"{ledger}.sock"
        if len(os.fsencode(here)) <= SOCKET_PATH_BYTES_MAX:
            return here
        folder = Path(tempfile.gettempdir()) / f"jobledger-{os.getuid()}"
        make_private(folder)
        owned = folder.lstat()
        identity = control.stat()
    except OSError as error:
        raise ExecutorError(f"the local executor cannot use its folder: {error}") from error
    if not stat.S_ISDIR(owned.st_mode) or owned.st_uid != os.getuid() or owned.st_mode & 0o077:
        raise ExecutorError(f"{folder} is not a private folder of this user, so the local executor cannot keep its socket there")
    # Of the folder itself and not of its name: a root that was removed and made again has another supervisor.
    name = hashlib.sha256(f"{identity.st_dev}:{identity.st_ino}:{ledger}".encode()).hexdigest()[:24]
    return folder / f"{name}.sock"
