"""Placement: the rules of `core/placement.py`."""

import pytest

from jobledger.core import placement
from jobledger.core.advance import advance
from jobledger.core.errors import PolicyError
from jobledger.core.explain import explain
from jobledger.core.limits import PARALLEL_TASKS_MAX
from jobledger.core.reports import ExecutionExited
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeallocateNode,
    DisableJob,
    DisableScheduling,
    EnableJob,
    EnableScheduling,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import AffinityInfo, PoolSpec, TaskSchedulingPolicy, TaskSpec
from jobledger.core.world import drop_node_index
from jobledger.testing.scenario import Exits, Hangs, Scenario, story

HANG = {name: Hangs() for name in "abcdefgh"}


def placed(s, job="j"):
    return {task: entry.node for task, entry in s.world.jobs[job].tasks.items()}


def order(s):
    return [line.split()[1] for line in story(s.events) if line.startswith("task.running")]


def pack(**more):
    return {"task_scheduling_policy": TaskSchedulingPolicy(node_fill_type="pack"), **more}


# --- order ----------------------------------------------------------------------------------------------------


def test_tasks_of_a_job_run_in_the_order_of_submission(given):
    s = given(tasks=("c", "a", "b"), prep=False)
    s.run()
    assert order(s) == ["c", "a", "b"]


def test_jobs_of_higher_priority_come_first_and_then_earlier_ones(job_spec, task_specs):
    s = Scenario()
    s.given(
        SubmitJob(spec=job_spec("low", prep=False, priority=-5), tasks=task_specs("l")),
        SubmitJob(spec=job_spec("first", prep=False), tasks=task_specs("f1", "f2")),
        SubmitJob(spec=job_spec("second", prep=False), tasks=task_specs("s")),
        SubmitJob(spec=job_spec("high", prep=False, priority=100), tasks=task_specs("h")),
        CreatePool(spec=PoolSpec(id="p")),
    )
    s.run()
    assert order(s) == ["h", "f1", "f2", "s", "l"]


def test_a_running_task_is_not_displaced(given, job_spec, task_specs):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    assert story(s.when(SubmitJob(spec=job_spec("high", prep=False, priority=1000), tasks=task_specs("h")))) == ["job.created high", "task.added h"]


def test_an_earlier_job_that_comes_back_is_earlier_again(given, job_spec, task_specs):
    s = given(tasks=(), prep=False)
    s.given(SubmitJob(spec=job_spec("k", prep=False), tasks=()), DisableScheduling(node="p-1"), DisableJob(job="j", disable_tasks="wait"))
    s.given(AddTasks(job="k", tasks=task_specs("k1")), AddTasks(job="j", tasks=task_specs("j1")), EnableJob(job="j"), EnableScheduling(node="p-1"))
    s.run()
    assert order(s) == ["j1", "k1"]


def test_a_requeued_task_keeps_its_place(given):
    s = given(tasks=("a", "b"), prep=False, script={"a": [Hangs(), Exits(0)]})
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    s.finish(EnableScheduling(node="p-1"))
    assert order(s) == ["a", "a", "b"]


# --- where ----------------------------------------------------------------------------------------------------


def test_spread_takes_the_node_with_the_most_free_slots(given):
    s = given(nodes=3, slots=2, tasks=tuple("abcde"), prep=False, script=HANG)
    assert placed(s) == {"a": "p-1", "b": "p-2", "c": "p-3", "d": "p-1", "e": "p-2"}


def test_pack_takes_the_node_with_the_fewest_free_slots(given):
    s = given(nodes=3, slots=2, tasks=tuple("abcde"), prep=False, script=HANG, pool=pack())
    assert placed(s) == {"a": "p-1", "b": "p-1", "c": "p-2", "d": "p-2", "e": "p-3"}


def test_among_equals_the_node_that_has_been_so_longest_is_taken(given, task_specs):
    s = given(nodes=3, tasks=("a", "b", "c"), prep=False, script=HANG)
    s.run()
    for task in ("b", "a"):
        s.answer("task", "exited", task=task)
    s.when(AddTasks(job="j", tasks=task_specs("d")))
    assert s.world.task("j", "d").node == "p-2"


def test_no_node_takes_more_tasks_than_it_has_slots(given):
    s = given(nodes=2, slots=3, tasks=tuple("abcdefgh"), prep=False, script=HANG)
    s.run()
    assert [len(node.tasks) for node in s.world.nodes.values()] == [3, 3]
    assert s.world.jobs["j"].counts == {"active": 2, "preparing": 0, "running": 6, "completed": 0}


def test_a_freed_slot_is_filled_in_the_same_batch(given):
    s = given(tasks=("a", "b"), prep=False, script=HANG)
    s.run()
    assert story(s.answer("task", "exited")) == [
        "execution.ended a p-1",
        "task.completed a success",
        "execution.requested b p-1",
        "task.running b p-1",
    ]


@pytest.mark.parametrize("request_of", [lambda: DisableScheduling(node="p-1"), lambda: DeallocateNode(node="p-1")])
def test_a_node_that_is_not_up_or_takes_no_tasks_is_passed_over(given, task_specs, request_of):
    s = given(nodes=2, tasks=(), prep=False, slots=2)
    s.finish(request_of())
    s.when(AddTasks(job="j", tasks=task_specs("a", "b")))
    assert set(placed(s).values()) == {"p-2"}


# --- required slots ------------------------------------------------------------------------------------------------


def big(task, slots, **more):
    return TaskSpec(id=task, command_line="work", required_slots=slots, **more)


def test_a_task_takes_the_slots_that_it_requires(given):
    s = given(nodes=2, slots=4, tasks=(big("a", 3), big("b", 2), big("c", 1), big("d", 1)), prep=False, script=HANG)
    assert placed(s) == {"a": "p-1", "b": "p-2", "c": "p-2", "d": "p-1"}
    assert [node.slots for node in s.world.nodes.values()] == [4, 3]


def test_pack_takes_the_node_with_the_fewest_free_slots_that_are_enough(given):
    s = given(nodes=3, slots=4, tasks=(big("a", 2), big("b", 3), big("c", 2), big("d", 1)), prep=False, script=HANG, pool=pack())
    assert placed(s) == {"a": "p-1", "b": "p-2", "c": "p-1", "d": "p-2"}


def test_a_task_that_fits_nowhere_now_holds_up_no_smaller_one(given):
    s = given(slots=3, tasks=(big("a", 2), big("b", 3), big("c", 1)), prep=False, script=HANG)
    assert placed(s) == {"a": "p-1", "b": None, "c": "p-1"}
    s.run()
    s.answer("task", "exited", task="c")
    s.answer("task", "exited", task="a")
    assert s.world.task("j", "b").node == "p-1"


def test_among_tasks_that_fit_the_order_is_that_of_submission_whatever_they_require(given, task_specs):
    s = given(slots=4, tasks=(big("d", 4), big("a", 1), big("c", 2), big("b", 1)), prep=False)
    s.run()
    assert order(s) == ["d", "a", "c", "b"]


def test_a_better_job_whose_task_fits_nowhere_holds_up_no_other(given, job_spec, task_specs):
    s = given(slots=2, tasks=(big("a", 1),), prep=False, script=HANG)
    s.given(SubmitJob(spec=job_spec("k", prep=False, priority=9), tasks=(big("x", 2),)))
    s.given(AddTasks(job="j", tasks=(big("b", 1),)))
    assert (placed(s), placed(s, "k")) == ({"a": "p-1", "b": "p-1"}, {"x": None})


def test_a_task_that_was_requeued_waits_among_its_like(given):
    s = given(slots=2, tasks=(big("a", 2), big("b", 2)), prep=False, script={"a": [Hangs(), Exits(0)]})
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    s.finish(EnableScheduling(node="p-1"))
    assert order(s) == ["a", "a", "b"]


def test_a_job_that_reaches_its_limit_after_it_was_passed_over_takes_nobodys_turn(given, job_spec, task_specs):
    """Both nodes get room in one batch: j has no node for b, then places c and is at its limit, and m's turn is not lost by that."""
    script = {**HANG, "a": Exits(0), "jobpreparation@p-1": [Exits(1), Hangs()], "jobpreparation@p-2": [Exits(0), Hangs()]}
    s = given(nodes=2, slots=2, priority=2, max_parallel_tasks=1, tasks=("a",), script=script)
    s.run()
    s.given(SubmitJob(spec=job_spec("h", prep=False), tasks=(big("h", 1, affinity_info=AffinityInfo(affinity_id="p-2")),)))
    on = {node: AffinityInfo(affinity_id=node) for node in ("p-1", "p-2")}
    s.finish(SubmitJob(spec=job_spec("k"), tasks=(big("k2", 2, affinity_info=on["p-1"]), big("k1", 1, affinity_info=on["p-2"]))))
    s.given(SubmitJob(spec=job_spec("m", prep=False), tasks=(big("m", 2),)), AddTasks(job="j", tasks=(big("b", 2), big("c", 1))))
    assert s.world.pools["p"].free_of == {}
    s.when(TerminateJob(job="k"))
    assert (placed(s), placed(s, "m")) == ({"a": "p-2", "b": None, "c": "p-2"}, {"m": "p-1"})


@pytest.mark.parametrize("slots", [0, -1, 257])
def test_a_number_of_slots_that_makes_no_sense_is_refused(given, slots):
    assert "requiredSlots" in str(given().refuses(AddTasks(job="j", tasks=(big("x", slots),)), "InvalidPropertyValue"))


def test_tasks_that_no_node_has_room_for_cost_nothing(growth, job_spec):
    """However many jobs wait with a task that requires more than is free, others are placed past them."""

    def placements(count):
        s = Scenario().given(CreatePool(spec=PoolSpec(id="p", task_slots_per_node=4)))
        s.run()
        world = s.world
        for number in range(count // 10):
            for _ in advance(world, SubmitJob(spec=job_spec(f"big{number}", prep=False, priority=9), tasks=(big("x", 200),)), 1):
                pass
        advance(world, SubmitJob(spec=job_spec("small", prep=False), tasks=tuple(big(f"t{n}", 1) for n in range(500))), 1)
        reports = [ExecutionExited(execution=n, exit_code=0) for n in range(1, 501)]

        def place():
            for report in reports:
                advance(world, report, 2)

        return place

    assert growth(placements) < 3, "8 times as many jobs that cannot be placed make a placement dearer"


# --- affinity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "TVM:"])
@pytest.mark.parametrize("policy", [{}, pack()])
def test_a_task_goes_to_the_node_that_it_names(given, prefix, policy):
    s = given(nodes=3, slots=2, tasks=("a", big("b", 1, affinity_info=AffinityInfo(affinity_id=f"{prefix}p-3"))), prep=False, pool=policy)
    assert placed(s)["b"] == "p-3"


@pytest.mark.parametrize("wish", ["p-1", "TVM:p-99", "q-1"])
def test_a_hint_that_cannot_be_heeded_is_none(given, wish):
    s = given(nodes=2, tasks=("a", big("b", 1, affinity_info=AffinityInfo(affinity_id=wish))), prep=False, script=HANG)
    assert placed(s) == {"a": "p-1", "b": "p-2"}


def test_a_node_that_failed_preparation_is_no_place_to_wish_for(given):
    wish = AffinityInfo(affinity_id="p-1")
    s = given(nodes=2, tasks=(big("a", 1, affinity_info=wish),), script={"jobpreparation@p-1": Exits(1)})
    s.run()
    assert placed(s) == {"a": "p-2"}


@pytest.mark.parametrize("wish", ["", "TVM:", "a b", "tvm:p-1"])
def test_what_names_no_node_is_refused(given, wish):
    refused = given().refuses(AddTasks(job="j", tasks=(big("x", 1, affinity_info=AffinityInfo(affinity_id=wish)),)), "InvalidPropertyValue")
    assert "affinityInfo.affinityId" in str(refused)


# --- cost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{}, pack()])
def test_a_placement_costs_the_same_however_many_nodes_were_taken_before(growth, job_spec, task_specs, policy):
    def placements(count):
        world = Scenario().given(CreatePool(spec=PoolSpec(id="p", nodes=0, **policy)), SubmitJob(spec=job_spec(), tasks=task_specs("a"))).world
        pool = world.pools["p"]
        for number in range(count):
            pool.nodes[f"p-{number}"] = pool.free[1][f"p-{number}"] = None
            pool.free_of[f"p-{number}"] = 1

        def place():
            for _ in range(count):
                drop_node_index(pool, next(placement.rule(world, pool)).node)

        return place

    assert growth(placements) < 25, "8 times as many placements cost far more than 8 times as much"


def test_free_nodes_are_not_searched_for_a_job_that_none_may_run(given, job_spec, task_specs):
    class Asked(dict):
        count = 0

        def __contains__(self, node):
            self.count += 1
            return super().__contains__(node)

    s = given(nodes=5, tasks=tuple("abcde"), priority=10, script={f"jobpreparation@p-{number}": [Exits(1), Exits(0)] for number in range(1, 6)})
    s.run()
    asked = s.world.jobs["j"].ineligible = Asked(s.world.jobs["j"].ineligible)
    s.finish(SubmitJob(spec=job_spec("k"), tasks=task_specs(*"fghij")))
    assert s.world.jobs["k"].succeeded == 5
    assert asked.count == 0


# --- preparation that failed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [{}, pack()])
def test_a_node_that_failed_preparation_is_passed_over_for_that_job_alone(given, job_spec, task_specs, policy):
    s = given(nodes=2, slots=2, tasks=("a", "b"), pool=policy, script={**HANG, "jobpreparation@p-1": [Exits(1), Exits(0)]})
    s.run()
    assert placed(s) == {"a": "p-2", "b": "p-2"}
    s.finish(SubmitJob(spec=job_spec("k"), tasks=task_specs("c")))
    assert placed(s, "k") == {"c": "p-1"}


def test_a_job_that_no_free_node_may_take_does_not_keep_later_jobs_waiting(given, job_spec, task_specs):
    s = given(tasks=("a",), priority=10, script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    assert s.world.jobs["j"].blocked
    s.finish(SubmitJob(spec=job_spec("k"), tasks=task_specs("b")))
    assert s.world.task("k", "b").result == "success"


def test_a_job_has_no_more_tasks_at_work_than_it_may(given, task_specs):
    s = given(nodes=2, slots=4, prep=False, tasks=("a", "b", "c"), max_parallel_tasks=2, script={"a": Hangs(), "b": Hangs(), "c": Hangs()})
    s.run()
    assert s.launches() == ["a@p-1", "b@p-2"]
    assert [reason.code for reason in explain(s.world, "j", "c")] == ["MaxParallelTasks", "Queued"]
    s.answer("task", "exited", task="a")
    s.run()
    assert s.launches()[-1].startswith("c@")


def test_tasks_that_wait_for_preparation_count_and_others_jobs_do_not(given, job_spec, task_specs):
    s = given(slots=4, tasks=("a", "b"), max_parallel_tasks=1, script={"jobpreparation": Hangs()})
    s.given(SubmitJob(spec=job_spec("k", prep=False), tasks=task_specs("x", "y"))).run()
    assert (s.world.jobs["j"].counts["preparing"], s.launches(job="k")) == (1, ["x@p-1", "y@p-1"])


@pytest.mark.parametrize("most", [0, -2, PARALLEL_TASKS_MAX + 1])
def test_a_limit_that_makes_no_sense_is_refused(given, job_spec, most):
    assert "maxParallelTasks" in str(given().refuses(SubmitJob(spec=job_spec("k", max_parallel_tasks=most)), "InvalidPropertyValue"))


# --- policies -------------------------------------------------------------------------------------------------


class Choosing:
    """A policy that takes what `pick` makes of the nodes it is offered, and remembers what it was asked."""

    def __init__(self, pick):
        self.pick = pick
        self.asked = []

    def choose(self, world, job, task, nodes):
        offered = list(nodes)
        self.asked.append((job.id, task.spec.id, offered))
        assert world.jobs[job.id] is job
        return self.pick(offered)


def placed_by(given, pick, *, slots=1, task=None):
    """The job `j` on three nodes, one of which is taken; then a task is added under the policy."""
    policy = Choosing(pick)
    s = given(nodes=3, slots=slots, prep=False, tasks=("t1",), script={"t1": Hangs()})
    s.run()
    advance(s.world, AddTasks(job="j", tasks=(task or TaskSpec(id="t2", command_line="work"),)), s.now + 1, policy=policy)
    return s, policy


def test_a_policy_is_offered_the_nodes_with_room_the_pools_own_choice_first(given):
    s, policy = placed_by(given, lambda offered: offered[-1])
    assert policy.asked == [("j", "t2", ["p-2", "p-3"])]
    assert s.world.task("j", "t2").node == "p-3"


def test_affinity_goes_before_a_policy(given):
    s, policy = placed_by(
        given, lambda offered: offered[0], task=TaskSpec(id="t2", command_line="work", affinity_info=AffinityInfo(affinity_id="p-3"))
    )
    assert policy.asked == []
    assert s.world.task("j", "t2").node == "p-3"


@pytest.mark.parametrize("chosen", ["p-1", "p-9", None])
def test_a_policy_that_chooses_a_node_without_room_is_told_so(given, chosen):
    with pytest.raises(PolicyError) as wrong:
        placed_by(given, lambda _: chosen)
    assert str(wrong.value) == f"the placement policy chose node {chosen} for task t2 of job j, and it may not take the task"


def test_a_policy_may_not_choose_a_node_whose_preparation_failed(given):
    s = given(nodes=2, slots=2, tasks=("t1",), script={"jobpreparation@p-1": Exits(1), "t1": Hangs()})
    s.run()
    assert list(s.world.jobs["j"].ineligible) == ["p-1"]
    more = AddTasks(job="j", tasks=(TaskSpec(id="t2", command_line="work"),))
    with pytest.raises(PolicyError):
        advance(s.world, more, s.now + 1, policy=Choosing(lambda _: "p-1"))
