# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The conformance suite of executors whose engine is killed: between each pair of facts about an execution.

    class TestMyExecutor(ProcessConformance, CrashConformance):
        def make_executor(self, folder: Path) -> Executor: ...

The engine's part plays in a process of its own (`doomed`), which SIGKILL ends at the point that the test is about.  Another engine then
opens an executor for the same folder, with what the first had recorded, and finds it out:

1. the program ran once, and once only, by what it says of itself;
2. its end is reported with its exit code, again and again the same;
3. its output is whole, and nothing of it runs any more.

Most points can be reached by whoever knows the port (`doomed.POINTS`).  Others lie inside the executor's own machinery, where it has some
that outlives the engine: a process that launches and watches.  `hold` stops that at a point of `HELD`; then the engine is killed, and the
machinery goes on or is killed too.  In the latter case an end may be unknown, and is then said to be; nothing runs twice for that.

Each crash is made sure of: a process that did not die where it was to makes the test fail.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

import attrs
import pytest

from jobledger.core.commands import RunTask
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, NodeReady

from . import doomed
from .driver import BOUND_S, NODE, POLL_S, POOL, Driver, Ended, check_reports, driving, read_output, run, stop
from .elsewhere import address_of
from .executors import ExecutorSuite
from .forks import Fork, Forks

CODE: Final = 3
RUNS_S: Final = 0.3
"""Long enough that the program often still runs when its engine is dead; nothing depends on that."""

HELD: Final = {
    "claimed": "the launch is claimed, and the program not started",
    "started": "the program is started, and that is not on record",
    "start recorded": "that it started is on record, and not reported",
    "exited": "the program has ended, and nobody has looked",
    "reaped": "its end is known, and not on record",
    "exit recorded": "its end is on record, and not reported",
}
"""Where machinery that outlives the engine can be held, and what that means."""

NO_MACHINERY: Final = {f"hold: {point}": "it has no process beside the engine's" for point in HELD}
"""For `not_applicable`."""


class Held(Protocol):
    """Machinery that stops at a point, once."""

    def reached(self) -> bool:
        """Whether it stands there."""
        ...

    def go_on(self) -> None: ...

    def kill(self) -> None:
        """End it where it stands, with SIGKILL; comes back when it is dead."""
        ...


class CrashConformance(ExecutorSuite):
    """Subclass this and give it `make_executor`, which needs nothing but the class and the folder; and `hold`, where there is machinery."""

    known_when_killed: frozenset[str] | None = None
    """The points of `HELD` at which machinery that is killed has written down how the program ended; None where that may be or not."""

    def hold(self, folder: Path, point: str) -> AbstractContextManager[Held] | None:  # noqa: ARG002 - for whoever overrides it
        """Have the machinery of executors below `folder` stop at `point` of `HELD`, on its way with the first execution; None where there is none."""
        return None

    def may_lack(self) -> frozenset[str]:
        return super().may_lack() | NO_MACHINERY.keys()

    @pytest.fixture(scope="class")
    @classmethod
    def forks(cls) -> Iterator[Forks]:
        """Where engines come from."""
        with Forks(address_of(cls)) as forks:
            yield forks

    @pytest.mark.parametrize("point", doomed.POINTS)
    def test_an_engine_is_killed_when(self, tmp_path: Path, forks: Forks, point: str) -> None:
        command_line = self.ends(tmp_path, 1, code=CODE, after_s=RUNS_S)
        recorded = self._die(forks, tmp_path, command_line, point)
        end = self._go_on(tmp_path, command_line, recorded, boots=point == "booting")
        self._check_end(tmp_path, end, known=self.adopts)

    def test_an_engine_is_killed_as_it_recovers(self, tmp_path: Path, forks: Forks) -> None:
        """And the next one too, before either has learnt more than what an executor can say at once."""
        command_line = self.ends(tmp_path, 1, code=CODE, after_s=RUNS_S)
        recorded = self._die(forks, tmp_path, command_line, "start reported")
        for _ in range(2):
            recorded += self._die(forks, tmp_path, command_line, doomed.RECOVERING, recorded)
        self._check_end(tmp_path, self._go_on(tmp_path, command_line, recorded), known=self.adopts)

    def test_an_engine_is_killed_as_it_stops_a_program(self, tmp_path: Path, forks: Forks) -> None:
        """The next one asks for the stop again, whether or not it has been under way."""
        command_line = self.stays(tmp_path, 1)
        recorded = self._die(forks, tmp_path, command_line, doomed.STOPPING)
        end = self._go_on(tmp_path, command_line, recorded, stops=True)
        if self.adopts:
            assert isinstance(end, ExecutionExited)
            assert (end.stopped, end.leftover) == (True, ())
        assert not self.living(tmp_path, 1)

    @pytest.mark.parametrize("then", ["it goes on", "it is killed too"])
    @pytest.mark.parametrize("point", HELD)
    def test_an_engine_is_killed_while_its_machinery_is_held(self, tmp_path: Path, forks: Forks, point: str, then: str) -> None:
        killed = then == "it is killed too"
        end = self._crash_while_held(forks, tmp_path, point, killed=killed)
        if killed and self.known_when_killed is not None:
            assert isinstance(end, ExecutionExited if point in self.known_when_killed else ExecutionLost)
        self._check_end(tmp_path, end, known=not killed)

    def _crash_while_held(self, forks: Forks, folder: Path, point: str, *, killed: bool) -> Ended:
        """Kill the engine while the machinery stands at `point`, and then perhaps that too; how the execution ended, as the next engine learns it."""
        command_line = self.ends(folder, 1, code=CODE, after_s=RUNS_S)
        with self.need(f"hold: {point}", self.hold(folder, point)) as held:
            engine = self._engine(forks, folder, command_line, doomed.NEVER, None)
            try:
                _wait_until(held.reached, f"the machinery is {point}")
            finally:
                engine.kill()
            recorded = _recorded(engine, doomed.NEVER)
            if killed:
                held.kill()
            else:
                held.go_on()
            return self._go_on(folder, command_line, recorded)

    # --- helpers ---

    def _engine(self, forks: Forks, folder: Path, command_line: str, point: str, recorded: Sequence[str] | None) -> Fork:
        order = {
            "suite": attrs.asdict(address_of(type(self))),
            "folder": str(folder),
            "command_line": command_line,
            "point": point,
            "recorded": recorded,
        }
        told = folder / "told"
        told.unlink(missing_ok=True)
        return forks.start(f"{doomed.__name__}:main", order, told=told)

    def _die(self, forks: Forks, folder: Path, command_line: str, point: str, recorded: Sequence[str] | None = None) -> list[str]:
        """Let an engine die at `point`; what it had recorded."""
        return _recorded(self._engine(forks, folder, command_line, point, recorded), point)

    def _go_on(self, folder: Path, command_line: str, recorded: Sequence[str], *, boots: bool = False, stops: bool = False) -> Ended:
        """Be the engine that comes after it; how the execution ended, held to be said again in the same way."""
        command = run(1, command_line)
        found: list[Ended] = []

        async def play() -> None:
            async with driving(self.make_executor(folder), boot=boots) as driver:
                if not boots:
                    driver.executor.recover([command] if doomed.believed_running(recorded) else [], {NODE: POOL})
                    await driver.report(NodeReady, NODE)
                found.append(await self._learn(driver, command, recorded, stops=stops))
                self._check_output(driver, found[0])
            check_reports(driver.reports)

        self.in_loop(play())
        return found[0]

    async def _learn(self, driver: Driver, command: RunTask, recorded: Sequence[str], *, stops: bool) -> Ended:
        if not doomed.believed_running(recorded):
            driver.submit(command)  # Where its end is recorded no engine would: it stands for one that comes late.
        if stops:
            driver.submit(stop(1))
        end = await driver.end(1)
        after = len(driver.reports)
        driver.submit(command)
        assert await driver.end(1, after=after) == end
        return end

    def _check_output(self, driver: Driver, end: Ended) -> None:
        if self.output is not None and isinstance(end, ExecutionExited) and not end.stopped:
            assert read_output(driver.executor, 1) == self.output

    def _check_end(self, folder: Path, end: Ended, *, known: bool) -> None:
        """Hold it to be the end of a program that ran once; where that is not sure to be known, it is said, and the program ran no more than once."""
        launches = self.launches(folder, 1)
        if isinstance(end, ExecutionExited):
            assert (end.exit_code, end.signal, end.stopped, end.leftover) == (CODE, None, False, ())
            assert launches in (1, None) or not self.adopts
        else:
            assert not known, end
            assert launches in (0, None) or (isinstance(end, ExecutionLost) and launches == 1) or not self.adopts
            assert not isinstance(end, ExecutionNotStarted) or end.failure is None
        assert not self.living(folder, 1)


def _recorded(engine: Fork, point: str) -> list[str]:
    """What an engine had recorded when it died, which must have been of SIGKILL and at `point`."""
    status = engine.wait()
    said = engine.told.read_text()
    assert status == -signal.SIGKILL, f"it did not die when {point}: {said}"
    facts = said.splitlines()
    if point != doomed.NEVER:
        assert facts.pop() == "dies", f"it died before it was {point}: {said}"
    return facts


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 2 * BOUND_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {2 * BOUND_S} s in vain: {what}")
        time.sleep(POLL_S)
