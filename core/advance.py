"""Advance: one stimulus to its end.

1. The events of the stimulus, and then the joint rules applied to whatever they touched, until nothing more follows: one
   stimulus is one batch, and after it the world is settled.
2. The rules visit only what is on the agenda, in a fixed order: nodes, jobs, pools, then node load.  In a settled world a
   visit to anything yields nothing, which a property test holds with everything on the agenda.
3. Every event knows its cause: the stimulus, or the event of the batch that put its rule on the agenda.
"""

from collections.abc import Iterator

from attrs import frozen

from . import job, limits, node, placement, pool
from .decide import Stimulus, decide
from .errors import ImpossibleEvent, RequestRefused, RulesDoNotSettle
from .events import Event
from .evolve import evolve
from .ids import Micros
from .ports import PlacementPolicy
from .world import Pool, World


@frozen
class Decided:
    """An event and its cause: the index in the batch of the event it follows from, or None for the stimulus itself."""

    event: Event
    cause: int | None


def advance(world: World, stimulus: Stimulus, now: Micros, policy: PlacementPolicy | None = None) -> list[Decided]:
    """Let `stimulus` happen at `now`: the world has evolved, and what comes back is the batch to record.

    Raises `RequestRefused`, and then the world is as it was; `ImpossibleEvent` and `RulesDoNotSettle` for bugs of ours, after
    which the world must not be used any more; and `PolicyError`, after which the same holds.
    """
    batch: list[Decided] = []
    world.agenda.cause = -1
    try:
        _take(world, decide(world, stimulus, now), now, batch, None)
    except RequestRefused as refusal:
        if batch:
            raise ImpossibleEvent(f"refused after {len(batch)} events: {refusal}") from refusal
        raise
    settle(world, now, batch, policy)
    return batch


def settle(world: World, now: Micros, batch: list[Decided], policy: PlacementPolicy | None = None) -> None:
    """Apply the joint rules until nothing is left on the agenda, appending what follows to `batch`."""
    visits = 0
    while True:
        found = _next(world, policy)
        if found is None:
            return
        rule, cause = found
        _take(world, rule, now, batch, cause if cause >= 0 else None)
        visits += 1
        if visits > limits.RULE_VISITS_MAX or len(batch) > limits.BATCH_EVENTS_MAX:
            raise RulesDoNotSettle(f"the joint rules made {len(batch)} events in {visits} visits and are not done")


def reconsider(world: World) -> None:
    """Put everything on the agenda: for a world that was just rebuilt from its events."""
    for node_id in world.nodes:
        world.agenda.node(node_id)
        world.agenda.node_load(node_id)
    for job_id in world.jobs:
        world.agenda.job(job_id)
    for pool_id in world.pools:
        world.agenda.pool(pool_id)


def _take(world: World, events: Iterator[Event], now: Micros, batch: list[Decided], cause: int | None) -> None:
    for event in events:
        world.agenda.cause = len(batch)
        batch.append(Decided(event, cause))
        evolve(world, event, now)


def _next(world: World, policy: PlacementPolicy | None) -> tuple[Iterator[Event], int] | None:
    """The next rule to apply and its cause."""
    agenda = world.agenda
    while agenda.nodes:
        node_id, cause = agenda.nodes.popitem(last=False)
        if (found_node := world.nodes.get(node_id)) is not None:
            return node.rule(world, found_node), cause
    while agenda.jobs:
        job_id, cause = agenda.jobs.popitem(last=False)
        if (found_job := world.jobs.get(job_id)) is not None:
            return job.rule(world, found_job), cause
    while agenda.pools:
        pool_id, cause = agenda.pools.popitem(last=False)
        if (found_pool := world.pools.get(pool_id)) is not None:
            return _pool_rules(world, found_pool, policy), cause
    while agenda.load:
        node_id, cause = agenda.load.popitem(last=False)
        if (found_node := world.nodes.get(node_id)) is not None:
            return node.load_rule(world, found_node), cause
    return None


def _pool_rules(world: World, found: Pool, policy: PlacementPolicy | None) -> Iterator[Event]:
    yield from pool.rule(world, found)
    yield from placement.rule(world, found, policy)
