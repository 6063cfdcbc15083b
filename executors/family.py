"""An execution and its processes: which processes belong to it, and how they are signalled.

1. A signal goes only to a process known to belong: the leader (pid and start time), its process group and session while they are
   known to exist without a break, descendants, orphans that came to us, and what carries the execution's mark in its
   environment.  A recycled pid is never signalled.
2. An orphan that hides (new session, cleared environment) is ended with the last execution that can have begotten it.
"""

import os
import signal
from collections.abc import Iterable
from typing import Any

from . import processes, sudo
from .processes import Row, Span

MARK = b"JOBLEDGER_EXECUTION"
NODE_MARK = b"AZ_BATCH_NODE_ROOT_DIR"
THROUGH_MARK = b"JOBLEDGER_THROUGH_SUDO"
"""With the user's name: of the process that leads an execution in the stead of a program that runs through `sudo`."""


class Execution:
    """One launch, from the claim until nothing of it lives."""

    __slots__ = (
        "began", "ended", "envoy", "exit", "folder", "foreign", "give_up_at", "group_held", "id", "kill_at", "known", "marks",
        "node", "pause_s", "pid", "program", "refused", "said", "span", "status", "stop_reached", "stopping", "termed", "through", "tick_at",
    )  # fmt: skip

    def __init__(self, number: int, node: str, marks: dict[bytes, bytes]) -> None:
        self.id = number
        self.node = node
        self.marks = marks
        """What the environment of its processes has: who they are, and where, lest a copy of the ledger elsewhere be taken for it."""
        self.folder = ""
        self.program = ""
        self.pid: int | None = None
        """The leader's; None where a supervisor died before it wrote it down."""
        self.span: Span = (0, 0)
        self.through: str | None = None
        """The user that it runs as through `sudo`: then none of it but the leader can be signalled by us."""
        self.envoy: int | None = None
        """The process that takes our last signal there."""
        self.foreign = False
        """Adopted from a supervisor that died: not our child, so its exit code cannot be known."""
        self.group_held = True
        """The leader's pid still names its group; once that is empty, the number may come to mean another."""
        self.began = 0.0
        self.ended = False
        """The leader runs no more; others of it may."""
        self.exit: dict[str, Any] | None = None
        self.stopping = False
        self.kill_at: float | None = None
        """When TERM gives way to KILL; None while nothing is being ended."""
        self.termed = False
        self.give_up_at = 0.0
        self.tick_at = 0.0
        self.pause_s = 0.0
        self.known: dict[int, Span] = {}
        """Members seen outside the leader's group, with their start times."""
        self.status: int | None = None
        """Until the program has taken over from what became its user: the pipe by which that says how it goes."""
        self.said = b""
        """What came by it."""
        self.refused: dict[str, Any] | None = None
        """Why the program never ran, where that was learnt after its process was made."""
        self.stop_reached = False
        """A stop sent its TERM while the leader lived."""


class Family:
    """Tells whose a process is."""

    def __init__(self) -> None:
        self.leaders: dict[int, Execution] = {}
        """Our children that lead an execution, by pid; the caller keeps it."""
        self.helpers: dict[int, str] = {}
        """Our children that remove folders or take signals to other users, with the node they work on; the caller takes out what has ended."""
        self.subreaper = processes.become_subreaper()
        self._self = os.getpid()
        self._owners: dict[int, Execution] = {}

    def forget(self, pid: int) -> None:
        """The child was reaped: its pid means nothing any more."""
        self._owners.pop(pid, None)

    def orphans(self) -> list[int]:
        """Children of ours that we did not launch: descendants of executions whose own parents are gone."""
        if not self.subreaper:
            return []
        children = processes.own_children()
        if children is None:
            children = {row.pid for row in processes.snapshot().values() if row.parent == self._self}
        return [pid for pid in children if pid not in self.leaders and pid not in self.helpers]

    def owner(self, pid: int, candidates: Iterable[Execution]) -> Execution | None:
        """The execution an orphan belongs to, None where it is dead or may yet belong to more than one of `candidates`."""
        if (owner := self._owners.get(pid)) is not None:
            return owner
        row = processes.look_up(pid)
        if row is None or row.zombie:
            return None
        mark = processes.environment_of(pid).get(MARK)
        able = [one for one in candidates if not one.foreign and one.span[0] <= row.start]
        owner = next((one for one in able if one.marks[MARK] == mark), None)
        if owner is None and len(able) == 1:
            owner = able[0]
        if owner is not None:
            self._owners[pid] = owner
        return owner

    def members(self, execution: Execution, table: dict[int, Row], candidates: Iterable[Execution]) -> list[Row]:
        """All living processes of the execution in `table`."""
        roots = self._group(execution, table)
        roots.update(pid for pid, span in execution.known.items() if pid in table and processes.within(table[pid].start, span))
        if execution.foreign:
            roots.update(row.pid for row in processes.marked(execution.marks, table))
        else:
            orphans = [row.pid for row in table.values() if row.parent == self._self and row.pid not in self.leaders and row.pid not in self.helpers]
            roots.update(pid for pid in orphans if self.owner(pid, candidates) is execution)
        family = processes.descendants(table, roots) - {self._self}
        living = [table[pid] for pid in family if pid in table and not table[pid].zombie and self.leaders.get(pid, execution) is execution]
        execution.known = {row.pid: (row.start, row.start) for row in living if row.group != execution.pid}
        return living

    def _group(self, execution: Execution, table: dict[int, Row]) -> set[int]:
        """The leader, its group and its session, as far as its pid can be trusted."""
        pid = execution.pid
        if pid is None or not execution.group_held:
            return set()
        leader = table.get(pid)
        ours = self.leaders.get(pid) is execution
        strange = not ours and leader is not None and not processes.within(leader.start, execution.span)
        # Of an adopted execution nobody watched the group: without its leader, the number may have changed hands meanwhile.
        unwatched = execution.foreign and leader is None
        found = set() if strange or unwatched else {row.pid for row in table.values() if pid in (row.pid, row.group, row.session)}
        execution.group_held = bool(found)
        return found

    def signal_through_sudo(self, execution: Execution, members: list[Row], number: signal.Signals) -> bool:
        """Have the user signal what is the user's; False where that cannot be asked now.

        The leader and `sudo`, which are in a group of their own, end when nothing else does.
        """
        others = [(row.pid, row.start, row.group) for row in members if row.group != execution.pid]
        if not others or number == signal.SIGTERM:
            _signal_group(execution, number)
        if not others:
            return True
        if execution.envoy in self.helpers:
            return False
        try:
            words = sudo.signal_words(execution.through or "", number, others)
            nothing = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
            execution.envoy = os.posix_spawn(words[0], words, sudo.ENVIRONMENT, file_actions=nothing, setsid=True)
        except OSError:
            return False  # no process to be had, or no sudo any more: what cannot be ended is named
        self.helpers[execution.envoy] = execution.node
        return True


def terminate(execution: Execution, members: list[Row]) -> None:
    """SIGTERM to all that live now, and SIGCONT so that a stopped process gets it.

    Once only: what a program starts to clean up after itself is let be until the grace is over.
    """
    if any(row.group == execution.pid for row in members):
        _signal_group(execution, signal.SIGTERM)
        _signal_group(execution, signal.SIGCONT)
    for row in members:
        if row.group != execution.pid:
            _signal(row.pid, signal.SIGTERM)
            _signal(row.pid, signal.SIGCONT)


def kill(execution: Execution, members: list[Row]) -> None:
    """SIGKILL to all; the group at once, so that it cannot outrun us by forking."""
    if any(row.group == execution.pid for row in members):
        _signal_group(execution, signal.SIGKILL)
    for row in members:
        if row.group != execution.pid:
            _signal(row.pid, signal.SIGKILL)


def group_lives(pid: int) -> bool:
    """Whether the process group has a member (zombies count)."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_group(execution: Execution, number: signal.Signals) -> None:
    if execution.pid is not None:
        try:
            os.killpg(execution.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # see _signal


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has just gone, or it changed its user: then it will be named as left over
