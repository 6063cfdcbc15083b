"""Legal and illegal histories, requests and reports, as the kit gives them to others: the auditor tells the histories apart."""

from collections import Counter

from hypothesis import HealthCheck, given, settings

from jobledger.core.invariants import audit
from jobledger.testing.histories import faulty, illegal_histories, is_harmless, legal_histories
from jobledger.testing.strategies import reports, requests

SOME = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@SOME
@given(legal_histories())
def test_nothing_is_to_be_said_against_a_legal_history(history):
    assert audit(history) == []


def test_the_auditor_objects_to_every_illegal_history_of_whatever_kind():
    seen = Counter()

    @settings(SOME, max_examples=80)
    @given(illegal_histories())
    def objects(illegal):
        seen[illegal.fault] += 1
        assert audit(illegal.history), illegal.what

    objects()
    assert set(seen) == {"dropped", "repeated", "swapped", "altered"}


@settings(SOME, max_examples=10)
@given(legal_histories(steps=5))
def test_every_fault_that_a_table_forbids_is_found(history):
    """Wherever it is: this is every fault of the history, and not one that was drawn."""
    missed = [one.what for one in faulty(history) if not is_harmless(one) and not audit(one.history)]
    assert missed == []


def test_requests_and_reports_are_of_many_kinds():
    seen = set()

    @settings(SOME, max_examples=200)
    @given(requests(), reports())
    def draw(request, report):
        seen.update((type(request).__name__, type(report).__name__))

    draw()
    assert {"CreatePool", "SubmitJob", "AddTasks", "TerminateJob", "ResizePool", "ExecutionExited", "NodeFaulted", "FilesRemoved"} <= seen
