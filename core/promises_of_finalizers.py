"""What holds of finalizers: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, Seen
from .ids import ENGINE_HOST
from .judging import Invariant, invariant, job_of, launches
from .promises_of_jobs import ENDING


@invariant(e.ExecutionRequested, rule="core/finalizer.py, rule 1")
def finalizer_comes_last(history: History, seen: Seen) -> Iterator[str]:
    """A finalizer is launched only when its job is ending, nothing else of the job lives anywhere, no task of it is left and no release of it is owed."""
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "finalizer" or (job := history.jobs.get(job_of(event))) is None or job.completed:
        return
    if (state := history.state("job", job_of(event))) not in ENDING:
        yield f"job {event.job} is {state}"
    if others := [live for live in job.live if history.executions[live].requested.kind != "finalizer"]:
        yield f"of job {event.job} still live executions {others}"
    if job.unfinished:
        yield f"tasks of job {event.job} not completed: {list(job.unfinished)[:5]}"
    if owed := [node for node, visit in job.visits.items() if visit.debt]:
        yield f"job {event.job} still owes its release on {', '.join(owed[:5])}"


@invariant(e.ExecutionRequested, rule="core/finalizer.py, rule 1")
def no_release_follows_the_finalizer(history: History, seen: Seen) -> Iterator[str]:
    """Once a job's finalizer was launched, no release of the job is."""
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "release" or (job := history.jobs.get(job_of(event))) is None or job.completed:
        return
    if job.finalizer not in {"none", "abandoned"}:
        yield f"the finalizer of job {event.job} is {job.finalizer}, and a release is launched on {event.node}"


@invariant(e.ExecutionRequested, rule="core/finalizer.py, rules 2 and 3")
def finalizer_completes_once(history: History, seen: Seen) -> Iterator[str]:
    """A job's finalizer is launched again only after a launch that its node cut short; one that completed, well or not, or was abandoned
    is never launched again, and there is never a second one beside it.
    """
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "finalizer" or (job := history.jobs.get(job_of(event))) is None or job.completed:
        return
    if job.finalizer not in {"none", "interrupted"}:
        yield f"the finalizer of job {event.job} is {job.finalizer} and is launched again"


@invariant(e.ExecutionRequested, rule="core/finalizer.py, rule 3")
def finalizer_never_after_completion(history: History, seen: Seen) -> Iterator[str]:
    """Once a job is completed its finalizer does not run, and deleting it changes nothing about that."""
    event = seen.event
    job = history.jobs.get(job_of(event))
    if launches(event, "finalizer") and job is not None and job.completed:
        yield f"job {job_of(event)} was completed before"


@invariant(e.ExecutionRequested, rule="core/finalizer.py")
def finalizer_runs_where_it_was_asked_to(history: History, seen: Seen) -> Iterator[str]:
    """A finalizer runs only for a job that has one, and on the node that the job chose, or on the engine's host where it chose none."""
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "finalizer" or (job := history.jobs.get(job_of(event))) is None:
        return
    spec = job.spec.job_finalizer_task
    if spec is None:
        yield f"job {event.job} has no finalizer"
    elif event.node != (spec.node_id or ENGINE_HOST):
        yield f"the finalizer of job {event.job} is launched on {event.node}, not on {spec.node_id or ENGINE_HOST}"


@invariant(e.FinalizerAbandoned, rule="core/finalizer.py, rule 4")
def finalizer_is_abandoned_only_with_its_node(history: History, seen: Seen) -> Iterator[str]:
    """A finalizer is abandoned only where its job chose a node, and while that is not up."""
    event = seen.event
    if not isinstance(event, e.FinalizerAbandoned) or (job := history.jobs.get(event.job)) is None:
        return
    spec = job.spec.job_finalizer_task
    if spec is None or spec.node_id is None:
        yield f"job {event.job} chose no node for its finalizer"
    elif (state := history.state("node", spec.node_id)) in _ABLE:
        yield f"node {spec.node_id} is {state}, and the finalizer of job {event.job} is abandoned"


@invariant(e.JobCompleted, e.JobDeleted, rule="core/finalizer.py, rule 1")
def no_job_ends_without_its_finalizer(history: History, seen: Seen) -> Iterator[str]:
    """A job that has a finalizer is completed or gone only when that has run to its end or was explicitly abandoned."""
    job = history.jobs.get(job_of(seen.event))
    if job is not None and job.spec.job_finalizer_task is not None and job.finalizer in {"none", "interrupted"}:
        yield f"the finalizer of job {job_of(seen.event)} has not run"


_ABLE: Final = frozenset({"waitingforstarttask", "idle", "running", "offline"})

OF_FINALIZERS: Final[tuple[Invariant, ...]] = (
    finalizer_comes_last,
    no_release_follows_the_finalizer,
    finalizer_completes_once,
    finalizer_never_after_completion,
    finalizer_runs_where_it_was_asked_to,
    finalizer_is_abandoned_only_with_its_node,
    no_job_ends_without_its_finalizer,
)
