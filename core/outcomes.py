"""The outcome of an execution, recorded and then told to what it belongs to."""

from collections.abc import Iterator
from typing import Final, assert_never

from . import execution as executions
from . import finalizer as finalizers
from . import preparation as preparations
from . import release as releases
from . import start_task as start_tasks
from . import task as tasks
from .events import Event, ExecutionEnded
from .ids import ExecutionKind
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .reports import ExecutionExited, ExecutionLost, ExecutionNotStarted
from .world import Execution, World

_UPLOADING: Final[frozenset[ExecutionKind]] = frozenset({"task", "release", "finalizer"})
"""The kinds that have output files; of another kind, such a failure is nonsense."""


def reported(world: World, execution: Execution, report: ExecutionExited | ExecutionNotStarted | ExecutionLost) -> Iterator[Event]:
    """What an executor's last word on an execution means."""
    match report:
        case ExecutionExited():
            upload_failure = report.upload_failure if execution.kind in _UPLOADING else None
            yield ExecutionEnded(
                execution=execution.id,
                job=execution.job,
                task=execution.task,
                node=execution.node,
                exit_code=report.exit_code,
                signal=report.signal,
                stopped=report.stopped,
                wall=report.wall,
                leftover=report.leftover,
                upload_failure=upload_failure,
            )
            ended = Ended(exit_code=report.exit_code, signal=report.signal, stopped=report.stopped, upload_failure=upload_failure)
            yield from _tell(world, execution, ended)
        case ExecutionNotStarted():
            if execution.state == "requested":  # Of one that was seen to start it is not true.
                yield executions.never_ran(execution, report.failure)
                yield from _tell(world, execution, NeverRan(failure=report.failure))
        case ExecutionLost():
            yield from unresolved(world, execution, report.reason)


def unresolved(world: World, execution: Execution, reason: str) -> Iterator[Event]:
    """The execution can never be asked about again."""
    yield executions.unresolved(execution, reason)
    yield from _tell(world, execution, Unresolved(reason=reason))


def _tell(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    match execution.kind:
        case "task":
            yield from tasks.on_outcome(world, execution, outcome)
        case "preparation":
            yield from preparations.on_outcome(world, execution, outcome)
        case "release":
            yield from releases.on_outcome(world, execution, outcome)
        case "finalizer":
            yield from finalizers.on_outcome(world, execution, outcome)
        case "starttask":
            yield from start_tasks.on_outcome(world, execution, outcome)
        case _:
            assert_never(execution.kind)
