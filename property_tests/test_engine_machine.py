"""The built-in stores, executors and two policies of placement under the kit's own state machine over the engine.

JOBLEDGER_WALKS=nightly python -m pytest property_tests/test_engine_machine.py
"""

import os
from typing import ClassVar

from attrs import evolve
from hypothesis import Phase, settings

from jobledger.core.ids import SECOND, Duration
from jobledger.eventstore import SqliteStore
from jobledger.executors.dry_run import DryRunExecutor
from jobledger.executors.local import LocalExecutor
from jobledger.testing.machine import QUICK, WORDS, EngineMachine

NIGHTLY = os.environ.get("JOBLEDGER_WALKS", "ci") == "nightly"


def few(examples, steps):
    """The same few each time, or the kit's own number of others each time."""
    if NIGHTLY:
        return QUICK
    return settings(QUICK, max_examples=examples, stateful_step_count=steps, derandomize=True, database=None, phases=[Phase.generate])


class InMemory(EngineMachine):
    examples = few(15, 20)


class OnSqlite(EngineMachine):
    """A ledger in a file, opened anew by each engine."""

    examples = few(10, 20)

    def make_store(self, folder):
        return SqliteStore.open(folder / "ledger.db", durability="relaxed")


class LocalProcesses(EngineMachine):
    """Programs that really run, and append to a file what they did."""

    examples = few(4, 8)
    words = evolve(WORDS, second=SECOND // 20)
    virtual = False

    def make_executor(self, folder):
        return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))

    async def abandon(self, executor):
        await executor.close()  # What runs goes on; the operating system would close the connection too.


class DryRun(EngineMachine):
    """Programs that are timers, of a length that they choose: what an engine leaves is lost."""

    bound_s = 100_000.0
    examples = few(10, 20)

    def make_executor(self, folder):
        return DryRunExecutor()

    def ran(self):
        return None


class FirstNode:
    """The first of those that may take the task."""

    def choose(self, world, job, task, nodes):
        return next(nodes)


class LeastUsed:
    """The node on which the fewest tasks have run."""

    def choose(self, world, job, task, nodes):
        return min(nodes, key=lambda node: (world.nodes[node].tasks_run, node))


class WithFirstNode(EngineMachine):
    examples = few(8, 20)

    def make_policy(self):
        return FirstNode()


class WithLeastUsed(EngineMachine):
    examples: ClassVar = few(8, 20)

    def make_policy(self):
        return LeastUsed()


TestInMemory = InMemory.TestCase
TestOnSqlite = OnSqlite.TestCase
TestLocalProcesses = LocalProcesses.TestCase
TestDryRun = DryRun.TestCase
TestWithFirstNode = WithFirstNode.TestCase
TestWithLeastUsed = WithLeastUsed.TestCase
