"""The dry-run executor: the suite of all executors, and what befalls nodes that exist only as timers."""

import asyncio
from typing import Final

import pytest
from attrs import evolve

from jobledger.core import reports as r
from jobledger.core.commands import BootNode, Launch, RemoveFiles, RetireNode, RunFinalizer
from jobledger.core.ids import ENGINE_HOST, ENGINE_POOL, SECOND, Duration, ExecutionId, JobId, TaskId
from jobledger.core.specs import OutputFile, OutputFileContainer, OutputFileDestination, UserIdentity
from jobledger.executors.dry_run import DryRunExecutor
from jobledger.executors.fortune import Fortune, LaunchRule, NodeRule, Scenario, Span
from jobledger.plugins import make_executor
from jobledger.testing.crashes import NO_MACHINERY, CrashConformance
from jobledger.testing.driver import NODE, POOL, driving, launch, run, stop
from jobledger.testing.executors import ExecutorConformance
from jobledger.virtual import NothingLeft, run_virtually

CODES: Final = tuple(LaunchRule(command_lines=(f"ends {code} *",), exit_code=code) for code in range(256))


def lasting(command_line, seconds):
    return LaunchRule(command_lines=(command_line,), duration=Span(fixed=Duration(round(seconds * SECOND))))


RULES: Final = (
    LaunchRule(command_lines=("stays*",), hangs=True),
    LaunchRule(command_lines=("missing",), not_started="CommandProgramNotFound"),
    *CODES,
    lasting("ends * 0", 0),
    lasting("ends * 0.2", 0.2),
    lasting("ends * 0.3", 0.3),
)


class TestDryRunExecutor(ExecutorConformance, CrashConformance):
    """What it pretends to run ends with it, so nothing is adopted; and nothing can tell from outside what runs."""

    adopts = False
    missing = "missing"
    output = None
    not_applicable = {"folders": "what runs nowhere leaves no files", **NO_MACHINERY}  # noqa: RUF012 - the suite's own, never changed

    def make_executor(self, folder):
        return DryRunExecutor(Fortune(scenario=Scenario(launches=RULES)))

    def in_loop(self, main):
        run_virtually(main)

    def ends(self, folder, number, *, code=0, after_s=0):
        return f"ends {code} {after_s}"

    def stays(self, folder, number):
        return f"stays {number}"

    def launches(self, folder, number):
        return None

    def living(self, folder, number):
        return None


def test_a_dry_run_is_spared_what_needs_files_or_processes():
    assert TestDryRunExecutor.not_applicable.keys() == {"folders", *NO_MACHINERY}


def play(scene, *, launches=(), nodes=(), boot=0):
    """Play a scene with an executor in a scenario, in virtual time, on one node."""
    scenario = Scenario(launches=(*launches, *RULES), nodes=nodes, boot_duration=Span(fixed=Duration(boot * SECOND)))

    async def on_stage():
        async with driving(DryRunExecutor(Fortune(scenario=scenario))) as driver:
            await scene(driver)
            return driver.reports

    return run_virtually(on_stage())


def now():
    return asyncio.get_running_loop().time()


def test_what_ends_takes_its_time():
    async def scene(driver):
        driver.submit(run(1, "ends 3 0"), run(2, "ends 4 0.2"))
        assert (await driver.exit(2)).wall == SECOND // 5
        assert now() == pytest.approx(0.2)

    play(scene)


def test_what_ignores_a_stop_is_killed_when_its_grace_is_over():
    async def scene(driver):
        driver.submit(run(1, "stays on"))
        driver.submit(stop(1, grace=Duration(5 * SECOND)))
        driver.submit(stop(1, grace=Duration(9 * SECOND)))
        end = await driver.exit(1)
        assert (end.exit_code, end.signal, end.stopped, now()) == (137, 9, True, 5)

    play(scene, launches=[LaunchRule(command_lines=("stays on",), hangs=True, ignores_stop=True)])


def test_what_ignores_a_stop_may_end_by_itself_within_its_grace():
    async def scene(driver):
        driver.submit(run(1, "ends 0 0.2"), stop(1, grace=Duration(5 * SECOND)))
        end = await driver.exit(1)
        assert (end.exit_code, end.stopped) == (0, False)

    play(scene, launches=[LaunchRule(command_lines=("ends 0 0.2",), ignores_stop=True)])


def silent_launch(number, command_line):
    command = run(number, command_line)
    return evolve(command, launch=evolve(command.launch, silent_after=Duration(10 * SECOND)))


def test_silence_is_said_once():
    async def scene(driver):
        driver.submit(silent_launch(1, "stays quiet"), silent_launch(2, "stays loud"))
        report = await driver.report(r.ExecutionSilent, 1)
        assert (report.silent_for, now()) == (10 * SECOND, 10)
        await asyncio.sleep(1_000)
        assert [one for one in driver.reports if isinstance(one, r.ExecutionSilent)] == [report]

    play(scene, launches=[LaunchRule(command_lines=("* quiet",), silent=True)])


def test_a_lost_end_is_lost_and_an_upload_may_fail():
    output = OutputFile(file_pattern="*", destination=OutputFileDestination(container=OutputFileContainer(container_url="/somewhere")))

    async def scene(driver):
        command = run(2, "ends 0 0")
        driver.submit(run(1, "gone"), evolve(command, launch=evolve(command.launch, output_files=(output,))), run(3, "ends 0 0"))
        assert isinstance(await driver.end(1), r.ExecutionLost)
        assert (await driver.exit(2)).upload_failure.code == "BlobUploadFailed"
        assert (await driver.exit(3)).upload_failure is None  # It has nothing to upload.

    play(
        scene,
        launches=[
            LaunchRule(command_lines=("gone",), lost=True, duration=Span(fixed=Duration(SECOND))),
            LaunchRule(command_lines=("ends*",), upload_failure="BlobUploadFailed"),
        ],
    )


def test_the_engines_host_needs_no_boot_and_nothing_is_launched_on_a_node_that_had_none():
    host = evolve(launch(1, "ends 5 0", task="end"), node=ENGINE_HOST, pool=ENGINE_POOL)

    async def scene(driver):
        driver.submit(RunFinalizer(launch=host))
        assert (await driver.exit(1)).exit_code == 5
        command = run(2, "ends 0 0")
        driver.submit(evolve(command, launch=evolve(command.launch, node="p-2")))
        assert (await driver.end(2)).failure.code == "CommandLaunchFailed"

    play(scene)


def test_anybody_may_run_what_does_not_run():
    assert asyncio.run(DryRunExecutor().refusal(UserIdentity(username="nobody-of-that-name"))) is None


# --- nodes ----------------------------------------------------------------------------------------------------


def fault(kind, at=10, back_after=None, **more):
    back = None if back_after is None else Duration(back_after * SECOND)
    return NodeRule(fault=kind, at=Duration(at * SECOND), back_after=back, **more)


def kinds(reports, *kind):
    return [type(report).__name__ for report in reports if isinstance(report, kind)]


def test_a_boot_takes_its_time():
    async def scene(driver):
        assert now() == 15
        again = len(driver.reports)
        driver.submit(BootNode(pool=POOL, node=NODE, incarnation=2, wipe=False), BootNode(pool=POOL, node=NODE, incarnation=2, wipe=False))
        await asyncio.sleep(60)
        assert kinds(driver.reports[again:], r.NodeReady) == ["NodeReady"]

    play(scene, boot=15)


def test_a_node_that_reboots_by_itself_comes_back_as_another_boot():
    async def scene(driver):
        first = driver.reports[0]
        driver.submit(run(1, "stays"))
        await asyncio.sleep(15)
        assert kinds(driver.reports, r.ExecutionLost, r.NodeFaulted) == []  # It is down, and nobody hears it.
        driver.submit(run(2, "stays"), RemoveFiles(pool=POOL, node=NODE, job=JobId("job"), task=None, before=ExecutionId(9)))
        ready = await driver.report(r.NodeReady, NODE, after=2)
        assert ready.boot_id != first.boot_id
        assert now() == 10 + 8
        assert {report.execution for report in driver.reports if isinstance(report, r.ExecutionLost)} == {1, 2}
        driver.submit(stop(1))
        assert isinstance(driver.reports[-1], r.ExecutionLost)
        driver.submit(run(3, "ends 0 0"))
        await driver.exit(3)

    play(scene, nodes=[fault("reboot", back_after=8)])


@pytest.mark.parametrize("kind", ["lost", "preempted"])
def test_a_node_that_is_gone_answers_nothing_until_it_is_back(kind):
    async def scene(driver):
        driver.submit(run(1, "stays"))
        gone = await driver.report(r.NodeFaulted, NODE)
        assert (gone.fault, gone.reason, now()) == (kind, "the rack", 10)
        heard = len(driver.reports)
        driver.submit(run(2, "stays"), BootNode(pool=POOL, node=NODE, incarnation=2, wipe=True))
        driver.submit(RemoveFiles(pool=POOL, node=NODE, job=JobId("job"), task=None, before=ExecutionId(9)))
        await asyncio.sleep(3)
        assert driver.reports[heard:] == []
        await driver.report(r.NodeReady if kind == "lost" else r.NodeReallocated, NODE, after=heard)
        assert now() == 15
        ready = await driver.boot(incarnation=3)
        assert ready.incarnation == 3
        driver.submit(run(3, "ends 0 0"))
        await driver.exit(3)

    play(scene, nodes=[fault(kind, back_after=5, reason="the rack")])


def test_a_node_that_is_gone_for_good_is_given_up_when_it_is_to_go():
    async def scene(driver):
        await driver.report(r.NodeFaulted, NODE)
        after = len(driver.reports)
        driver.submit(RetireNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
        assert (await driver.report(r.NodeFaulted, NODE, after=after)).fault == "lost"
        driver.executor.recover([], {NODE: POOL})
        assert kinds(driver.reports[after:], r.NodeReady) == []

    play(scene, nodes=[fault("lost")])


def test_what_runs_on_an_unusable_node_can_be_stopped_there():
    async def scene(driver):
        driver.submit(run(1, "stays"))
        await driver.report(r.NodeFaulted, NODE)
        driver.submit(stop(1))
        assert (await driver.exit(1)).stopped
        after = len(driver.reports)
        await driver.report(r.NodeReady, NODE, after=after)
        assert now() == 17

    play(scene, nodes=[fault("unusable", back_after=7)])


def test_a_node_that_is_unusable_as_it_boots_never_comes_up():
    async def scene():
        scenario = Scenario(nodes=(fault("unusable", at=5),), boot_duration=Span(fixed=Duration(10 * SECOND)))
        async with driving(DryRunExecutor(Fortune(scenario=scenario)), boot=False) as driver:
            driver.submit(BootNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
            await asyncio.sleep(60)
            assert kinds(driver.reports, r.Report) == ["NodeFaulted"]
            assert (await driver.boot(incarnation=2)).incarnation == 2

    run_virtually(scene())


def test_a_wiped_node_is_there_and_says_so():
    async def scene(driver):
        driver.submit(run(1, "stays"))
        assert (await driver.report(r.NodeFaulted, NODE)).fault == "wiped"
        driver.submit(stop(1))
        assert (await driver.exit(1)).stopped

    play(scene, nodes=[fault("wiped")])


def test_faults_come_again_while_something_runs_and_only_then():
    rule = NodeRule(fault="unusable", mean_time_between=Duration(10 * SECOND))

    async def scene(driver):
        await asyncio.sleep(1_000)
        assert kinds(driver.reports, r.NodeFaulted) == []
        driver.submit(run(1, "stays"))
        await asyncio.sleep(1_000)
        struck = len(kinds(driver.reports, r.NodeFaulted))
        assert 50 < struck < 200
        driver.submit(stop(1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1_000):
                await asyncio.Event().wait()
        assert len(kinds(driver.reports, r.NodeFaulted)) == struck

    play(scene, nodes=[rule])


def test_nothing_is_left_when_nothing_runs():
    async def scene(driver):
        driver.submit(run(1, "ends 0 0"))
        await driver.exit(1)
        await asyncio.Event().wait()

    with pytest.raises(NothingLeft):
        play(scene, nodes=[NodeRule(fault="reboot", mean_time_between=Duration(SECOND))])


def test_a_fault_is_in_time_or_not_at_all():
    """A node that comes after the time of a fault does not have it."""

    async def scene(driver):
        await asyncio.sleep(30)
        driver.submit(BootNode(pool=POOL, node="p-2", incarnation=1, wipe=True))
        driver.submit(BootNode(pool=POOL, node="p-3", incarnation=1, wipe=True))
        await asyncio.sleep(30)
        assert [report.node for report in driver.reports if isinstance(report, r.NodeFaulted)] == [NODE, "p-3"]

    play(scene, nodes=[fault("lost", at=10), fault("lost", at=40, nodes=("*-3",))])


def test_a_pool_may_have_it_by_its_name(tmp_path):
    """On a real loop it takes the time that it says."""

    async def scene():
        executor = make_executor("dry-run", tmp_path)
        assert isinstance(executor, DryRunExecutor)
        async with driving(executor) as driver:
            driver.submit(run(1, "anything"))
            await driver.report(r.ExecutionStarted, 1)
            driver.submit(stop(1))
            assert (await driver.exit(1)).wall < 60 * SECOND

    asyncio.run(scene())


def test_a_launch_says_all_that_it_is():
    """What is asked of fortune is the launch itself: a task is no preparation of the same name."""
    fortune = Fortune(scenario=Scenario(launches=(LaunchRule(kinds=("preparation",), exit_code=9),)))
    one = Launch(execution=ExecutionId(1), pool=POOL, node=NODE, job=JobId("job"), task=TaskId("t"), attempt=1, command_line="x", environment=())
    assert (fortune.of("preparation", one, Duration(0)).exit_code, fortune.of("task", one, Duration(0)).exit_code) == (9, 0)
