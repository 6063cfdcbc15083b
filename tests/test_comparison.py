"""Plan against fact: what is paired with what, what differs, and what it says of it."""

import pytest

from jobledger.comparison import compare, job_in_both
from jobledger.comparisonview import document, table
from jobledger.core.errors import RequestRefused
from jobledger.core.events import EngineStarted
from jobledger.core.ids import SECOND, Duration, Micros
from jobledger.core.requests import AddTasks, CreatePool, SubmitJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskConstraints, TaskSpec
from jobledger.plan import plan_of
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario

BEGIN = Micros(1_795_444_415_000_000)


def recorded(s, *, dry=""):
    start = EngineStarted(version="1", host="h", pid=1, epoch=1, dry_run=dry)
    return ledger_of([(start, s.log[0][1]), *s.log])


def begun(*tasks, script=None, nodes=1, whole=False, start=BEGIN, job="j", preparation=None):
    """A scenario in which the job has just been submitted; a task is an id, or a spec."""
    s = Scenario(script)
    s.now = start
    s.finish(CreatePool(spec=PoolSpec(id="p", nodes=nodes)))
    spec = JobSpec(
        id=job,
        pool_info=PoolInfo(pool_id="p"),
        on_all_tasks_complete="terminatejob",
        job_preparation_task=PreparationSpec(command_line="prepare") if whole else preparation,
        job_release_task=ReleaseSpec(command_line="release") if whole else None,
    )
    specs = tuple(TaskSpec(id=task, command_line="work") if isinstance(task, str) else task for task in tasks)
    s.when(SubmitJob(spec=spec, tasks=specs))
    return s


def ran(*tasks, dry="", **more):
    """The plan of a job that has run to its end."""
    s = begun(*tasks, **more)
    s.run()
    return plan_of(recorded(s, dry=dry), "j")


def lines_of(comparison):
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table(comparison)]


def test_the_same_run_is_the_same_whatever_its_times():
    planned, real = ran("t1", "t2", whole=True, dry="seed 7"), ran("t1", "t2", whole=True, start=Micros(BEGIN + 10**9))
    found = compare(planned, real)
    assert found.is_same
    assert [(pair.later, pair.longer) for pair in found.pairs] == [(0, 0)] * 4
    assert [pair.row.kind for pair in found.pairs] == ["preparation", "task", "task", "release"]


def test_times_and_nodes_differ_and_it_is_the_same_all_the_same():
    first, second = begun("t1", "t2", nodes=2), begun("t1", "t2", nodes=1)
    first.run()
    second.answer("task", "started", task="t1")
    second.pass_time(Duration(3 * SECOND))
    second.answer("task", "exited", task="t1")
    second.run()
    found = compare(plan_of(recorded(first, dry="seed 7"), "j"), plan_of(recorded(second), "j"))
    assert found.is_same
    by_task = {pair.row.task: pair for pair in found.pairs}
    assert by_task["t1"].longer == 3 * SECOND
    assert by_task["t2"].later >= 3 * SECOND
    lines = lines_of(found)
    assert next(line for line in lines if line[:2] == ["task", "t2"])[3].count(" -> ") == 1
    assert lines[-1][0].startswith("the same: every one of 2 tasks ended as planned; it took 3s, planned were 0ms")


@pytest.mark.parametrize(
    ("planned", "real", "told"),
    [
        (Exits(0), Exits(3), "t1: planned succeeded, really failed, exit 3 (FailureExitCode)"),
        (Exits(3), Exits(0), "t1: planned failed, exit 3 (FailureExitCode), really succeeded"),
        (Exits(3), Exits(4), "t1: planned failed, exit 3 (FailureExitCode), really failed, exit 4 (FailureExitCode)"),
        (Exits(0), CannotStart(), "t1: planned succeeded, really failed (CommandProgramNotFound)"),
        (CannotStart("ResourceFileNotFound"), CannotStart(), "t1: planned failed (ResourceFileNotFound), really failed (CommandProgramNotFound)"),
        (Exits(0), Hangs(), "t1: planned succeeded, really unfinished"),
    ],
)
def test_a_task_that_ends_otherwise_is_named(planned, real, told):
    found = compare(ran("t1", "t2", script={"t1": planned}), ran("t1", "t2", script={"t1": real}))
    assert [difference.task for difference in found.differences] == (["t1", "t2"] if isinstance(real, Hangs) else ["t1"])
    assert told in list(table(found))
    assert list(table(found))[-1].startswith(f"different: {len(found.differences)} of 2 tasks ended differently or are missing; ")


def test_tries_do_not_matter_where_the_end_is_the_same():
    task = TaskSpec(id="t", command_line="work", constraints=TaskConstraints(max_task_retry_count=2))
    found = compare(ran(task), ran(task, script={"t": [Exits(1), Exits(0)]}))
    assert found.is_same
    assert [(pair.planned is not None, pair.real is not None, pair.row.attempt) for pair in found.pairs] == [(True, True, 1), (False, True, 2)]
    lines = list(table(found))
    assert "succeeded -> failed, exit 1" in lines[1]
    assert lines[2].endswith("succeeded (only real)")


def test_what_belongs_to_a_node_is_paired_by_its_node():
    """Preparation fails once on another node than planned."""
    tries = PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_task_retry_count=1))
    planned, real = (ran("t1", "t2", nodes=2, preparation=tries, script={f"jobpreparation@{node}": [Exits(1), Exits(0)]}) for node in ("p-1", "p-2"))
    found = compare(planned, real)
    preparations = [pair for pair in found.pairs if pair.row.kind == "preparation"]
    assert {(pair.row.node, pair.row.attempt, pair.planned is not None, pair.real is not None) for pair in preparations} == {
        ("p-1", 1, True, True),
        ("p-1", 2, True, False),
        ("p-2", 1, True, True),
        ("p-2", 2, False, True),
    }
    assert all(pair.planned.node == pair.real.node for pair in preparations if pair.planned is not None and pair.real is not None)


def test_what_is_in_one_only_is_counted_and_a_task_that_is_missing_is_a_difference():
    found = compare(ran("t1", "t2", "gone", dry="seed 7"), ran("t1", "t2", "new", whole=True))
    assert [(one.task, one.planned is None, one.real is None) for one in found.differences] == [("gone", False, True), ("new", True, False)]
    view = document(found)
    assert (view["same"], view["onlyPlanned"], view["onlyReal"]) == (False, 1, 3)
    lines = lines_of(found)
    planned, real = (next(line for line in lines if line[:1] == [name]) for name in ("planned", "real"))
    assert (planned[1], *planned[-2:]) == ("0123abcd, a dry run: seed 7", "3", "1")
    assert (real[1], *real[-2:]) == ("0123abcd, a real run", "5", "3")
    assert lines[-3:-1] == [["gone: planned succeeded, really missing"], ["new: planned missing, really succeeded"]]


def test_a_failed_release_shows_and_changes_nothing():
    found = compare(ran("t1", whole=True), ran("t1", whole=True, script={"jobrelease": Exits(9)}))
    assert found.is_same
    assert any(line.startswith("release") and line.endswith("succeeded -> failed, exit 9") for line in table(found))


def test_a_job_that_is_not_over_is_so_far():
    s = begun("t1", "t2", script={"t2": Hangs()})
    s.run()
    found = compare(ran("t1", "t2"), plan_of(recorded(s), "j"))
    assert not found.is_same
    unfinished = next(pair for pair in found.pairs if pair.row.task == "t2")
    assert (unfinished.later is not None, unfinished.longer) == (True, None)
    assert any(" so far" in line for line in table(found))


def test_what_never_started_has_no_differences_in_time():
    found = compare(ran("t1", script={"t1": CannotStart()}), ran("t1"))
    assert [(pair.later, pair.longer) for pair in found.pairs] == [(None, None)]


def test_jobs_without_tasks_are_the_same():
    plan = ran()
    assert lines_of(compare(plan, plan))[-1][0].startswith("the same: every one of 0 tasks")


def test_the_document_has_exactly_the_keys_promised():
    view = document(compare(ran("t1", "t2", dry="seed 7"), ran("t1", "t2", script={"t2": Exits(3)})))
    assert list(view) == ["job", "same", "planned", "real", "executions", "onlyPlanned", "onlyReal", "differences"]
    assert view["planned"]["dryRun"] == "seed 7"
    assert "dryRun" not in view["real"]
    assert {"makespanSeconds", "utilisation"} <= view["planned"].keys() & view["real"].keys()
    assert list(view["executions"][0]) == ["kind", "task", "attempt", "planned", "real", "startDifferenceSeconds", "durationDifferenceSeconds"]
    assert view["differences"] == [
        {
            "task": "t2",
            "planned": {"result": "succeeded", "exitCode": 0},
            "real": {"result": "failed", "exitCode": 3, "failureCode": "FailureExitCode"},
        }
    ]


# --- which job ------------------------------------------------------------------------------------------------


def test_the_job_is_the_one_that_both_have():
    first, second = begun("t", job="a"), begun("t", job="b")
    first.when(SubmitJob(spec=JobSpec(id="c", pool_info=PoolInfo(pool_id="p")), tasks=()))
    second.when(SubmitJob(spec=JobSpec(id="c", pool_info=PoolInfo(pool_id="p")), tasks=()))
    second.when(AddTasks(job="c", tasks=(TaskSpec(id="t", command_line="work"),)))
    assert job_in_both(recorded(first), recorded(second)) == "c"


def test_none_or_several_jobs_in_common_are_refused_with_what_there_is():
    with pytest.raises(RequestRefused, match="no job in common: a in the first, b in the second"):
        job_in_both(recorded(begun("t", job="a")), recorded(begun("t", job="b")))
    s = begun("t", job="a")
    s.when(SubmitJob(spec=JobSpec(id="b", pool_info=PoolInfo(pool_id="p")), tasks=()))
    with pytest.raises(RequestRefused, match="both ledgers have the jobs a, b: say which with --job"):
        job_in_both(recorded(s), recorded(s))
