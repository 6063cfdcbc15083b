"""Plans of whatever walks lead to: each execution once, no node with more than its slots, nothing after the end, and scripts that shells can read."""

import subprocess
from collections import defaultdict
from itertools import accumulate

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from jobledger.core.events import ExecutionRequested, JobCompleted, JobCreated, JobDeleted, NodeAdded, PoolCreated
from jobledger.plan import jobs_of, plan_of
from jobledger.planview import document, render, table
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.walks import CoreWalk

WALKS = 60


def latest(log, job):
    """All that happened since the latest job of that id was created."""
    begin = max(number for number, (event, _) in enumerate(log) if isinstance(event, JobCreated) and event.job == job)
    return [event for event, _ in log[begin:]]


def slots_in(log):
    """Of each node the slots that it ever had: a pool that is made anew has nodes of the same ids."""
    pools, nodes = {}, defaultdict(set)
    for event, _ in log:
        if isinstance(event, PoolCreated):
            pools[event.pool] = event.spec.task_slots_per_node
        elif isinstance(event, NodeAdded):
            nodes[event.node].add(pools[event.pool])
    return nodes


def check_plan(plan, log):
    of_job = [row for row in plan.rows if row.kind != "starttask"]
    story = [event for event in latest(log, plan.job) if getattr(event, "job", None) == plan.job]
    assert sorted(row.execution for row in of_job) == [event.execution for event in story if isinstance(event, ExecutionRequested)]
    assert len({row.execution for row in plan.rows}) == len(plan.rows)
    ordered = [(row.began, row.execution) for row in plan.rows]
    assert ordered == sorted(ordered)
    for row in plan.rows:
        assert row.start is None or row.requested <= row.start
        assert row.end is None or row.began <= row.end <= plan.makespan
        assert (row.end is None) == (row.outcome == "unfinished")
    assert plan.ended == any(isinstance(event, JobCompleted | JobDeleted) for event in story)
    check_use(plan, slots_in(log))


def check_use(plan, slots):
    nodes = {node.node: node for node in plan.nodes}
    moments = []
    for name, node in nodes.items():
        assert node.slots in slots[name]
        rows = [row for row in plan.rows if row.node == name and row.kind == "task" and row.start is not None]
        spans = [(row.start, plan.makespan if row.end is None else row.end, row.slots) for row in rows]
        here = sorted([*((start, slots) for start, end, slots in spans), *((end, -slots) for start, end, slots in spans)])
        assert max(accumulate(step for _, step in here), default=0) <= max(slots[name])
        assert node.used == sum(slots * (end - start) for start, end, slots in spans) <= node.available
        assert node.tasks == len(rows)
        moments += [*((start, 1) for start, end, _ in spans if start < end), *((end, -1) for start, end, _ in spans if start < end)]
    assert plan.peak == max(accumulate(step for _, step in sorted(moments)), default=0)
    assert plan.utilisation is None or 0 <= plan.utilisation <= 1
    assert {row.node for row in plan.rows if row.kind == "task"} <= nodes.keys()


def check_forms(plan):
    """Every form tells of every execution, and a shell can read the script."""
    assert len(document(plan)["executions"]) == len(plan.rows)
    assert sum(line.startswith(("+", "-")) for line in table(plan)) == len(plan.rows)
    script = render(plan, "sh")
    assert sum(line.startswith("# ") and ", attempt " in line for line in script.splitlines()) == len(plan.rows)
    done = subprocess.run(["/bin/sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class PlannedWalk(CoreWalk):
    """A walk whose ledger is read as plans: on the way, where it was left, and at its end."""

    plans = 0

    def teardown(self):
        if self.stage.broken is None:
            self.check()
        super().teardown()
        if self.stage.broken is None:
            self.check()

    def check(self):
        store = ledger_of(self.stage.log)
        for job in jobs_of(store):
            plan = plan_of(store, job)
            check_plan(plan, self.stage.log)
            PlannedWalk.plans += len(plan.rows)
            if PlannedWalk.plans % 7 == 0:
                check_forms(plan)


def test_plans_of_walks_are_whole_and_possible(walking):
    run_state_machine_as_test(PlannedWalk, settings=settings(walking, max_examples=max(WALKS, walking.max_examples // 5)))
    assert PlannedWalk.plans > WALKS
