"""The scenario file: either it is right and a scenario comes back, or every mistake is named at once with its path."""

from pathlib import Path

import pytest

from jobledger import jobfile, plaindata
from jobledger.core.ids import SECOND, Duration
from jobledger.dryrun import Assumptions, dry_run
from jobledger.executors.fortune import Exponential, LaunchRule, Lognormal, NodeRule, Scenario, Span, Uniform
from jobledger.jobfile import JobFileError
from jobledger.scenariofile import RULES_MAX, load_scenario, parse_scenario

EXAMPLES = Path(__file__).parents[1] / "examples"
SCENARIOS = sorted((EXAMPLES / "scenarios").glob("*.yaml"))


def parse(text):
    return parse_scenario(plaindata.read_yaml(text))


def mistakes(text):
    with pytest.raises(JobFileError) as wrong:
        parse(text)
    return [str(mistake) for mistake in wrong.value.mistakes]


def seconds(number):
    return Duration(number * SECOND)


def test_everything_that_may_be_said():
    found = parse("""
        bootDuration: {uniform: {least: PT30S, most: PT90S}}
        launches:
          - kinds: [task, release]
            jobs: [a*, b]
            tasks: t-1
            nodes: ["p-?"]
            commandLines: "*render*"
            attempts: [1, 2]
            after: PT1M
            before: PT1H
            probability: 0.5
            duration: {lognormal: {median: PT5M, sigma: 1}}
            exitCode: 3
          - {kinds: preparation, attempts: 1, duration: PT7S, notStarted: BlobNotFound}
          - {signal: 9, duration: {exponential: {mean: PT2M}}}
          - {lost: true}
          - {hangs: true, silent: true, ignoresStop: true}
          - {uploadFailure: BlobUploadFailed}
        nodes:
          - {nodes: p-1, fault: lost, at: PT10M, backAfter: PT5M, reason: the rack}
          - {fault: reboot, meanTimeBetween: P1D}
    """)
    assert found == Scenario(
        boot_duration=Span(uniform=Uniform(least=seconds(30), most=seconds(90))),
        launches=(
            LaunchRule(
                kinds=("task", "release"),
                jobs=("a*", "b"),
                tasks=("t-1",),
                nodes=("p-?",),
                command_lines=("*render*",),
                attempts=(1, 2),
                after=seconds(60),
                before=seconds(3600),
                probability=0.5,
                duration=Span(lognormal=Lognormal(median=seconds(300), sigma=1.0)),
                exit_code=3,
            ),
            LaunchRule(kinds=("preparation",), attempts=(1,), duration=Span(fixed=seconds(7)), not_started="BlobNotFound"),
            LaunchRule(signal=9, duration=Span(exponential=Exponential(mean=seconds(120)))),
            LaunchRule(lost=True),
            LaunchRule(hangs=True, silent=True, ignores_stop=True),
            LaunchRule(upload_failure="BlobUploadFailed"),
        ),
        nodes=(
            NodeRule(nodes=("p-1",), fault="lost", at=seconds(600), back_after=seconds(300), reason="the rack"),
            NodeRule(fault="reboot", mean_time_between=seconds(86_400)),
        ),
    )


@pytest.mark.parametrize("text", ["", "{}", "launches: []"])
def test_an_empty_one_is_one_in_which_all_goes_well(text):
    assert parse(text) == Scenario()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "must be a mapping"),
        ("launch: []", "launch: is not known here: did you mean 'launches'?"),
        ("bootDuration: soon", "bootDuration: 'soon' is not a duration: write ISO 8601"),
        ("launches: [{tasks: 7, exitCode: 1}]", "launches[0].tasks: must be text, not the number 7"),
        ("launches: [{kinds: [taks], exitCode: 1}]", "launches[0].kinds[0]: must be one of starttask, preparation, task, release, finalizer"),
        ("launches: [{exitCode: 256}]", "launches[0].exitCode: 256 is not between 0 and 255"),
        ("launches: [{signal: 0}]", "launches[0].signal: 0 is not the number of a signal"),
        ("launches: [{probability: 2, lost: true}]", "launches[0].probability: 2 is not more than 0 and at most 1"),
        ("launches: [{probability: often, lost: true}]", "launches[0].probability: must be a number, not the text 'often'"),
        ("launches: [{probability: .nan, lost: true}]", "launches[0].probability: must be a number, not the number nan"),
        ("launches: [{lost: true, exitCode: 1}]", "launches[0]: exitCode and lost exclude each other: give one of them"),
        ("launches: [{tasks: t-1}]", "launches[0]: says nothing of what it fits"),
        ("launches: [{attempts: 0, lost: true}]", "launches[0].attempts[0]: 0 is less than 1"),
        ("launches: [{after: PT2M, before: PT1M, lost: true}]", "launches[0].before: must be later than 'after'"),
        ("launches: [{duration: 5}]", "launches[0].duration: must be a mapping"),
        (
            "launches: [{duration: {}}]",
            "launches[0].duration: must be a duration such as PT5M, or a mapping with one of uniform, lognormal, exponential",
        ),
        ("launches: [{duration: {uniform: {least: PT2M, most: PT1M}}}]", "launches[0].duration.uniform: must have no more in 'least' than in 'most'"),
        ("launches: [{duration: {lognormal: {median: PT1M, sigma: 9}}}]", "launches[0].duration.lognormal.sigma: 9 is not between 0 and 5"),
        ("launches: [{duration: P400D}]", "launches[0].duration: is longer than P366D"),
        ("nodes: [{at: PT1M}]", "nodes[0].fault: is missing"),
        ("nodes: [{fault: lost}]", "nodes[0]: needs exactly one of at (once) and meanTimeBetween (again and again)"),
        ("nodes: [{fault: lost, at: PT1M, meanTimeBetween: PT1M}]", "nodes[0]: needs exactly one of"),
        ("nodes: [{fault: lost, meanTimeBetween: PT0S}]", "nodes[0].meanTimeBetween: must be more than 0"),
        ("nodes: [{fault: wiped, at: PT1M, backAfter: PT1M}]", "nodes[0].backAfter: is not for a node that is wiped"),
        ("bootDuration: PT1M\nbootDuration: PT2M", "bootDuration: is written twice"),
    ],
)
def test_each_mistake_is_named_with_its_path(text, said):
    (told,) = mistakes(text)
    assert said in told


def test_all_mistakes_are_named_at_once():
    told = mistakes("bootDuration: soon\nlaunches: [{exitCode: 300}, {lost: 1}]\nnodes: [{fault: lost}]")
    assert [one.split(":")[0] for one in told] == ["launches[1].lost", "bootDuration", "launches[0].exitCode", "nodes[0]"]


def test_there_is_a_bound_on_rules():
    with pytest.raises(JobFileError, match=f"{RULES_MAX + 1} rules are more than {RULES_MAX}"):
        parse_scenario({"launches": [{"exitCode": 1}] * (RULES_MAX + 1)})


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.name)
def test_the_examples_are_right_and_come_to_an_end(file):
    job_file = jobfile.load(EXAMPLES / "job_prep_release.yaml")
    with dry_run(job_file, Assumptions(seed=3, scenario=load_scenario(file))) as found:
        assert found.job.state == "completed"
        assert found.told["scenario"] > 0
