"""The engine's part in a process of its own, which kills itself with SIGKILL at a named point: see `crashes`.

It is told the suite's class, the folder, the command line, the point, and what an engine before recorded (`main`).  What a real engine would
have recorded when it died is what was printed: a line for each fact, `started` and `ended`, flushed at once.  The last line is `dies`, just
before the end, so that nobody takes another death for this one.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jobledger.core.commands import BootNode
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted, NodeReady, Report

from .driver import BOUND_S, LEDGER_ID, NODE, POOL, Driver, run, stop
from .elsewhere import Address, find

POINTS: Final = {
    "booting": "a boot of the node was asked for, and nothing is known of it",
    "decided": "the launch is in the ledger, and the executor was not told",
    "submitted": "the executor was told, and nothing is known of it",
    "started": "the start is being reported, and not recorded",
    "start reported": "the start is recorded",
    "exited": "the end is being reported, and not recorded",
    "exit reported": "the end is recorded",
}
"""Where an engine can die that knows only the port, and what that means."""
RECOVERING: Final = "recovering"
"""The executor was told what is believed, and nothing has come of it."""
STOPPING: Final = "stopping"
"""A stop was asked for, and nothing is known of it."""
NEVER: Final = "never"
"""It waits for whoever kills it."""

FACTS: Final[dict[type[Report], str]] = {
    ExecutionStarted: "started",
    ExecutionExited: "ended",
    ExecutionNotStarted: "ended",
    ExecutionLost: "ended",
}


class Doomed(Driver):
    """Dies as a report comes (`started`, `exited`), or once it is recorded."""

    point: str = NEVER

    def take(self, report: Report) -> None:
        fact = FACTS.get(type(report))
        if (self.point, fact) in {("started", "started"), ("exited", "ended")}:
            die()
        super().take(report)
        if fact is not None:
            say(fact)
        if (self.point, fact) in {("start reported", "started"), ("exit reported", "ended")}:
            die()


def say(fact: str) -> None:
    sys.stdout.write(f"{fact}\n")
    sys.stdout.flush()


def die() -> None:
    """End as a power switch would: nothing is closed, flushed or told."""
    say("dies")
    os.kill(os.getpid(), signal.SIGKILL)


def believed_running(recorded: Sequence[str]) -> bool:
    """Whether an engine that finds this recorded asks its executor to recognise the execution; else it gives the command."""
    return "started" in recorded and "ended" not in recorded


async def play(driver: Doomed, point: str, command_line: str, recorded: Sequence[str] | None) -> None:
    """Be the first engine, or with `recorded` the next one, as far as `point`."""
    await driver.executor.open(driver.take, ledger_id=LEDGER_ID)
    command = run(1, command_line)
    if recorded is None:
        driver.submit(BootNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
        if point == "booting":
            die()
        await driver.report(NodeReady, NODE)
        if point == "decided":
            die()
    else:
        driver.executor.recover([command] if believed_running(recorded) else [], {NODE: POOL})
    driver.point = point
    if recorded is None or not believed_running(recorded):
        driver.submit(command)
    if point in ("submitted", RECOVERING):
        die()
    if point == STOPPING:
        await driver.report(ExecutionStarted, 1)
        driver.submit(stop(1))
        die()
    await asyncio.sleep(3 * BOUND_S)  # Whoever waits for this process has given up by then.


def main(order: dict[str, Any]) -> None:
    """Called in a process of its own (`forks`)."""
    suite = find(Address(**order["suite"]))()
    folder = Path(order["folder"])
    suite.in_loop(play(Doomed(suite.make_executor(folder)), order["point"], order["command_line"], order["recorded"]))
