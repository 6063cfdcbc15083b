"""An executor that does nothing, at once: what is left is the engine's own cost."""

import asyncio
from collections.abc import Mapping, Sequence

from jobledger.core.commands import BootNode, Command, RemoveFiles, RetireNode, RunCommand, StopExecution
from jobledger.core.errors import ExecutorError
from jobledger.core.ids import NodeId, PoolId
from jobledger.core.ports import ReportSink
from jobledger.core.reports import ExecutionExited, ExecutionNotStarted, ExecutionStarted, FilesRemoved, NodeReady, NodeRetired


class NullExecutor:
    """Every program starts and exits with 0 in the same moment."""

    def __init__(self) -> None:
        self._sink: ReportSink | None = None

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:  # noqa: ARG002 - the protocol's
        self._sink = sink

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        """Nothing outlives this executor."""

    def submit(self, commands: Sequence[Command]) -> None:
        assert self._sink is not None
        for command in commands:
            match command:
                case BootNode():
                    self._sink(NodeReady(node=command.node, boot_id="null", incarnation=command.incarnation))
                case RetireNode():
                    self._sink(NodeRetired(node=command.node, incarnation=command.incarnation))
                case RemoveFiles():
                    self._sink(FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before))
                case StopExecution():
                    self._sink(ExecutionNotStarted(execution=command.execution))
                case _:
                    self._sink(ExecutionStarted(execution=command.launch.execution, pid=1))
                    self._sink(ExecutionExited(execution=command.launch.execution, exit_code=0))

    async def failed(self) -> ExecutorError:
        return await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self._sink = None
