"""Advance: one stimulus to its end, every event with its cause, and nothing left to do in a settled world."""

import pytest

from jobledger.core import limits
from jobledger.core.advance import advance, reconsider, settle
from jobledger.core.errors import ImpossibleEvent, RequestRefused, RulesDoNotSettle
from jobledger.core.events import (
    EngineStarted,
    EngineStopped,
    ExecutionRequested,
    JobCompleted,
    JobCreated,
    NodeIdle,
    PoolCreated,
    PoolResizing,
    PoolSteady,
    ReleaseStarted,
    TaskDeleted,
)
from jobledger.core.evolve import evolve
from jobledger.core.reports import ExecutionExited
from jobledger.core.requests import AddTasks, CreatePool, DeletePool, RebootNode, SubmitJob, TerminateJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec
from jobledger.core.world import World
from jobledger.testing.scenario import Exits, Hangs, Scenario, story


def causes(s):
    return list(zip(story(decided.event for decided in s.batch), (decided.cause for decided in s.batch), strict=True))


def test_every_event_knows_the_event_it_follows_from(given):
    s = given(tasks=("a", "b"), prep=False, script={"a": Hangs()})
    s.run()
    s.answer("task", "exited", task="a")
    assert causes(s) == [
        ("execution.ended a p-1", None),
        ("task.completed a success", None),
        ("execution.requested b p-1", 1),
        ("task.running b p-1", 1),
    ]


def test_a_cause_is_always_an_earlier_event_of_the_same_batch(given):
    s = given(nodes=2, tasks=("a", "b", "c"), script={"jobpreparation@p-1": Exits(1)})
    for stimulus in (TerminateJob(job="j"), RebootNode(node="p-2")):
        s.when(stimulus)
        assert s.batch[0].cause is None
        assert all(decided.cause is None or 0 <= decided.cause < index for index, decided in enumerate(s.batch))


def test_one_stimulus_is_one_settled_batch(given):
    s = given(tasks=(), on_all_tasks_complete="terminatejob")
    assert story(s.events)[-3:] == ["job.created j", "job.terminating j", "job.completed j"]
    agenda = s.world.agenda
    assert [agenda.nodes, agenda.jobs, agenda.pools, agenda.load] == [{}, {}, {}, {}]


def test_a_settled_world_has_nothing_left_to_say(given):
    s = given(nodes=3, slots=2, tasks=tuple("abcdefgh"), script={"a": Hangs(), "jobpreparation@p-2": Exits(1)})
    s.run()
    for stimulus in (None, RebootNode(node="p-1"), TerminateJob(job="j")):
        if stimulus is not None:
            s.when(stimulus)
        reconsider(s.world)
        batch = []
        settle(s.world, s.now, batch)
        assert batch == []


def test_a_refusal_leaves_the_world_and_its_agenda_as_they_were(given):
    s = given()
    with pytest.raises(RequestRefused):
        advance(s.world, TerminateJob(job="nope"), 99)
    assert s.world == s.replayed
    assert not s.world.agenda.jobs


def test_what_follows_from_the_first_event_says_so(given, task_specs):
    s = given(prep=False)
    s.run()
    s.when(AddTasks(job="j", tasks=task_specs("t2")))
    assert causes(s) == [("task.added t2", None), ("execution.requested t2 p-1", 0), ("task.running t2 p-1", 0), ("node.running p-1", 2)]


def rebuilt(*events):
    """A world that only saw events, with nothing on its agenda."""
    world = World()
    for event in events:
        evolve(world, event, 1)
    for part in (world.agenda.nodes, world.agenda.jobs, world.agenda.pools, world.agenda.load):
        part.clear()
    return world


def two_of_each():
    """Two pools that lack a node each, and two jobs that have nothing left to do."""
    events = [PoolCreated(pool=pool, spec=PoolSpec(id=pool)) for pool in ("p", "q")]
    events += [PoolResizing(pool=pool, target=1) for pool in ("p", "q")]
    specs = [JobSpec(id=job, pool_info=PoolInfo(pool_id="p"), on_all_tasks_complete="terminatejob") for job in ("j", "k")]
    return rebuilt(*events, *(JobCreated(job=spec.id, spec=spec) for spec in specs))


def test_a_rebuilt_world_is_looked_at_as_a_whole_in_the_order_in_which_it_came_to_be():
    world = two_of_each()
    reconsider(world)
    batch = []
    settle(world, 2, batch)
    assert list(zip(story(decided.event for decided in batch), (decided.cause for decided in batch), strict=True)) == [
        ("job.terminating j", None),
        ("job.terminating k", None),
        ("job.completed j", 0),
        ("job.completed k", 1),
        ("node.added p-1", None),
        ("node.added q-1", None),
    ]
    reconsider(world)
    assert [list(part) for part in (world.agenda.nodes, world.agenda.load)] == [["p-1", "q-1"]] * 2


def test_nodes_are_looked_at_in_the_order_of_what_happened_to_them(given):
    s = given(nodes=2, prep=False, tasks=("a", "b"), script={"a": Hangs(), "b": Hangs()})
    s.run()
    told = story(s.when(DeletePool(pool="p")))
    assert told[-2:] == ["execution.stop-requested a p-1 requeue", "execution.stop-requested b p-2 requeue"]


class Long(list):
    """A batch that says how long it is."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length


def test_rules_that_do_not_settle_end_with_an_error_that_counts_what_they_made():
    world = World()
    world.agenda.job("gone")
    settle(world, 1, Long(limits.BATCH_EVENTS_MAX + 1))  # What is gone is no visit.
    for length in (limits.BATCH_EVENTS_MAX, limits.BATCH_EVENTS_MAX + 1):
        world = rebuilt(PoolCreated(pool="p", spec=PoolSpec(id="p", nodes=0)))
        reconsider(world)
        if length == limits.BATCH_EVENTS_MAX:
            settle(world, 1, Long(length))
        else:
            with pytest.raises(RulesDoNotSettle, match=f"made {length} events in 1 visits and are not done"):
                settle(world, 1, Long(length))


def test_replaying_the_events_gives_the_same_world_and_the_same_commands(given):
    s = given(nodes=2, slots=2, tasks=tuple("abcde"), script={"b": Hangs(), "jobpreparation@p-2": Exits(1)})
    s.run()
    s.when(RebootNode(node="p-1"))
    again = World()
    for event, at in s.log:
        evolve(again, event, at)
    assert again == s.world
    assert again.owed.now == s.world.owed.now


def test_the_same_stimuli_at_the_same_times_give_the_same_events(job_spec, task_specs):
    def story_of_a_run():
        s = Scenario({"b": [Exits(1), Exits(0)]})
        s.finish(CreatePool(spec=PoolSpec(id="p", nodes=3)))
        s.finish(SubmitJob(spec=job_spec(), tasks=task_specs(*"abcdefgh")))
        s.finish(TerminateJob(job="j"))
        return s.log

    assert story_of_a_run() == story_of_a_run()


def test_a_visit_costs_the_same_however_long_the_agenda_is(growth):
    def visits(count):
        world = World()
        for number in range(count):
            world.agenda.node(f"gone-{number}")
            world.agenda.job(f"gone-{number}")
        return lambda: settle(world, 1, [])

    assert growth(visits) < 25, "8 times as many visits cost far more than 8 times as much"


def test_the_bounds_leave_room_for_the_largest_request():
    assert limits.BATCH_EVENTS_MAX >= 10 * limits.TASKS_PER_REQUEST_MAX
    assert limits.RULE_VISITS_MAX >= limits.BATCH_EVENTS_MAX


def test_an_event_that_no_table_allows_is_refused_by_the_fold_and_names_the_thing(given):
    s = given()
    with pytest.raises(ImpossibleEvent, match=r"job j is active: job\.completed cannot happen to it") as caught:
        evolve(s.world, JobCompleted(job="j"), 5)
    assert caught.value.entity == "job j"


@pytest.mark.parametrize(
    ("event", "stream"),
    [
        (JobCompleted(job="gone"), "job/gone"),
        (NodeIdle(node="gone"), "node/gone"),
        (PoolSteady(pool="gone"), "pool/gone"),
        (TaskDeleted(job="j", task="gone"), "job/j"),
        (ReleaseStarted(job="j", node="gone", execution=9), "job/j"),
        (ExecutionRequested(execution=9, kind="task", job="j", task="t1", node="gone", attempt=1), "job/j"),
    ],
)
def test_an_event_about_a_thing_that_is_not_there_is_impossible_too(given, event, stream):
    s = given()
    with pytest.raises(ImpossibleEvent, match="cannot happen: there is no gone") as caught:
        evolve(s.world, event, 5)
    assert caught.value.stream == stream


def test_a_thing_is_not_created_twice(given, job_spec):
    with pytest.raises(ImpossibleEvent, match=r"job j is active: job\.created cannot happen to it"):
        given().given(JobCreated(job="j", spec=job_spec()))


def test_the_engines_own_events_are_part_of_the_world():
    world = World()
    evolve(world, EngineStarted(version="1", host="h", pid=1, epoch=4), 1)
    assert (world.engine_running, world.engine_epoch) == (True, 4)
    evolve(world, EngineStopped(epoch=4), 2)
    assert (world.engine_running, world.engine_epoch) == (False, 4)


def test_reports_never_raise_whatever_they_name(given):
    s = given()
    s.ignores(ExecutionExited(execution=12345, exit_code=0))


def test_a_driver_that_is_given_events_goes_on_from_them(job_spec):
    s = Scenario().given(JobCreated(job="j", spec=job_spec()))
    assert s.world.jobs["j"].state == "active"
    assert story(s.when(TerminateJob(job="j"))) == ["job.terminating j", "job.completed j"]
