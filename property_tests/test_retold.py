"""Stories of whatever walks lead to: a history that the rules made is clean, and one that was tampered with is told to its end all the same."""

import random
from typing import ClassVar

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from jobledger.core.errors import ImpossibleEvent, RequestRefused
from jobledger.plan import jobs_of, plan_of
from jobledger.planview import document
from jobledger.retelling import retell
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.walks import CoreWalk

WALKS = 40
TAMPERED = 4
"""How many times each history is tampered with."""


def tampered(log, rng):
    """The history with some of its events left out, doubled or exchanged with the next one."""
    log = list(log)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(log) - 1)
        match rng.choice(["drop", "double", "exchange"]):
            case "drop":
                del log[at]
            case "double":
                log.insert(at, log[at])
            case "exchange":
                log[at], log[at + 1] = log[at + 1], log[at]
    return log


def read_as_plans(store):
    """A plan may say that a history cannot be, and nothing else may go wrong."""
    for job in jobs_of(store):
        try:
            document(plan_of(store, job))
        except (ImpossibleEvent, RequestRefused):
            continue


class RetoldWalk(CoreWalk):
    """A walk whose ledger is told as it is, and tampered with."""

    found: ClassVar[list[int]] = []

    def teardown(self):
        super().teardown()
        if self.stage.broken is not None:
            return
        story = list(retell(ledger_of(self.stage.log)))
        assert [one.recorded.event for one in story] == [event for event, _ in self.stage.log]
        assert [finding for one in story for finding in one.findings] == []
        rng = random.Random(len(self.stage.log))  # noqa: S311 - the same tampering each time
        for _ in range(TAMPERED):
            log = tampered(self.stage.log, rng)
            told = list(retell(ledger_of(log)))
            assert len(told) == len(log)
            self.found.append(sum(len(one.findings) for one in told))
            read_as_plans(ledger_of(log))


def test_whatever_happened_is_told_to_its_end(walking):
    run_state_machine_as_test(RetoldWalk, settings=settings(walking, max_examples=max(WALKS, walking.max_examples // 8)))
    noticed = sum(number > 0 for number in RetoldWalk.found)
    # The rest are such that another legal history is left, and how many these are differs with what Hypothesis has seen imported.
    assert noticed > len(RetoldWalk.found) * 0.7, f"{noticed} of {len(RetoldWalk.found)} histories that were tampered with were noticed"
