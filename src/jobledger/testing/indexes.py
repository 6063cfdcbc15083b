"""The indexes of a world, rebuilt from the things themselves and compared with those that evolve keeps.

`index_faults(world)` is for walks and tests: its cost grows with the world, which is what the kept indexes avoid.
"""

from collections.abc import Iterator

from jobledger.core import dependencies, files, finalizer, owed
from jobledger.core import execution as executions
from jobledger.core.deadlines import next_deadline
from jobledger.core.ids import Micros, NodeId
from jobledger.core.world import UP, Job, JobRank, Node, Pool, Task, World, node_command_key, takes_tasks

_LIVE_JOB = {"active", "disabling", "disabled", "enabling"}
_COMING_BACK = {"creating", "starting", "waitingforstarttask", "rebooting"}


def index_faults(world: World) -> list[str]:
    """Everything in which an index differs from what it indexes; empty for a sound world that is settled."""
    return [
        *(f"pool {pool.id}: {fault}" for pool in world.pools.values() for fault in _pool(world, pool)),
        *(f"node {node.id}: {fault}" for node in world.nodes.values() for fault in _node(world, node)),
        *(f"job {job.id}: {fault}" for job in world.jobs.values() for fault in _job(world, job)),
        *_world(world),
    ]


def _differs(name: str, kept: object, true: object) -> Iterator[str]:
    if kept != true:
        yield f"{name} is {kept} and should be {true}"


def _world(world: World) -> Iterator[str]:
    of_pool: dict[str, set[str]] = {}
    for job in world.jobs.values():
        if job.ended_at is None:
            of_pool.setdefault(job.spec.pool_info.pool_id, set()).add(job.id)
    yield from _differs("jobs_of_pool", {pool: set(jobs) for pool, jobs in world.jobs_of_pool.items()}, of_pool)
    finalizing: dict[str, set[str]] = {}
    for job in world.jobs.values():
        spec = job.spec.job_finalizer_task
        if job.ending and spec is not None and spec.node_id is not None:
            finalizing.setdefault(spec.node_id, set()).add(job.id)
    yield from _differs("finalizing", {node: set(jobs) for node, jobs in world.finalizing.items()}, finalizing)
    yield from _differs("owed commands", set(world.owed.now), set(owed.commands(world)))
    with_files: dict[str, set[str]] = {}
    wiping: dict[str, set[str]] = {}
    for node in world.nodes.values():
        for job_id in node.folders:
            with_files.setdefault(job_id, set()).add(node.id)
        for job_id, task in node.removals if node.state in UP else ():
            if task is None:
                wiping.setdefault(job_id, set()).add(node.id)
    yield from _differs("nodes_with_files", {job: set(nodes) for job, nodes in world.nodes_with_files.items()}, with_files)
    yield from _differs("wiping", {job: set(nodes) for job, nodes in world.wiping.items()}, wiping)
    yield from _differs("next_execution is above all", all(number < world.next_execution for number in world.executions), True)
    yield from _differs("next deadline", next_deadline(world), min(_limits(world), default=None))


def _limits(world: World) -> Iterator[Micros]:
    for execution in world.executions.values():
        limit = executions.wall_clock_limit(world, execution)
        if execution.started_at is not None and limit is not None and (execution.stop is None or execution.stop.then == "requeue"):
            yield Micros(execution.started_at + limit)
    for job in world.jobs.values():
        limit = job.spec.constraints.max_wall_clock_time
        if limit is not None and job.state in _LIVE_JOB:
            yield Micros(job.created_at + limit)
        yield from (task.retry_at for task in job.tasks.values() if task.retry_at is not None)
    for pool in world.pools.values():
        if pool.resize_due is not None and pool.state == "active":
            yield pool.resize_due
    for node in world.nodes.values():
        yield from (folder.due for of_job in node.folders.values() for folder in of_job.values() if folder.due is not None)


def _pool(world: World, pool: Pool) -> Iterator[str]:
    nodes = [node for node in world.nodes.values() if node.pool == pool.id]
    slots = pool.spec.task_slots_per_node
    free = {node.id: slots - node.slots for node in nodes if takes_tasks(node) and node.slots < slots}
    ready: dict[int, list[JobRank]] = {}
    for job in world.jobs.values():
        if job.spec.pool_info.pool_id == pool.id and job.state == "active" and _may_place(job):
            for required in {task.spec.required_slots for task in job.tasks.values() if _placeable(task)}:
                ready.setdefault(required, []).append((-job.spec.priority, job.number, job.id))
    yield from _differs("nodes", set(pool.nodes), {node.id for node in nodes})
    yield from _differs("free_of", pool.free_of, free)
    yield from _differs(
        "free", [set(bucket) for bucket in pool.free], [{node for node, count in free.items() if count == k and k} for k in range(slots + 1)]
    )
    yield from _differs("ready", pool.ready, {required: sorted(ranks) for required, ranks in ready.items()})
    draining = {node.id for node in nodes if node.draining is not None and node.draining.then == "remove"}
    coming_or_going = {node.id for node in nodes if node.state in {"creating", "leavingpool"}} | draining
    yield from _differs("unsettled", set(pool.unsettled), {node for node in coming_or_going if not world.nodes[node].overdue})
    yield from _differs("leaving", pool.leaving, sum(node.state == "leavingpool" for node in nodes))
    yield from _differs("draining", set(pool.draining), draining)
    yield from _differs("resize_due", pool.resize_due is None, pool.allocation == "steady")


def _node(world: World, node: Node) -> Iterator[str]:
    placed = {
        (job.id, task.spec.id): task.spec.required_slots
        for job in world.jobs.values()
        for task in job.tasks.values()
        if task.state in {"preparing", "running"} and task.node == node.id
    }
    open_jobs = [job for job in world.jobs.values() if job.ended_at is None]
    here = {job.id for job in open_jobs if node.id in job.preparations or node.id in job.releases}
    yield from _differs("tasks", set(node.tasks), set(placed))
    yield from _differs("slots", node.slots, sum(placed.values()))
    yield from _differs("live", set(node.live), {execution.id for execution in world.executions.values() if execution.node == node.id})
    yield from _differs("jobs that were here", set(node.jobs) <= here, True)  # An earlier node of that name may have had more.
    yield from _differs("jobs with something here", {job.id for job in open_jobs if _has_something_on(job, node)} <= set(node.jobs), True)
    yield from _differs("owes", node.owes, node_command_key(node))
    expiring = {(job, task) for job, of_job in node.folders.items() for task, folder in of_job.items() if folder.state in {"expiring", "awaited"}}
    yield from _differs("removals", {place for place in node.removals if place[1] is not None}, expiring)
    yield from _differs("empty folders", [job for job, of_job in node.folders.items() if not of_job and job not in world.jobs], [])
    held = {(job, task) for job, of_job in node.folders.items() for task, folder in of_job.items() if folder.state in {"held", "awaited"}}
    live = {(one.job, one.task) for number in node.live if (one := world.executions.get(number)) is not None and one.job is not None}
    yield from _differs("held folders", held, live)
    kept = [(job, folder) for job, of_job in node.folders.items() for folder in of_job.values() if folder.due is not None]
    yield from _differs("due folders that are not kept", [job for job, folder in kept if folder.state != "kept"], [])


def _has_something_on(job: Job, node: Node) -> bool:
    """Whether anything of the job may still have to be done or undone on the node."""
    preparation, release = job.preparations.get(node.id), job.releases.get(node.id)
    prepared = preparation is not None and (preparation.state == "running" or (preparation.state == "completed" and not job.ending))
    return prepared or (release is not None and release.state in {"owed", "running"})


def _job(world: World, job: Job) -> Iterator[str]:
    states = [task.state for task in job.tasks.values()]
    live = {execution.id: execution for execution in world.executions.values() if execution.job == job.id}
    yield from _differs("counts", job.counts, {state: states.count(state) for state in ("active", "preparing", "running", "completed")})
    yield from _differs("succeeded", job.succeeded, sum(task.result == "success" for task in job.tasks.values() if task.state == "completed"))
    yield from _differs("delayed", set(job.delayed), {task.spec.id for task in job.tasks.values() if task.retry_at is not None})
    yield from _queue(job)
    yield from _dependencies(job)
    yield from _differs("live", set(job.live), set(live))
    unstopped = {
        number for number, one in live.items() if one.kind not in {"release", "finalizer"} and (one.stop is None or one.stop.then == "requeue")
    }
    yield from _differs("unstopped", set(job.unstopped), unstopped)
    yield from _differs("stopping", job.stopping, sum(one.kind == "task" and one.stop is not None for one in live.values()))
    yield from _differs("owed", set(job.owed), {node for node, release in job.releases.items() if release.state == "owed"})
    up_or_gone = {node for node in job.owed if world.nodes[node].state not in _COMING_BACK}
    yield from _differs("payable", set(job.payable), up_or_gone)
    yield from _differs("releasing", job.releasing, sum(release.state == "running" for release in job.releases.values()))
    yield from _differs("releasing executions", job.releasing, sum(one.kind == "release" for one in live.values()))
    yield from _differs("finalizing executions", finalizer.running(job), any(one.kind == "finalizer" for one in live.values()))
    for node, preparation in job.preparations.items():
        waiting = {task.spec.id for task in job.tasks.values() if task.state == "preparing" and task.node == node}
        yield from _differs(f"waiting on {node}", set(preparation.waiting), waiting)
    yield from _ineligible(world, job)
    of_tasks = [(task, node, folder) for node in _with_files(world, job) for task, folder in node.folders[job.id].items() if task in job.tasks]
    unknown = [  # What is expiring already may be of an earlier task of that id, which was deleted.
        (task, node.id) for task, node, folder in of_tasks if folder.state != "expiring" and node.id not in files.nodes_of(job, job.tasks[task])
    ]
    yield from _differs("nodes with files of tasks that are not found again", unknown, [])
    for task in job.tasks.values():
        if task.state == "running":
            execution = world.executions.get(task.execution) if task.execution is not None else None
            yield from _differs(f"execution of {task.spec.id}", execution is not None and execution.task == task.spec.id, True)


def _with_files(world: World, job: Job) -> list[Node]:
    return [node for node in world.nodes.values() if job.id in node.folders]


def _may_place(job: Job) -> bool:
    placed = sum(task.state in {"preparing", "running"} for task in job.tasks.values())
    return job.spec.max_parallel_tasks in {-1, *range(placed + 1, placed + 100)}


def _placeable(task: Task) -> bool:
    return task.state == "active" and not task.unmet and task.retry_at is None


def _dependencies(job: Job) -> Iterator[str]:
    """What tasks wait for, counted anew; what was satisfied by a task that is deleted by now can only be taken from the index itself."""
    used = job.spec.uses_task_dependencies
    succeeded = {task.spec.id for task in job.tasks.values() if used and task.result == "success" and task.spec.exit_conditions is None}
    yield from _differs("satisfied by tasks that are there", succeeded <= job.satisfied, True)
    waiting: dict[object, set[str]] = {}
    for task in job.tasks.values():
        unmet = list(dependencies.unmet(job, task))
        yield from _differs(f"unmet of {task.spec.id}", task.unmet, len(unmet))
        for one in unmet:
            waiting.setdefault(one, set()).add(task.spec.id)
    yield from _differs("dependents", {one: set(tasks) for one, tasks in job.dependents.items()}, waiting)


def _queue(job: Job) -> Iterator[str]:
    """The front of each queue is the first active task of its size that waits for no other, and all others like it are somewhere behind."""
    active: dict[int, list[tuple[int, str]]] = {}
    for task in job.tasks.values():
        if _placeable(task):
            active.setdefault(task.spec.required_slots, []).append((task.number, task.spec.id))
    yield from _differs("queue's fronts", {slots: queue[0] for slots, queue in job.queue.items()}, {slots: min(ids) for slots, ids in active.items()})
    yield from _differs("queued", all(set(ids) <= set(job.queue.get(slots, ())) for slots, ids in active.items()), True)


def _ineligible(world: World, job: Job) -> Iterator[str]:
    spec = job.spec.job_preparation_task
    if spec is None or job.ending or job.ended_at is not None:
        return
    failed = {
        node
        for node, preparation in job.preparations.items()
        if spec.wait_for_success and preparation.state == "completed" and preparation.result == "failure" and _of_its_pool(world, job, node)
    }
    yield from _differs("ineligible", set(job.ineligible), failed)
    gone = [node for node in failed if node not in world.nodes]
    yield from _differs("ineligible nodes that are gone", gone, [])


def _of_its_pool(world: World, job: Job, node: NodeId) -> bool:
    """Whether the job's tasks may be placed there at all; a node that is gone counts, so that it is missed."""
    return node not in world.nodes or world.nodes[node].pool == job.spec.pool_info.pool_id
