"""Fortune: what becomes of everything that a dry run pretends to run, how long it takes and how it ends, and when nodes fail.

1. Every draw is a hash of the seed and of what it is about, so no outcome depends on the order of the others, on the process or on the machine.
2. Rules are asked in order.  For each thing to know (how long, how it ends, whether it writes) the first one counts that fits and says it.
3. What no rule says is taken from recordings of an earlier run where there are some, and is drawn otherwise; then it ends with success.
4. What is drawn has three significant digits: more would pretend to know, and what ends in the same moment shares a commit.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from hashlib import blake2b
from statistics import NormalDist
from typing import Final, Literal

from attrs import Factory, define, evolve, field, frozen

from ..core.commands import Launch
from ..core.ids import SECOND, Duration, ExecutionKind, JobId, NodeId, TaskId

NodeFault = Literal["reboot", "unusable", "lost", "preempted", "wiped"]
Source = Literal["scenario", "recorded", "median", "drawn"]
"""Where a duration is from: a rule, the same try in an earlier run, the median of its kind there, or a draw."""

LONGEST: Final = Duration(366 * 24 * 3_600 * SECOND)
"""The longest time that is ever drawn: the tail of a distribution has no end, and a run should."""


# --- what a scenario says -------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Uniform:
    """Any length of time between two, all equally likely."""

    least: Duration
    most: Duration


@frozen(kw_only=True)
class Lognormal:
    """Half of the times are shorter than `median`, and a few are much longer: the larger `sigma`, the more so."""

    median: Duration
    sigma: float = 0.5


@frozen(kw_only=True)
class Exponential:
    """As the time until something happens that may happen at any moment."""

    mean: Duration


@frozen(kw_only=True)
class Span:
    """A length of time: always the same, or drawn from one distribution."""

    fixed: Duration | None = None
    uniform: Uniform | None = None
    lognormal: Lognormal | None = None
    exponential: Exponential | None = None


@frozen(kw_only=True)
class LaunchRule:
    """What becomes of the launches that fit: those of these kinds, jobs, tasks, nodes, command lines and attempts, in this time.

    What is not said fits all.  At most one way to end is given.
    """

    kinds: tuple[ExecutionKind, ...] = ()
    jobs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    command_lines: tuple[str, ...] = ()
    attempts: tuple[int, ...] = ()
    after: Duration | None = None
    before: Duration | None = None
    probability: float = 1.0
    duration: Span | None = None
    exit_code: int | None = None
    signal: int | None = None
    not_started: str | None = None
    upload_failure: str | None = None
    lost: bool = False
    hangs: bool = False
    silent: bool = False
    ignores_stop: bool = False


@frozen(kw_only=True)
class NodeRule:
    """What happens to each of the nodes that fit: once, or again and again.

    A node that is unusable, lost or preempted comes back only where it is said when.
    """

    nodes: tuple[str, ...] = ()
    fault: NodeFault
    at: Duration | None = None
    mean_time_between: Duration | None = None
    back_after: Duration | None = None
    reason: str = ""


@frozen(kw_only=True)
class Scenario:
    """All that is said about a dry run beforehand."""

    launches: tuple[LaunchRule, ...] = ()
    nodes: tuple[NodeRule, ...] = ()
    boot_duration: Span = Span(fixed=Duration(0))


def _lognormal(seconds: int) -> Span:
    return Span(lognormal=Lognormal(median=Duration(seconds * SECOND)))


USUAL: Final[Mapping[ExecutionKind, Span]] = {
    "task": _lognormal(60),
    "preparation": _lognormal(20),
    "starttask": _lognormal(20),
    "release": _lognormal(5),
    "finalizer": _lognormal(5),
}
"""How long things take of which nothing is known."""

ALL_IS_WELL: Final = Scenario()
ORDINARY_TROUBLE: Final = Scenario(
    launches=(
        LaunchRule(kinds=("task",), probability=0.02, exit_code=1),
        LaunchRule(kinds=("preparation", "starttask"), probability=0.02, exit_code=1),
    ),
    nodes=(
        NodeRule(fault="reboot", mean_time_between=Duration(3 * 24 * 3_600 * SECOND)),
        NodeRule(fault="lost", mean_time_between=Duration(10 * 24 * 3_600 * SECOND), back_after=Duration(3_600 * SECOND)),
    ),
    boot_duration=_lognormal(60),
)
"""What a seed alone draws from."""


# --- what becomes of a launch ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class Outcome:
    """What becomes of one launch.  `not_started` and `upload_failure` are failure codes."""

    duration: Duration
    exit_code: int = 0
    signal: int | None = None
    not_started: str | None = None
    upload_failure: str | None = None
    lost: bool = False
    hangs: bool = False
    silent: bool = False
    ignores_stop: bool = False


@frozen(kw_only=True)
class Recorded:
    """How one try went in an earlier run."""

    duration: Duration
    exit_code: int = 0
    signal: int | None = None
    not_started: str | None = None


Subject = tuple[ExecutionKind, JobId | None, TaskId, NodeId | None]
"""Whose tries they are; with the node for what runs once on each, and without it for tasks."""


@frozen(kw_only=True)
class Recordings:
    """What an earlier run tells: the tries of each subject in their order, and the median duration of each kind."""

    tries: Mapping[Subject, Sequence[Recorded]] = Factory(dict)
    medians: Mapping[ExecutionKind, Duration] = Factory(dict)


@define
class Fortune:
    """Answers what becomes of launches and nodes.  The same questions have the same answers, in any order."""

    seed: int = 0
    scenario: Scenario = ALL_IS_WELL
    recordings: Recordings = Recordings()
    told: Counter[Source] = Factory(Counter)
    """How many durations came from where."""
    _rules: "list[tuple[LaunchRule, _Fits]]" = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rules = [(rule, _fits(rule)) for rule in self.scenario.launches]

    def of(self, kind: ExecutionKind, launch: Launch, since: Duration) -> Outcome:
        """What becomes of a launch, so long after the beginning."""
        duration, ending, silent = self._ruled(kind, launch, since)
        recorded = self._recorded(kind, launch)
        if duration is not None:
            took, source = self._draw_span(duration, "duration", kind, launch), "scenario"
        elif recorded is not None:
            took, source = recorded.duration, "recorded"
        elif (median := self.recordings.medians.get(kind)) is not None:
            took, source = median, "median"
        else:
            took, source = self._draw_span(USUAL[kind], "duration", kind, launch), "drawn"
        self.told[source] += 1  # type: ignore[index]  # the literals above, which mypy takes for any text
        outcome = Outcome(duration=took, silent=silent)
        if ending is not None:
            return _ended(outcome, ending)
        if recorded is not None:
            return evolve(outcome, exit_code=recorded.exit_code, signal=recorded.signal, not_started=recorded.not_started)
        return outcome

    def boot(self, node: NodeId, boots: int) -> Duration:
        """How long the node takes to boot, having booted so often before."""
        return self._span(self.scenario.boot_duration, "boot", node, boots)

    def faults_of(self, node: NodeId) -> list[tuple[int, NodeRule]]:
        """The rules about a node, each with its number."""
        return [(number, rule) for number, rule in enumerate(self.scenario.nodes) if _any_of(rule.nodes)(node)]

    def gap(self, node: NodeId, number: int, mean: Duration, before: int) -> Duration:
        """How long it is to the next fault of a rule, of which there were so many before."""
        return max(Duration(1), self._span(Span(exponential=Exponential(mean=mean)), "fault", node, number, before))

    def _ruled(self, kind: ExecutionKind, launch: Launch, since: Duration) -> tuple[Span | None, LaunchRule | None, bool]:
        """The duration and the ending that rules give, and whether nothing is written (rule 2)."""
        duration: Span | None = None
        ending: LaunchRule | None = None
        silent = False
        for number, (rule, fits) in enumerate(self._rules):
            if not fits(kind, launch, since) or (rule.probability < 1 and self._draw("rule", number, *_identity(kind, launch)) >= rule.probability):
                continue
            duration = duration or rule.duration
            silent = silent or rule.silent
            if ending is None and says_how_it_ends(rule):
                ending = rule
            if duration is not None and ending is not None and silent:
                break
        return duration, ending, silent

    def _recorded(self, kind: ExecutionKind, launch: Launch) -> Recorded | None:
        tries = self.recordings.tries
        where = None if kind == "task" else launch.node
        found = tries.get((kind, launch.job, launch.task, where)) or tries.get((kind, None, launch.task, where))
        return found[min(launch.attempt, len(found)) - 1] if found else None

    def _draw_span(self, span: Span, purpose: str, kind: ExecutionKind, launch: Launch) -> Duration:
        return self._span(span, purpose, *_identity(kind, launch))

    def _span(self, span: Span, *about: object) -> Duration:
        if span.fixed is not None:
            return span.fixed
        drawn = self._draw(*about)
        if span.uniform is not None:
            length = span.uniform.least + drawn * (span.uniform.most - span.uniform.least)
        elif span.lognormal is not None:
            length = span.lognormal.median * math.exp(span.lognormal.sigma * NormalDist().inv_cdf(drawn))
        elif span.exponential is not None:
            length = -math.log(drawn) * span.exponential.mean
        else:
            length = 0.0
        return rounded(length)

    def _draw(self, *about: object) -> float:
        """A number between 0 and 1, neither of them included, that is always the same for the same things."""
        text = "\0".join(map(str, (self.seed, *about))).encode(errors="surrogatepass")
        return (int.from_bytes(blake2b(text, digest_size=6).digest()) + 0.5) / (1 << 48)


def rounded(length: float) -> Duration:
    """A length of time with three significant digits, in microseconds (rule 4)."""
    whole = min(round(length), LONGEST)
    digits = len(str(whole)) - 3
    return Duration(whole if digits <= 0 else round(whole, -digits))


def says_how_it_ends(rule: LaunchRule) -> bool:
    """Whether a rule says anything about the end of what it fits."""
    return bool(endings_of(rule)) or rule.upload_failure is not None or rule.ignores_stop


def endings_of(rule: LaunchRule) -> list[str]:
    """The ways to end that a rule gives, of which there may be one."""
    given = {
        "exit_code": rule.exit_code is not None,
        "signal": rule.signal is not None,
        "not_started": rule.not_started is not None,
        "lost": rule.lost,
        "hangs": rule.hangs,
    }
    return [name for name, is_given in given.items() if is_given]


def _ended(outcome: Outcome, rule: LaunchRule) -> Outcome:
    return evolve(
        outcome,
        exit_code=rule.exit_code or 0 if rule.signal is None else 128 + rule.signal,
        signal=rule.signal,
        not_started=rule.not_started,
        upload_failure=rule.upload_failure,
        lost=rule.lost,
        hangs=rule.hangs,
        ignores_stop=rule.ignores_stop,
    )


def _identity(kind: ExecutionKind, launch: Launch) -> tuple[object, ...]:
    return kind, launch.job or "", launch.task, launch.attempt, launch.node


_Fits = Callable[[ExecutionKind, Launch, Duration], bool]


def _fits(rule: LaunchRule) -> _Fits:
    """Whether a rule fits a launch, its probability apart; patterns are compiled once."""
    kinds, attempts = frozenset(rule.kinds), frozenset(rule.attempts)
    jobs, tasks, nodes, command_lines = map(_any_of, (rule.jobs, rule.tasks, rule.nodes, rule.command_lines))

    def fits(kind: ExecutionKind, launch: Launch, since: Duration) -> bool:
        return (
            (not kinds or kind in kinds)
            and (not attempts or launch.attempt in attempts)
            and (rule.after is None or since >= rule.after)
            and (rule.before is None or since < rule.before)
            and tasks(launch.task)
            and nodes(launch.node)
            and jobs(launch.job or "")
            and command_lines(launch.command_line)
        )

    return fits


def _any_of(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a text is of one of these patterns (`*`, `?` and `[...]`); without any it is."""
    if not patterns:
        return lambda _: True
    compiled = re.compile("|".join(f"(?:{translate(pattern)})" for pattern in patterns))
    return lambda text: compiled.match(text) is not None
