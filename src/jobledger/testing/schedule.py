"""A schedule-controlled engine: requests, reports, crashes, faults and clock steps in an order that one seed chooses.

    python -m jobledger.testing.schedule --seed 7             # replays one seed and prints its story
    python -m jobledger.testing.schedule --seed 7 --seeds 500 # plays that many, and stops at the first that breaks something

1. The engine is the real one, in virtual time and on a store in memory; its executor is the stand-in, of which one seed chooses what
   arrives when, twice, in another order or never.  The same seed gives the same ledger, event by event.
2. Engines die before and after each append, between two commands that they give, between two awaits and while they recover; what they
   had heard and not recorded is lost, and the next one finds what runs.
3. After each step the jury judges; at the end everything is driven to its end, and the ledger is held against what really ran.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import click
from attrs import define, frozen

from jobledger import virtual
from jobledger.core import commands as c
from jobledger.core import requests as q
from jobledger.core.errors import ExecutorError, JobledgerError, LedgerBusy, RequestRefused, StoreError
from jobledger.core.ids import SECOND, Micros, PoolId
from jobledger.core.ports import EventStore, Executor, InboxRequest, PlacementPolicy, RecordedEvent
from jobledger.core.world import UP, World
from jobledger.engine import Engine
from jobledger.eventstore import MemoryStore, encode_request
from jobledger.surroundings import LEASE_TTL, Surroundings

from .endings import record_faults, unrest
from .jury import Crash, GuardedExecutor, GuardedStore, Jury, Life, guard_executor
from .model import Fault
from .scenario import story as told
from .seeded import SeededSpecs
from .stage import Broken
from .stand_in import Field, Hand, StandIn
from .witness import contradictions

EPOCH: Final = 1_700_000_000 * SECOND
"""When every schedule begins."""
STEPS: Final = 60
INBOX_POLL_S: Final = 0.5
LIVES_MAX: Final = 50
"""Engines that die one after the other while they recover, before that is called endless."""
QUIET_ROUNDS_MAX: Final = 5_000
"""Seconds of virtual time in which everything has to come to rest."""
POINTS: Final = (
    "before an append",
    "before an append",
    "after an append",
    "after an append",
    "before commands are given",
    "after a command was given",
    "before an executor is opened",
    "after an executor was opened",
    "before what runs is adopted",
)


class Chance(Hand):
    """Decides by a seed; `calm` ends all mischief."""

    def __init__(self, seed: int) -> None:
        self.random: Final = random.Random(f"jobledger schedule {seed}")  # noqa: S311 - a schedule is no secret
        self.calm = False

    def delay_s(self) -> float:
        """See `Hand`."""
        return 0.001 if self.calm else self.random.choice([0, 0.001, 0.001, 0.01, 0.2, 3])

    def launches(self, launch: c.Launch) -> bool:  # noqa: ARG002 - the hook has it
        """See `Hand`."""
        return not self.rarely()

    def again(self) -> bool:
        """See `Hand`."""
        return self.rarely()

    def loses(self) -> bool:
        """See `Hand`."""
        return self.rarely()

    def which(self, count: int) -> int:
        """See `Hand`."""
        return self.random.randrange(count)

    def obeys(self) -> bool:
        """See `Hand`."""
        return not self.rarely()

    def uploads(self) -> bool:
        """See `Hand`."""
        return not self.rarely()

    def rarely(self) -> bool:
        """One time in ten, while nothing is calm."""
        return not self.calm and self.random.random() < 0.1


@frozen(kw_only=True)
class Played:
    """What one seed led to.  `broken` says what did not hold, empty where all did."""

    seed: int
    story: Sequence[str]
    events: Sequence[RecordedEvent]
    lives: int
    broken: str
    jury: Jury


@frozen(kw_only=True)
class Parts:
    """What plays in a schedule, for those who put something of their own into it; `engine` opens one."""

    store: Callable[[], EventStore] = lambda: MemoryStore(ledger_id="5ced01e5")
    executor: Callable[[Field, Hand], Executor] = StandIn
    policy: Callable[[], PlacementPolicy | None] = lambda: None
    engine: type[Engine] = Engine


def play(seed: int, *, steps: int = STEPS, parts: Parts | None = None) -> Played:
    """Play one seed.  Raises nothing for what breaks: `Played.broken` has it."""
    schedule = Schedule(seed, parts or Parts())
    broken = ""
    try:
        virtual.run_virtually(schedule.play(steps))
    except (Broken, JobledgerError, TimeoutError, virtual.NothingLeft) as error:
        broken = f"{type(error).__name__}: {error}"
        schedule.story.append(f"broken: {broken}")
    return Played(seed=seed, story=schedule.story, events=schedule.jury.events, lives=schedule.lives, broken=broken, jury=schedule.jury)


@define(eq=False)
class _Armed:
    """Where the engine that lives now is to die: at the `count`-th time that it comes to `where`."""

    where: str = ""
    count: int = 0


class Schedule:
    """One seed at play."""

    def __init__(self, seed: int, parts: Parts) -> None:
        self.chance: Final = Chance(seed)
        self.random: Final = self.chance.random
        self.specs: Final = SeededSpecs(self.random)
        self.parts: Final = parts
        self.story: Final[list[str]] = []
        self.field: Final = Field()
        self.jury: Final = Jury(heard=self._hear)
        self.store: Final = parts.store()
        self.lives = 0
        self.engine: Engine
        self._stand_in: Executor
        self._guard: GuardedExecutor
        self._life = Life()
        self._armed = _Armed()
        self._offset = 0
        self._ahead = 0
        """How much the clock of the engine that lives is ahead of the first one's: engines on two machines have two."""
        self._names = 0
        self._letters: list[str] = []
        self._boots = 0
        self._owner = "an engine"
        self._engines: list[Engine] = []
        """All that were opened: the loop holds their tasks by weak references only."""

    # --- the play --------------------------------------------------------------------------------------------

    async def play(self, steps: int) -> None:
        """Steps, each judged, and then everything to its end.  Raises `Broken`."""
        await self._begin_life()
        await self._ask(q.CreatePool(spec=self.specs.pool(PoolId("p"))))
        for _ in range(steps):
            await self._step()
            await self._judge()
        await self._end_all()

    async def _step(self) -> None:
        weights: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (10, self._wait),
            (8, self._request),
            (3, self._leave_a_letter),
            (1, self._take_a_letter_back),
            (2, self._arm),
            (1, self._die),
            (1, self._step_the_clock),
            (2, self._befall_a_node),
            (2, self._bring_back),
            (1, self._reboot_the_host),
            (1, self._close),
            (1, self._second_engine),
            (1, self._give_twice),
        ]
        (chosen,) = self.random.choices([what for _, what in weights], [weight for weight, _ in weights])
        await chosen()

    async def _judge(self) -> None:
        """Judge what has happened; an engine that died meanwhile is followed by the next one."""
        if self._life.over:
            await self._follow()
        await self.engine.until(lambda _: True)  # Raises what stopped it.
        self.jury.judge(self.store, self.engine.world)
        if self.field.model.complaints:
            raise Broken("; ".join(self.field.model.complaints))

    # --- steps -----------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        await asyncio.sleep(self.random.choice([0, 0, 0.0005, 0.002, 0.05, 1, 4, 30]))

    async def _request(self) -> None:
        """Ask and go on, or wait for the answer."""
        asking = asyncio.create_task(self._ask(self.specs.request(self._world)), name=f"asking {self._names}")
        if self.random.random() < 0.5:
            await asyncio.wait([asking], timeout=1)

    async def _ask(self, request: q.Request) -> None:
        self.tell(f"asked: {request}")
        jury = self.jury
        try:
            position = await self.engine.request(request)
        except RequestRefused as refusal:
            self.tell(f"refused: {refusal.code}")
        except (StoreError, ExecutorError, Crash) as error:
            self.tell(f"not answered: {error!r}")
        else:
            jury.answered(position)

    async def _leave_a_letter(self) -> None:
        request = self.specs.request(self._world)
        self._names += 1
        kind, data = encode_request(request)
        letter = InboxRequest(id=f"letter-{self._names}", kind=kind, data=data, actor="user:ann", reason=None, submitted_at=Micros(self._clock()))
        self.tell(f"left as {letter.id}: {request}")
        self.store.put_request(letter)
        self._letters.append(letter.id)

    async def _take_a_letter_back(self) -> None:
        if self._letters:
            letter = self._letters.pop(self.random.randrange(len(self._letters)))
            self.tell(f"{letter} is taken back: {self.store.withdraw_request(letter)}")

    async def _arm(self) -> None:
        """The engine dies at some place that it will come to."""
        self._armed = _Armed(self.random.choice(POINTS), self.random.randrange(1, 4))
        if self._armed.where.endswith(("opened", "adopted")):
            await self._die()  # It comes there only as it recovers.

    async def _die(self) -> None:
        """As by kill -9, between two awaits."""
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        self._life.over = True
        await self._follow()

    async def _step_the_clock(self) -> None:
        by_s = self.random.choice([-7200, -30, -1, 1, 30, 400, 7200])
        self.tell(f"the clock steps by {by_s} s")
        self._offset += by_s * SECOND

    async def _befall_a_node(self) -> None:
        nodes = [node for node, machine in self.field.model.machines.items() if machine.up and machine.reachable and node in self._world.nodes]
        if not nodes or not isinstance(self._stand_in, StandIn):
            return
        faults: list[Fault | None] = ["unusable", "lost", "preempted", "wiped", None, None]
        node, fault = self.random.choice(nodes), self.random.choice(faults)
        self.tell(f"node {node} is {fault or 'restarted by itself'}")
        if fault is None:
            self._stand_in.cut_power(node)
        else:
            self._stand_in.fault(node, fault)

    async def _bring_back(self) -> None:
        if isinstance(self._stand_in, StandIn):
            for node in list(self._world.nodes.values()):
                if node.state in {"preempted", "unusable", "unknown"}:
                    self._stand_in.come_back(node.id, node.state)

    async def _reboot_the_host(self) -> None:
        self._life.over = True
        self._boots += 1
        self.field.model.restart_host()
        await self._follow()

    async def _close(self) -> None:
        """A stop with notice, and the next engine."""
        try:
            await self.engine.close()
        except (StoreError, Crash) as error:
            self.tell(f"could not close: {error!r}")
        self._life.over = True
        await self._follow()

    async def _second_engine(self) -> None:
        """Another engine wants the ledger: it gets it where the first one's lease has run out, and that one stops then."""
        first, life = self.engine, self._life
        self._armed = _Armed()
        ahead = self._ahead + (2 * LEASE_TTL if self.random.random() < 0.3 else 0)
        self.tell("another engine wants the ledger")
        try:
            await self._open(f"engine {self.lives + 1}", ahead)
        except LedgerBusy:
            self._life = life
            return
        try:
            async with asyncio.timeout(1):
                await first.request(q.CreatePool(spec=self.specs.pool(PoolId("late"))))
        except StoreError:
            self.tell("and the first one stops")
        else:
            raise Broken("an engine that was replaced goes on")
        life.over = True

    async def _give_twice(self) -> None:
        self._guard.twice = True

    # --- lives -----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """The engine is dead: bury it, and let the next one recover, which may die of that."""
        for _ in range(LIVES_MAX):
            self._life.over = True
            await _cancel_all_others()
            self.field.engine_died()
            try:
                await self._begin_life()
            except Crash:
                continue
            return
        raise Broken("no engine lives long enough to recover")

    async def _begin_life(self) -> None:
        self.field.engine_died()
        await self._open(self._owner, self._ahead)

    async def _open(self, owner: str, ahead: int) -> None:
        self.lives += 1
        self.tell(f"engine {self.lives} opens the ledger")
        self._life = life = Life(number=self.lives, point=self._at)
        stand_in = self.parts.executor(self.field, self.chance)
        guard = guard_executor(stand_in, self.jury, life)
        around = Surroundings(
            clock=lambda: self._clock() + ahead,
            host="host",
            pid=self.lives,
            boot_id=f"boot-{self._boots}",
            owner=owner,
            inbox_poll_s=INBOX_POLL_S,
            new_identity=self._new_name,
        )
        store = GuardedStore(self.store, self.jury, life, keep=True)
        engine = await self.parts.engine.open(store, executors={"local": guard}, surroundings=around, policy=self.parts.policy())
        self.engine, self._stand_in, self._guard = engine, stand_in, guard
        self._owner, self._ahead = owner, ahead
        self._engines.append(engine)

    def _at(self, where: str) -> None:
        armed = self._armed
        if where == armed.where:
            armed.count -= 1
            if not armed.count:
                self._armed = _Armed()
                self.tell(f"the engine dies {where}")
                raise Crash

    # --- the end ---------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        """Whatever can be done is done, every job completes, and every job can be deleted."""
        self.chance.calm = True
        self._armed = _Armed()
        self.tell("everything is driven to its end")
        self._offset += max(0, self.jury.events[-1].recorded_at - self._clock() - self._ahead)
        await self._die()
        await self._rest()
        await self._bring_back()
        await self._rest()
        self._hold(unrest(self._world))
        for job in list(self._world.jobs.values()):
            if job.state in {"active", "disabled"}:
                await self._ask(q.TerminateJob(job=job.id))
        await self._rest()
        self._hold([f"job {job.id} is {job.state}, and was terminated" for job in self._world.jobs.values() if job.state != "completed"])
        self._hold(record_faults((one.event for one in self.jury.events), self.field.model))
        for name in list(self._world.jobs):
            await self._ask(q.DeleteJob(job=name))
        await self._rest()
        self._hold([f"job {name} is still there, and was deleted" for name in self._world.jobs])
        self._hold(record_faults((one.event for one in self.jury.events), self.field.model))
        up = [node.id for node in self._world.nodes.values() if node.state in UP]
        self._hold([f"files of deleted jobs are still there: {left}" for left in self.field.model.files_left(up)])
        await self.engine.close()
        self.jury.judge(self.store, whole=True)
        self._hold(contradictions([one.event for one in self.jury.events], self.field.ran))

    async def _rest(self) -> None:
        """Let everything happen that is under way; what would run for ever ends now."""
        for _ in range(QUIET_ROUNDS_MAX):
            await asyncio.sleep(1)
            if isinstance(self._stand_in, StandIn):
                self._stand_in.end_all()
            await self._judge()
            waits = any(task.retry_at is not None for job in self._world.jobs.values() for task in job.tasks.values())
            if self.field.quiet and not waits and not self.store.pending_requests():
                return
        raise Broken(f"the world does not come to rest: {[(job.id, job.state, dict(job.counts)) for job in self._world.jobs.values()]}")

    def _hold(self, faults: Sequence[str]) -> None:
        if faults:
            raise Broken("; ".join(faults))

    # --- small things ----------------------------------------------------------------------------------------

    @property
    def _world(self) -> World:
        return self.engine.world

    def _clock(self) -> int:
        return EPOCH + round(asyncio.get_running_loop().time() * SECOND) + self._offset

    def _new_name(self) -> str:
        self._names += 1
        return f"{self._names:012x}"

    def _hear(self, events: Sequence[RecordedEvent]) -> None:
        self.field.hear(events)
        for one, line in zip(events, told(event.event for event in events), strict=True):
            self.tell(f"  {one.position} {line}")

    def tell(self, line: str) -> None:
        """Put a line into the story."""
        self.story.append(f"[{self.field.elapsed_s():11.6f}] {line}")


async def _cancel_all_others() -> None:
    """End whatever a dead engine left in the loop."""
    others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=lambda task: task.get_name())
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@click.command()
@click.option("--seed", default=0, show_default=True, help="The seed to play, or the first of several.")
@click.option("--seeds", default=1, show_default=True, help="How many seeds to play, one after the other.")
@click.option("--steps", default=STEPS, show_default=True, help="Steps of each before everything is driven to its end.")
@click.option("--ledger", type=click.Path(path_type=Path), help="Where to write the ledger of the last one played.")
def main(seed: int, seeds: int, steps: int, ledger: Path | None) -> None:
    """Play schedules by their seeds, and print the story of one alone or of the first that breaks something.

    Example: python -m jobledger.testing.schedule --seed 7
    """
    for number in range(seed, seed + seeds):
        played = play(number, steps=steps)
        if seeds == 1 or played.broken:
            click.echo("\n".join(played.story))
        if played.broken or number == seed + seeds - 1:
            break
    if ledger is not None:
        click.echo(f"the ledger is {played.jury.write_ledger(ledger)}")
    click.echo(f"seed {played.seed}: {len(played.events)} events, {played.lives} engines" + (f"; BROKEN: {played.broken}" if played.broken else ""))
    raise SystemExit(1 if played.broken else 0)


if __name__ == "__main__":
    main()
