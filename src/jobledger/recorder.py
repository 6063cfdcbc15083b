"""The recorder: stimuli in, one atomic batch of events out.

It decides stimuli one after the other in a world that runs ahead of the ledger, and knows for each event what caused it.
Nothing it decided is true before `commit`; when `commit` fails, the world is ahead for good and must be thrown away.
"""

from collections.abc import Callable

from attrs import Factory, define, frozen

from .core import reports as r
from .core import requests as q
from .core.advance import Decided, advance
from .core.decide import Stimulus
from .core.errors import ImpossibleEvent, RequestRefused
from .core.events import Event
from .core.evolve import evolve
from .core.ids import Micros
from .core.ports import EventStore, Head, InboxReply, InboxRequest, Lease, NewEvent, PlacementPolicy
from .core.world import World
from .keeper import SecretKeeper
from .replay import tell_story

ENGINE_ACTOR = "jobledger"

Answer = Callable[[Head | RequestRefused], None]


@frozen(kw_only=True)
class Arrival:
    """A stimulus on its way in: where it came from, and who waits for what is decided."""

    stimulus: Stimulus
    causation: str
    correlation: str
    actor: str = ENGINE_ACTOR
    answer: Answer | None = None
    letter: InboxRequest | None = None
    """The request in the ledger's inbox that this is; its reply is recorded with the events."""


@define
class Recorder:
    store: EventStore
    world: World
    lease: Lease
    head: Head
    secrets: SecretKeeper
    policy: PlacementPolicy | None = None
    _events: list[NewEvent] = Factory(list)
    _replies: list[InboxReply] = Factory(list)
    _answers: list[tuple[Answer, RequestRefused | None]] = Factory(list)

    def take(self, arrival: Arrival, now: Micros) -> None:
        """Decide one stimulus.  Raises `ImpossibleEvent` and `RulesDoNotSettle` for bugs of ours."""
        refusal = None
        try:
            self._add(advance(self.world, arrival.stimulus, now, self.policy), arrival, now)
        except RequestRefused as error:
            refusal = error
        except ImpossibleEvent as error:
            tell_story(self.store, error, self.head.position)
            raise
        if arrival.answer is not None:
            self._answers.append((arrival.answer, refusal))
        if arrival.letter is not None:
            self._replies.append(self._reply(arrival.letter, refusal, now))

    def refuse(self, letter: InboxRequest, refusal: RequestRefused, now: Micros) -> None:
        """Answer a request from the inbox that cannot even be decided."""
        self._replies.append(self._reply(letter, refusal, now))

    def note(self, event: Event, now: Micros) -> None:
        """Record an event of the engine itself."""
        evolve(self.world, event, now)
        self._events.append(NewEvent(event=event, recorded_at=now, causation="engine", correlation="engine", actor=ENGINE_ACTOR))

    def decided(self, batch: list[Decided], arrival: Arrival, now: Micros) -> None:
        """Record what was decided elsewhere on behalf of `arrival`."""
        self._add(batch, arrival, now)

    @property
    def pending(self) -> bool:
        """Whether there is anything to commit or to answer."""
        return bool(self._events or self._replies or self._answers)

    def commit(self) -> set[str]:
        """Make it true, then tell whoever waits; what comes back are the inbox's requests that were answered.

        Raises `StoreError`, and then nothing of it happened.
        """
        events, replies, answers = self._events, self._replies, self._answers
        self._events, self._replies, self._answers = [], [], []
        if events or replies:
            self.head = self.store.append(events, expected=self.head.position, lease=self.lease, replies=replies)
            self.secrets.recorded(events)
            self.secrets.answered(reply.request for reply in replies)
        for answer, refusal in answers:
            answer(self.head if refusal is None else refusal)
        return {reply.request for reply in replies}

    def _add(self, batch: list[Decided], arrival: Arrival, now: Micros) -> None:
        first = len(self._events)
        for decided in batch:
            event, cause = decided.event, decided.cause
            correlation = arrival.correlation if cause is None else self._events[first + cause].correlation
            if (job := getattr(event, "job", None)) is not None:
                correlation = f"job/{job}"
            self._events.append(
                NewEvent(
                    event=event,
                    recorded_at=now,
                    causation=arrival.causation if cause is None else f"event:+{first + cause}",
                    correlation=correlation,
                    actor=arrival.actor if cause is None else ENGINE_ACTOR,
                )
            )

    def _reply(self, letter: InboxRequest, refusal: RequestRefused | None, now: Micros) -> InboxReply:
        return InboxReply(
            request=letter.id,
            accepted=refusal is None,
            code=refusal.code if refusal is not None else None,
            message=refusal.message if refusal is not None else "",
            position=self.head.position + len(self._events),
            answered_at=now,
        )


def of_report(report: r.Report, world: World) -> Arrival:
    """An executor's report as an arrival."""
    match report:
        case r.ExecutionStarted() | r.ExecutionExited() | r.ExecutionNotStarted() | r.ExecutionLost() | r.ExecutionSilent():
            execution = world.executions.get(report.execution)
            subject = "engine" if execution is None else f"node/{execution.node}"
            return Arrival(stimulus=report, causation=f"report:{report.execution}", correlation=subject)
        case _:
            return Arrival(stimulus=report, causation=f"report:{report.node}", correlation=f"node/{report.node}")


def subject_of(request: q.Request) -> str:
    """What a request is about, as a stream name."""
    match request:
        case q.SubmitJob(spec=spec):
            return f"job/{spec.id}"
        case q.CreatePool(spec=pool):
            return f"pool/{pool.id}"
        case q.ResizePool(pool=pool_id) | q.StopResize(pool=pool_id) | q.DeletePool(pool=pool_id):
            return f"pool/{pool_id}"
        case (
            q.RebootNode(node=node)
            | q.ReimageNode(node=node)
            | q.RemoveNode(node=node)
            | q.DeallocateNode(node=node)
            | q.StartNode(node=node)
            | q.DisableScheduling(node=node)
            | q.EnableScheduling(node=node)
        ):
            return f"node/{node}"
        case _:
            return f"job/{request.job}"
