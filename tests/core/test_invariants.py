"""How the invariants are asked; that each is able to fail is proved in property_tests/test_planted.py."""

import inspect

from jobledger.core import (
    promises_of_drains,
    promises_of_ends,
    promises_of_files,
    promises_of_finalizers,
    promises_of_jobs,
    promises_of_limits,
    promises_of_nodes,
    promises_of_placement,
)
from jobledger.core.events import ExecutionRequested
from jobledger.core.invariants import INVARIANTS, Auditor, Invariant, audit
from jobledger.core.requests import DeleteJob, DeletePool, RebootNode, TerminateJob
from jobledger.testing.scenario import Exits

STRAY = ExecutionRequested(execution=1, kind="task", job="gone", task="t", node="p-1", attempt=1)


def lived(given):
    """A life with a failed try, a reboot and a release, to the end of the job and of its pool."""
    s = given(nodes=2, tasks=("t1", "t2", "t3"), script={"jobpreparation@p-1": [Exits(1), Exits(0)]})
    s.run()
    for request in (RebootNode(node="p-2"), TerminateJob(job="j"), DeleteJob(job="j"), DeletePool(pool="p")):
        s.finish(request)
    return s


def test_a_sound_history_has_no_violations(given):
    assert audit(lived(given).log) == []


def test_a_violation_says_which_invariant_failed_where_and_how(given):
    log = lived(given).log
    found = {violation.invariant: violation for violation in audit([*log, (STRAY, 0)])}
    gone = found["a_job_that_is_gone_runs_nothing"]
    assert (gone.index, gone.position) == (len(log), None)
    assert str(gone) == f"a_job_that_is_gone_runs_nothing at event {len(log)}: there is no job gone"
    assert str(Auditor().see(STRAY, 0, position=7)[0]).startswith("a_job_that_is_gone_runs_nothing at position 7: ")


def test_an_auditor_may_be_asked_for_some_invariants_only(given):
    assert Auditor([promises_of_nodes.execution_numbers_grow]).see(STRAY, 0) == []


def test_history_forgets_what_is_gone(given):
    auditor = Auditor()
    for event, at in lived(given).log:
        auditor.see(event, at)
    history = auditor.history
    assert (history.states, history.pools, history.nodes, history.jobs, history.executions) == ({}, {}, {}, {}, {})


def test_every_invariant_of_the_modules_is_asked():
    modules = (
        promises_of_drains,
        promises_of_ends,
        promises_of_finalizers,
        promises_of_files,
        promises_of_jobs,
        promises_of_limits,
        promises_of_nodes,
        promises_of_placement,
    )
    defined = [value for module in modules for _, value in inspect.getmembers(module, lambda value: isinstance(value, Invariant))]
    assert {invariant.name for invariant in defined} == {invariant.name for invariant in INVARIANTS}
    assert len(defined) == len(INVARIANTS)
