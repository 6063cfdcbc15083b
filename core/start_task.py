"""Start task: what runs on a node when it joins and each time it boots, before it takes tasks.

1. It belongs to the node's boot: every boot owes it a run, and a run that was cut short is owed again.  One that the executor lost or
   stopped unasked on a node that stayed up is owed again only `INTERNAL_RETRIES_MAX` times in a row.
2. `waitForSuccess` (default): the node takes tasks only after success; a failure with no retries left is the node's
   `starttaskfailed`.  Without it the node takes tasks at once and a failure changes nothing.
3. A non-zero exit is retried while retries are left; every other failure is final.  There is no wall-clock limit.
"""

from collections.abc import Iterator
from typing import Final

from . import execution as executions
from . import limits
from .events import (
    Event,
    NodeIdle,
    NodeStartTaskFailed,
    StartTaskCompleted,
    StartTaskInterrupted,
    StartTaskRetried,
    StartTaskStarted,
)
from .failure import FailureInfo, exit_code_failure, internal_retries_failure
from .ids import START_TASK_ID, Micros
from .machine import ABSENT, Machine, rows
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .world import Execution, Node, Run, World, present

START_TASK: Final = Machine(
    "start-task",
    "the start task of one node",
    rows(
        (ABSENT, StartTaskStarted, "running"),
        ("due completed", StartTaskStarted, "running"),
        ("running", StartTaskRetried, "="),
        ("running", StartTaskInterrupted, "due", "the node went down under it, or its end was not seen"),
        ("running", StartTaskCompleted, "completed"),
    ),
)


def start(world: World, node: Node) -> Iterator[Event]:
    """Begin a run on the node."""
    event = executions.request(world, "starttask", None, START_TASK_ID, node.id, (node.start_task.launches if node.start_task else 0) + 1)
    yield event
    yield StartTaskStarted(node=node.id, execution=event.execution)


def on_outcome(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    """What the end of a start task's execution means (rules 2 and 3)."""
    node = world.nodes[execution.node]
    match outcome:
        case Ended(exit_code=0, stopped=False):
            yield StartTaskCompleted(node=node.id, result="success", exit_code=0, failure=None)
            if node.state == "waitingforstarttask":
                yield NodeIdle(node=node.id)
        case Ended(exit_code=exit_code, signal=signal, stopped=False) if execution.stop is None:
            if _retries_left(world, node):
                event = executions.request(world, "starttask", None, START_TASK_ID, node.id, present(node.start_task).launches + 1)
                yield event
                yield StartTaskRetried(node=node.id, execution=event.execution, exit_code=exit_code)
            else:
                yield from _failed(node, exit_code, exit_code_failure(exit_code, signal))
        case NeverRan(failure=FailureInfo() as failure):
            yield from _failed(node, None, failure)
        case Ended() | NeverRan():
            yield from _cut_short(world, execution, execution.stop.cause if execution.stop is not None else "stopped by the executor")
        case Unresolved(reason=reason):
            yield from _cut_short(world, execution, reason)


def _cut_short(world: World, execution: Execution, cause: str) -> Iterator[Event]:
    """It is owed again, unless its executor has lost or stopped it unasked too often in a row (rule 1)."""
    node = world.nodes[execution.node]
    internal = executions.unasked(world, execution)
    if internal and present(node.start_task).internal >= limits.INTERNAL_RETRIES_MAX:
        yield from _failed(node, None, internal_retries_failure(cause))
    else:
        yield StartTaskInterrupted(node=node.id, cause=cause, internal=internal)


def _failed(node: Node, exit_code: int | None, failure: FailureInfo) -> Iterator[Event]:
    yield StartTaskCompleted(node=node.id, result="failure", exit_code=exit_code, failure=failure)
    if node.state == "waitingforstarttask":
        yield NodeStartTaskFailed(node=node.id)


def _retries_left(world: World, node: Node) -> bool:
    allowed = present(world.pools[node.pool].spec.start_task).max_task_retry_count
    return allowed == -1 or present(node.start_task).retries < allowed


# --- evolve ---------------------------------------------------------------------------------------------------


def on_started(world: World, event: StartTaskStarted, at: Micros) -> None:
    node = world.nodes[event.node]
    run = node.start_task
    if run is None:
        run = node.start_task = Run(state=ABSENT)
    run.state = START_TASK.move(run.state, event, event.node)
    run.execution = event.execution
    run.launches += 1
    run.retries = 0
    run.started_at = at
    run.ended_at = run.last_retry_at = run.result = run.exit_code = run.failure = None


def on_retried(world: World, event: StartTaskRetried, at: Micros) -> None:
    run = present(world.nodes[event.node].start_task)
    run.state = START_TASK.move(run.state, event, event.node)
    run.execution = event.execution
    run.launches += 1
    run.retries += 1
    run.internal = 0
    run.last_retry_at = run.started_at = at


def on_interrupted(world: World, event: StartTaskInterrupted, _at: Micros) -> None:
    run = present(world.nodes[event.node].start_task)
    run.state = START_TASK.move(run.state, event, event.node)
    run.execution = None
    run.internal += event.internal
    world.agenda.node(event.node)


def on_completed(world: World, event: StartTaskCompleted, at: Micros) -> None:
    run = present(world.nodes[event.node].start_task)
    run.state = START_TASK.move(run.state, event, event.node)
    run.execution = None
    run.internal = 0
    run.ended_at = at
    run.result, run.exit_code, run.failure = event.result, event.exit_code, event.failure
