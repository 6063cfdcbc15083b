"""Whole ledgers for Hypothesis: legal histories, made by walking the core, and illegal ones, each a legal one with a single fault.

    @given(illegal_histories())
    def test_my_auditor_objects(illegal):
        assert my_auditor(illegal.history), illegal.what

1. A legal history breaks no invariant, and every event in it follows its table.
2. An illegal one has one event dropped, repeated, swapped with the next one, or altered.  Faults that leave another legal history are not
   among them: `is_harmless` says which these are, and why.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from attrs import evolve, fields_dict, frozen
from hypothesis import strategies as st

from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core.events import STORED
from jobledger.core.ids import Micros, NodeId
from jobledger.core.machine import ABSENT
from jobledger.core.subjects import moves, target_of

from .stage import Stage
from .strategies import EXIT_CODES, FAULTS, PLAIN, Words, pools, requests, submissions

History = Sequence[tuple[e.Event, Micros]]
"""Events with the times of their recording, in order."""
Fault = Literal["dropped", "repeated", "swapped", "altered"]

_ACTIONS: Final = st.sampled_from(["arrive", "arrive", "arrive", "end", "end", "ask", "ask", "crash", "wait", "fail"])


@frozen(kw_only=True)
class Illegal:
    """A history with one fault.  `what` says in words which event, counted from 1, has which."""

    history: History
    fault: Fault
    index: int
    what: str


@st.composite
def legal_histories(draw: st.DrawFn, words: Words = PLAIN, *, steps: int = 15) -> History:
    """What a ledger may say after some steps; it may stop in the midst of anything."""
    stage = Stage()
    stage.start_engine()
    stage.take(q.CreatePool(spec=draw(pools(evolve(words, pools=words.pools[:1])))))
    _arrive(stage)
    stage.take(draw(submissions(evolve(words, pools=words.pools[:1]), least=1)))
    for _ in range(draw(st.integers(0, steps))):
        match draw(_ACTIONS):
            case "arrive":
                _arrive(stage)
            case "end":
                for execution in stage.executor.running():
                    stage.end(execution, draw(EXIT_CODES))
                _arrive(stage)
            case "ask":
                stage.take(draw(requests(words)))
            case "crash":
                stage.crash()
            case "wait":
                stage.wake()
            case _:
                stage.take(stage.executor.fault(draw(st.sampled_from([*stage.world.nodes, NodeId("no-such-node")])), draw(FAULTS)))
    return tuple(stage.log)


@st.composite
def illegal_histories(draw: st.DrawFn, words: Words = PLAIN, *, steps: int = 15) -> Illegal:
    """A legal history with a single fault that matters."""
    history = draw(legal_histories(words, steps=steps))
    found = [one for one in faulty(history) if not is_harmless(one)]
    return draw(st.sampled_from(found))  # A pool's creation cannot be repeated, so there is always one.


def faulty(history: History) -> Iterator[Illegal]:
    """The history with each fault in each place, harmless ones too."""
    for index, (event, at) in enumerate(history):
        said = f"event {index + 1}, {STORED[type(event)][0]},"
        before, after = list(history[:index]), list(history[index + 1 :])
        yield Illegal(history=[*before, *after], fault="dropped", index=index, what=f"{said} is missing")
        yield Illegal(history=[*before, (event, at), (event, at), *after], fault="repeated", index=index, what=f"{said} is there twice")
        if after and after[0][0] != event:
            yield Illegal(history=[*before, after[0], (event, at), *after[1:]], fault="swapped", index=index, what=f"{said} comes after the next one")
        for name, value in _alterations(event):
            altered = evolve(event, **{name: value})
            yield Illegal(history=[*before, (altered, at), *after], fault="altered", index=index, what=f"{said} has {name} {value}")


def is_harmless(illegal: Illegal) -> bool:
    """Whether the fault leaves a history that the tables allow: then it tells another story, which may be as true as the first one.

    Judged by the tables alone, whoever else may object: by driving each thing from state to state.
    """
    states: dict[tuple[str, ...], str] = {}
    for event, _ in illegal.history:
        for machine, key in moves(event):
            target = target_of(machine, states.get(key, ABSENT), event)
            if target is None:
                return False
            states[key] = target
    return True


def _arrive(stage: Stage) -> None:
    """All commands and reports under way arrive, and those that follow from them."""
    while any(stage.executor.queues.values()) or stage.executor.reports:
        for node in [node for node, queue in stage.executor.queues.items() if queue]:
            stage.deliver(node)
        while stage.executor.reports:
            stage.report(0)


def _alterations(event: e.Event) -> Iterator[tuple[str, Any]]:
    """Another value for each of some fields."""
    for name in fields_dict(type(event)):
        value = getattr(event, name)
        if name == "execution" and value is not None:
            yield name, value + 1_000
        elif name == "node" and value is not None:
            yield name, NodeId("no-such-node")
        elif name in {"job", "task"} and value is not None:
            yield name, "no-such"
