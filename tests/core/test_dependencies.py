"""Dependencies: the rules of `core/dependencies.py`, and what a request with wrong ones is told."""

import pytest

from jobledger.core import dependencies
from jobledger.core.explain import explain
from jobledger.core.limits import DEPENDENCY_NUMBERS_MAX
from jobledger.core.requests import AddTasks, DeleteTask, ReactivateTask, SubmitJob, TerminateTask
from jobledger.core.specs import TaskDependencies, TaskIdRange, TaskSpec
from jobledger.testing.scenario import Exits, Hangs


def after(task, *ids, ranges=()):
    parts = tuple(TaskIdRange(start=start, end=end) for start, end in ranges)
    return TaskSpec(id=task, command_line="work", depends_on=TaskDependencies(task_ids=ids, task_id_ranges=parts))


def ran(s):
    return [launch.task for launch in s.executor.launched]


@pytest.fixture
def job(given):
    """A job of tasks that may depend on others, on four slots, without preparation."""

    def begin(*tasks, script=None, **more):
        s = given(slots=4, prep=False, tasks=tasks, script=script, uses_task_dependencies=True, **more)
        s.run()
        return s

    return begin


# --- placing --------------------------------------------------------------------------------------------------


def test_a_task_runs_after_all_that_it_depends_on_however_they_were_submitted(job):
    s = job(after("last", "a", "b"), "a", after("b", "a"))
    assert ran(s) == ["a", "b", "last"]


def test_a_task_that_waits_is_active_and_holds_no_slot(job):
    s = job("a", after("b", "a"), script={"a": Hangs()})
    assert (s.world.task("j", "b").state, s.world.task("j", "b").unmet, len(s.world.nodes["p-1"].tasks)) == ("active", 1, 1)


def test_a_task_may_depend_on_one_that_is_added_later(job, task_specs):
    s = job(after("b", "a"))
    assert ran(s) == []
    s.finish(AddTasks(job="j", tasks=task_specs("a")))
    assert ran(s) == ["a", "b"]


def test_a_task_added_after_what_it_depends_on_succeeded_runs_at_once(job):
    s = job("a")
    s.finish(AddTasks(job="j", tasks=(after("b", "a", "a"),)))
    assert ran(s) == ["a", "b"]


def test_a_failure_satisfies_nothing_until_the_task_is_reactivated_and_succeeds(job):
    s = job("a", after("b", "a"), script={"a": [Exits(1), Exits(0)]})
    assert (ran(s), s.world.task("j", "b").state) == (["a"], "active")
    s.finish(ReactivateTask(job="j", task="a"))
    assert ran(s) == ["a", "a", "b"]


def test_a_retry_on_the_way_to_success_changes_nothing(job):
    s = job(TaskSpec(id="a", command_line="work"), after("b", "a"), script={"a": [Exits(1), Exits(0)]})
    s.finish(ReactivateTask(job="j", task="a"))
    assert ran(s)[-1] == "b"


def test_every_number_of_a_range_is_waited_for_and_leading_zeros_do_not_count(job, task_specs):
    s = job(after("end", ranges=[(8, 10)]), "008", "9")
    assert ran(s) == ["008", "9"]
    s.finish(AddTasks(job="j", tasks=task_specs("10")))
    assert ran(s) == ["008", "9", "10", "end"]


def test_the_first_of_several_ids_with_one_number_is_enough(job):
    s = job("4", "04", after("end", ranges=[(4, 4)]), script={"04": Hangs()})
    assert ran(s) == ["4", "04", "end"]


def test_the_ids_that_read_as_a_number_are_looked_up_in_their_order(job):
    longest = "4".zfill(64)
    s = job(longest, "04", "4", "40")
    assert list(dependencies.reading_as(s.world.jobs["j"], 4)) == ["4", "04", longest]


def test_what_is_not_met_yet_is_told_without_what_is(job):
    s = job("a", after("b", "a", "later"))
    found = s.world.jobs["j"]
    assert list(dependencies.unmet(found, found.tasks["b"])) == ["later"]
    assert found.satisfied == {"a"}


def test_a_job_that_does_not_use_dependencies_remembers_nothing_of_them(given):
    s = given(prep=False, tasks=("4",))
    s.run()
    assert s.world.jobs["j"].satisfied == set()


def test_an_id_that_is_no_number_never_counts_for_a_range(job):
    s = job("4a", "-4", after("end", ranges=[(4, 4)]))
    assert "end" not in ran(s)


def test_what_is_satisfied_stays_so_when_the_task_is_deleted(job):
    s = job("a")
    s.finish(DeleteTask(job="j", task="a"))
    s.finish(AddTasks(job="j", tasks=(after("b", "a"),)))
    assert ran(s) == ["a", "b"]


def test_a_waiting_task_that_is_deleted_and_added_again_waits_anew(job):
    s = job("a", after("b", "a"), script={"a": Hangs()})
    s.finish(DeleteTask(job="j", task="b"))
    s.finish(AddTasks(job="j", tasks=(after("b", "a", "other"),)))
    s.answer("task", "exited", task="a")
    assert (s.world.task("j", "b").unmet, ran(s)) == (1, ["a"])


def test_a_waiting_task_that_is_deleted_is_forgotten_and_others_wait_on(job):
    s = job("a", after("b", "a", "b0"), after("c", "a"), script={"a": Hangs()})
    s.finish(DeleteTask(job="j", task="b"))
    assert s.world.jobs["j"].dependents == {"a": {"c": None}}
    s.answer("task", "exited", task="a")
    s.run()
    assert ran(s) == ["a", "c"]


def test_a_waiting_task_that_was_ended_runs_when_reactivated_and_satisfied(job):
    s = job("a", after("b", "a"), script={"a": Hangs()})
    s.finish(TerminateTask(job="j", task="b"))
    s.answer("task", "exited", task="a")
    assert (ran(s), s.world.jobs["j"].queue) == (["a"], {})
    s.finish(ReactivateTask(job="j", task="b"))
    assert ran(s) == ["a", "b"]


def test_tasks_that_wait_for_ever_keep_the_job_from_being_complete(job):
    """Scenario 42: onAllTasksComplete never fires while blocked dependents are active."""
    s = job("a", after("b", "a"), script={"a": Exits(1)}, on_all_tasks_complete="terminatejob")
    assert s.world.jobs["j"].state == "active"
    s.finish(TerminateTask(job="j", task="b"))
    assert s.world.jobs["j"].state == "completed"


def test_the_end_of_a_task_touches_only_those_that_depend_on_it(job):
    """The fold of a success looks up what waits for it, and walks through nothing else."""

    class Looked(dict):
        def __iter__(self):
            raise AssertionError("all that is waited for was walked through")

        keys = values = items = __iter__

    s = job("a", after("b", "a"), *(after(f"w{number}", f"never-{number}") for number in range(50)), script={"a": Hangs()})
    found = s.world.jobs["j"]
    found.dependents = Looked(found.dependents)
    dependencies.satisfy(s.world, found, "a")
    assert found.tasks["b"].unmet == 0


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_job_has_to_say_that_it_uses_dependencies(given):
    s = given(prep=False)
    s.refuses(AddTasks(job="j", tasks=(after("b", "t1"),)), "TaskDependenciesNotSpecifiedOnJob")


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (after("b", "no id"), "InvalidPropertyValue"),
        (after("b", *(f"{number:064}" for number in range(1_001))), "TaskDependencyListTooLong"),
        (after("b", ranges=[(3, 2)]), "InvalidPropertyValue"),
        (after("b", ranges=[(-1, 2)]), "InvalidPropertyValue"),
        (after("b", ranges=[(1, DEPENDENCY_NUMBERS_MAX), (1, 1)]), "TaskDependencyRangesTooLong"),
    ],
)
def test_dependencies_that_make_no_sense_are_refused(job, task, code):
    job("a").refuses(AddTasks(job="j", tasks=(task,)), code)


def test_the_same_job_again_is_the_same_with_its_dependencies(job, job_spec, task_specs):
    s = job("a", after("b", "a"))
    spec = job_spec(prep=False, uses_task_dependencies=True)
    s.ignores(SubmitJob(spec=spec, tasks=(*task_specs("a"), after("b", "a"))))
    s.refuses(SubmitJob(spec=spec, tasks=(*task_specs("a"), after("b"))), "JobExists")


# --- explaining -----------------------------------------------------------------------------------------------


def codes(s, task=None):
    return [reason.code for reason in explain(s.world, "j", task)]


def test_explain_names_what_a_task_waits_for(job):
    s = job("bad", "slow", after("b", "bad", "slow", "none", ranges=[(7, 7)]), script={"bad": Exits(1), "slow": Hangs()})
    assert codes(s, "b") == ["DependencyFailed", "DependencyNotMet", "DependencyUnknown", "DependencyNotMet"]


def test_explain_names_the_task_whose_id_reads_as_a_number(job):
    s = job("02", "3", after("b", ranges=[(2, 4)]), script={"02": Exits(1), "3": Hangs()})
    assert [(reason.code, reason.subject) for reason in explain(s.world, "j", "b")] == [
        ("DependencyFailed", "02"),
        ("DependencyNotMet", "3"),
        ("DependencyNotMet", "4"),
    ]


def test_explain_says_how_many_more_there_are(job):
    s = job(after("b", ranges=[(1, 100)]))
    assert explain(s.world, "j", "b")[-1].text == "and on 92 more"


@pytest.mark.parametrize(("tasks", "way"), [([("a", "a")], "a -> a"), ([("a", "b"), ("b", "c"), ("c", "a")], "a -> b -> c -> a")])
def test_explain_shows_a_cycle(job, tasks, way):
    s = job(*(after(task, other) for task, other in tasks))
    assert [reason.text.endswith(way) for reason in explain(s.world, "j", "a") if reason.code == "DependencyCycle"] == [True]


def test_explain_tells_of_a_job_whose_tasks_all_wait(job):
    assert codes(job(after("b", "a"))) == ["WaitingForDependencies"]
