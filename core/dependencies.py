"""Dependencies: tasks that wait for other tasks of their job.

1. A task is placed only when every id and every number it depends on is satisfied; until then it is active and not queued.
2. An id is satisfied by the task of that id, a number of a range by the first task whose id reads as that number (`4`, `04` and `004`
   all do); ids that are no numbers never count for a range (semantics 3.3).
3. Success satisfies and failure does not, unless the task's exit conditions say otherwise (`exits`); what is satisfied stays so, even if
   the task is deleted later.
4. To depend on a task that the job has not yet is legal: it is waited for.
5. The end of a task costs as much as it has dependents, and nothing for those that do not depend on it.
"""

from collections.abc import Iterator

from .ids import ID_CHARACTERS_MAX, TaskId
from .specs import TaskSpec
from .world import Job, Task, World, enqueue

Awaited = TaskId | int
"""What is depended on: a task by id, or a number of a range."""


def awaited(spec: TaskSpec) -> Iterator[Awaited]:
    """Everything a task depends on, each once."""
    if spec.depends_on is None:
        return
    yield from dict.fromkeys(spec.depends_on.task_ids)
    numbers = {number for part in spec.depends_on.task_id_ranges for number in range(part.start, part.end + 1)}
    yield from sorted(numbers)


def number_of(task: TaskId) -> int | None:
    """The number that a task's id reads as; None for an id that is none."""
    return int(task) if task.isascii() and task.isdigit() else None


def reading_as(job: Job, number: int) -> Iterator[TaskId]:
    """The job's tasks whose ids read as a number, that with the fewest zeros before it first; looked up, since a job may have a million."""
    padded = (TaskId(str(number).zfill(width)) for width in range(len(str(number)), ID_CHARACTERS_MAX + 1))
    return (task for task in padded if task in job.tasks)


def is_satisfied(job: Job, one: Awaited) -> bool:
    """Whether something that is depended on has been fulfilled."""
    return one in job.satisfied


def unmet(job: Job, task: Task) -> Iterator[Awaited]:
    """What a task still waits for."""
    return (one for one in awaited(task.spec) if not is_satisfied(job, one))


# --- evolve ---------------------------------------------------------------------------------------------------


def register(job: Job, task: Task) -> None:
    """A task was added: note what it waits for."""
    for one in awaited(task.spec):
        if not is_satisfied(job, one):
            job.dependents.setdefault(one, {})[task.spec.id] = None
            task.unmet += 1


def forget(job: Job, task: Task) -> None:
    """A task was deleted: it waits for nothing any more."""
    for one in awaited(task.spec):
        if (waiting := job.dependents.get(one)) is not None:
            waiting.pop(task.spec.id, None)
            if not waiting:
                del job.dependents[one]


def satisfy(world: World, job: Job, task: TaskId) -> None:
    """A task ended so that it satisfies: those that waited for it, and for nothing else, are queued."""
    number = number_of(task)
    for one in (task,) if number is None else (task, number):
        if not job.spec.uses_task_dependencies or one in job.satisfied:
            continue
        job.satisfied.add(one)
        for waiting_id in job.dependents.pop(one, {}):
            waiting = job.tasks[waiting_id]
            waiting.unmet -= 1
            if not waiting.unmet and waiting.state == "active":
                enqueue(world, job, waiting)
