"""Subjects: what is not there is absent, whatever it is."""

import pytest

from jobledger.core.machine import ABSENT
from jobledger.core.machines import MACHINES
from jobledger.core.subjects import state_in

NOT_THERE = [
    ("pool", "gone"),
    ("allocation", "gone"),
    ("node", "gone"),
    ("scheduling", "gone"),
    ("start-task", "p-1"),
    ("execution", "999"),
    ("job", "gone"),
    ("task", "gone", "t1"),
    ("task", "j", "gone"),
    ("preparation", "j", "gone"),
    ("release", "j", "gone"),
    ("finalizer", "j"),
    ("files", "j", "t1", "gone"),
    ("files", "gone", "t1", "p-1"),
    ("files", "j", "gone", "p-1"),
    ("job-files", "j", "p-1"),
]


@pytest.mark.parametrize("key", NOT_THERE, ids="/".join)
def test_what_is_not_there_is_absent(given, key):
    s = given()
    s.run()
    assert state_in(s.world, key) == ABSENT


def test_there_is_an_example_of_every_machine():
    assert {machine for machine, *_ in NOT_THERE} == set(MACHINES)
