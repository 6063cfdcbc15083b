"""Exit conditions: the rules of `core/exits.py`, and what a request with wrong ones is told."""

import pytest

from jobledger.core.explain import explain
from jobledger.core.requests import AddTasks, EnableJob, TerminateTask
from jobledger.core.specs import (
    ExitCodeMapping,
    ExitCodeRangeMapping,
    ExitConditions,
    ExitOptions,
    TaskConstraints,
    TaskDependencies,
    TaskSpec,
)
from jobledger.testing.scenario import CannotStart, Exits, Hangs

NONE, DISABLE, TERMINATE = (ExitOptions(job_action=action) for action in ("none", "disable", "terminate"))
SATISFY, BLOCK = (ExitOptions(dependency_action=action) for action in ("satisfy", "block"))


def conditions(codes=None, ranges=(), **more):
    return ExitConditions(
        exit_codes=tuple(ExitCodeMapping(code=code, exit_options=options) for code, options in (codes or {}).items()),
        exit_code_ranges=tuple(ExitCodeRangeMapping(start=start, end=end, exit_options=options) for start, end, options in ranges),
        **more,
    )


def task(task_id, exit_conditions=None, **more):
    return TaskSpec(id=task_id, command_line="work", exit_conditions=exit_conditions, **more)


@pytest.fixture
def job(given):
    """A job whose failed tasks act on it, with a task that hangs beside them."""

    def begin(*tasks, script=None, **more):
        s = given(slots=4, tasks=tasks, script=script, on_task_failure="performexitoptionsjobaction", uses_task_dependencies=True, **more)
        s.run()
        return s

    return begin


def state(s):
    found = s.world.jobs["j"]
    return found.state, found.terminate_reason


# --- what the job does ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_conditions", "answer", "expected"),
    [
        (None, Exits(0), "active"),
        (None, Exits(3), "completed"),
        (None, CannotStart(), "completed"),
        (conditions({3: NONE}), Exits(3), "active"),
        (conditions({3: NONE}), Exits(4), "completed"),
        (conditions({3: DISABLE}), Exits(3), "disabled"),
        (conditions({0: TERMINATE}), Exits(0), "completed"),
        (conditions(ranges=[(3, 5, DISABLE)]), Exits(3), "disabled"),
        (conditions(ranges=[(3, 5, DISABLE)]), Exits(5), "disabled"),
        (conditions({4: NONE}, ranges=[(3, 5, DISABLE)]), Exits(4), "active"),
        (conditions(default=NONE), Exits(9), "active"),
        (conditions(default=TERMINATE), Exits(0), "active"),
        (conditions(default=NONE), CannotStart(), "active"),
        (conditions(default=TERMINATE, pre_processing_error=NONE), CannotStart(), "active"),
        (conditions({3: SATISFY}), Exits(3), "completed"),
        (conditions(default=NONE), Exits(0, signal=9), "active"),
    ],
)
def test_the_end_of_a_task_acts_on_the_job_as_its_conditions_say(job, given_conditions, answer, expected):
    s = job(task("a", given_conditions), script={"a": answer})
    assert state(s) == (expected, "TaskFailed" if expected == "completed" else None)


def test_a_job_that_says_nothing_lets_its_tasks_fail(given):
    s = given(tasks=("a",), script={"a": Exits(3)})
    s.run()
    assert state(s) == ("active", None)


def test_a_try_that_is_followed_by_a_retry_acts_on_nothing(job):
    s = job(task("a", constraints=TaskConstraints(max_task_retry_count=1)), script={"a": [Exits(3), Exits(0)]})
    assert (state(s), s.world.task("j", "a").retries) == (("active", None), 1)


def test_a_task_that_was_ended_on_request_acts_on_nothing(job):
    s = job(task("a"), script={"a": Hangs()})
    s.finish(TerminateTask(job="j", task="a"))
    assert (s.world.task("j", "a").result, state(s)) == ("failure", ("active", None))


@pytest.mark.parametrize(("options", "expected"), [(None, "completed"), (DISABLE, "disabled")])
def test_a_task_over_its_limit_has_failed_by_default(job, options, expected):
    limited = TaskConstraints(max_wall_clock_time=500)
    s = job(task("a", conditions({143: NONE}, default=options), constraints=limited), script={"a": Hangs()})
    s.wake()
    s.run()
    assert state(s)[0] == expected


def test_terminating_ends_the_others_and_releases(job):
    s = job(task("a"), task("other"), script={"a": Exits(1), "other": Hangs()})
    assert (state(s), s.world.task("j", "other").failure.code) == (("completed", "TaskFailed"), "TaskEnded")
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_disabling_requeues_the_others_and_enabling_goes_on(job):
    s = job(task("a", conditions(default=DISABLE)), task("other"), script={"a": Exits(1), "other": [Hangs(), Exits(0)]})
    assert (state(s)[0], s.world.task("j", "other").state) == ("disabled", "active")
    s.finish(EnableJob(job="j"))
    assert (state(s)[0], s.world.task("j", "other").result) == ("active", "success")


def test_a_task_that_fails_while_the_job_is_disabling_does_not_disable_it_again(job):
    s = job(task("a", conditions(default=DISABLE)), task("b", conditions(default=DISABLE)), script={"a": Hangs(), "b": Hangs()})
    s.answer("task", "exited", 1, task="a")
    assert state(s)[0] == "disabling"
    s.answer("task", "exited", 1, task="b")
    s.run()
    s.finish(EnableJob(job="j"))
    assert state(s)[0] == "active"


def test_termination_wins_over_disabling_even_when_it_comes_later(job):
    s = job(task("a", conditions(default=DISABLE)), task("b"), script={"a": Hangs(), "b": Hangs()})
    s.answer("task", "exited", 1, task="a")
    s.answer("task", "exited", 1, task="b")
    s.run()
    assert state(s) == ("completed", "TaskFailed")


# --- what dependents do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_conditions", "code", "runs"),
    [
        (conditions(default=SATISFY), 7, True),
        (conditions({7: SATISFY}), 7, True),
        (conditions({7: SATISFY}), 8, False),
        (conditions({0: BLOCK}), 0, False),
        (conditions(default=BLOCK), 0, True),
    ],
)
def test_dependents_run_as_the_conditions_say(given, given_conditions, code, runs):
    waiting = TaskSpec(id="b", command_line="work", depends_on=TaskDependencies(task_ids=("a",)))
    s = given(prep=False, uses_task_dependencies=True, tasks=(task("a", given_conditions), waiting), script={"a": Exits(code)})
    s.run()
    assert (s.world.task("j", "b").state == "completed") is runs


def test_explain_tells_a_success_that_blocks_from_a_failure(given):
    waiting = TaskSpec(id="b", command_line="work", depends_on=TaskDependencies(task_ids=("a",)))
    s = given(prep=False, uses_task_dependencies=True, tasks=(task("a", conditions({0: BLOCK})), waiting))
    s.run()
    assert [reason.code for reason in explain(s.world, "j", "b")] == ["DependencyBlocked"]


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (conditions({1: TERMINATE}), "exitConditions.exitCodes[0].exitOptions.jobAction"),
        (conditions(default=SATISFY), "exitConditions.default.dependencyAction"),
        (conditions(pre_processing_error=NONE), "exitConditions.preProcessingError.jobAction"),
        (conditions(ranges=[(5, 3, ExitOptions())]), "exitConditions.exitCodeRanges[0]"),
    ],
)
def test_conditions_that_make_no_sense_are_refused_with_their_path(given, wrong, path):
    assert f"tasks[0].{path}: " in str(given().refuses(AddTasks(job="j", tasks=(task("a", wrong),)), "InvalidPropertyValue"))


def test_a_code_that_is_mapped_twice_is_refused(given):
    twice = ExitConditions(exit_codes=(ExitCodeMapping(code=1, exit_options=ExitOptions()),) * 2)
    assert "already mapped by exitCodes[0]" in str(given().refuses(AddTasks(job="j", tasks=(task("a", twice),)), "InvalidPropertyValue"))
