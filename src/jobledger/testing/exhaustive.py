"""Exhaustive small worlds: every state that can be reached within bounds, breadth first, under all judges.

    explored = explore(Bounds(...))                        # raises Counterexample with the shortest story
    python -m jobledger.testing.exhaustive                 # the published bounds, as `make verify` does

1. Every step is judged by all invariants and by the model executor; every new state by its indexes, by replay and by whether it is settled.
2. Two states are one only if all that can follow is the same up to names (`exhaustive_forms`); `compare` holds that against what does follow.
3. From every state the end can be reached; left to itself every world comes to rest, and what rests either is at its end or waits for somebody:
   failed nodes that come back and jobs that are then terminated and deleted come to their end.
"""

import argparse
import gc
import json
import resource
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from jobledger.core.errors import JobledgerError
from jobledger.core.events import Event
from jobledger.core.ids import Micros
from jobledger.core.invariants import INVARIANTS

from .exhaustive_forms import State, Symmetry, digest
from .exhaustive_steps import ANY_NODE, ANY_TASK, Bounds, SmallStage, Step, Wish
from .exhaustive_worlds import SMALL_WORLDS, WORLDS
from .stage import RowTaken

__all__ = ["ANY_NODE", "ANY_TASK", "Bounds", "Counterexample", "Explored", "Progress", "Wish", "explore"]

STATES_MAX: Final = 2_000_000
"""States after which a search gives up: what has more would not fit into memory."""

PROGRESS_EVERY: Final = 1_000
"""States between two words of progress."""

COMPARED_PAIRS: Final = 30
"""Pairs of states that follow two that were merged, breadth first, and are held to lead to the same."""

Progress = Callable[["Explored"], None]
_WRONG: Final = (AssertionError, JobledgerError, LookupError)
"""What shows that something is wrong: a judge says so, a rule does, or a fold stumbles over what is not there."""


@define
class Explored:
    """What was seen of the worlds within some bounds."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    waiting: int = 0
    """States that were found and not yet looked at."""
    depth: int = 0
    """Steps of the longest of all shortest ways to a state."""
    resting: int = 0
    """States in which nothing happens by itself any more."""
    over: int = 0
    """States in which every job is completed or gone."""
    compared: int = 0
    """Pairs of states that were merged and were held to lead to the same states."""
    seconds: float = 0.0
    rows: set[RowTaken] = field(factory=set, repr=False)


class Counterexample(AssertionError):
    """Something does not hold; `story` is the shortest way to where it does not, `steps` the same for `replay`."""

    def __init__(self, bounds: Bounds, what: str, story: Sequence[str], steps: Sequence[Step]) -> None:
        super().__init__("\n".join([f"{bounds.name}: {what}", *(f"{number:>4}. {line}" for number, line in enumerate(story, 1))]))
        self.what = what
        self.story = tuple(story)
        self.steps = tuple(steps)


@frozen
class _Way:
    """How a state was first reached: from which one, by which step, and the events of that."""

    parent: int
    step: Step
    events: tuple[Event, ...]
    at: Micros


def explore(bounds: Bounds, *, progress: Progress | None = None, compare: int = 0, symmetric: bool = True) -> Explored:
    """Look at every state within the bounds; `progress` is told now and then.

    `compare` is how many merged pairs are held to lead to the same states, which is slow.  Without `symmetric` nothing is taken for
    interchangeable.  Raises `Counterexample`, or ValueError for bounds that make no sense or are too wide.
    """
    bounds.check()
    return _Search(bounds, progress, compare, bounds.symmetry if symmetric else Symmetry((), ())).run()


class _Search:
    def __init__(self, bounds: Bounds, progress: Progress | None, compare: int, symmetry: Symmetry) -> None:
        self.bounds = bounds
        self.progress = progress
        self.compare = compare
        self.symmetry = symmetry
        self.found = Explored(bounds)
        self.stage = SmallStage(bounds, self.found.rows)
        self.seen: dict[bytes, int] = {}
        self.ways: list[_Way | None] = []
        self.first: State | None = None
        self.beginning: list[tuple[Event, Micros]] = []
        self.depths = array("H")
        self.sources, self.targets = array("L"), array("L")
        self.progresses = bytearray()
        """Beside each transition: whether it is one of progress."""
        self.ends: set[int] = set()
        self.rested: set[bytes] = set()

    def run(self) -> Explored:
        started = time.monotonic()
        self.first = self.stage.begin()
        self.beginning = list(self.stage.log)
        self.stage.hasty = True
        frontier: deque[tuple[int, State]] = deque([(self._add(self.first, None, 0), self.first)])
        while frontier:
            number, state = frontier.popleft()
            for target, new in self._expand(number, state):
                frontier.append((target, new))
            self.found.waiting = len(frontier)
            self.found.seconds = time.monotonic() - started
            if self.progress is not None and number % PROGRESS_EVERY == PROGRESS_EVERY - 1:
                self.progress(self.found)
        self._judge_graph()
        self.found.seconds = time.monotonic() - started
        return self.found

    # --- states and transitions ----------------------------------------------------------------------------

    def _add(self, state: State, way: _Way | None, depth: int) -> int:
        number = len(self.ways)
        if number >= STATES_MAX:
            raise ValueError(f"{self.bounds.name}: more than {STATES_MAX} states; choose narrower bounds")
        self.seen[digest(state, self.symmetry)] = number
        self.ways.append(way)
        self.depths.append(depth)
        self.found.states, self.found.depth = number + 1, depth
        return number

    def _expand(self, number: int, state: State) -> Iterator[tuple[int, State]]:
        """Take every step from a state; the new states that this leads to come back."""
        moves = False
        for step in self.stage.steps(state):
            moves = moves or step.progress
            try:
                after = self.stage.after(state, step)
            except _WRONG as wrong:
                raise self._counterexample(f"{type(wrong).__name__}: {wrong}", number, step) from wrong
            mark = digest(after or self.stage.state(), self.symmetry)
            if after is None:
                if mark != digest(state, self.symmetry):
                    raise self._counterexample("something changed and no event tells of it", number, step)
                continue
            self.found.transitions += 1
            target = self.seen.get(mark)
            if target is None:
                target = self._add(after, _Way(number, step, tuple(self.stage.batch), after.now), self.depths[number] + 1)
                self._judge_new(target)
                yield target, after
            elif self.found.compared < self.compare:
                self._compare(target, number, step, after)
            self.sources.append(number)
            self.targets.append(target)
            self.progresses.append(step.progress)
        self._judge_resting(number, state, moves=moves)

    def _judge_new(self, number: int) -> None:
        """The stage still stands in the state."""
        try:
            self.stage.judge()
        except _WRONG as wrong:
            raise self._counterexample(f"{type(wrong).__name__}: {wrong}", number) from wrong

    def _judge_resting(self, number: int, state: State, *, moves: bool) -> None:
        if self.stage.over(state):
            self.found.over += 1
            self.ends.add(number)
        if moves:
            return
        self.found.resting += 1
        self.ends.add(number)
        mark = digest(state, self.symmetry, budget=False)
        if mark in self.rested:
            return
        self.rested.add(mark)
        try:
            self.stage.judge_end(state, self._log(number))
        except _WRONG as wrong:
            raise self._counterexample(f"a dead end: {wrong}", number) from wrong

    def _compare(self, kept: int, number: int, step: Step, other: State) -> None:
        """Hold that two states that were merged lead to the same states, and those again, pair by pair, as far as `COMPARED_PAIRS` pairs go.

        The state that is kept is walked to again.
        """
        pairs = deque([(self._walk(self._steps(kept)), other)])
        met: set[tuple[str, str]] = set()
        for _ in range(COMPARED_PAIRS):
            if not pairs:
                break
            ours, theirs = map(self._successors, pairs.popleft())
            if ours.keys() != theirs.keys():
                verbs = sorted({verb for verb, _ in ours.keys() ^ theirs.keys()})
                raise self._counterexample(f"this was taken for state {kept}, and what follows leads elsewhere by: {', '.join(verbs)}", number, step)
            for way in [one for one in ours if one not in met]:
                after, after_theirs = ours[way], theirs[way]
                if after is not None and after_theirs is not None:
                    pairs.append((after, after_theirs))
            met |= ours.keys()
        self.found.compared += 1

    def _successors(self, state: State) -> dict[tuple[str, str], State | None]:
        """Where each step leads, by its verb and the form of that; None where nothing comes of it."""
        found: dict[tuple[str, str], State | None] = {}
        for step in self.stage.steps(state):
            after = self.stage.after(state, step)
            found[(step.verb, digest(after, self.symmetry).hex() if after is not None else "")] = after
        return found

    # --- the whole graph -----------------------------------------------------------------------------------

    def _judge_graph(self) -> None:
        """No livelock: progress never comes back to where it was.  No dead end: from every state the end can be reached."""
        if (cycle := self._cycle()) is not None:
            raise self._counterexample("a livelock: what happens by itself leads back to this state", cycle)
        reaching = self._reaching(self.ends)
        if (lost := next((number for number in range(len(self.ways)) if not reaching[number]), None)) is not None:
            raise self._counterexample("a dead end: from here no job ever comes to its end", lost)

    def _cycle(self) -> int | None:
        """The first state of those that progress leads back to; None where there is none.

        Whatever only leads to states that lead to no cycle is taken away, from the resting states backwards.
        """
        out = array("L", bytes(8 * len(self.ways)))
        for source, moves in zip(self.sources, self.progresses, strict=True):
            out[source] += moves
        starts, into = self._backwards(progress_only=True)
        free = [number for number, count in enumerate(out) if not count]
        left = len(out) - len(free)
        while free:
            number = free.pop()
            for place in range(starts[number], starts[number + 1]):
                out[into[place]] -= 1
                if not out[into[place]]:
                    free.append(into[place])
                    left -= 1
        return next(number for number, count in enumerate(out) if count) if left else None

    def _reaching(self, ends: set[int]) -> bytearray:
        """Beside each state whether some way leads from it to one of `ends`."""
        reached = bytearray(len(self.ways))
        starts, into = self._backwards(progress_only=False)
        todo = list(ends)
        for number in todo:
            reached[number] = True
        while todo:
            number = todo.pop()
            for place in range(starts[number], starts[number + 1]):
                if not reached[into[place]]:
                    reached[into[place]] = True
                    todo.append(into[place])
        return reached

    def _backwards(self, *, progress_only: bool) -> tuple["array[int]", "array[int]"]:
        """Transitions by their targets: those into `n` come from `into[starts[n]:starts[n + 1]]`."""
        starts = array("L", bytes(8 * (len(self.ways) + 1)))
        chosen = [place for place, moves in enumerate(self.progresses) if moves or not progress_only]
        for place in chosen:
            starts[self.targets[place] + 1] += 1
        for number in range(len(self.ways)):
            starts[number + 1] += starts[number]
        free, into = array("L", starts), array("L", bytes(8 * len(chosen)))
        for place in chosen:
            target = self.targets[place]
            into[free[target]] = self.sources[place]
            free[target] += 1
        return starts, into

    # --- stories -------------------------------------------------------------------------------------------

    def _steps(self, number: int) -> list[Step]:
        steps = []
        while (way := self.ways[number]) is not None:
            steps.append(way.step)
            number = way.parent
        return steps[::-1]

    def _log(self, number: int) -> list[tuple[Event, Micros]]:
        batches = []
        while (way := self.ways[number]) is not None:
            batches.append([(event, way.at) for event in way.events])
            number = way.parent
        return [*self.beginning, *(one for batch in reversed(batches) for one in batch)]

    def _walk(self, steps: Sequence[Step], story: list[str] | None = None) -> State:
        """The state that steps lead to; `story` is told of each."""
        state = self.first
        for step in steps:
            if state is None:
                raise ValueError(f"{step} leads nowhere")
            if story is not None:
                story.append(self.stage.describe(state, step))
            state = self.stage.after(state, step)
        if state is None:
            raise ValueError(f"{steps[-1:]} leads nowhere")
        return state

    def _counterexample(self, what: str, number: int, step: Step | None = None) -> Counterexample:
        steps, story = self._steps(number), list[str]()
        self.stage = SmallStage(self.bounds)
        self.stage.hasty = True
        state = self._walk(steps, story)
        if step is not None:
            story.append(self.stage.describe(state, step))
        return Counterexample(self.bounds, what, story, steps if step is None else [*steps, step])


# --- from the command line ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore the published worlds, or those that are named, and print what was seen: 0 where all holds, 1 with the story where it does not."""
    options = _parser().parse_args(arguments)
    worlds = [world for world in (SMALL_WORLDS if options.small else WORLDS) if not options.worlds or world.name in options.worlds]
    if unknown := set(options.worlds) - {world.name for world in worlds}:
        sys.stderr.write(f"there is no world {', '.join(sorted(unknown))}; --list lists them\n")
        return 2
    if options.list:
        for world in worlds:
            sys.stdout.write(f"{world.name}: {world.about}\n")
        return 0
    done: list[Explored] = []
    gc.disable()  # Nothing here is in a cycle, and looking for cycles takes a third of the time.
    for world in worlds:
        try:
            done.append(explore(world, progress=_tell, compare=options.compare, symmetric=not options.no_symmetry))
        except Counterexample as found:
            sys.stderr.write(f"{found}\n")
            return 1
        if not options.json:
            sys.stdout.write(f"{_line(done[-1])}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{json.dumps(_summary(done)) if options.json else _total(done)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobledger.testing.exhaustive",
        description="Look at every state of small worlds, under all invariants, and hold that each comes to its end.",
        epilog="Example: python -m jobledger.testing.exhaustive faults --compare 100",
    )
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="explore these alone")
    parser.add_argument("--list", action="store_true", help="list the worlds, and explore none")
    parser.add_argument("--small", action="store_true", help="the smaller worlds, which take some seconds")
    parser.add_argument(
        "--compare", type=int, default=0, metavar="N", help="hold that N merged pairs of states lead to the same states, which is slow"
    )
    parser.add_argument("--no-symmetry", action="store_true", help="take nothing for interchangeable")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser


def _tell(found: Explored) -> None:
    sys.stderr.write(
        f"  {found.bounds.name}: {found.states:,} states, {found.waiting:,} of them waiting, {found.transitions:,} transitions, {found.seconds:.0f} s\n"
    )


def _line(found: Explored) -> str:
    return (
        f"{found.bounds.name}: {found.states:,} states, {found.transitions:,} transitions, up to {found.depth} steps deep, "
        f"{found.resting:,} at rest, {found.seconds:.0f} s"
    )


def _summary(done: Sequence[Explored]) -> dict[str, object]:
    counted = ("states", "transitions", "depth", "resting", "over", "compared")
    return {
        "worlds": {found.bounds.name: {**{name: getattr(found, name) for name in counted}, "seconds": round(found.seconds, 1)} for found in done},
        "states": sum(found.states for found in done),
        "transitions": sum(found.transitions for found in done),
        "rows": len({row for found in done for row in found.rows}),
        "seconds": round(sum(found.seconds for found in done), 1),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _total(done: Sequence[Explored]) -> str:
    facts = _summary(done)
    return (
        f"{len(done)} worlds: {facts['states']:,} states and {facts['transitions']:,} transitions, each judged by {len(INVARIANTS)} invariants; "
        f"{facts['rows']} rows of the tables were taken; {facts['seconds']} s, {int(str(facts['memory_bytes'])) // 2**20} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
