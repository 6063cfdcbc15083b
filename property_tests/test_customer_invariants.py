"""The customer's two invariants, held against what really ran, as a model of an executor remembers it.

The judge here is neither the ledger nor the core: it is the list of programs that were started on the model's machines.
"""

import os
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger.core.requests import CreatePool, DeleteJob, RebootNode, ReimageNode, SubmitJob, TerminateJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskConstraints, TaskSpec
from jobledger.testing.stage import Stage

TRIES = settings(max_examples=3000) if os.environ.get("JOBLEDGER_WALKS") == "nightly" else settings(max_examples=300, derandomize=True, database=None)
MACHINES = ["p-1", "p-2", "p-3"]

preparations = st.builds(
    PreparationSpec,
    command_line=st.just("prepare"),
    constraints=st.builds(TaskConstraints, max_task_retry_count=st.integers(0, 1)),
    wait_for_success=st.booleans(),
    rerun_on_node_reboot_after_success=st.booleans(),
)
disturbances = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from([0, 0, 0, 1])),
        st.tuples(st.sampled_from(["reboot", "reimage", "lose", "take away", "cut power"]), st.sampled_from(MACHINES)),
        st.tuples(st.just("die"), st.none()),
        st.tuples(st.just("return"), st.none()),
    ),
    max_size=8,
)


def submitted(preparation, tasks, *, nodes, slots, on_end="noaction"):
    """A stage with a pool and the job `j` whose release has the default scope: where a task ran."""
    stage = Stage()
    stage.take(CreatePool(spec=PoolSpec(id="p", nodes=nodes, task_slots_per_node=slots)))
    job = JobSpec(
        id="j",
        pool_info=PoolInfo(pool_id="p"),
        job_preparation_task=preparation,
        job_release_task=ReleaseSpec(command_line="release"),
        on_all_tasks_complete=on_end,
    )
    stage.take(SubmitJob(spec=job, tasks=tuple(TaskSpec(id=f"t{number}", command_line="work") for number in range(tasks))))
    return stage


def step(stage, exit_code):
    """What is under way arrives, and what runs ends."""
    for node, queue in list(stage.executor.queues.items()):
        for _ in list(queue):
            stage.deliver(node)
    for execution in stage.executor.running():
        stage.end(execution, exit_code)
    while stage.executor.reports:
        stage.report(0)


def disturb(stage, what, detail):
    match what:
        case "run":
            step(stage, detail)
        case "die":
            stage.crash()
        case "return":
            stage.bring_back()
        case _ if detail not in stage.world.nodes:
            pass
        case "reboot":
            stage.take(RebootNode(node=detail))
        case "reimage":
            stage.take(ReimageNode(node=detail))
        case "lose":
            stage.take(stage.executor.fault(detail, "lost"))
        case "take away":
            stage.take(stage.executor.fault(detail, "preempted"))
        case "cut power" if detail in stage.executor.machines and stage.executor.machines[detail].up:
            stage.executor.cut_power(detail)


def programs(stage):
    """(kind, node) of everything that was started for the job, in order."""
    return [(kind, node) for kind, (_, _, node) in stage.executor.started]


@TRIES
@given(preparation=preparations, tasks=st.integers(0, 4), nodes=st.integers(1, 3), slots=st.integers(1, 2), happens=disturbances)
def test_release_runs_only_where_a_task_ran(preparation, tasks, nodes, slots, happens):
    stage = submitted(preparation, tasks, nodes=nodes, slots=slots)
    for what, detail in happens:
        disturb(stage, what, detail)
    stage.rest()

    order = programs(stage)
    for index, (kind, node) in enumerate(order):
        if kind == "release":
            ran = ("task", node) in order[:index]
            may_have_run = node in [where for doubtful, (_, _, where) in stage.executor.in_doubt if doubtful == "task"]
            assert ran or may_have_run, f"release ran on {node}, and no task ever did"


@TRIES
@given(preparation=preparations, tasks=st.integers(1, 4), nodes=st.integers(1, 3), happens=disturbances)
def test_release_runs_wherever_a_task_ran_and_the_node_lasted(preparation, tasks, nodes, happens):
    """The other half, without which the first could be kept by never running a release."""
    stage = submitted(preparation, tasks, nodes=nodes, slots=1)
    for what, detail in happens:
        if what in {"run", "die", "reboot"}:
            disturb(stage, what, detail)
    stage.rest()
    assert {node for kind, node in programs(stage) if kind == "release"} == {node for kind, node in programs(stage) if kind == "task"}


@TRIES
@given(
    preparation=preparations,
    tasks=st.integers(1, 4),
    nodes=st.integers(1, 3),
    before=st.integers(0, 6),
    between=st.integers(0, 6),
    crash=st.booleans(),
    on_end=st.sampled_from(["noaction", "terminatejob"]),
)
def test_delete_after_terminate_does_not_rerun_release(preparation, tasks, nodes, before, between, crash, on_end):
    """Terminated after any number of steps and deleted after any more, be it with an engine that died in between."""
    stage = submitted(preparation, tasks, nodes=nodes, slots=1, on_end=on_end)
    for _ in range(before):
        step(stage, 0)
    stage.take(TerminateJob(job="j"))
    for _ in range(between):
        step(stage, 0)
    if crash:
        stage.crash()
    known = stage.world.jobs.get("j")
    was_over = known is None or known.state == "completed"
    ran_before = Counter(node for kind, node in programs(stage) if kind == "release")
    stage.take(DeleteJob(job="j"))
    stage.drain()

    assert "j" not in stage.world.jobs
    ran = Counter(node for kind, node in programs(stage) if kind == "release")
    assert all(times == 1 for times in ran.values())
    if was_over:
        assert ran == ran_before
    assert set(ran) == {node for kind, node in programs(stage) if kind == "task"}
