"""The local executor: nodes are folders on this machine, programs are processes of this user or of one that is asked for.

Reading order: `layout` (where things lie), `local_nodes` (boot and retire), `identity` (who a user identity is, and whether we may), `local_link`
(the link to the supervisor), and on its other side `supervisor`, `supervised`, `family`, `spawn`, `removal`, `records`, `spawn_as`, `as_user`.

1. A supervisor process launches, watches and records, and outlives the engine (see `supervisor`).
2. What was asked for and has no outcome yet is kept here and said again whenever the link was down; the supervisor's claims make
   repeating harmless.
3. Programs get the engine's environment, the user's settings over it, and Azure's variables over both (`layout.environment`).
   The engine's own secrets are therefore within their reach, as for any program that its user starts; a program that runs as
   another user gets little of the engine's environment (`spawn_as.KEPT`).
"""

import asyncio
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, assert_never

from ..core import limits
from ..core.commands import (
    BootNode,
    Command,
    Launch,
    RemoveFiles,
    RetireNode,
    RunCommand,
    RunFinalizer,
    RunPreparation,
    RunRelease,
    RunStartTask,
    RunTask,
    StopExecution,
)
from ..core.errors import ExecutorError
from ..core.failure import FailureInfo
from ..core.ids import ENGINE_HOST, ENGINE_POOL, SECOND, Duration, ExecutionId, JobId, NodeId, PoolId, TaskId
from ..core.ports import ReportSink
from ..core.reports import (
    ExecutionExited,
    ExecutionLost,
    ExecutionNotStarted,
    ExecutionSilent,
    ExecutionStarted,
    FilesRemoved,
    NodeFaulted,
    NodeReady,
    NodeRetired,
    Report,
)
from ..core.specs import UserIdentity
from . import identity, layout, local_nodes, spawn
from .local_files import Files
from .local_link import Link, Message
from .processes import make_private
from .silence import SilenceWatch
from .transfers import Transfers

DEFAULT_ROOT: Final = Path(".jobledger/nodes")
LINGER: Final = Duration(2 * SECOND)
"""How long a supervisor with nothing to do waits for an engine before it ends."""
OTHER_LEDGER_WAIT_S: Final = 3.0
"""A node folder of another ledger may be taken over once that ledger's supervisor has ended: it lingers for a moment."""


class LocalExecutor:
    """Runs commands as processes of this machine, below `root`.

    `drain_grace` lies between SIGTERM and SIGKILL for what a program leaves behind when it ends by itself.
    """

    def __init__(
        self,
        root: Path = DEFAULT_ROOT,
        *,
        drain_grace: Duration = limits.STOP_GRACE,
        linger: Duration = LINGER,
        transfers: Transfers | None = None,
    ) -> None:
        self._root = root.resolve()
        self._identities = identity.Inquiry(self._root)
        self._transfers = transfers or Transfers()
        self._drain_grace_s = drain_grace / SECOND
        self._linger_s = linger / SECOND
        self._ledger = ""
        self._host = ""
        self._sink: ReportSink | None = None
        self._link: Link | None = None
        self._files_kept: Files | None = None
        self._runs: dict[int, Message] = {}
        self._stops: dict[int, Message] = {}
        self._clears: dict[str, asyncio.Future[list[int]]] = {}
        self._removals: dict[str, tuple[RemoveFiles, Message]] = {}
        """Removals without an answer, by folder."""
        self._node_tasks: dict[NodeId, asyncio.Task[None]] = {}
        self._limits: dict[int, tuple[list[Path], Duration]] = {}
        """Of programs whose silence is limited: their output files, and the limit."""
        self._silence = SilenceWatch(self._is_silent)
        self._fallen: set[NodeId] = set()
        """Nodes that were last booted before the host was: nothing is launched there until they are booted again."""
        self._refused: dict[int, FailureInfo] = {}
        """Why executions are not launched whose files cannot be had, until the supervisor has forbidden their launch."""

    @property
    def supervisor_pid(self) -> int | None:
        """The process id of the supervisor last connected to."""
        return self._link.supervisor_pid if self._link is not None else None

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        """Make the root folder and connect to its supervisor.  Raises ExecutorError."""
        self._sink = sink
        self._ledger = ledger_id
        try:
            make_private(self._root)
            self._host = await asyncio.to_thread(local_nodes.host_boot_id)
        except OSError as error:
            raise ExecutorError(f"the local executor cannot use {self._root}: {error}") from error
        self._link = Link(
            self._root,
            ledger_id,
            boot=self._host,
            linger_s=self._linger_s,
            drain_grace_s=self._drain_grace_s,
            connected=self._say_again,
            received=self._received,
        )
        self._files_kept = Files(self._root, ledger_id, self._transfers, staged=self._staged, ended=self._report, surface=self._link.surface)
        await self._link.open()

    async def failed(self) -> ExecutorError:
        """Returns when the executor can do no more, with the reason; its engine should stop and say so."""
        return await asyncio.shield(self._opened().failure)

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        """See `core.ports.Executor`.  Nothing is launched; a node whose folder is not whole is reported unusable."""
        messages = []
        for command in commands:
            launch = command.launch
            folder = layout.task_folder(launch.pool, launch.node, launch.job, launch.task)
            order = {"op": "adopt", "x": launch.execution, "node": layout.node_folder(launch.pool, launch.node), "folder": folder}
            self._runs[launch.execution] = order
            self._note_limits(launch)
            self._files.expect(command)
            messages.append(order)
        # Looked at before the supervisor hears of anything: for an answer it may have to make a folder that is gone.
        reports = [self._look_at_node(pool, node) for node, pool in nodes.items()]
        self._files.sweep([layout.node_folder(pool, node) for node, pool in (*nodes.items(), (ENGINE_HOST, ENGINE_POOL))])
        self._opened().send(messages)
        for report in reports:
            asyncio.get_running_loop().call_soon(self._report, report)

    def submit(self, commands: Sequence[Command]) -> None:
        """See `core.ports.Executor`."""
        messages = [order for command in commands if (order := self._order(command)) is not None]
        if messages:
            self._opened().send(messages)

    async def close(self) -> None:
        """Let go; what runs goes on running, watched by the supervisor."""
        self._sink = None
        for task in self._node_tasks.values():
            task.cancel()
        if self._node_tasks:
            await asyncio.wait(self._node_tasks.values())
        await self._silence.close()
        if self._files_kept is not None:
            await self._files_kept.close()
        if self._link is not None:
            await self._link.close()

    def output_path(self, pool: PoolId, node: NodeId, job: JobId | None, task: TaskId, which: Literal["stdout", "stderr"]) -> str:
        """Where the output of the latest run of that task on that node lies."""
        return f"{self._root}/{layout.task_folder(pool, node, job, task)}/{layout.OUTPUT_NAMES[which]}"

    async def refusal(self, user: UserIdentity) -> str | None:
        """See `core.ports.Identities`."""
        return await self._identities.refusal(user)

    def node_path(self, pool: PoolId, node: NodeId) -> str:
        """Where the node's own folder lies."""
        return f"{self._root}/{layout.node_folder(pool, node)}"

    def folder_path(self, pool: PoolId, node: NodeId, job: JobId | None, task: TaskId) -> str:
        """Where the folder of that task on that node lies."""
        return f"{self._root}/{layout.task_folder(pool, node, job, task)}"

    # commands

    def _order(self, command: Command) -> Message | None:
        """The message that asks the supervisor for it; None for what is begun here."""
        match command:
            case RunTask() | RunPreparation() | RunRelease() | RunFinalizer() | RunStartTask():
                return self._launch_order(command)
            case StopExecution():
                order = {
                    "op": "stop",
                    "x": command.execution,
                    "node": layout.node_folder(command.pool, command.node),
                    "grace_s": command.grace / SECOND,
                }
                self._stops[command.execution] = order
                self._files.stop(command)
                return order
            case RemoveFiles():
                return self._removal_order(command)
            case BootNode() | RetireNode():
                self._fallen.discard(command.node)
                # What is still to be removed is asked for again when the node is up, unless it was emptied meanwhile.
                self._removals = {folder: one for folder, one in self._removals.items() if one[0].node != command.node}
                before = self._node_tasks.get(command.node)
                task = asyncio.create_task(self._change_node(command, before), name=f"jobledger node {command.node}")
                self._node_tasks[command.node] = task
                task.add_done_callback(self._opened().surface)
                return None
        assert_never(command)

    def _launch_order(self, command: RunCommand) -> Message | None:
        launch = command.launch
        if launch.node in self._fallen:
            # It was wanted before that was known, and its preparation is of an earlier boot.  A power cut may have taken the record of a launch.
            lost = ExecutionLost(execution=launch.execution, reason="the host was rebooted, and there is no knowing whether it had been launched")
            asyncio.get_running_loop().call_soon(self._report, lost)
            return None
        if launch.node == ENGINE_HOST and (failure := self._make_host_folder(launch.pool)) is not None:
            asyncio.get_running_loop().call_soon(self._report, ExecutionNotStarted(execution=launch.execution, failure=failure))
            return None
        try:
            order = self._launching(command)
        except ValueError as error:
            failure = _usererror("CommandLaunchFailed", f"The command line cannot be split into words: {error}")
            asyncio.get_running_loop().call_soon(self._report, ExecutionNotStarted(execution=launch.execution, failure=failure))
            return None
        if launch.execution in self._refused:
            return None  # its answer is under way
        self._note_limits(launch)
        self._files.expect(command)
        if launch.execution not in self._runs and self._files.stage(command):
            return None  # it is ordered when its files are there
        return self._runs.setdefault(launch.execution, order)

    def _launching(self, command: RunCommand) -> Message:
        """The message that asks for a launch.  Raises ValueError for a command line that cannot be split."""
        launch = command.launch
        order: Message = {
            "op": "launch",
            "x": launch.execution,
            "node": layout.node_folder(launch.pool, launch.node),
            "folder": layout.task_folder(launch.pool, launch.node, launch.job, launch.task),
            "arguments": layout.arguments(launch.command_line),
            "environment": layout.environment(str(self._root), command),
        }
        if launch.user is not None and (user := identity.order(launch.user)) is not None:
            order |= {"user": user, "ways": layout.ways(launch)}
        return order

    def _staged(self, command: RunCommand, staged: str | None, failure: FailureInfo | None) -> None:
        """The files of a launch are there, or cannot be had: then its launch is forbidden before that is reported."""
        number = command.launch.execution
        if failure is not None:
            self._refused[number] = failure
            order = self._forbid(number, layout.node_folder(command.launch.pool, command.launch.node))
        else:
            self._runs[number] = order = {**self._launching(command), "staged": staged}
        self._opened().send([order])

    def _note_limits(self, launch: Launch) -> None:
        if launch.silent_after is not None:
            folder = self._root / layout.task_folder(launch.pool, launch.node, launch.job, launch.task)
            paths = [folder / name for name in layout.OUTPUT_NAMES.values()]
            self._limits[launch.execution] = paths, launch.silent_after

    def _make_host_folder(self, pool: PoolId) -> FailureInfo | None:
        """Make what stands for the engine's host whole, which no command boots; why that cannot be done, if it cannot."""
        folder = self._root / layout.node_folder(pool, ENGINE_HOST)
        try:
            local_nodes.make_folders(folder)
        except OSError as error:
            return _servererror("ResourceDirectoryCreateFailed", _unicode(f"The folder {folder} cannot be made ready: {error}"))
        return None

    def _removal_order(self, command: RemoveFiles) -> Message:
        if command.task is not None:
            folder = layout.task_folder(command.pool, command.node, command.job, command.task)
        else:
            folder = layout.job_folder(command.pool, command.node, command.job)
            self._removals = {other: one for other, one in self._removals.items() if not other.startswith(folder + "/")}
        order = {"op": "remove", "node": layout.node_folder(command.pool, command.node), "folder": folder, "before": command.before}
        self._removals[folder] = (command, order)
        return order

    async def _change_node(self, command: BootNode | RetireNode, before: asyncio.Task[None] | None) -> None:
        """Boot or retire a node, after what was begun for it before."""
        if before is not None:
            await asyncio.wait([before])
        folder = layout.node_folder(command.pool, command.node)
        try:
            report = await (self._boot(command, folder) if isinstance(command, BootNode) else self._retire(command, folder))
        except OSError as error:
            report = _unusable(command.node, f"its folder {self._root / folder} cannot be used: {error}")
        self._report(report)

    async def _boot(self, command: BootNode, folder: str) -> Report:
        node = self._root / folder
        this = local_nodes.Boot(ledger=self._ledger, incarnation=command.incarnation, host=self._host)
        found = local_nodes.read_boot(node)
        if found != this:
            if found is not None and await self._is_taken(found.ledger):
                return _unusable(command.node, f"its folder {node} is in use by ledger {found.ledger}: choose another root for this one")
            if (refusal := await self._quieten(command.node, folder)) is not None:
                return refusal
            await _finish_in_thread(local_nodes.boot, node, this, wipe=command.wipe)
        return NodeReady(node=command.node, boot_id=this.id, incarnation=command.incarnation)

    async def _retire(self, command: RetireNode, folder: str) -> Report:
        if (refusal := await self._quieten(command.node, folder)) is not None:
            return refusal
        await _finish_in_thread(local_nodes.retire, self._root / folder, wipe=command.wipe)
        return NodeRetired(node=command.node, incarnation=command.incarnation)

    async def _is_taken(self, ledger: str) -> bool:
        """Whether another ledger's supervisor goes on looking after nodes here."""
        deadline = asyncio.get_running_loop().time() + OTHER_LEDGER_WAIT_S
        while ledger != self._ledger and local_nodes.supervised(self._root, ledger):
            if asyncio.get_running_loop().time() > deadline:
                return True
            await asyncio.sleep(0.05)
        return False

    async def _quieten(self, node: NodeId, folder: str) -> NodeFaulted | None:
        """End all that runs on the node; what cannot be ended makes it unusable."""
        if not (self._root / folder).exists():
            return None
        unlaunched = [self._forbid(number, folder) for number in await self._files.leave(folder)]
        done = self._clears[folder] = asyncio.get_running_loop().create_future()
        self._opened().send([*unlaunched, self._clear_order(folder)])
        leftover = await done
        if not leftover:
            return None
        return _unusable(node, f"processes {', '.join(map(str, leftover))} of it cannot be killed")

    def _forbid(self, number: int, folder: str) -> Message:
        """The message that forbids a launch that was never ordered."""
        order = self._stops[number] = {"op": "stop", "x": number, "node": folder, "grace_s": self._drain_grace_s}
        return order

    def _clear_order(self, folder: str) -> Message:
        return {"op": "clear", "node": folder, "grace_s": self._drain_grace_s}

    # reports

    def _say_again(self) -> None:
        """The link is new: ask for all that has no outcome yet."""
        clears = [self._clear_order(folder) for folder in self._clears]
        removals = [order for _, order in self._removals.values()]
        self._opened().send([*removals, *self._runs.values(), *self._stops.values(), *clears])

    def _received(self, message: Message) -> None:
        match message["op"]:
            case "started":
                self._learn_start(message)
            case "exited" | "not_started" | "lost":
                self._learn_end(message)
            case "removed":
                self._learn_removal(message)
            case "cleared":
                if (done := self._clears.pop(message["node"], None)) is not None and not done.done():
                    done.set_result(message["leftover"])
            case _:
                pass  # a greeting was answered where it was awaited

    def _learn_start(self, message: Message) -> None:
        number = message["x"]
        if (order := self._runs.get(number)) is not None:
            if (limited := self._limits.get(number)) is not None:
                self._silence.watch(ExecutionId(number), *limited, adopted=order["op"] == "adopt")
            # From now on it must only be asked about: that is shorter, and says what is meant.
            self._runs[number] = {"op": "adopt", "x": number, "node": order["node"], "folder": order.get("folder", "")}
        self._files.answered(number)
        self._report(ExecutionStarted(execution=ExecutionId(number), pid=message["pid"]))

    def _is_silent(self, execution: ExecutionId, silent_for: Duration) -> None:
        self._report(ExecutionSilent(execution=execution, silent_for=silent_for))

    def _learn_end(self, message: Message) -> None:
        number = message["x"]
        self._runs.pop(number, None)
        self._stops.pop(number, None)
        self._limits.pop(number, None)
        self._silence.forget(ExecutionId(number))
        self._files.answered(number)
        refusal = self._refused.pop(number, None)
        report = _end_report(message)
        if isinstance(report, ExecutionNotStarted) and report.failure is None and refusal is not None:
            report = ExecutionNotStarted(execution=report.execution, failure=refusal)
        if not (isinstance(report, ExecutionExited) and self._files.upload(report)):
            self._files.forget(number)
            self._report(report)

    def _learn_removal(self, message: Message) -> None:
        command, _ = self._removals.get(message["folder"], (None, None))
        if command is not None and command.before == message["before"]:
            del self._removals[message["folder"]]
            problem = _unicode(message["problem"]) if message["problem"] is not None else None
            self._report(FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before, problem=problem))

    def _report(self, report: Report) -> None:
        if self._sink is not None:
            self._sink(report)

    def _look_at_node(self, pool: PoolId, node: NodeId) -> Report:
        """What a node that is believed to be up is now."""
        folder = self._root / layout.node_folder(pool, node)
        try:
            found, there = local_nodes.read_boot(folder), folder.exists()
        except OSError as error:
            return _unusable(node, f"its folder {folder} cannot be used: {error}")
        if not there:
            return NodeFaulted(node=node, fault="wiped", reason=_unicode(f"its folder {folder} is gone"))
        if found is None:
            return _unusable(node, f"its folder {folder} is not whole: it has no boot file")
        if found.ledger != self._ledger:
            return _unusable(node, f"its folder was taken over by ledger {found.ledger}")
        if found.host != self._host:
            self._fallen.add(node)
        return NodeReady(node=node, boot_id=f"{self._host}/{found.incarnation}")

    @property
    def _files(self) -> Files:
        if self._files_kept is None:
            raise ExecutorError("the local executor is not open")
        return self._files_kept

    def _opened(self) -> Link:
        if self._link is None:
            raise ExecutorError("the local executor is not open")
        return self._link


def _end_report(message: Message) -> Report:
    execution = ExecutionId(message["x"])
    match message["op"]:
        case "exited":
            return ExecutionExited(
                execution=execution,
                exit_code=message["code"],
                signal=message["signal"],
                stopped=message["stopped"],
                wall=Duration(message["wall_us"]),
                leftover=tuple(message["leftover"]),
            )
        case "lost":
            return ExecutionLost(execution=execution, reason=message["reason"])
        case _:
            return ExecutionNotStarted(execution=execution, failure=_launch_failure(message["stage"], message["errno"], message["subject"]))


def _launch_failure(stage: str, number: int, subject: str) -> FailureInfo | None:
    """Why a program could not be launched, in Azure Batch's codes; None where a stop came first (semantics section 3.11)."""
    why = os.strerror(number)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return _servererror("DiskFull", f"{subject}: {why}")
    match stage:
        case spawn.STAGE_STOPPED:
            return None
        case spawn.STAGE_PROGRAM:
            return _usererror("CommandProgramNotFound", f"The specified command program is not found: {subject}")
        case spawn.STAGE_LAUNCH if number == errno.ENOENT:
            return _usererror("CommandLaunchFailed", f"{subject} is there, but the interpreter that its first line names is not")
        case spawn.STAGE_LAUNCH:
            return _usererror("CommandLaunchFailed", f"{subject} cannot be executed: {why}")
        case spawn.STAGE_IDENTITY:
            return _usererror("CommandLaunchFailed", f"It cannot run as the user it is meant for: {subject}")
        case spawn.STAGE_ENCODING:
            return _usererror("CommandLaunchFailed", f"The command line or environment of {subject!r} holds characters that no program can be given")
        case spawn.STAGE_PROCESS:
            return _servererror("CommandLaunchFailed", f"The node cannot make another process: {why}")
        case spawn.STAGE_OUTPUT:
            return _servererror("ResourceFileCreateFailed", f"stdout.txt and stderr.txt cannot be created in {subject}: {why}")
        case _:
            return _servererror("ResourceDirectoryCreateFailed", f"The folder {subject} cannot be made ready: {why}")


def _unusable(node: NodeId, reason: str) -> NodeFaulted:
    return NodeFaulted(node=node, fault="unusable", reason=_unicode(reason))


def _unicode(text: str) -> str:
    """`text` as it can be recorded: the bytes of a path that are not UTF-8 are shown by number."""
    return text.encode("utf-8", "backslashreplace").decode()


def _usererror(code: str, message: str) -> FailureInfo:
    return FailureInfo(category="usererror", code=code, message=message)


def _servererror(code: str, message: str) -> FailureInfo:
    return FailureInfo(category="servererror", code=code, message=message)


async def _finish_in_thread(work: Callable[..., None], *arguments: object, **options: object) -> None:
    """Run `work` in a thread, and wait for its end even where this task is cancelled: half a wipe must not go on unseen."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
