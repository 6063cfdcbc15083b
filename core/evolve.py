"""Evolve: the one fold.  Live running, recovery, audit and time travel all go through it.

It judges nothing: what happened, happened.  The only thing it refuses is a move that no table has, because then the ledger
or the code that wrote it is broken, and to go on would make things worse.
"""

from collections.abc import Callable
from typing import Any, Final

from . import events as e
from . import execution, files, finalizer, job, node, pool, preparation, release, start_task, task
from .errors import ImpossibleEvent
from .ids import ENGINE_HOST, Micros
from .world import World


def evolve(world: World, event: e.Event, at: Micros) -> None:
    """Make `event`, recorded at `at`, part of the world.

    Raises `ImpossibleEvent` for a move that no table has, and for one of a thing that is not there.
    """
    try:
        _FOLD[type(event)](world, event, at)
    except ImpossibleEvent as error:
        error.stream = e.stream_of(event)
        raise
    except KeyError as missing:
        impossible = ImpossibleEvent(f"{e.STORED[type(event)][0]} cannot happen: there is no {missing.args[0]}")
        impossible.stream = e.stream_of(event)
        raise impossible from missing


def _engine_started(world: World, event: e.EngineStarted, _at: Micros) -> None:
    world.engine_epoch = event.epoch
    world.engine_running = True
    world.engine_root = event.root or world.engine_root
    world.engine_boot = event.boot_id or world.engine_boot
    world.dry_run = event.dry_run
    for live in world.executions.values():
        if live.node == ENGINE_HOST:
            world.agenda.job(live.job)


def _engine_stopped(world: World, _event: e.EngineStopped, _at: Micros) -> None:
    world.engine_running = False


_FOLD: Final[dict[type[e.Event], Callable[[World, Any, Micros], None]]] = {
    e.EngineStarted: _engine_started,
    e.EngineStopped: _engine_stopped,
    e.PoolCreated: pool.on_created,
    e.PoolResizing: pool.on_allocation,
    e.PoolResizeStopping: pool.on_allocation,
    e.PoolSteady: pool.on_allocation,
    e.PoolDeleting: pool.on_deleting,
    e.PoolDeleted: pool.on_deleted,
    e.NodeAdded: node.on_added,
    e.NodeStarting: node.on_changed,
    e.NodeBooted: node.on_changed,
    e.NodeAwaitingStartTask: node.on_changed,
    e.NodeStartTaskFailed: node.on_changed,
    e.NodeIdle: node.on_changed,
    e.NodeRunning: node.on_changed,
    e.NodeOffline: node.on_changed,
    e.NodeRebooting: node.on_changed,
    e.NodeReimaging: node.on_changed,
    e.NodeUnusable: node.on_changed,
    e.NodeUnknown: node.on_changed,
    e.NodePreempted: node.on_changed,
    e.NodeReallocated: node.on_changed,
    e.NodeDeallocating: node.on_changed,
    e.NodeDeallocated: node.on_changed,
    e.NodeLeaving: node.on_changed,
    e.NodeRemoved: node.on_removed,
    e.NodeDraining: node.on_drain,
    e.NodeDrainStopped: node.on_drain,
    e.NodeSchedulingDisabled: node.on_scheduling,
    e.NodeSchedulingEnabled: node.on_scheduling,
    e.StartTaskStarted: start_task.on_started,
    e.StartTaskRetried: start_task.on_retried,
    e.StartTaskInterrupted: start_task.on_interrupted,
    e.StartTaskCompleted: start_task.on_completed,
    e.JobCreated: job.on_created,
    e.JobBlocked: job.on_blocked,
    e.JobUnblocked: job.on_blocked,
    e.JobPatched: job.on_patched,
    e.JobDisabling: job.on_changed,
    e.JobDisabled: job.on_changed,
    e.JobEnabling: job.on_changed,
    e.JobEnabled: job.on_changed,
    e.JobTerminating: job.on_changed,
    e.JobCompleted: job.on_changed,
    e.JobDeleting: job.on_changed,
    e.JobDeleted: job.on_deleted,
    e.TaskAdded: task.on_added,
    e.TaskPreparing: task.on_preparing,
    e.TaskRunning: task.on_running,
    e.TaskRetried: task.on_retried,
    e.TaskRetryDue: task.on_retry_due,
    e.TaskRequeued: task.on_requeued,
    e.TaskCompleted: task.on_completed,
    e.TaskReactivated: task.on_reactivated,
    e.TaskDeleted: task.on_deleted,
    e.PreparationStarted: preparation.on_started,
    e.PreparationRetried: preparation.on_retried,
    e.PreparationCompleted: preparation.on_completed,
    e.PreparationDue: preparation.on_due,
    e.ReleaseOwed: release.on_owed,
    e.ReleaseStarted: release.on_started,
    e.ReleaseInterrupted: release.on_interrupted,
    e.ReleaseCompleted: release.on_completed,
    e.ReleaseAbandoned: release.on_abandoned,
    e.FinalizerStarted: finalizer.on_started,
    e.FinalizerInterrupted: finalizer.on_interrupted,
    e.FinalizerCompleted: finalizer.on_completed,
    e.FinalizerAbandoned: finalizer.on_abandoned,
    e.ExecutionRequested: execution.on_requested,
    e.ExecutionConfirmed: execution.on_confirmed,
    e.ExecutionStopRequested: execution.on_stop_requested,
    e.ExecutionEnded: execution.on_outcome,
    e.ExecutionNeverRan: execution.on_outcome,
    e.ExecutionUnresolved: execution.on_outcome,
    e.FilesExpired: files.on_expired,
    e.FilesRemoved: files.on_removed,
    e.JobFilesExpired: files.on_job_expired,
    e.JobFilesRemoved: files.on_job_removed,
}
