"""The scenario file: what a user writes in YAML or JSON about a dry run, read into the records of `executors.fortune`.

    bootDuration: PT1M
    launches:
      - {tasks: "render-*", duration: {lognormal: {median: PT5M}}}
      - {kinds: preparation, nodes: workstation-2, exitCode: 1}
    nodes:
      - {nodes: workstation-3, fault: lost, at: PT10M, backAfter: PT5M}

Either a file is right and comes back as a `Scenario`, or `JobFileError` lists everything that is wrong with it at once.
"""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any, Final

from . import plaindata
from .core.checks import Mistake
from .executors.fortune import LONGEST, LaunchRule, NodeRule, Scenario, Span, endings_of
from .jobfile import JobFileError, read
from .jsonnames import camel
from .specjson import spell, structure

RULES_MAX: Final = 1_000
"""Rules of each kind: each launch is held against them one after the other."""

LISTS: Final = frozenset({"kinds", "jobs", "tasks", "nodes", "commandLines", "attempts"})
"""Properties of rules that may be one value in place of a list."""

_SPANS: Final = ("fixed", "uniform", "lognormal", "exponential")


def load_scenario(file: str | PathLike[str]) -> Scenario:
    """The scenario in a file, or on standard input for `-`.  Raises `JobFileError`."""
    return parse_scenario(read(file), source="standard input" if file == "-" else str(file))


def parse_scenario(data: object, *, source: str = "scenario") -> Scenario:
    """The scenario of plain data; an empty file is one in which all goes well.  Raises `JobFileError` with all mistakes of form and of sense."""
    mistakes = [Mistake(path=spell(path), text=text) for path, text in plaindata.ambiguities(data)]
    written_short = _Short()
    found, wrong = structure(written_short.spelt_out({} if data is None else data), Scenario)
    mistakes += [Mistake(path=written_short.as_written(mistake.path), text=mistake.text) for mistake in wrong]
    if found is not None:
        seen = [mistake.path for mistake in mistakes]
        mistakes += [mistake for mistake in _check(found) if not any(_is_below(path, mistake.path) for path in seen)]
    if mistakes or found is None:
        raise JobFileError(source, mistakes)
    return found


def _is_below(path: str, place: str) -> bool:
    """Whether a mistake at `path` may be why something looks wrong at `place`, which is the same or has it inside."""
    return path == place or path.startswith((f"{place}.", f"{place}["))


class _Short:
    """The short forms of a scenario: a text for a duration that is always the same, and one value for a list of one."""

    def __init__(self) -> None:
        self._spans: set[str] = set()
        self._lists: set[str] = set()

    def spelt_out(self, data: Any) -> Any:
        """The data in the long form."""
        if not isinstance(data, dict):
            return data
        changed = {key: self._rules(value, key) if key in {"launches", "nodes"} else value for key, value in data.items()}
        return self._with_span(changed, "bootDuration", "bootDuration")

    def as_written(self, path: str) -> str:
        """A path of the long form as the user would find it in what was written."""
        for short in self._spans:
            if path == f"{short}.fixed":
                return short
        for short in self._lists:
            if path == f"{short}[0]":
                return short
        return path

    def _rules(self, rules: Any, name: str) -> Any:
        if not isinstance(rules, list):
            return rules
        return [self._rule(rule, f"{name}[{number}]") if isinstance(rule, dict) else rule for number, rule in enumerate(rules)]

    def _rule(self, rule: dict[str, Any], path: str) -> dict[str, Any]:
        changed = dict(rule)
        for key in LISTS & rule.keys():
            if not isinstance(rule[key], (list, dict)) and rule[key] is not None:
                self._lists.add(f"{path}.{key}")
                changed[key] = [rule[key]]
        return self._with_span(changed, "duration", f"{path}.duration")

    def _with_span(self, data: dict[str, Any], key: str, path: str) -> dict[str, Any]:
        if not isinstance(data.get(key), str):
            return data
        self._spans.add(path)
        return data | {key: {"fixed": data[key]}}


# --- checks of sense ------------------------------------------------------------------------------------------


def _check(scenario: Scenario) -> Iterator[Mistake]:
    yield from _check_span("bootDuration", scenario.boot_duration)
    for name, rules in (("launches", scenario.launches), ("nodes", scenario.nodes)):
        if len(rules) > RULES_MAX:
            yield Mistake(path=name, text=f"{len(rules)} rules are more than {RULES_MAX}: use patterns, such as 'render-*'")
    yield from _each("launches", scenario.launches, _check_launch_rule)
    yield from _each("nodes", scenario.nodes, _check_node_rule)


def _each(name: str, rules: Iterable[Any], check: Callable[[Any], Iterator[Mistake]]) -> Iterator[Mistake]:
    for number, rule in enumerate(rules):
        for mistake in check(rule):
            yield Mistake(path=f"{name}[{number}].{mistake.path}" if mistake.path else f"{name}[{number}]", text=mistake.text)


def _check_launch_rule(rule: LaunchRule) -> Iterator[Mistake]:
    endings = [camel(name) for name in endings_of(rule)]
    if len(endings) > 1:
        yield Mistake(path="", text=f"{' and '.join(endings)} exclude each other: give one of them")
    if not endings and rule.duration is None and not (rule.silent or rule.ignores_stop or rule.upload_failure is not None):
        yield Mistake(path="", text="says nothing of what it fits: give it a duration, an exitCode, or another way to end")
    if not 0 < rule.probability <= 1:
        yield Mistake(path="probability", text=f"{rule.probability:g} is not more than 0 and at most 1, which is always")
    if rule.exit_code is not None and not 0 <= rule.exit_code <= 255:
        yield Mistake(path="exitCode", text=f"{rule.exit_code} is not between 0 and 255")
    if rule.signal is not None and not 1 <= rule.signal <= 64:
        yield Mistake(path="signal", text=f"{rule.signal} is not the number of a signal, 1 to 64")
    for number, attempt in enumerate(rule.attempts):
        if attempt < 1:
            yield Mistake(path=f"attempts[{number}]", text=f"{attempt} is less than 1, the first attempt")
    if rule.after is not None and rule.before is not None and rule.after >= rule.before:
        yield Mistake(path="before", text="must be later than 'after'")
    if rule.duration is not None:
        yield from _check_span("duration", rule.duration)


def _check_node_rule(rule: NodeRule) -> Iterator[Mistake]:
    if (rule.at is None) == (rule.mean_time_between is None):
        yield Mistake(path="", text="needs exactly one of at (once) and meanTimeBetween (again and again)")
    if rule.mean_time_between is not None and not 0 < rule.mean_time_between <= LONGEST:
        yield Mistake(path="meanTimeBetween", text="must be more than 0 and at most P366D")
    if rule.fault == "wiped" and rule.back_after is not None:
        yield Mistake(path="backAfter", text="is not for a node that is wiped: it is there, and is made ready anew")


def _check_span(path: str, span: Span) -> Iterator[Mistake]:
    given = [name for name in _SPANS if getattr(span, name) is not None]
    if len(given) != 1:
        yield Mistake(path=path, text=f"must be a duration such as PT5M, or a mapping with one of {', '.join(_SPANS[1:])}")
    if span.uniform is not None and span.uniform.least > span.uniform.most:
        yield Mistake(path=f"{path}.uniform", text="must have no more in 'least' than in 'most'")
    if span.lognormal is not None and not 0 <= span.lognormal.sigma <= 5:
        yield Mistake(path=f"{path}.lognormal.sigma", text=f"{span.lognormal.sigma:g} is not between 0 and 5; 0.5 is usual")
    lengths = [
        (f"{path}.{name}.{key}", getattr(one, key))
        for name, keys in (("uniform", ("least", "most")), ("lognormal", ("median",)), ("exponential", ("mean",)))
        if (one := getattr(span, name)) is not None
        for key in keys
    ]
    for where, length in [*lengths, *([(path, span.fixed)] if span.fixed is not None else [])]:
        if length > LONGEST:
            yield Mistake(path=where, text="is longer than P366D")
