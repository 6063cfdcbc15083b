"""Write the golden ledger of the present version: `python tests/golden/write_golden.py`, once for a release and never again.

A scripted story in which every type of event happens, recorded as an engine records it, and beside it what the world has to be
after it.  `tests/test_golden.py` replays the ledgers of all versions for ever.
"""

import json
import sys
from pathlib import Path
from typing import Any

from jobledger import __version__
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core.commands import StopExecution
from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import ClockAdvanced, Stimulus
from jobledger.core.events import STORED, EngineStarted, EngineStopped
from jobledger.core.ids import SECOND, Duration, ExecutionId, JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.owed import take_fresh
from jobledger.core.specs import (
    EnvironmentSetting,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    MetadataItem,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskDependencies,
    TaskSpec,
)
from jobledger.core.world import World
from jobledger.eventstore import SqliteStore
from jobledger.keeper import SecretKeeper
from jobledger.recorder import Arrival, Recorder, of_report, subject_of
from jobledger.testing.scenario import Exits, Hangs, ScriptedExecutor, Silent, Vanishes
from jobledger.views import node_view, pool_view, status_document

HERE = Path(__file__).parent
AFTER_FLAKY = TaskDependencies(task_ids=(TaskId("flaky"),), task_id_ranges=())
BEGIN = 1_790_000_000 * SECOND


class Story:
    """A ledger in the making: stimuli go in, and a scripted executor answers what they lead to."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore.open(path)
        self.now = Micros(BEGIN)
        lease = self.store.acquire_lease("golden/1/1", now=self.now, ttl=Duration(3600 * SECOND))
        self.world = World()
        self.recorder = Recorder(self.store, self.world, lease, self.store.head(), SecretKeeper.of(self.store, self.world))
        self.executor = ScriptedExecutor()
        self.recorder.note(EngineStarted(version=__version__, host="golden", pid=1, epoch=lease.epoch), self.now)
        self.recorder.commit()

    def tell(self, *stimuli: Stimulus, run: bool = True) -> None:
        """Let each happen, and then everything that follows."""
        for stimulus in stimuli:
            self.now = Micros(self.now + SECOND // 100)
            self.recorder.take(self.arrival(stimulus), self.now)
            self.recorder.commit()
            while run and (commands := take_fresh(self.world)):
                for command in commands:
                    for report in self.executor.answer(command):
                        self.tell(report, run=False)

    def arrival(self, stimulus: Stimulus) -> Arrival:
        if isinstance(stimulus, ClockAdvanced):
            return Arrival(stimulus=stimulus, causation="clock", correlation="engine")
        if type(stimulus).__module__.endswith("reports"):
            return of_report(stimulus, self.world)  # type: ignore[arg-type]  # told by its module
        return Arrival(stimulus=stimulus, causation="request:golden", correlation=subject_of(stimulus), actor="user:golden")  # type: ignore[arg-type]

    def live(self, task: str) -> ExecutionId:
        return next(execution.id for execution in self.world.executions.values() if execution.task == task)

    def node_of(self, job: str) -> NodeId:
        return next(iter(self.world.jobs[JobId(job)].preparations))


def job(name: str, pool: str = "main", *, limit: Duration | None = None, **more: Any) -> JobSpec:
    return JobSpec(
        id=JobId(name),
        pool_info=PoolInfo(pool_id=PoolId(pool)),
        display_name=f"the job {name}, «golden»",
        constraints=JobConstraints(max_wall_clock_time=limit, max_task_retry_count=1),
        common_environment_settings=(EnvironmentSetting(name="GREETING", value='a "quoted" $value\n'),),
        metadata=(MetadataItem(name="team", value="golden"),),
        job_preparation_task=PreparationSpec(command_line="prepare it", constraints=TaskConstraints(max_task_retry_count=1)),
        job_release_task=ReleaseSpec(command_line="release it"),
        uses_task_dependencies=True,
        **more,
    )


def tasks(*names: str, **fields: Any) -> tuple[TaskSpec, ...]:
    return tuple(TaskSpec(id=TaskId(name), command_line=f"run {name}", **fields) for name in names)


def tell_all(story: Story) -> None:
    """Chapters, each of which ends with nothing left running."""
    script, tell = story.executor.script, story.tell
    start = StartTaskSpec(command_line="start", max_task_retry_count=1)
    tell(q.CreatePool(spec=PoolSpec(id=PoolId("main"), nodes=2, task_slots_per_node=2)))

    # A job with a retried preparation, retried, failed, deleted and reactivated tasks, disabled and enabled on the way.
    script |= {"jobpreparation": [Exits(1), Exits(0)], "flaky": [Exits(3), Exits(0)], "bad": Exits(7), "long": Hangs()}
    tell(q.SubmitJob(spec=job("first"), tasks=(*tasks("flaky", "bad", "long", "gone"), *tasks("after", depends_on=AFTER_FLAKY))))
    tell(q.DeleteTask(job=JobId("first"), task=TaskId("gone")))
    tell(q.DisableJob(job=JobId("first"), disable_tasks="requeue"), q.EnableJob(job=JobId("first")))
    tell(q.ReactivateTask(job=JobId("first"), task=TaskId("bad")))
    tell(q.TerminateJob(job=JobId("first"), reason="the chapter ends"), q.DeleteJob(job=JobId("first")))

    # Every node fails its preparation; one is reimaged; a wall-clock limit ends the job.
    script |= {"jobpreparation": Exits(1)}
    tell(q.SubmitJob(spec=job("blocked", limit=Duration(60 * SECOND)), tasks=tasks("waits")))
    script |= {"jobpreparation": Exits(0), "waits": Hangs()}
    tell(q.ReimageNode(node=NodeId("main-1")))
    story.now = Micros(next_deadline(story.world) or 0)
    tell(ClockAdvanced())

    # A node reboots under a task, is lost under another, comes back, is preempted, and what it owed is settled.
    tell(q.SubmitJob(spec=job("rough"), tasks=tasks("one", "two", constraints=TaskConstraints(max_wall_clock_time=Duration(SECOND)))), run=False)
    script |= {"one": Hangs(), "two": [Vanishes(), Hangs()]}
    tell(ClockAdvanced())
    node = story.node_of("rough")
    tell(q.RebootNode(node=node))
    script |= {"one": Exits(0), "two": Exits(0), "jobrelease": Hangs()}
    tell(r.NodeFaulted(node=node, fault="lost", reason="no answer for a minute"))
    tell(r.NodeReady(node=node, boot_id="another boot"))
    tell(q.TerminateJob(job=JobId("rough")))
    for node in list(story.world.jobs[JobId("rough")].releases):
        tell(q.RebootNode(node=node))
        tell(r.NodeFaulted(node=node, fault="preempted", reason="capacity was taken back"), r.NodeReallocated(node=node))
    script |= {"jobrelease": Exits(0)}

    # A job is changed while a task of it waits for the time of its next try.
    script |= {"patient": [Exits(1), Exits(0)]}
    delayed = TaskConstraints(max_task_retry_count=1, retry_delay=Duration(30 * SECOND))
    tell(q.SubmitJob(spec=job("patched"), tasks=tasks("patient", constraints=delayed)))
    tell(q.PatchJob(job=JobId("patched"), priority=7, metadata=(MetadataItem(name="team", value="silver"),)))
    story.now = Micros(story.now + 31 * SECOND)
    tell(ClockAdvanced(), q.TerminateJob(job=JobId("patched")))

    # A node drains under a task, the drain is undone, and another one is ended by something firmer.
    script |= {"stays": Hangs()}
    tell(q.SubmitJob(spec=job("drained"), tasks=tasks("stays")))
    node = story.node_of("drained")
    tell(q.ReimageNode(node=node, option="taskcompletion", reason="the disk fills up"), q.EnableScheduling(node=node))
    tell(q.RebootNode(node=node, option="taskcompletion"), q.RebootNode(node=node, option="terminate", reason="in a hurry"))
    tell(q.TerminateJob(job=JobId("drained")))

    # One finalizer is cut short and then fails; another one's node is gone.
    script |= {"jobfinalizer": [Hangs(), Exits(1)]}
    on_a_node, nowhere = (FinalizerSpec(command_line="finalize it", node_id=NodeId(node)) for node in ("main-1", "main-99"))
    tell(q.SubmitJob(spec=job("finished", job_finalizer_task=on_a_node), tasks=tasks("only")), q.TerminateJob(job=JobId("finished")))
    tell(q.RebootNode(node=NodeId("main-1")))
    tell(q.SubmitJob(spec=job("unfinished", job_finalizer_task=nowhere), tasks=tasks("only")), q.TerminateJob(job=JobId("unfinished")))

    # The life of nodes and pools.
    tell(q.DisableScheduling(node=NodeId("main-1")), q.EnableScheduling(node=NodeId("main-1")))
    tell(q.DeallocateNode(node=NodeId("main-1")), q.StartNode(node=NodeId("main-1")))
    tell(r.NodeFaulted(node=NodeId("main-1"), fault="unusable", reason="its disk is full"), q.RebootNode(node=NodeId("main-1")))
    script |= {"starttask": [Exits(1), Vanishes(), Exits(0), Exits(2)]}
    tell(q.CreatePool(spec=PoolSpec(id=PoolId("other"), nodes=1, start_task=start)))
    tell(q.ResizePool(pool=PoolId("other"), target=3))
    story.executor.dead |= {NodeId("main-3")}
    tell(q.ResizePool(pool=PoolId("main"), target=3), q.StopResize(pool=PoolId("main")))
    tell(q.RemoveNode(node=NodeId("other-1")), q.DeletePool(pool=PoolId("other")))

    # A stop that comes before the launch, and a job that is left running for the next engine.
    script |= {"never": Silent(), "left": Hangs()}
    tell(q.SubmitJob(spec=job("last"), tasks=tasks("never", "left", "queued-1", "queued-2", "queued-3")))
    tell(q.TerminateTask(job=JobId("last"), task=TaskId("never")))
    assert not any(isinstance(command, StopExecution) for command in take_fresh(story.world))


def expected(world: World, position: int) -> dict[str, Any]:
    """The world as people are shown it."""
    return {
        "pools": [pool_view(pool) for pool in world.pools.values()],
        "nodes": [node_view(node) for node in world.nodes.values()],
        "jobs": [status_document(world, job_id, position) for job_id in world.jobs],
    }


def main() -> int:
    """Write ledger and expectation; refuse to touch one that exists."""
    path = HERE / f"v{__version__}.db"
    if path.exists():
        sys.stderr.write(f"{path} exists; a golden ledger is never written again\n")
        return 1
    story = Story(path)
    tell_all(story)
    story.recorder.note(EngineStopped(epoch=1), story.now)
    story.recorder.commit()
    missing = set(STORED) - {type(recorded.event) for recorded in story.store.read()}
    if missing:
        story.store.close()
        path.unlink()
        sys.stderr.write(f"events that never happen: {sorted(event.__name__ for event in missing)}\n")
        return 1
    path.with_suffix(".json").write_text(json.dumps(expected(story.world, story.store.head().position), indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{path}: {story.store.head().position} events\n")
    story.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
