"""Moving files for executions: each run of steps is a process of its own (see `transfer`), watched from here.

A process and not a thread: one that hangs can be killed, and none is left behind by an engine that dies.

1. At most `most` processes at once; the others wait.
2. A process that has said nothing for `stall_s` is killed, and its step failed as timed out.
3. When `run` is left, by an end, a failure or a cancellation, its process has ended, or does no more.
4. What comes back holds no password and no signature of an address (see `urls`).
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from ..core import limits
from ..core.failure import Detail, FailureInfo
from . import transfer
from .beneath import Owner
from .trouble import FAILED, LATE, category_of, code_of, reason
from .urls import redactor, shown

START_S: Final = 20.0
"""For the process to start and read its steps; it takes some 50 ms on an idle machine."""
LEAVE_S: Final = 1.0
"""For the process to end by itself after its stdin was closed: it removes what is half written."""
KILL_S: Final = 10.0
"""For a killed process to be gone.  One that the system itself holds, for a network drive that is gone, say, is left: it does no more."""
LINE_BYTES_MAX: Final = 1 << 20
STDERR_BYTES_KEPT: Final = 4096
"""Of what the process said on stderr: the end, which says why it ended."""

_LIMITS: Final = {
    "container_files": limits.CONTAINER_FILES_MAX,
    "folder_depth": limits.FOLDER_DEPTH_MAX,
    "output_files": limits.OUTPUT_FILES_MAX,
    "package_bytes": limits.PACKAGE_BYTES_MAX,
    "package_directory_bytes": limits.PACKAGE_DIRECTORY_BYTES_MAX,
    "package_entries": limits.PACKAGE_ENTRIES_MAX,
    "package_ratio": limits.PACKAGE_RATIO_MAX,
    "package_ratio_free_bytes": limits.PACKAGE_RATIO_FREE_BYTES,
}


@frozen
class Fetch:
    """One file, to a path relative to the run's folder.  `mode` is its mode, 0770 if None."""

    url: str
    to: str
    mode: int | None = None


@frozen
class FetchAll:
    """Every file below a container whose name there begins with `prefix`, with its name, below `to` in the run's folder (None: right there).

    `mode` is that of all, 0770 if None.
    """

    url: str
    prefix: str | None = None
    to: str | None = None
    mode: int | None = None


@frozen
class Unpack:
    """A zip, whose digest has to be `sha256` if that is given, deployed as the absolute folder `to`; nothing is done where that is complete."""

    url: str
    sha256: str | None
    to: str


@frozen
class Upload:
    """The files of a task's `folder` that match `pattern`, to the container `url`.

    `path` is the file's name there, or with a wildcard in the pattern the folder for all.  Variables in both are those of `environment`.
    """

    folder: str
    pattern: str
    url: str
    path: str | None = None
    environment: Mapping[str, str] = {}


Step = Fetch | FetchAll | Unpack | Upload

_OPS: Final = {Fetch: "fetch", FetchAll: "fetch_all", Unpack: "unpack", Upload: "upload"}


class Transfers:
    """Runs steps in processes.  A try that failed by a hiccup of network or server is made again, `tries` in all, after `pause_s` and more."""

    def __init__(self, most: int = 4, stall_s: float = 60.0, *, tries: int = 3, pause_s: float = 1.0) -> None:
        self._slots = asyncio.Semaphore(most)
        self._stall_s = stall_s
        self._tries = tries
        self._pause_s = pause_s

    async def run(self, steps: Sequence[Step], *, folder: Path, log: Path | None = None, owner: Owner | None = None) -> FailureInfo | None:
        """Take the steps one after the other; None, or why the first that failed did.

        Fetched files lie below `folder`, which has to be there, and are given to `owner` (user and group; needs the right to do so).
        `log` is the folder for fileuploadout.txt and fileuploaderr.txt.
        """
        if not steps:
            return None
        async with self._slots:
            try:
                child = await _start()
            except OSError as error:
                return _failure(steps[0], _phase_of(steps[0]), FAILED, f"the node cannot make another process: {reason(error)}")
            watching = _Watch(child, steps, self._stall_s)
            try:
                return await watching.follow(self._document(steps, folder, log, owner))
            finally:
                await _finish(watching.end())

    def _document(self, steps: Sequence[Step], folder: Path, log: Path | None, owner: Owner | None) -> dict[str, Any]:
        return {
            "steps": [{"op": _OPS[type(step)], **_plain(step)} for step in steps],
            "folder": str(folder),
            "log": None if log is None else str(log),
            "owner": owner,
            "timeout_s": self._stall_s * 0.8,  # so that the process says which address was silent, before it is killed for its own silence
            "tries": self._tries,
            "pause_s": self._pause_s,
            "limits": _LIMITS,
        }


class _Watch:
    """One process and what it says."""

    def __init__(self, child: asyncio.subprocess.Process, steps: Sequence[Step], stall_s: float) -> None:
        assert child.stdin and child.stdout and child.stderr  # noqa: S101, PT018 - they are pipes
        self._child = child
        self._stdin = child.stdin
        self._stdout = child.stdout
        self._steps = steps
        self._stall_s = stall_s
        self._step = 0
        self._phase = _phase_of(steps[0])
        self._hide = redactor(step.url for step in steps)
        self._stderr = b""
        self._reading = asyncio.create_task(self._read_stderr(child.stderr), name="jobledger transfer's stderr")

    async def follow(self, document: dict[str, Any]) -> FailureInfo | None:
        """Give it the steps, and listen until its last line."""
        self._stdin.write(json.dumps(document).encode() + b"\n")
        patience_s = max(self._stall_s, START_S)
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    line = await self._stdout.readline()
            except TimeoutError:
                return self._failure(LATE, f"nothing moved for {self._stall_s:g} s; check the server, or try again")
            if not line.endswith(b"\n"):
                return await self._broken()
            message = json.loads(line)
            if "done" in message:
                return None
            if (failed := message.get("failed")) is not None:
                self._step = failed["step"]
                return _info(self._steps[self._step], failed["category"], failed["code"], failed["message"])
            self._step, self._phase = message["step"], message["phase"]
            patience_s = self._stall_s

    async def end(self) -> None:
        """Have it end, by force if need be, and everything read.  Never raises."""
        self._stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_S):
                    await self._child.wait()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read_stderr(self, stderr: asyncio.StreamReader) -> None:
        while part := await stderr.read(STDERR_BYTES_KEPT):
            self._stderr = (self._stderr + part)[-STDERR_BYTES_KEPT:]

    async def _broken(self) -> FailureInfo:
        """It ended without a last line: an error that nobody foresaw, whose name is the end of its traceback; or it was killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.wait([self._reading])
        lines = self._stderr.decode("utf-8", "replace").strip().splitlines()
        return self._failure(FAILED, lines[-1] if lines else "the transfer was killed")

    def _failure(self, kind: str, text: str) -> FailureInfo:
        return _failure(self._steps[self._step], self._phase, kind, self._hide(text))


async def _start() -> asyncio.subprocess.Process:
    """Raises OSError."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        transfer.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        start_new_session=True,  # an interrupt at the terminal is for us, and we end it
    )


def _failure(step: Step, phase: str, kind: str, text: str) -> FailureInfo:
    return _info(step, category_of(kind), code_of(phase, kind), f"{_subject(step)}: {text}")


def _info(step: Step, category: Any, code: str, message: str) -> FailureInfo:
    """A failure with what the step moves, in Azure Batch's names for it; the message has no secret in it."""
    details = [Detail(name="BlobSource", value=shown(step.url))] if not isinstance(step, Upload) else []
    if isinstance(step, Fetch | Upload):
        details.append(Detail(name="FilePath", value=_unicode(step.to if isinstance(step, Fetch) else step.pattern)))
    return FailureInfo(category=category, code=code, message=_unicode(message)[: transfer.MESSAGE_LENGTH_MAX], details=tuple(details))


def _phase_of(step: Step) -> str:
    return transfer.PHASES[_OPS[type(step)]]


def _plain(step: Step) -> dict[str, Any]:
    fields = asdict(step)
    if isinstance(step, Upload):
        fields["environment"] = dict(step.environment)
    return fields


def _subject(step: Step) -> str:
    match step:
        case Fetch():
            return step.to
        case Upload():
            return step.pattern
        case _:
            return shown(step.url)


def _unicode(text: str) -> str:
    """`text` as it can be recorded: the bytes of a path that are not UTF-8 are shown by number."""
    return text.encode("utf-8", "backslashreplace").decode()


async def _finish(work: Any) -> None:
    """Wait for the end of `work` even where this task is cancelled."""
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
