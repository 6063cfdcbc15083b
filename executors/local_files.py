"""Files of the local executor's executions: had before the launch is ordered, uploaded before the end is reported.

1. Resource files are fetched into a folder of their own below the node's `volatile`.  Only when all are there is the launch ordered, and the
   supervisor then makes that folder the task's `wd`: a claim comes after its files, and a crash in between costs nothing but fetching again.
2. A package is deployed once per node: whoever needs it meanwhile waits for that one transfer, and nobody's stop ends it for the others.
3. An end is reported when output files have been uploaded.  An engine that dies meanwhile reports nothing; the next one hears of the end
   again from the supervisor and uploads again, over what is there.
4. A stop without upload gives up what is under way, and then the execution has ended by that stop: a success without its outputs is none.
5. What was fetched and not launched is removed, at the latest by the next engine.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from ..core.commands import Launch, RunCommand, StopExecution
from ..core.failure import FailureInfo
from ..core.reports import ExecutionExited
from ..core.specs import ApplicationPackageReference, OutputFile, ResourceFile
from . import identity, layout
from .as_user import Refused
from .beneath import Owner
from .packages import MARK
from .processes import remove_tree
from .records import FOLDER as EXECUTIONS
from .transfers import Fetch, FetchAll, Step, Transfers, Unpack, Upload
from .trouble import FETCHING, code_of, from_os
from .trouble import FOLDER as NO_FOLDER

STAGING: Final = ".stage."
"""What the names of staging folders begin with."""

_Task = asyncio.Task[FailureInfo | None]


@frozen
class _Work:
    """A transfer that is under way, and the folder of its node."""

    node: str
    task: _Task


class Files:
    """What is fetched and uploaded for one ledger's executions below one root.

    `staged` is told that everything for a launch is there, with the staging folder relative to the root (None without resource files), or why
    it cannot be had; `ended` is told an end that waited for its uploads; `surface` gets every task that is done, to look at its exception.
    """

    def __init__(
        self,
        root: Path,
        ledger: str,
        transfers: Transfers,
        *,
        staged: Callable[[RunCommand, str | None, FailureInfo | None], None],
        ended: Callable[[ExecutionExited], None],
        surface: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._transfers = transfers
        self._tell_staged = staged
        self._tell_ended = ended
        self._surface = surface
        self._session = os.urandom(4).hex()
        """Which staging folders are ours and not those of an engine that died."""
        self._count = 0
        self._staging: dict[int, _Work] = {}
        self._uploading: dict[int, _Work] = {}
        self._deploying: dict[str, _Work] = {}
        """By the package's folder."""
        self._left: dict[int, Path] = {}
        """Staging folders whose launch was ordered and not answered yet."""
        self._outputs: dict[int, RunCommand] = {}
        """Executions with output files that have not ended."""
        self._forgone: set[int] = set()
        """Executions that were asked to end without upload."""
        self._chores: set[asyncio.Task[None]] = set()

    # before the launch

    def expect(self, command: RunCommand) -> None:
        """Know of an execution whose end may have to wait for uploads."""
        if command.launch.output_files:
            self._outputs[command.launch.execution] = command

    def stage(self, command: RunCommand) -> bool:
        """Begin to have the files of a launch, where there is anything to be had; `staged` is told the end.  False where it may be ordered now."""
        launch = command.launch
        if launch.execution in self._staging:
            return True
        if not (launch.resource_files or launch.packages) or self._is_claimed(launch):
            return False
        missing = [package for package in launch.packages if not self._is_deployed(launch, package)]
        if not missing and not launch.resource_files:
            return False
        folder = self._new_folder(launch) if launch.resource_files else None
        task = asyncio.create_task(self._have(launch, missing, folder), name=f"jobledger files for {launch.execution}")
        self._staging[launch.execution] = _Work(layout.node_folder(launch.pool, launch.node), task)
        task.add_done_callback(lambda done: self._staged(command, folder, done))
        return True

    def answered(self, execution: int) -> None:
        """The supervisor knows of the execution: it has taken what was staged, or will never."""
        if (folder := self._left.pop(execution, None)) is not None:
            self._chore(_remove, folder)

    async def _have(self, launch: Launch, missing: Iterable[ApplicationPackageReference], folder: Path | None) -> FailureInfo | None:
        """Deploy and fetch all that a launch needs; why not, where that cannot be."""
        deployments = [self._deployment(launch, package) for package in missing]
        failures = [await asyncio.shield(deployment) for deployment in deployments]
        if folder is None or any(failures):
            return next(filter(None, failures), None)
        if (failure := _made(folder)) is not None:
            return failure
        return await self._transfers.run([_step(file) for file in launch.resource_files], folder=folder, owner=_owner(launch))

    def _staged(self, command: RunCommand, folder: Path | None, task: _Task) -> None:
        number = command.launch.execution
        del self._staging[number]
        failed = task.cancelled() or task.exception() is not None or task.result() is not None
        if folder is not None and failed:
            self._chore(_remove, folder)
        elif folder is not None:
            self._left[number] = folder
        if not task.cancelled() and task.exception() is None:
            self._tell_staged(command, None if folder is None else str(folder.relative_to(self._root)), task.result())
        self._surface(task)

    def _deployment(self, launch: Launch, package: ApplicationPackageReference) -> _Task:
        """The transfer that deploys a package on a node, begun unless it is under way."""
        folder = self._package(launch, package)
        if folder not in self._deploying:
            steps = [Unpack(package.url, package.sha256, folder)]
            task = asyncio.create_task(self._transfers.run(steps, folder=self._root), name=f"jobledger package {folder}")
            self._deploying[folder] = _Work(layout.node_folder(launch.pool, launch.node), task)
            task.add_done_callback(lambda done: self._deployed(folder, done))
        return self._deploying[folder].task

    def _deployed(self, folder: str, task: _Task) -> None:
        del self._deploying[folder]
        self._surface(task)

    # at the end

    def stop(self, command: StopExecution) -> None:
        """The execution is asked to end: what is being fetched for it is given up, and with a stop without upload what is being uploaded."""
        number = command.execution
        if number in self._staging:
            self._staging[number].task.cancel()
        if command.upload:
            self._forgone.discard(number)
        elif number in self._outputs:
            self._forgone.add(number)
            if number in self._uploading:
                self._uploading[number].task.cancel()

    def upload(self, end: ExecutionExited) -> bool:
        """Begin to upload what an end asks for; `ended` is told when that is over.  False where there is nothing to upload."""
        number = end.execution
        if number in self._uploading:
            return True  # it was told again
        command = self._outputs.get(number)
        wanted = [file for file in command.launch.output_files if _is_wanted(file, end)] if command is not None else []
        if command is None or not wanted:
            self.forget(number)
            return False
        if number in self._forgone:
            self.forget(number)
            self._tell_ended(evolve(end, stopped=True))
            return True
        launch = command.launch
        folder = self._root / layout.task_folder(launch.pool, launch.node, launch.job, launch.task)
        environment = layout.environment(str(self._root), _without_secrets(command))
        steps = [_upload_step(file, str(folder), environment) for file in wanted]
        work = self._transfers.run(steps, folder=folder, log=folder, owner=_owner(launch))
        task = asyncio.create_task(work, name=f"jobledger outputs of {number}")
        self._uploading[number] = _Work(layout.node_folder(launch.pool, launch.node), task)
        task.add_done_callback(lambda done: self._uploaded(end, done))
        return True

    def forget(self, execution: int) -> None:
        """The execution is over."""
        self._outputs.pop(execution, None)
        self._forgone.discard(execution)

    def _uploaded(self, end: ExecutionExited, task: _Task) -> None:
        number = end.execution
        del self._uploading[number]
        if number in self._forgone:
            self.forget(number)
            self._tell_ended(evolve(end, stopped=True))
        elif not task.cancelled() and task.exception() is None:
            self.forget(number)
            self._tell_ended(evolve(end, upload_failure=task.result()))
        self._surface(task)

    # nodes and the end of it all

    async def leave(self, node: str) -> list[int]:
        """Give up whatever is under way on a node that is to be booted or retired; the executions that are not launched for that come back."""
        unlaunched = [number for number, work in self._staging.items() if work.node == node]
        await _end(work.task for work in self._all() if work.node == node)
        await _settled(self._chores)
        return unlaunched

    def sweep(self, nodes: Iterable[str]) -> None:
        """Remove what engines that died had fetched on these nodes and not launched."""
        self._chore(_sweep, [self._root / node / "volatile" for node in nodes], f"{STAGING}{self._ledger}.", f".{self._session}")

    async def close(self) -> None:
        """Give up everything: nothing of it has been launched or reported, and the next engine does it again."""
        await _end(work.task for work in self._all())
        await _settled(self._chores)

    def _all(self) -> "list[_Work]":
        return [*self._staging.values(), *self._uploading.values(), *self._deploying.values()]

    # helpers

    def _new_folder(self, launch: Launch) -> Path:
        self._count += 1
        name = f"{STAGING}{self._ledger}.{launch.execution}.{self._count}.{self._session}"
        return self._root / layout.node_folder(launch.pool, launch.node) / "volatile" / name

    def _is_claimed(self, launch: Launch) -> bool:
        """Whether the launch was ordered before, and is only to be asked about."""
        node = layout.node_folder(launch.pool, launch.node)
        return os.path.lexists(self._root / node / EXECUTIONS / f"{self._ledger}.{launch.execution}")

    def _is_deployed(self, launch: Launch, package: ApplicationPackageReference) -> bool:
        return os.path.lexists(f"{self._package(launch, package)}/{MARK}")

    def _package(self, launch: Launch, package: ApplicationPackageReference) -> str:
        return f"{self._root}/{layout.node_folder(launch.pool, launch.node)}/{layout.package_folder(package)}"

    def _chore(self, work: Callable[..., None], *arguments: object) -> None:
        """Have something done in a thread, sometime soon."""
        task = asyncio.create_task(asyncio.to_thread(work, *arguments), name="jobledger chore")
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        task.add_done_callback(self._surface)


def _owner(launch: Launch) -> Owner | None:
    """Whose the launch's files are: of the user it runs as, or None for the engine's own.

    They are the engine's also where it may not give them away: then the user gets copies.  What may not run at all is refused at its launch.
    """
    try:
        other = identity.choose(launch.user) if launch.user is not None else None
    except Refused:
        return None
    return (other.uid, other.gid) if other is not None and not other.through_sudo else None


def _without_secrets(command: RunCommand) -> RunCommand:
    """The command as patterns and paths may know it: what they become is shown in logs and failures."""
    launch = command.launch
    return evolve(command, launch=evolve(launch, environment=tuple(setting for setting in launch.environment if not setting.secret)))


def _step(file: ResourceFile) -> Step:
    mode = int(file.file_mode, 8) if file.file_mode is not None else None
    if file.http_url is not None:
        return Fetch(file.http_url, file.file_path or "", mode)
    return FetchAll(file.storage_container_url or "", file.blob_prefix, file.file_path, mode)


def _upload_step(file: OutputFile, folder: str, environment: dict[str, str]) -> Step:
    container = file.destination.container
    return Upload(folder, file.file_pattern, container.container_url, container.path, environment)


def _is_wanted(file: OutputFile, end: ExecutionExited) -> bool:
    """Whether this end is one that the file is uploaded after; a program that was stopped has not succeeded, whatever it says."""
    condition = file.upload_options.upload_condition
    return condition == "taskcompletion" or (condition == "tasksuccess") == (end.exit_code == 0 and not end.stopped)


async def _end(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Cancel them and wait until they have let go."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await _settled(tasks)


async def _settled(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    if tasks := list(tasks):
        await asyncio.wait(tasks)


def _made(folder: Path) -> FailureInfo | None:
    """Make a staging folder; why not, where that cannot be.  At once and not in a thread: one that was given up must not be made later."""
    try:
        folder.mkdir(0o700)
    except OSError as error:
        trouble = from_os(NO_FOLDER, f"the folder {folder.parent} cannot be used", error)
        text = trouble.text.encode("utf-8", "backslashreplace").decode()
        return FailureInfo(category="servererror", code=code_of(FETCHING, trouble.kind), message=text)
    return None


def _remove(folder: Path) -> None:
    """Remove a staging folder; what is left of one lies below `volatile`, which a wipe empties."""
    try:
        remove_tree(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(folders: Iterable[Path], prefix: str, ours: str) -> None:
    for folder in folders:
        try:
            found = [entry.path for entry in os.scandir(folder) if entry.name.startswith(prefix) and not entry.name.endswith(ours)]
        except OSError:
            continue  # a node that is not whole is looked at elsewhere
        for path in found:
            _remove(Path(path))
