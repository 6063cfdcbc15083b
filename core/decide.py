"""Decide: what a request, a report or the passing of time leads to.

`decide` reads the world and yields events; the caller lets each one evolve before it takes the next, so that every event is
decided in the world that the one before it left.  A refusal comes before the first event or not at all.
"""

from collections.abc import Iterator
from typing import assert_never

from attrs import frozen

from . import deadlines, files, job, node, outcomes, pool, task
from . import execution as executions
from . import preparation as preparations
from . import reports as r
from . import requests as q
from .events import Event
from .ids import Micros
from .world import Execution, World


@frozen(kw_only=True)
class ClockAdvanced:
    """Nothing but time has passed."""


Stimulus = q.Request | r.Report | ClockAdvanced


def decide(world: World, stimulus: Stimulus, now: Micros) -> Iterator[Event]:
    """The events that follow directly from `stimulus`.  Raises `RequestRefused` for a request that cannot be granted."""
    match stimulus:
        case ClockAdvanced():
            return deadlines.due(world, now)
        case (
            r.ExecutionStarted()
            | r.ExecutionExited()
            | r.ExecutionNotStarted()
            | r.ExecutionLost()
            | r.ExecutionSilent()
            | r.NodeReady()
            | r.NodeRetired()
            | r.NodeFaulted()
            | r.NodeReallocated()
            | r.FilesRemoved()
        ):
            return _on_report(world, stimulus)
        case _:
            return _on_request(world, stimulus, now)


def _on_request(world: World, request: q.Request, now: Micros) -> Iterator[Event]:
    match request:
        case q.SubmitJob():
            return job.submit(world, request)
        case q.AddTasks():
            return job.add_tasks(world, request)
        case q.TerminateJob():
            return job.terminate(world, request)
        case q.DeleteJob():
            return job.delete(world, request)
        case q.DisableJob():
            return job.disable(world, request)
        case q.EnableJob():
            return job.enable(world, request)
        case q.PatchJob():
            return job.patch(world, request, now)
        case q.TerminateTask():
            return task.terminate(world, request)
        case q.DeleteTask():
            return task.delete(world, request)
        case q.ReactivateTask():
            return task.reactivate(world, request)
        case q.CreatePool():
            return pool.create(world, request)
        case q.ResizePool():
            return pool.resize(world, request)
        case q.StopResize():
            return pool.stop_resize(world, request)
        case q.DeletePool():
            return pool.delete(world, request)
        case q.RemoveNode():
            return pool.remove_node(world, request)
        case q.RebootNode() | q.ReimageNode() | q.DeallocateNode() | q.StartNode() | q.DisableScheduling() | q.EnableScheduling():
            return node.on_request(world, request)
        case _:
            assert_never(request)


def _on_report(world: World, report: r.Report) -> Iterator[Event]:
    match report:
        case r.ExecutionStarted(execution=execution_id, pid=pid):
            execution = world.executions.get(execution_id)
            if execution is not None and execution.state == "requested" and not files.waits(world, execution):
                yield from _confirm(world, execution, pid)
        case r.ExecutionExited() | r.ExecutionNotStarted() | r.ExecutionLost():
            execution = world.executions.get(report.execution)
            if execution is not None and not (isinstance(report, r.ExecutionExited) and files.waits(world, execution)):
                yield from outcomes.reported(world, execution, report)
        case r.ExecutionSilent(execution=execution_id, silent_for=silent_for):
            execution = world.executions.get(execution_id)
            if execution is not None:
                yield from executions.on_silent(world, execution, silent_for)
        case r.NodeReady():
            yield from node.on_ready(world, report)
        case r.NodeRetired():
            yield from node.on_retired(world, report)
        case r.NodeFaulted():
            yield from node.on_faulted(world, report)
        case r.NodeReallocated():
            yield from node.on_reallocated(world, report)
        case r.FilesRemoved():
            yield from files.on_report(world, report)
        case _:
            assert_never(report)


def _confirm(world: World, execution: Execution, pid: int | None) -> Iterator[Event]:
    """A start was seen: from now on the node is under the scopes that a start opens."""
    yield executions.confirmed(execution, pid)
    if execution.kind == "task":
        yield from task.on_confirmed(world, execution)
    elif execution.kind == "preparation":
        yield from preparations.on_confirmed(world, execution)
