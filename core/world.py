"""The world: every pool, node, job, task and live execution, as the events so far have made them.

1. The world is changed by `evolve` alone, one event at a time, in place.
2. Beside the things themselves it keeps indexes (queues, free slots, who is on which node), so that the cost of an event
   does not grow with the world.  An index is never a second truth: `tests/core/test_indexes.py` rebuilds each from the things.
3. The agenda, the list of fresh commands and the deadlines are working notes, no part of the state: two worlds that saw the
   same events are equal whatever their notes say.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from itertools import groupby
from typing import Final, Literal, TypeVar

from attrs import Factory, define, field, frozen

from .errors import ImpossibleEvent
from .events import NodeOperation, StopThen
from .failure import FailureInfo, Result
from .ids import ExecutionId, ExecutionKind, JobId, Micros, NodeId, PoolId, TaskId
from .specs import DisableTasks, JobAction, JobConstraints, JobSpec, NodeOption, PoolSpec, TaskSpec

T = TypeVar("T")

Place = tuple[NodeId, JobId, TaskId | None]
"""A folder: of a task, preparation or release of a job on a node, or of the whole job there."""

CommandKey = tuple[Literal["run", "stop", "boot", "retire", "remove"], int | NodeId | Place, int]
"""What a command is identified by: its verb, its execution, node or folder, and for a node its incarnation, for a stop whether outputs are
uploaded, for a folder the first execution that is not meant.
"""

UP: Final = frozenset({"waitingforstarttask", "idle", "running", "offline", "starttaskfailed"})
"""States of a node that has booted and can be asked to do something."""

DeadlineKind = Literal["execution", "job", "retry", "resize", "files"]
"""Which limit in time: see `deadlines` for what each is about."""

JobRank = tuple[int, int, JobId]
"""A job as (-priority, number, id): the lesser one comes first."""

Deadline = tuple[Micros, DeadlineKind, tuple[int | str, ...]]
"""When, which limit, and of what: ids, as many as the limit needs."""


@frozen(kw_only=True)
class Stop:
    """The wish that an execution end, which is not yet the fact."""

    then: StopThen
    cause: str
    failure: FailureInfo | None


@frozen(kw_only=True)
class Drain:
    """What is to happen to a node when nothing of a job is left there: a wish, which is not yet the fact."""

    then: NodeOperation
    cause: str
    since: Micros


@define(kw_only=True)
class Execution:
    """A launch whose outcome is not known yet."""

    id: ExecutionId
    kind: ExecutionKind
    job: JobId | None
    task: TaskId
    node: NodeId
    attempt: int
    state: str
    started_at: Micros | None = None
    pid: int | None = None
    stop: Stop | None = None


@define(kw_only=True)
class Run:
    """What is known of the latest run of a preparation, release or start task."""

    state: str
    execution: ExecutionId | None = None
    launches: int = 0
    retries: int = 0
    started_at: Micros | None = None
    ended_at: Micros | None = None
    last_retry_at: Micros | None = None
    internal: int = 0
    """How often in a row its executor lost it or stopped it unasked."""
    result: Result | None = None
    exit_code: int | None = None
    failure: FailureInfo | None = None


@define(kw_only=True)
class Preparation(Run):
    """A job's preparation on one node.  `waiting` are the tasks that are `preparing` there."""

    waiting: dict[TaskId, None] = Factory(dict)

    @property
    def succeeded(self) -> bool:
        """Whether the node is prepared now."""
        return self.state == "completed" and self.result == "success"


@define(kw_only=True)
class Release(Run):
    """A job's release on one node; `abandoned_because` says why a debt was settled without a run."""

    abandoned_because: str | None = None


@define(kw_only=True)
class Finalizer(Run):
    """A job's finalizer, from when it was first started or abandoned."""

    node: NodeId
    boot: str = ""
    """Of the engine's host when it was started: in another one it runs no more."""
    abandoned_because: str | None = None


@define
class Folder:
    """The folder of a task, preparation or release on a node."""

    state: str
    due: Micros | None = None
    """When it is to go; None while it is held, while its clock does not run, and where it is kept without limit."""
    alarm: Micros | None = field(default=None, eq=False)
    """When its one entry among the deadlines comes up, which may be earlier than need be."""


@define(kw_only=True)
class Task:
    spec: TaskSpec
    number: int
    """Order of submission within the job."""
    job_constraints: JobConstraints
    """The job's when the task was added, for a task that states none of its own: a patch of the job does not reach it (semantics 3.1)."""
    state: str
    changed_at: Micros
    added_at: Micros
    unmet: int = 0
    """How much of what the task depends on is not satisfied yet; an active task is queued only at 0."""
    node: NodeId | None = None
    execution: ExecutionId | None = None
    launches: int = 0
    retries: int = 0
    requeues: int = 0
    started_at: Micros | None = None
    ended_at: Micros | None = None
    last_retry_at: Micros | None = None
    last_requeue_at: Micros | None = None
    retry_at: Micros | None = None
    """When its next try is due, while it waits for that; until then it is active and not queued."""
    internal: int = 0
    """How often in a row its executor lost it or stopped it unasked."""
    result: Result | None = None
    exit_code: int | None = None
    failure: FailureInfo | None = None
    wrote_on: NodeId | None = None
    """The node of its latest launch, where it may have left files."""


@define(kw_only=True)
class Job:
    id: JobId
    spec: JobSpec
    submitted: JobSpec
    """The specification before it was patched: what a repeated submission is compared with."""
    number: int
    """Order of submission within the ledger."""
    state: str
    changed_at: Micros
    created_at: Micros
    previous_state: str | None = None
    tasks: dict[TaskId, Task] = Factory(dict)
    queue: dict[int, list[tuple[int, TaskId]]] = Factory(dict)
    """Active tasks that depend on nothing any more: for each number of slots that some require, a heap of them by their own numbers, whose
    first one is always active, while others may have left.  What requires much so holds up nothing that requires less."""
    delayed: dict[TaskId, None] = Factory(dict)
    """Active tasks that wait for the time of their next try."""
    dependents: dict[TaskId | int, dict[TaskId, None]] = Factory(dict)
    """Tasks that wait, by what they wait for: a task's id, or a number of a range."""
    wrote_elsewhere: dict[TaskId, dict[NodeId, None]] = Factory(dict)
    """For tasks that were launched on more than one node: where, their latest launch apart."""
    satisfied: set[TaskId | int] = Factory(set)
    """What tasks have satisfied by their end, where the job uses dependencies: their ids, and the numbers these read as."""
    counts: dict[str, int] = Factory(lambda: {"active": 0, "preparing": 0, "running": 0, "completed": 0})
    succeeded: int = 0
    added: int = 0
    preparations: dict[NodeId, Preparation] = Factory(dict)
    releases: dict[NodeId, Release] = Factory(dict)
    owed: dict[NodeId, None] = Factory(dict)
    """Nodes whose release is owed and not running."""
    payable: OrderedDict[NodeId, None] = Factory(OrderedDict)
    """Those of them that are up, or down for longer than a boot: where a release can be started or given up.

    A plain dict that was large once is gone through at the cost of all that were ever there, which is why it is none."""
    releasing: int = 0
    finalizer: Finalizer | None = None
    ineligible: dict[NodeId, None] = Factory(dict)
    """Nodes of the pool that may take none of this job's tasks, because preparation failed there."""
    live: dict[ExecutionId, None] = Factory(dict)
    unstopped: dict[ExecutionId, None] = Factory(dict)
    """Live executions, releases and finalizers apart, that nobody has asked to end for good."""
    stopping: int = 0
    """Live task executions that were asked to end, for good or to be requeued."""
    blocked: bool = False
    job_action: JobAction = "none"
    """What the end of a task asks the job to do, until it is done."""
    disable_tasks: DisableTasks | None = None
    disable_reason: str = ""
    terminate_reason: str | None = None
    delete_reason: str = ""
    ended_at: Micros | None = None

    @property
    def ending(self) -> bool:
        """Whether the job is on its way out: nothing of it starts any more but its release and its finalizer."""
        return self.state in {"terminating", "deleting"}


@define(kw_only=True)
class Node:
    id: NodeId
    pool: PoolId
    number: int
    state: str
    changed_at: Micros
    added_at: Micros
    scheduling: str = "enabled"
    incarnation: int = 1
    """Counts the boots that were asked for or noticed; the fencing number of `BootNode` and `RetireNode`."""
    answered: bool = False
    """Whether the node has answered from its present incarnation."""
    wipe: bool = True
    """Whether the next boot begins with an empty node."""
    boot_id: str | None = None
    booted_at: Micros | None = None
    tasks: dict[tuple[JobId, TaskId], None] = Factory(dict)
    """Tasks that hold slots here: `preparing` and `running`."""
    slots: int = 0
    """How many slots they hold."""
    live: dict[ExecutionId, None] = Factory(dict)
    jobs: dict[JobId, None] = Factory(dict)
    """Jobs with a preparation or release entry here."""
    start_task: Run | None = None
    reason: str | None = None
    tasks_run: int = 0
    tasks_succeeded: int = 0
    folders: dict[JobId, dict[TaskId, Folder]] = Factory(dict)
    """What executions left here or write to, start tasks apart.  A job that was here has an entry as long as it is there, and maybe no folder."""
    removals: dict[tuple[JobId, TaskId | None], ExecutionId] = Factory(dict)
    """Folders that are to be removed here, None for all of a job, each with its fencing number."""
    owes: CommandKey | None = None
    """The boot or retire command that the node is waiting for."""
    draining: Drain | None = None
    ends_tasks: bool = False
    """Whether the tasks that were here when the node went down are ended, and not requeued."""
    overdue: bool = False
    """Whether a resize of the pool was over before the node had come or gone: none waits for it any more."""
    disabled_because: str | None = None
    """The reason that a user gave for disabling scheduling."""

    @property
    def leaves(self) -> bool:
        """Whether the node is on its way out of its pool, at once or when it has drained."""
        return self.state == "leavingpool" or (self.draining is not None and self.draining.then == "remove")


@define(kw_only=True)
class Pool:
    id: PoolId
    spec: PoolSpec
    state: str
    allocation: str
    changed_at: Micros
    created_at: Micros
    target: int = 0
    added: int = 0
    nodes: dict[NodeId, None] = Factory(dict)
    unsettled: dict[NodeId, None] = Factory(dict)
    """Nodes being created or leaving that a resize waits for: it is over when there are none."""
    leaving: int = 0
    draining: dict[NodeId, None] = Factory(dict)
    """Nodes that leave when they have drained."""
    option: NodeOption = "requeue"
    """What becomes of the tasks of nodes that the latest resize removes."""
    resize_due: Micros | None = None
    """When the resize is over at the latest, while there is one."""
    errors: tuple[str, ...] = ()
    free: list[OrderedDict[NodeId, None]] = Factory(list)
    """`free[k]`: nodes that may take tasks and have exactly k free slots, the longest so first.

    Nodes are taken from the front, which a plain dict finds only by stepping over all that were there before."""
    free_of: dict[NodeId, int] = Factory(dict)
    ready: dict[int, list[JobRank]] = Factory(dict)
    """Active jobs with queued tasks, best first, for each number of slots that some of these require."""


@define
class Agenda:
    """What the joint rules have to look at, each with the index of the event that gave cause; taken from the front."""

    nodes: OrderedDict[NodeId, int] = Factory(OrderedDict)
    jobs: OrderedDict[JobId, int] = Factory(OrderedDict)
    pools: OrderedDict[PoolId, int] = Factory(OrderedDict)
    load: OrderedDict[NodeId, int] = Factory(OrderedDict)
    """Nodes that may have become idle or busy: looked at last, so that a node that gets its next task at once stays `running`."""
    cause: int = -1

    def node(self, node: NodeId) -> None:
        self.nodes.setdefault(node, self.cause)

    def job(self, job: JobId | None) -> None:
        if job is not None:
            self.jobs.setdefault(job, self.cause)

    def pool(self, pool: PoolId) -> None:
        self.pools.setdefault(pool, self.cause)

    def node_load(self, node: NodeId) -> None:
        self.load.setdefault(node, self.cause)


@define
class Owed:
    """The commands that are owed now, by key, and those that became owed since they were last taken."""

    now: dict[CommandKey, None] = Factory(dict)
    fresh: list[CommandKey] = field(factory=list, eq=False)

    def add(self, key: CommandKey) -> None:
        if key not in self.now:
            self.now[key] = None
            self.fresh.append(key)

    def drop(self, key: CommandKey) -> None:
        self.now.pop(key, None)


@define
class World:
    pools: dict[PoolId, Pool] = Factory(dict)
    nodes: dict[NodeId, Node] = Factory(dict)
    jobs: dict[JobId, Job] = Factory(dict)
    executions: dict[ExecutionId, Execution] = Factory(dict)
    jobs_of_pool: dict[PoolId, dict[JobId, None]] = Factory(dict)
    """Jobs that are not over, by the pool they name, whether or not it exists."""
    finalizing: dict[NodeId, dict[JobId, None]] = Factory(dict)
    """Ending jobs by the node that was chosen for their finalizer, whether or not it exists."""
    nodes_with_files: dict[JobId, dict[NodeId, None]] = Factory(dict)
    """Nodes that have folders of a job, by its id: of the job that is there, and on nodes that were down of one that is gone."""
    wiping: dict[JobId, dict[NodeId, None]] = Factory(dict)
    """Nodes that are up and have still to remove all folders of a job, by its id."""
    past_incarnations: dict[NodeId, int] = Factory(dict)
    """The last incarnation of each node that has left, for the next one of its name: a late answer of the old one must not fit."""
    next_execution: int = 1
    jobs_created: int = 0
    engine_epoch: int = 0
    engine_running: bool = False
    engine_root: str = ""
    """Where the latest engine kept the nodes' files; empty where its ledger does not tell."""
    engine_boot: str = ""
    """The boot that the host of the latest engine is in; empty where its ledger does not tell."""
    dry_run: str = ""
    """What a dry run was made from; empty for real work."""
    owed: Owed = Factory(Owed)
    deadlines: list[Deadline] = field(factory=list, eq=False)
    """Heap; entries whose cause is gone are dropped when they come up."""
    agenda: Agenda = field(factory=Agenda, eq=False)

    def add_deadline(self, at: int, limit: DeadlineKind, *subject: int | str) -> None:
        """Note that what is named by `subject` comes to a limit at `at`."""
        heapq.heappush(self.deadlines, (Micros(at), limit, subject))

    def task(self, job: JobId, task: TaskId) -> Task:
        return self.jobs[job].tasks[task]

    def pool_of(self, node: NodeId) -> Pool:
        return self.pools[self.nodes[node].pool]


# --- indexes, kept by evolve ----------------------------------------------------------------------------------


def index_node(world: World, node: Node) -> None:
    """Bring the free-slot index up to date with a node's state, scheduling and load."""
    pool = world.pools[node.pool]
    free = pool.spec.task_slots_per_node - node.slots if takes_tasks(node) else 0
    if (known := pool.free_of.get(node.id, 0)) == free:
        return
    if known:
        del pool.free[known][node.id]
        del pool.free_of[node.id]
    if free:
        pool.free[free][node.id] = None
        pool.free_of[node.id] = free
        world.agenda.pool(pool.id)


def drop_node_index(pool: Pool, node: NodeId) -> None:
    """Forget a node that leaves its pool."""
    if known := pool.free_of.pop(node, 0):
        del pool.free[known][node]


def takes_tasks(node: Node) -> bool:
    """Whether the scheduler may place tasks on the node at all."""
    return node.state in {"idle", "running"} and node.scheduling == "enabled" and node.draining is None


def settle_node(world: World, node: Node) -> None:
    """Bring what the pool knows of nodes that come and go up to date with one of them."""
    pool = world.pools[node.pool]
    if node.leaves and node.state != "leavingpool":
        pool.draining[node.id] = None
    else:
        pool.draining.pop(node.id, None)
    if (node.state == "creating" or node.leaves) and not node.overdue:
        pool.unsettled[node.id] = None
    else:
        pool.unsettled.pop(node.id, None)


def owe_node(world: World, node: Node) -> None:
    """Bring the command that a node waits for up to date: boot or retire it, once nothing lives there any more."""
    key = node_command_key(node)
    if key != node.owes:
        if node.owes is not None:
            world.owed.drop(node.owes)
        if key is not None:
            world.owed.add(key)
        node.owes = key


def node_command_key(node: Node) -> CommandKey | None:
    """Which command a node owes its executor."""
    if node.live:
        return None
    if node.state in {"leavingpool", "deallocating"}:
        return ("retire", node.id, node.incarnation)
    if node.state in {"creating", "starting", "rebooting", "reimaging"} and not node.answered:
        return ("boot", node.id, node.incarnation)
    return None


def enqueue(world: World, job: Job, task: Task) -> None:
    """Put an active task into its job's queue, unless it waits for other tasks or for the time of its next try."""
    if not task.unmet and task.retry_at is None:
        heapq.heappush(job.queue.setdefault(task.spec.required_slots, []), (task.number, task.spec.id))
    index_job(world, job)  # In any case: what made it active may have made room for another task of the job.


def trim_queue(world: World, job: Job, slots: int) -> None:
    """Drop tasks from the front of those that require so many slots that are active no more, so that the front is always placeable."""
    if (queue := job.queue.get(slots)) is not None:
        while queue and not _is_queued(job, *queue[0]):
            heapq.heappop(queue)
        if not queue:
            del job.queue[slots]
            _unlist(world, job, slots)
    index_job(world, job)


def _is_queued(job: Job, number: int, task: TaskId) -> bool:
    """Whether the entry still stands: one left by a deleted task is not that of a later task of the same id."""
    entry = job.tasks.get(task)
    return entry is not None and entry.state == "active" and entry.number == number


def may_place(job: Job) -> bool:
    """Whether the job may have one more task on the nodes."""
    most = job.spec.max_parallel_tasks
    return most == -1 or job.counts["preparing"] + job.counts["running"] < most


def rank(job: Job) -> JobRank:
    """Where the job stands among others that have something to place."""
    return (-job.spec.priority, job.number, job.id)


def index_job(world: World, job: Job) -> None:
    """Bring the pool's lists of jobs with something to place up to date with one job."""
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None:
        return
    wanted, key = job.state == "active" and may_place(job), rank(job)
    for slots in job.queue:
        ready = pool.ready.get(slots, ())
        place = bisect_left(ready, key)
        listed = place < len(ready) and ready[place] == key
        if wanted and not listed:
            pool.ready.setdefault(slots, []).insert(place, key)
            world.agenda.pool(pool.id)
        elif listed and not wanted:
            _unlist(world, job, slots)


def unindex_job(world: World, job: Job) -> None:
    """Take a job whose rank or pool changes from the lists of its pool; `index_job` puts it where it then belongs."""
    for slots in job.queue:
        _unlist(world, job, slots)


def ready_jobs(pool: Pool) -> Iterator[JobRank]:
    """The jobs that have something to place on the pool, best first and each once."""
    return (key for key, _ in groupby(heapq.merge(*pool.ready.values())))


def _unlist(world: World, job: Job, slots: int) -> None:
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None or (ready := pool.ready.get(slots)) is None:
        return
    key = rank(job)
    place = bisect_left(ready, key)
    if place < len(ready) and ready[place] == key:
        del ready[place]
        if not ready:
            del pool.ready[slots]


def present(value: T | None) -> T:
    """`value`, which the rules promise to be there.  Raises `ImpossibleEvent` where they broke the promise."""
    if value is None:
        raise ImpossibleEvent("something the rules rely on is missing")
    return value


def live_execution(world: World, execution: ExecutionId) -> Execution:
    """A live execution by id.  Raises `ImpossibleEvent` for one that has an outcome or never was."""
    try:
        return world.executions[execution]
    except KeyError:
        raise ImpossibleEvent(f"execution {execution} is not live", f"execution {execution}") from None
