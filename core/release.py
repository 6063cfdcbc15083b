"""Release: what runs once at a job's end on each node under its release scope.

1. A node comes under the scope by what happened there: `taskRan` when a task of the job started there or may have;
   `prepared` also when preparation succeeded there; `attempted` also when preparation was launched there.  From then on a
   release is owed, and the debt is in the record.
2. It starts only when the job is ending and no other execution of the job lives anywhere (customer: job active ->
   terminating -> completed; semantics 2.5).
3. It has one try: a failure is recorded and never retried, and outputs that could not be uploaded are one.  Only a run that was certainly
   cut short is owed again: with its node, or by its executor unasked (but that only `INTERNAL_RETRIES_MAX` times in a row).  One whose
   end nobody saw on a node that stayed up may have run to its end, and is recorded as failed with an unknown outcome.
4. Once completed it never runs again, whatever is asked of the job later (customer: delete after terminate).
5. A debt that cannot be paid is settled by `ReleaseAbandoned` with its cause; no job ever claims a release that did not run.
"""

from collections.abc import Iterator
from typing import Final, Literal

from . import execution as executions
from . import limits
from .events import Event, ReleaseAbandoned, ReleaseCompleted, ReleaseInterrupted, ReleaseOwed, ReleaseStarted
from .failure import FailureInfo, end_failure, ended_failure, internal_retries_failure, unknown_outcome_failure, with_upload
from .ids import JobId, Micros, NodeId
from .machine import ABSENT, Machine, rows
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .world import Execution, Job, Node, Release, Stop, World, present

RELEASE: Final = Machine(
    "release",
    "a job's release task on one node",
    rows(
        (ABSENT, ReleaseOwed, "owed"),
        ("abandoned", ReleaseOwed, "owed", "a task ran on the node again after it was wiped"),
        ("owed", ReleaseStarted, "running"),
        ("running", ReleaseInterrupted, "owed", "it was cut short"),
        ("running", ReleaseCompleted, "completed"),
        ("owed", ReleaseAbandoned, "abandoned"),
    ),
)

UP: Final = frozenset({"idle", "running", "offline"})

Reached = Literal["attempted", "prepared", "taskRan"]

_WIDTH: Final[dict[str, int]] = {"taskRan": 0, "prepared": 1, "attempted": 2}

CANNOT_RUN: Final = {
    "starttaskfailed": "the node's start task failed",
    "unusable": "the node is unusable",
    "unknown": "the node is lost",
    "preempted": "the node was preempted",
    "reimaging": "the node is being reimaged",
    "deallocating": "the node is being deallocated",
    "deallocated": "the node is deallocated",
    "leavingpool": "the node is leaving its pool",
}
"""Node states in which a release cannot run and that nothing is known to end: the debt is settled, so that the job can end."""

WIPED: Final = {
    "preempted": "the node was preempted",
    "reimaging": "the node was reimaged",
    "deallocating": "the node was deallocated",
    "leavingpool": "the node was removed",
}
"""Node states that mean the loss of all that was on the node, with the cause to record."""


# --- decide ---------------------------------------------------------------------------------------------------


def reached(world: World, job: Job, node: NodeId, what: Reached) -> Iterator[Event]:
    """A node reached a mark that a release scope may ask for: the debt, where it does and none stands yet (rule 1)."""
    spec = job.spec.job_release_task
    if spec is None or _WIDTH[what] > _WIDTH[spec.release_scope]:
        return
    release = job.releases.get(node)
    if release is None or release.state == "abandoned":
        yield ReleaseOwed(job=job.id, node=node)


def pay(world: World, job: Job) -> Iterator[Event]:
    """Start or settle every release that an ending job owes and whose node is not just coming back (rules 2 and 5)."""
    spec = present(job.spec.job_release_task)
    for node_id in list(job.payable):
        node = world.nodes[node_id]
        if node.state in CANNOT_RUN:
            yield ReleaseAbandoned(job=job.id, node=node_id, cause=CANNOT_RUN[node.state])
        else:
            release = job.releases[node_id]
            event = executions.request(world, "release", job.id, spec.id, node_id, release.launches + 1)
            yield event
            yield ReleaseStarted(job=job.id, node=node_id, execution=event.execution)


def is_payable(node: Node) -> bool:
    """Whether a release that is owed on the node can be started or given up now: it is not just coming back."""
    return node.state in UP or node.state in CANNOT_RUN


def abandon(job: Job, node: NodeId, cause: str) -> Iterator[Event]:
    """Settle the debt of a node that is gone (rule 5)."""
    if node in job.owed:
        yield ReleaseAbandoned(job=job.id, node=node, cause=cause)


def on_outcome(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    """What the end of a release's execution means (rule 3)."""
    job, node = present(execution.job), execution.node
    wish = execution.stop
    for_good = wish is not None and wish.then != "requeue"
    match outcome:
        case Ended(exit_code=exit_code, stopped=False) as ended:
            yield _completed(job, node, exit_code, end_failure(exit_code, ended.signal, ended.upload_failure))
        case Ended(exit_code=exit_code) as ended if for_good:
            yield _completed(job, node, exit_code, with_upload(_wished(present(wish)), ended.upload_failure))
        case NeverRan(failure=FailureInfo() as failure):
            yield _completed(job, node, None, failure)
        case Ended() | NeverRan():
            yield _cut_short(world, execution, wish.cause if wish is not None else "stopped by the executor")
        case Unresolved() if for_good:
            yield _completed(job, node, None, _wished(present(wish)))
        case Unresolved(reason=reason) if executions.unasked(world, execution):
            yield _completed(job, node, None, unknown_outcome_failure(reason))
        case Unresolved(reason=reason):
            yield _cut_short(world, execution, reason)


def _cut_short(world: World, execution: Execution, cause: str) -> Event:
    """It is owed again, unless its executor has stopped it unasked too often in a row."""
    job, node = present(execution.job), execution.node
    internal = executions.unasked(world, execution)
    if internal and world.jobs[job].releases[node].internal >= limits.INTERNAL_RETRIES_MAX:
        return _completed(job, node, None, internal_retries_failure(cause))
    return ReleaseInterrupted(job=job, node=node, cause=cause, internal=internal)


def _wished(wish: Stop) -> FailureInfo:
    return wish.failure or ended_failure(wish.cause)


def _completed(job: JobId, node: NodeId, exit_code: int | None, failure: FailureInfo | None) -> ReleaseCompleted:
    return ReleaseCompleted(job=job, node=node, result="success" if failure is None else "failure", exit_code=exit_code, failure=failure)


# --- evolve ---------------------------------------------------------------------------------------------------


def on_owed(world: World, event: ReleaseOwed, _at: Micros) -> None:
    job = world.jobs[event.job]
    release = job.releases.get(event.node)
    if release is None:
        release = job.releases[event.node] = Release(state=ABSENT)
    world.nodes[event.node].jobs[event.job] = None
    release.state = RELEASE.move(release.state, event, _name(event.job, event.node))
    release.abandoned_because = None
    _owe(world, job, event.node)


def on_started(world: World, event: ReleaseStarted, at: Micros) -> None:
    job, release = _find(world, event)
    release.state = RELEASE.move(release.state, event, _name(event.job, event.node))
    release.execution = event.execution
    release.launches += 1
    release.started_at = at
    release.ended_at = release.exit_code = release.result = release.failure = None
    _settle(job, event.node)
    job.releasing += 1


def on_interrupted(world: World, event: ReleaseInterrupted, _at: Micros) -> None:
    job, release = _find(world, event)
    release.state = RELEASE.move(release.state, event, _name(event.job, event.node))
    release.execution = None
    release.internal += event.internal
    job.releasing -= 1
    _owe(world, job, event.node)


def on_completed(world: World, event: ReleaseCompleted, at: Micros) -> None:
    job, release = _find(world, event)
    release.state = RELEASE.move(release.state, event, _name(event.job, event.node))
    release.execution = None
    release.internal = 0
    release.ended_at = at
    release.result, release.exit_code, release.failure = event.result, event.exit_code, event.failure
    job.releasing -= 1
    world.agenda.job(event.job)


def on_abandoned(world: World, event: ReleaseAbandoned, _at: Micros) -> None:
    job, release = _find(world, event)
    release.state = RELEASE.move(release.state, event, _name(event.job, event.node))
    release.abandoned_because = event.cause
    release.internal = 0
    _settle(job, event.node)
    world.agenda.job(event.job)


def _owe(world: World, job: Job, node: NodeId) -> None:
    job.owed[node] = None
    index_debt(job, world.nodes[node])
    world.agenda.job(job.id)
    world.agenda.node(node)


def index_debt(job: Job, node: Node) -> None:
    """Bring the job's list of debts that something can be done about up to date with one node's state."""
    if node.id in job.owed and is_payable(node):
        job.payable[node.id] = None
    else:
        job.payable.pop(node.id, None)


def _settle(job: Job, node: NodeId) -> None:
    del job.owed[node]
    job.payable.pop(node, None)


def _find(world: World, event: ReleaseStarted | ReleaseInterrupted | ReleaseCompleted | ReleaseAbandoned) -> tuple[Job, Release]:
    job = world.jobs[event.job]
    return job, job.releases[event.node]


def _name(job: JobId, node: NodeId) -> str:
    return f"of job {job} on {node}"
