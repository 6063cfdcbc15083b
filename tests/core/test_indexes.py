"""Every index of the world is rebuilt from the things it indexes and compared, over lives that touch them all."""

import pytest

from jobledger.core.reports import ExecutionStarted
from jobledger.core.requests import (
    AddTasks,
    DeleteTask,
    DisableJob,
    DisableScheduling,
    EnableJob,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import JobConstraints, TaskConstraints, TaskSpec
from jobledger.core.world import World
from jobledger.testing.indexes import index_faults
from jobledger.testing.scenario import Exits, Hangs

LIVES = {
    "terminated while it prepares": [TerminateJob(job="j")],
    "disabled and enabled": [DisableJob(job="j", disable_tasks="requeue"), EnableJob(job="j"), TerminateJob(job="j")],
    "deleted and added tasks": [DeleteTask(job="j", task="t1"), AddTasks(job="j", tasks=(TaskSpec(id="t1", command_line="again"),))],
    "ended tasks": [TerminateTask(job="j", task="t1"), DeleteTask(job="j", task="t2")],
    "reboots": [RebootNode(node="p-1"), RebootNode(node="p-2")],
    "reimaging and removal": [ReimageNode(node="p-1"), RemoveNode(node="p-2")],
    "a pool that shrinks and grows": [ResizePool(pool="p", target=0), ResizePool(pool="p", target=3)],
    "scheduling that is disabled": [DisableScheduling(node="p-1")],
}
SCRIPTS = {
    "all goes well": {},
    "preparation fails": {"jobpreparation": Exits(1)},
    "tasks fail": {"t1": Exits(1), "t2": [Exits(2), Exits(0)]},
    "preparation hangs": {"jobpreparation": Hangs()},
    "tasks hang": {"t1": Hangs(), "t2": Hangs()},
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("life", LIVES)
def test_indexes_are_what_the_things_say(given, life, script):
    limited = TaskConstraints(max_wall_clock_time=1_000_000, max_task_retry_count=1)
    s = given(nodes=2, slots=2, tasks=("t1", TaskSpec(id="t2", command_line="work", constraints=limited), "t3", "t4", "t5"), script=SCRIPTS[script])
    assert index_faults(s.world) == []
    for request in LIVES[life]:
        s.when(request)
        assert index_faults(s.world) == []
        s.run()
        assert index_faults(s.world) == []


DAMAGE = {
    "free_of": lambda world: world.pools["p"].free_of.pop("p-1"),
    "free": lambda world: world.pools["p"].free[1].clear(),
    "ready": lambda world: world.pools["p"].ready.clear(),
    "unsettled": lambda world: world.pools["p"].unsettled.update({"p-1": None}),
    "leaving": lambda world: setattr(world.pools["p"], "leaving", 1),
    "tasks": lambda world: world.nodes["p-1"].tasks.clear(),
    "slots": lambda world: setattr(world.nodes["p-1"], "slots", 9),
    "live": lambda world: world.nodes["p-1"].live.clear(),
    "jobs with something here": lambda world: world.nodes["p-1"].jobs.clear(),
    "owes": lambda world: setattr(world.nodes["p-1"], "owes", ("boot", "p-1", 1)),
    "counts": lambda world: world.jobs["j"].counts.update(active=9),
    "succeeded": lambda world: setattr(world.jobs["j"], "succeeded", 9),
    "queue's fronts": lambda world: world.jobs["j"].queue.clear(),
    "unstopped": lambda world: world.jobs["j"].unstopped.clear(),
    "stopping": lambda world: setattr(world.jobs["j"], "stopping", 1),
    "owed": lambda world: world.jobs["j"].owed.update({"p-1": None}),
    "releasing": lambda world: setattr(world.jobs["j"], "releasing", 1),
    "waiting": lambda world: world.jobs["j"].preparations["p-1"].waiting.clear(),
    "ineligible": lambda world: world.jobs["j"].ineligible.update({"p-1": None}),
    "jobs_of_pool": lambda world: world.jobs_of_pool.clear(),
    "owed commands": lambda world: world.owed.now.update({("run", 99, 0): None}),
    "next deadline": lambda world: world.deadlines.clear(),
}


@pytest.mark.parametrize("index", DAMAGE)
def test_a_damaged_index_is_found(given, index):
    s = given(slots=2, tasks=("t1", "t2", "t3"), constraints=JobConstraints(max_wall_clock_time=1_000_000))
    s.when(ExecutionStarted(execution=1))
    if index in {"free_of", "free"}:
        s.when(TerminateTask(job="j", task="t2"))
        s.when(TerminateTask(job="j", task="t3"))
    assert index_faults(s.world) == []
    DAMAGE[index](s.world)
    assert any(index in fault for fault in index_faults(s.world))


def test_an_empty_world_has_sound_indexes():
    assert index_faults(World()) == []
