"""Fortune: what is drawn is always the same for the same things, rules are asked in order, and recordings count where no rule says anything."""

import statistics
from itertools import product

import pytest
from attrs import evolve

from jobledger.core.ids import SECOND, Duration
from jobledger.executors.fortune import (
    ORDINARY_TROUBLE,
    USUAL,
    Exponential,
    Fortune,
    LaunchRule,
    Lognormal,
    NodeRule,
    Recorded,
    Recordings,
    Scenario,
    Span,
    Uniform,
    rounded,
)
from jobledger.testing.driver import launch

MINUTE = Duration(60 * SECOND)
ONE = launch(1, "render --fast", task="t-1")


def fixed(seconds):
    return Span(fixed=Duration(seconds * SECOND))


def of(*rules, launched=ONE, kind="task", since=0, **more):
    return Fortune(scenario=Scenario(launches=rules), **more).of(kind, launched, Duration(since * SECOND))


def many(rule, count=2_000, seed=1):
    """What becomes of so many tasks."""
    fortune = Fortune(seed=seed, scenario=Scenario(launches=(rule,)))
    return [fortune.of("task", launch(number, "x", task=f"t-{number}"), Duration(0)) for number in range(count)]


# --- draws ----------------------------------------------------------------------------------------------------


def test_an_outcome_depends_on_what_it_is_about_and_on_nothing_else():
    one, other = launch(1, "x", task="a"), launch(2, "x", task="b")
    first, second = Fortune(seed=7), Fortune(seed=7)
    assert first.of("task", one, Duration(0)) == (second.of("task", other, Duration(0)), second.of("task", one, Duration(9)))[1]
    drawn = {
        Fortune(seed=seed).of(kind, evolve(one, attempt=attempt, node=node, task=task, job=job), Duration(0)).duration
        for seed, kind, attempt, node, task, job in product((1, 2), ("task", "preparation"), (1, 2), ("p-1", "p-2"), ("a", "b"), ("j", "k"))
    }
    assert len(drawn) > 55  # of 64: with three digits some are alike
    assert Fortune(seed=1).of("task", evolve(one, execution=99, command_line="y"), Duration(0)) == Fortune(seed=1).of("task", one, Duration(0))


def test_a_draw_is_the_same_on_every_machine():
    """Held by number: another hash, another order of what is hashed or another rounding would change every ledger."""
    assert Fortune(seed=1).of("task", ONE, Duration(0)).duration == 81_700_000


def test_the_distributions_are_what_they_say():
    def seconds(span):
        return [one.duration / SECOND for one in many(LaunchRule(duration=span))]

    uniform = seconds(Span(uniform=Uniform(least=MINUTE, most=Duration(3 * MINUTE))))
    assert (min(uniform) >= 60, max(uniform) <= 180) == (True, True)
    assert statistics.mean(uniform) == pytest.approx(120, rel=0.05)
    lognormal = seconds(Span(lognormal=Lognormal(median=MINUTE, sigma=1.0)))
    assert statistics.median(lognormal) == pytest.approx(60, rel=0.1)
    assert statistics.mean(lognormal) == pytest.approx(60 * 2.718281828**0.5, rel=0.15)
    exponential = seconds(Span(exponential=Exponential(mean=MINUTE)))
    assert statistics.mean(exponential) == pytest.approx(60, rel=0.1)
    assert set(seconds(Span(fixed=MINUTE))) == {60}


def test_a_probability_is_the_share_to_which_a_rule_applies():
    failed = [one for one in many(LaunchRule(probability=0.25, exit_code=3)) if one.exit_code == 3]
    assert 430 < len(failed) < 570


def test_two_rules_draw_apart():
    rules = (LaunchRule(probability=0.5, exit_code=1), LaunchRule(probability=0.5, exit_code=2))
    fortune = Fortune(scenario=Scenario(launches=rules))
    codes = [fortune.of("task", launch(number, "x", task=f"t-{number}"), Duration(0)).exit_code for number in range(1_000)]
    assert 200 < codes.count(2) < 300


@pytest.mark.parametrize(
    ("length", "expected"), [(0.2, 0), (999.4, 999), (1_234_567.0, 1_230_000), (98_765_432_100.0, 98_800_000_000), (1e30, 31_600_000_000_000)]
)
def test_what_is_drawn_has_three_digits_and_an_end(length, expected):
    assert rounded(length) == expected


# --- rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (LaunchRule(exit_code=1), True),
        (LaunchRule(kinds=("task", "release"), exit_code=1), True),
        (LaunchRule(kinds=("release",), exit_code=1), False),
        (LaunchRule(jobs=("j*",), exit_code=1), True),
        (LaunchRule(jobs=("other",), exit_code=1), False),
        (LaunchRule(tasks=("x", "t-?"), exit_code=1), True),
        (LaunchRule(tasks=("t-",), exit_code=1), False),
        (LaunchRule(nodes=("p-[12]",), exit_code=1), True),
        (LaunchRule(nodes=("P-1",), exit_code=1), False),
        (LaunchRule(command_lines=("render *",), exit_code=1), True),
        (LaunchRule(command_lines=("render",), exit_code=1), False),
        (LaunchRule(attempts=(1, 3), exit_code=1), True),
        (LaunchRule(attempts=(2,), exit_code=1), False),
        (LaunchRule(after=MINUTE, exit_code=1), True),
        (LaunchRule(after=Duration(MINUTE + 1), exit_code=1), False),
        (LaunchRule(before=MINUTE, exit_code=1), False),
        (LaunchRule(before=Duration(MINUTE + 1), exit_code=1), True),
        (LaunchRule(tasks=("t-1",), nodes=("p-2",), exit_code=1), False),
    ],
)
def test_a_rule_fits_what_it_names(rule, fits):
    assert of(rule, since=60).exit_code == int(fits)


def test_the_first_rule_that_says_a_thing_counts_for_that_thing():
    rules = (
        LaunchRule(kinds=("release",), duration=fixed(9)),
        LaunchRule(duration=fixed(1)),
        LaunchRule(silent=True),
        LaunchRule(exit_code=4, duration=fixed(2)),
        LaunchRule(exit_code=5),
    )
    found = of(*rules)
    assert (found.duration, found.exit_code, found.silent) == (SECOND, 4, True)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (LaunchRule(exit_code=0), {}),
        (LaunchRule(exit_code=3), {"exit_code": 3}),
        (LaunchRule(signal=9), {"exit_code": 137, "signal": 9}),
        (LaunchRule(not_started="BlobNotFound"), {"not_started": "BlobNotFound"}),
        (LaunchRule(lost=True), {"lost": True}),
        (LaunchRule(hangs=True, ignores_stop=True), {"hangs": True, "ignores_stop": True}),
        (LaunchRule(upload_failure="BlobUploadFailed"), {"upload_failure": "BlobUploadFailed"}),
    ],
)
def test_each_way_to_end(rule, expected):
    well = of(LaunchRule(duration=fixed(1)))
    assert of(rule, LaunchRule(duration=fixed(1)), LaunchRule(exit_code=77)) == evolve(well, **expected)


def test_a_rule_may_say_that_all_goes_well_where_the_next_one_says_otherwise():
    assert of(LaunchRule(tasks=("t-1",), exit_code=0), LaunchRule(exit_code=1)).exit_code == 0


# --- recordings -----------------------------------------------------------------------------------------------

BEFORE = Recordings(
    tries={
        ("task", "job", "t-1", None): [Recorded(duration=Duration(5), exit_code=1), Recorded(duration=Duration(6))],
        ("task", None, "t-9", None): [Recorded(duration=Duration(7), not_started="BlobNotFound")],
        ("preparation", "job", "prep", "p-1"): [Recorded(duration=Duration(8), exit_code=137, signal=9)],
    },
    medians={"task": Duration(50)},
)


def recorded(task, kind="task", **more):
    fortune = Fortune(recordings=BEFORE)
    return fortune.of(kind, evolve(ONE, task=task, **more), Duration(0)), next(iter(fortune.told))


def test_each_try_is_as_it_was_and_the_last_one_stays():
    assert [(recorded("t-1", attempt=attempt)[0].duration, recorded("t-1", attempt=attempt)[0].exit_code) for attempt in (1, 2, 3)] == [
        (5, 1),
        (6, 0),
        (6, 0),
    ]


def test_a_task_is_known_in_a_job_of_another_name_too():
    assert (recorded("t-9")[0].not_started, recorded("t-9")[1]) == ("BlobNotFound", "recorded")


def test_what_runs_once_on_each_node_is_known_by_its_node():
    found, source = recorded("prep", "preparation")
    assert (found.duration, found.exit_code, found.signal, source) == (8, 137, 9, "recorded")
    assert recorded("prep", "preparation", node="p-2")[1] == "drawn"


def test_what_was_not_recorded_takes_the_median_of_its_kind_or_is_drawn():
    assert (recorded("new")[0].duration, recorded("new")[0].exit_code, recorded("new")[1]) == (50, 0, "median")
    found, source = recorded("rel", "release")
    assert (source, found.duration > 0) == ("drawn", True)


def test_a_rule_goes_before_what_was_recorded_for_what_it_says():
    found = of(LaunchRule(exit_code=0), recordings=BEFORE)
    assert (found.duration, found.exit_code) == (5, 0)
    found = of(LaunchRule(duration=fixed(1)), recordings=BEFORE)
    assert (found.duration, found.exit_code) == (SECOND, 1)


# --- nodes ----------------------------------------------------------------------------------------------------


def test_a_node_has_the_faults_of_the_rules_that_name_it():
    rules = (NodeRule(fault="lost", at=MINUTE), NodeRule(nodes=("p-2", "q-*"), fault="wiped", at=MINUTE))
    fortune = Fortune(scenario=Scenario(nodes=rules))
    assert [number for number, _ in fortune.faults_of("p-1")] == [0]
    assert [number for number, _ in fortune.faults_of("q-7")] == [0, 1]


def test_faults_come_on_the_average_in_their_time():
    gaps = [Fortune(seed=2).gap("p-1", 0, MINUTE, number) for number in range(2_000)]
    assert statistics.mean(gaps) == pytest.approx(MINUTE, rel=0.1)
    assert min(gaps) >= 1


def test_boots_differ_and_each_is_always_the_same():
    fortune = Fortune(scenario=ORDINARY_TROUBLE)
    boots = [fortune.boot("p-1", number) for number in range(5)]
    assert len(set(boots)) == 5
    assert boots == [fortune.boot("p-1", number) for number in range(5)]


def test_every_kind_has_a_usual_length():
    assert set(USUAL) == {"task", "preparation", "release", "starttask", "finalizer"}
    assert {kind: of(kind=kind).exit_code for kind in USUAL} == dict.fromkeys(USUAL, 0)
