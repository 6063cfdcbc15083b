"""Plans: rows, totals and forms, of histories that the rules made."""

import json

import pytest

from jobledger.core.errors import ImpossibleEvent, RequestRefused
from jobledger.core.events import EngineStarted, ExecutionEnded, NodeBooted, NodeRemoved
from jobledger.core.ids import SECOND, Duration, Micros
from jobledger.core.reports import ExecutionExited
from jobledger.core.requests import (
    CreatePool,
    DeleteJob,
    DisableJob,
    EnableJob,
    PatchJob,
    ReactivateTask,
    RebootNode,
    ResizePool,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import (
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
)
from jobledger.plan import TaskResult, jobs_of, peak_of, plan_of
from jobledger.planview import document, render
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, Vanishes

BEGIN = Micros(1_795_444_415_000_000)


@pytest.fixture
def begin():
    """Makes a scenario with the pool `p` whose nodes are up."""

    def call(script=None, *, nodes=1, slots=1, start_task=None):
        s = Scenario(script)
        s.now = BEGIN
        s.finish(CreatePool(spec=PoolSpec(id="p", nodes=nodes, task_slots_per_node=slots, start_task=start_task)))
        return s

    return call


def job(name="j", *, whole=True, **more):
    return JobSpec(
        id=name,
        pool_info=PoolInfo(pool_id="p"),
        job_preparation_task=PreparationSpec(command_line="prepare") if whole else None,
        job_release_task=ReleaseSpec(command_line="release") if whole else None,
        **{"on_all_tasks_complete": "terminatejob", **more},
    )


def task(name, **more):
    return TaskSpec(id=name, command_line=f"work {name}", **more)


def submit(s, *tasks, **more):
    s.when(SubmitJob(spec=job(**more), tasks=tuple(task(one) if isinstance(one, str) else one for one in tasks)))


def lasts(s, kind, length, how="exited", code=0, **which):
    """What runs ends after `length` microseconds and whatever follows is launched."""
    s.answer(kind, "started", **which)
    s.pass_time(length)
    s.answer(kind, how, code, **which)


def rows_of(plan):
    return [(row.kind, row.task, row.node, row.attempt, row.outcome) for row in plan.rows]


# --- rows -----------------------------------------------------------------------------------------------------


def test_a_plan_has_each_execution_from_preparation_to_finalizer(begin):
    s = begin()
    submit(s, "t1", job_finalizer_task=FinalizerSpec(command_line="finish"))
    s.run()
    plan = plan_of(ledger_of(s.log), "j")
    assert rows_of(plan) == [
        ("preparation", "jobpreparation", "p-1", 1, "succeeded"),
        ("task", "t1", "p-1", 1, "succeeded"),
        ("release", "jobrelease", "p-1", 1, "succeeded"),
        ("finalizer", "jobfinalizer", ".engine", 1, "succeeded"),
    ]
    assert [row.what.command_line for row in plan.rows] == ["prepare", "work t1", "release", "finish"]
    assert [row.exit_code for row in plan.rows] == [0, 0, 0, 0]
    assert plan.ended
    assert plan.rows[-1].pool == ".engine"
    assert {fact.name: fact.value for fact in plan.rows[-1].facts} == {
        "JOBLEDGER_TERMINATE_REASON": "AllTasksComplete",
        "JOBLEDGER_TASKS_SUCCEEDED": "1",
        "JOBLEDGER_TASKS_FAILED": "0",
        "JOBLEDGER_RELEASES_FAILED": "0",
    }
    assert plan.rows[-1].facts == s.executor.launched[-1].facts


def test_what_a_finalizer_is_told_is_what_it_was_told(begin):
    s = begin({"t1": Exits(3), "jobrelease": Exits(1)})
    submit(s, "t1", "t2", on_all_tasks_complete="noaction", job_finalizer_task=FinalizerSpec(command_line="finish"))
    s.run()
    s.finish(TerminateJob(job="j", reason="enough"))
    told = plan_of(ledger_of(s.log), "j").rows[-1].facts
    assert told == s.executor.launched[-1].facts
    assert [fact.value for fact in told] == ["enough", "1", "1", "1"]


def test_times_are_relative_to_the_submission_and_waits_and_totals_follow(begin):
    s = begin(nodes=2, slots=2)
    submit(s, "t1", task("t2", required_slots=2), "t3", whole=False)
    submitted = s.now
    s.answer("task", "started", task="t1")
    s.answer("task", "started", task="t2")
    s.answer("task", "started", task="t3")
    s.pass_time(Duration(SECOND))
    s.answer("task", "exited", task="t2")
    s.pass_time(Duration(2 * SECOND))
    s.answer("task", "exited", task="t1")
    s.answer("task", "exited", task="t3")
    ended = s.now
    plan = plan_of(ledger_of(s.log), "j")
    assert (plan.submitted_at, plan.makespan) == (submitted, ended - submitted)
    assert [(row.task, row.start, row.end, row.waited, row.slots) for row in plan.rows] == [
        ("t1", 1, SECOND + 2 * SECOND + 5, 1, 1),
        ("t2", 2, SECOND + 4, 2, 2),
        ("t3", 3, SECOND + 2 * SECOND + 6, 3, 1),
    ]
    assert plan.peak == 3
    assert plan.waits == (2, 3)
    by_name = {node.node: node for node in plan.nodes}
    assert by_name.keys() == {"p-1", "p-2"}
    assert {(node.slots, node.available) for node in plan.nodes} == {(2, 2 * plan.makespan)}
    held = {row.node: row.node for row in plan.rows}
    assert held.keys() == by_name.keys()
    used = sum(row.slots * row.took for row in plan.rows)
    assert (plan.used, plan.available) == (used, 4 * plan.makespan)
    assert plan.utilisation == used / (4 * plan.makespan)
    for name, node in by_name.items():
        assert node.used == sum(row.slots * row.took for row in plan.rows if row.node == name)
        assert node.utilisation == node.used / node.available


def test_a_retry_waits_from_when_it_is_due_and_a_requeue_from_when_it_was_put_back(begin):
    s = begin()
    submit(s, task("t", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=Duration(SECOND))), whole=False)
    lasts(s, "task", Duration(10), code=1)
    s.wake()
    s.pass_time(Duration(7))
    s.answer("task", "started")
    s.when(RebootNode(node="p-1"))
    s.run()
    plan = plan_of(ledger_of(s.log), "j")
    assert [(row.attempt, row.outcome, row.why) for row in plan.rows] == [
        (1, "failed", ""),
        (2, "stopped", plan.rows[1].why),
        (3, "succeeded", ""),
    ]
    assert "reboot" in plan.rows[1].why
    assert plan.rows[1].waited == 8
    assert plan.tasks == {"t": TaskResult(end="succeeded", exit_code=0)}


def test_outcomes_say_what_was_seen(begin):
    s = begin({"never": CannotStart(), "gone": [Vanishes(), Exits(0)], "killed": Exits(0, signal=9), "unsent": Exits(0, upload="UploadFailed")})
    submit(s, "never", "gone", "killed", "unsent", whole=False)
    s.run()
    plan = plan_of(ledger_of(s.log), "j")
    found = {(row.task, row.attempt): (row.outcome, row.exit_code, row.signal, row.why) for row in plan.rows}
    assert found == {
        ("never", 1): ("never-ran", None, None, "CommandProgramNotFound"),
        ("gone", 1): ("lost", None, None, "its record is gone"),
        ("gone", 2): ("succeeded", 0, None, ""),
        ("killed", 1): ("failed", 137, 9, ""),
        ("unsent", 1): ("failed", 0, None, "UploadFailed"),
    }
    never = next(row for row in plan.rows if row.task == "never")
    assert (never.start, never.waited, never.took) == (None, None, None)
    assert {task: result.end for task, result in plan.tasks.items()} == {
        "never": "failed", "gone": "succeeded", "killed": "failed", "unsent": "failed",
    }  # fmt: skip
    assert plan.tasks["never"].failure == "CommandProgramNotFound"


def test_a_start_that_nobody_reported_is_told_from_the_wall_time(begin):
    s = begin()
    submit(s, "t1", "t2", whole=False)
    s.pass_time(Duration(100))
    s.when(ExecutionExited(execution=s.live("task"), exit_code=0, wall=Duration(30)))
    s.when(ExecutionExited(execution=s.live("task"), exit_code=0, wall=Duration(1_000_000)))
    first, second = plan_of(ledger_of(s.log), "j").rows
    assert (first.start, first.end) == (71, 101)
    assert second.start == second.requested == 101


def test_a_job_that_is_not_over_is_planned_up_to_its_last_event(begin):
    s = begin({"t1": Hangs()})
    submit(s, "t1", "t2", whole=False)
    s.run()
    plan = plan_of(ledger_of([*s.log, (EngineStarted(version="1", host="h", pid=1, epoch=2), s.now + SECOND)]), "j")
    assert not plan.ended
    assert rows_of(plan) == [("task", "t1", "p-1", 1, "unfinished")]
    assert (plan.rows[0].start, plan.rows[0].end) == (1, None)
    assert plan.makespan == SECOND + 1
    assert plan.nodes[0].used == SECOND
    assert plan.tasks == {"t1": TaskResult(end="unfinished"), "t2": TaskResult(end="unfinished")}


def test_a_task_that_was_reactivated_has_no_end_yet(begin):
    s = begin({"t1": [Exits(3), Hangs()]})
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    assert plan_of(ledger_of(s.log), "j").tasks["t1"] == TaskResult(end="failed", exit_code=3, failure="FailureExitCode")
    s.finish(ReactivateTask(job="j", task="t1"))
    assert plan_of(ledger_of(s.log), "j").tasks["t1"] == TaskResult(end="unfinished")


def test_a_clock_that_was_set_back_makes_nothing_end_before_it_began(begin):
    s = begin({"t1": Hangs()})
    submit(s, "t1", whole=False)
    s.run()
    back = Micros(s.now - SECOND)
    over = ExecutionEnded(execution=1, job="j", task="t1", node="p-1", exit_code=0, signal=None, stopped=False, wall=None)
    plan = plan_of(ledger_of([*s.log, (over, back)]), "j")
    assert [(row.start, row.end) for row in plan.rows] == [(1, 1)]
    assert plan.makespan == 1


# --- start tasks ----------------------------------------------------------------------------------------------


def test_start_tasks_are_those_of_the_latest_boot_and_of_boots_during_the_job(begin):
    s = begin({"starttask": [Exits(1), Exits(0)]}, nodes=2, start_task=StartTaskSpec(command_line="start", max_task_retry_count=1))
    s.finish(RebootNode(node="p-1"))
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    s.finish(RebootNode(node="p-2"))
    s.finish(TerminateJob(job="j"))
    s.finish(RebootNode(node="p-1"))
    plan = plan_of(ledger_of(s.log), "j")
    starts = [row for row in plan.rows if row.kind == "starttask"]
    assert len(s.launches(task="starttask")) == 6
    assert [(row.node, row.outcome) for row in starts if row.start < 0] == [("p-2", "succeeded"), ("p-1", "succeeded")]
    assert [(row.node, row.outcome) for row in starts if row.start > 0] == [("p-2", "succeeded")]
    assert all(row.slots == 0 for row in starts)


def test_start_tasks_are_there_once_where_a_job_comes_back_to_a_pool(begin):
    s = begin(start_task=StartTaskSpec(command_line="start"))
    s.finish(CreatePool(spec=PoolSpec(id="q", nodes=1, start_task=StartTaskSpec(command_line="start on q"))))
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    for pool in ("q", "p"):
        s.when(PatchJob(job="j", pool_info=PoolInfo(pool_id=pool)))
    s.finish(EnableJob(job="j"))
    assert [(row.kind, row.node) for row in plan_of(ledger_of(s.log), "j").rows] == [("starttask", "p-1"), ("starttask", "q-1"), ("task", "p-1")]


# --- which job ------------------------------------------------------------------------------------------------


def test_an_id_that_was_used_again_means_its_latest_job(begin):
    s = begin()
    submit(s, "old", whole=False)
    s.run()
    s.finish(DeleteJob(job="j"))
    submit(s, "new", whole=False)
    s.run()
    assert [row.task for row in plan_of(ledger_of(s.log), "j").rows] == ["new"]


def test_the_plan_of_a_deleted_job_is_still_there(begin):
    s = begin({"t1": Hangs()})
    submit(s, "t1", whole=False)
    s.run()
    s.finish(DeleteJob(job="j", reason="not wanted"))
    store = ledger_of(s.log)
    plan = plan_of(store, "j")
    assert plan.ended
    assert s.world.jobs == {}
    assert [row.outcome for row in plan.rows] == ["stopped"]
    assert jobs_of(store) == ["j"]


def test_other_jobs_are_no_part_of_a_plan_but_their_nodes_time_is(begin):
    s = begin({"t2": Hangs()})
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    submit(s, "t2", name="k", whole=False)
    s.run()
    s.pass_time(Duration(SECOND))
    s.finish(TerminateJob(job="j"))
    plan = plan_of(ledger_of(s.log), "j")
    assert [row.task for row in plan.rows] == ["t1"]
    assert plan.available == plan.makespan
    assert plan.used < SECOND < plan.available
    assert jobs_of(ledger_of(s.log)) == ["j", "k"]


def test_a_job_that_is_not_there_is_refused(begin):
    with pytest.raises(RequestRefused, match="the ledger knows no job j") as refused:
        plan_of(ledger_of(begin().log), "j")
    assert refused.value.code == "JobNotFound"


def test_a_history_that_cannot_be_is_an_error_that_names_the_position(begin):
    s = begin()
    position = len(s.log) + 1
    with pytest.raises(ImpossibleEvent, match=f"node.booted at position {position} cannot happen: there is no 'p-9'"):
        plan_of(ledger_of([*s.log, (NodeBooted(node="p-9", boot_id="b"), s.now)]), "j")


# --- use of nodes ---------------------------------------------------------------------------------------------


def test_a_node_is_available_from_its_first_boot_to_its_removal(begin):
    s = begin()
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    begun = s.now
    s.pass_time(Duration(SECOND))
    s.when(ResizePool(pool="p", target=2))
    s.pass_time(Duration(SECOND))
    s.run()
    booted = s.world.nodes["p-2"].booted_at
    s.pass_time(Duration(SECOND))
    s.finish(ResizePool(pool="p", target=1))
    (removed,) = [at for event, at in s.log if isinstance(event, NodeRemoved)]
    s.pass_time(Duration(SECOND))
    s.finish(TerminateJob(job="j"))
    plan = plan_of(ledger_of(s.log), "j")
    left = next(name for name in ("p-1", "p-2") if name not in s.world.nodes)
    by_name = {node.node: node.available for node in plan.nodes}
    assert begun < booted < removed
    assert left == "p-2"
    assert by_name == {"p-1": plan.makespan, "p-2": removed - booted}


def test_a_job_that_moves_uses_each_pool_while_it_is_there(begin):
    s = begin()
    s.finish(CreatePool(spec=PoolSpec(id="q", nodes=1, task_slots_per_node=3)))
    submit(s, "t1", whole=False, on_all_tasks_complete="noaction")
    s.run()
    s.pass_time(Duration(SECOND))
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    s.when(PatchJob(job="j", pool_info=PoolInfo(pool_id="q")))
    moved = s.now
    s.when(EnableJob(job="j"))
    s.pass_time(Duration(SECOND))
    s.finish(TerminateJob(job="j"))
    plan = plan_of(ledger_of(s.log), "j")
    on_first = moved - plan.submitted_at
    assert plan.pool == "q"
    assert {node.node: (node.slots, node.available) for node in plan.nodes} == {
        "p-1": (1, on_first),
        "q-1": (3, 3 * (plan.makespan - on_first)),
    }


def test_a_node_that_never_came_up_has_no_utilisation():
    s = Scenario()
    s.now = BEGIN
    s.when(CreatePool(spec=PoolSpec(id="p", nodes=1)))
    submit(s, "t1", whole=False)
    plan = plan_of(ledger_of(s.log), "j")
    assert [(node.available, node.utilisation) for node in plan.nodes] == [(0, None)]
    assert plan.utilisation is None
    assert plan.waits is None


@pytest.mark.parametrize(
    ("spans", "peak"), [([], 0), ([(0, 2), (2, 4)], 1), ([(0, 3), (2, 4), (2, 3)], 3), ([(1, 1), (1, 1)], 0), ([(5, 6), (0, 9), (1, 2)], 2)]
)
def test_the_peak_counts_what_overlaps(spans, peak):
    assert peak_of(spans) == peak


# --- forms ----------------------------------------------------------------------------------------------------


def test_the_document_has_exactly_the_keys_promised(begin):
    s = begin({"t1": Exits(0, signal=9)}, start_task=StartTaskSpec(command_line="start"))
    submit(s, "t1", constraints=JobConstraints(max_task_retry_count=0))
    s.run()
    found = document(plan_of(ledger_of(s.log), "j"))
    assert json.loads(render(plan_of(ledger_of(s.log), "j"), "json")) == found
    assert list(found) == [
        "job", "pool", "ledger", "submissionTime", "ended", "makespanSeconds", "usedSlotSeconds", "availableSlotSeconds", "utilisation",
        "peakParallelTasks", "meanWaitSeconds", "longestWaitSeconds", "executions", "nodes", "tasks",
    ]  # fmt: skip
    (execution,) = [one for one in found["executions"] if one["kind"] == "task"]
    assert list(execution) == [
        "kind", "task", "node", "pool", "attempt", "execution", "slots", "requestedSeconds", "startSeconds", "endSeconds", "waitedSeconds",
        "outcome", "exitCode", "signal", "commandLine",
    ]  # fmt: skip
    assert found["nodes"] == [
        {
            "node": "p-1",
            "pool": "p",
            "slots": 1,
            "tasks": 1,
            **{key: found[key] for key in ("usedSlotSeconds", "availableSlotSeconds", "utilisation")},
        }
    ]
    (result,) = found["tasks"]
    assert result == {"id": "t1", "result": "failed", "exitCode": 137, "failureCode": result["failureCode"]}
    assert [one["startSeconds"] < 0 for one in found["executions"]] == [True, False, False, False]


def test_the_table_shortens_nothing_and_lets_nothing_command_the_terminal(begin):
    s = begin()
    line = "work " + "x" * 500 + "\n\x1b[2J"
    submit(s, TaskSpec(id="t" * 64, command_line=line), whole=False)
    s.run()
    text = render(plan_of(ledger_of(s.log), "j"), "table")
    assert "x" * 500 + "??[2J" in text
    assert "t" * 64 in text
    assert "job j on pool p (a real run), submitted 2026-11-23T14:33:35.000003Z" in text
    assert "utilisation" in text


def test_a_plan_that_is_not_over_and_has_nothing_says_so():
    s = Scenario()
    s.when(SubmitJob(spec=job(on_all_tasks_complete="noaction"), tasks=()))
    text = render(plan_of(ledger_of(s.log), "j"), "table")
    assert "it is not over" in text
    assert "utilisation -, at most 0 tasks at a time" in text
