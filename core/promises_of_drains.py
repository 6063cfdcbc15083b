"""What holds of the options of requests about nodes: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, Seen
from .ids import JobId, NodeId
from .judging import Invariant, invariant, node_of
from .promises_of_jobs import ENDING


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 3.10: taskcompletion; core/drain.py, rule 1")
def draining_nodes_take_no_tasks(history: History, seen: Seen) -> Iterator[str]:
    """A node that drains is given no task; one that waited there for preparation already may run."""
    event = seen.event
    node = history.nodes.get(node_of(event))
    if node is not None and node.draining is not None and history.gives_task(event):
        yield f"a task is placed on {node_of(event)}, which drains for its {node.draining}"


@invariant(e.NodeRebooting, e.NodeReimaging, e.NodeDeallocating, e.NodeLeaving, rule="semantics 3.10: taskcompletion; core/drain.py, rule 2")
def a_drain_waits_for_what_is_there(history: History, seen: Seen) -> Iterator[str]:
    """What was to wait for the tasks of a node happens only when no task holds a slot there, no execution of a job lives there, and no job
    that is ending owes its release there or has yet to run its finalizer there.
    """
    event = seen.event
    node = history.nodes.get(node_of(event))
    if node is None or getattr(event, "option", None) != "taskcompletion":
        return
    if node.holders:
        yield f"tasks are on {node_of(event)}: {list(node.holders)}"
    if living := [live for live in node.live if history.executions[live].requested.job is not None]:
        yield f"on {node_of(event)} still live executions {living}"
    elif owing := [job for job in node.jobs if history.state("job", job) in ENDING and history.visit(job, node_of(event)).debt]:
        yield f"jobs {owing} are ending and owe their release on {node_of(event)}"
    elif finishing := [job for job in history.jobs if _has_to_finish_on(history, job, node_of(event))]:
        yield f"jobs {finishing} are ending and have yet to run their finalizer on {node_of(event)}"


@invariant(e.TaskRetried, e.TaskRequeued, rule="semantics 3.10: terminate; core/node.py, rule 6")
def terminated_tasks_do_not_run_again(history: History, seen: Seen) -> Iterator[str]:
    """A task that was to be ended with what was asked of its node is neither requeued nor retried."""
    event = seen.event
    if isinstance(event, e.TaskRetried | e.TaskRequeued) and (task := history.task(event.job, event.task)) is not None and task.doomed:
        yield f"task {event.task} of job {event.job} was to be ended"


OF_DRAINS: Final[tuple[Invariant, ...]] = (
    draining_nodes_take_no_tasks,
    a_drain_waits_for_what_is_there,
    terminated_tasks_do_not_run_again,
)


def _has_to_finish_on(history: History, job_id: JobId, node: NodeId) -> bool:
    job = history.jobs[job_id]
    spec = job.spec.job_finalizer_task
    unsettled = job.finalizer not in {"completed", "abandoned"} and not job.completed
    return unsettled and spec is not None and spec.node_id == node and history.state("job", job_id) in ENDING
