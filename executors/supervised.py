"""The executions that one supervisor looks after: launched once, watched, ended as a whole, recorded, reported.

1. A claim comes before the launch; a claimed execution is never launched again, only answered for.
2. An end is reported when nothing of the execution lives any more; what cannot be killed within a bound is named instead.
3. Nothing here waits: every wait is a deadline that `tick` looks at.
4. Paths are relative to the root, which is the working directory.
"""

# pathlib would make the supervisor's heap larger, and so each fork dearer.
# ruff: noqa: PTH120

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from . import family, processes, records, spawn, spawn_as
from .family import MARK, NODE_MARK, THROUGH_MARK, Execution, Family
from .processes import Row
from .records import Facts
from .removal import Removals

KILL_BOUND_S = 10.0
"""How long SIGKILL is repeated before what is left is called unkillable (a process in a hung system call)."""
TICK_MIN_S, TICK_MAX_S = 0.005, 0.1
"""How often a group that is being ended is looked at: often at first, since most end at once."""
WATCH_S = 0.1
"""How often an adopted process is looked at: it is not our child, so nothing announces its end."""
LAUNCH_BOUND_S = 60.0
"""How long a process may take to become another user and the program: the machine may have to ask elsewhere who that is."""
RETRY_S = 5.0
"""How often a record that could not be written (disk full) is tried again."""

STOPPED = {"stage": spawn.STAGE_STOPPED, "errno": 0, "subject": ""}
"""Stopped before it was launched."""
UNANSWERED = {"stage": spawn.STAGE_IDENTITY, "errno": 0, "subject": "what was to take the user's identity ended before it had"}
"""It was killed, or gave up after `LAUNCH_BOUND_S`."""


class Table:
    """All executions of one ledger below one root."""

    def __init__(self, root: str, ledger: str, boot: str, send: Callable[[dict[str, Any]], None]) -> None:
        self.environment: dict[bytes, bytes] = {}
        """What every program gets, under its own settings."""
        self.drain_grace_s = 5.0
        """Between TERM and KILL for what a program leaves behind when it ends by itself."""
        self.attached = False
        """An engine listens; while none does, ends are synced to disk."""
        self._root = root
        self._ledger = ledger
        self._boot = boot
        self._send = send
        self._family = Family()
        self._removals = Removals(ledger, self._family.helpers, send)
        self._all: dict[int, Execution] = {}
        self._busy: dict[int, Execution] = {}
        self._clearing: dict[str, set[int]] = {}
        self._unwritten: dict[str, bytes] = {}
        self._retry_at = 0.0

    @property
    def empty(self) -> bool:
        """Nothing lives, all is on record, and nothing is left to be removed."""
        return not self._all and not self._unwritten and self._removals.empty

    # orders

    def launch(self, order: dict[str, Any]) -> None:
        """Launch the execution, or answer with what is known of it where it was claimed before."""
        number, node = order["x"], order["node"]
        try:
            record = records.claim(self._path(number, node))
        except FileExistsError:
            self.adopt(order)
            return
        except OSError as error:
            self._send({"op": "not_started", "x": number, "stage": spawn.STAGE_CLAIM, "errno": error.errno, "subject": node})
            return
        execution = Execution(number, node, self._marks(number, node))
        execution.folder, execution.program = order["folder"], order["arguments"][0]
        try:
            self._spawn(execution, record, order)
        except spawn.NotLaunched as refusal:
            self._not_started(execution, refusal)
        finally:
            os.close(record)

    def adopt(self, order: dict[str, Any]) -> None:
        """Answer with what is known of the execution, and watch it where it lives; never launch it."""
        number, node = order["x"], order["node"]
        if (execution := self._all.get(number)) is not None:
            self._tell_started(execution)
            return
        path = self._path(number, node)
        try:
            facts = records.read(path, self._unwritten.get(path, b""))
            if facts is None:
                # Never launched, or the record is gone: either way it must not be launched by a late order.
                self._claim_for_good(number, node, b"")
        except OSError as error:
            self._adopt_unrecorded(number, node, error)
            return
        if facts is None:
            self._adopt_marked(number, node, "there is no record of its launch")
        elif facts.lost is not None:
            self._send({"op": "lost", "x": number, "reason": facts.lost})
        elif facts.not_started is not None:
            self._send({"op": "not_started", "x": number, **facts.not_started})
        elif facts.exited is not None and (facts.drained is not None or facts.boot != self._boot):
            self._send({"op": "exited", "x": number, **facts.exited, "leftover": facts.drained or []})
        elif facts.boot is not None and facts.boot != self._boot:
            self._lose(number, node, "the host was rebooted while it ran")
        elif facts.pid is None:
            self._adopt_marked(number, node, "its supervisor died as it was launched")
        else:
            self._watch(self._foreign(number, node, facts), order.get("folder", ""))

    def stop(self, order: dict[str, Any]) -> None:
        """End the whole execution, or forbid its launch where it was never claimed."""
        number, node = order["x"], order["node"]
        if number not in self._all:
            try:
                if self._claim_for_good(number, node, records.line(not_started=STOPPED)):
                    self._send({"op": "not_started", "x": number, **STOPPED})
                    return
                self.adopt(order)
            except OSError as error:
                self._adopt_unrecorded(number, node, error)
        if (execution := self._all.get(number)) is not None:
            self._stop(execution, order["grace_s"])

    def clear(self, order: dict[str, Any]) -> None:
        """Stop all that runs on the node, then answer `cleared`."""
        node = order["node"]
        self._clearing.setdefault(node, set())
        self._removals.forget(node)
        self._adopt_strangers(node)
        for execution in list(self._all.values()):
            if execution.node == node:
                self._stop(execution, order["grace_s"])
        self._answer_clear(node)

    def remove(self, order: dict[str, Any]) -> None:
        """Remove a folder in which nothing lives, or say why not; answer `removed`."""
        node, folder, before = order["node"], order["folder"], order["before"]
        living = [execution.id for execution in self._all.values() if f"{execution.folder}/".startswith(f"{folder}/")]
        if living:
            self._removals.refuse(node, folder, before, f"{folder}: execution {living[0]} runs there")
        else:
            self._removals.begin(node, folder, before)

    # what happens

    def reap(self) -> None:
        """Take in every child that has ended."""
        ended = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._family.forget(pid)
            self._removals.ended(pid, status)
            if (node := self._family.helpers.pop(pid, None)) in self._clearing:
                self._answer_clear(str(node))
            if (execution := self._family.leaders.pop(pid, None)) is not None:
                ended.append((execution, status))
        # One look for orphans serves all that have ended by now.
        orphans = self._family.orphans() if ended else []
        for execution, status in ended:
            self._leader_ended(execution, status, orphans)

    def next_tick(self) -> float | None:
        """When `tick` is due next, by the monotonic clock."""
        times = [execution.tick_at for execution in self._busy.values()]
        if self._unwritten:
            times.append(self._retry_at)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Bring on every watch and every end that is due."""
        table: dict[int, Row] | None = None
        for execution in [one for one in self._busy.values() if one.tick_at <= now]:
            if execution.status is not None:
                self._await_program(execution, now)
                if execution.kill_at is None:
                    continue
            if execution.kill_at is None and execution.pid is not None and processes.lives(execution.pid, execution.span):
                execution.tick_at = now + WATCH_S
                continue
            table = processes.snapshot() if table is None else table
            if execution.kill_at is None and not self._find_leader(execution, table, now):
                execution.ended = True
                self._end(execution, self.drain_grace_s)
            if execution.kill_at is not None:
                self._press(execution, execution.kill_at, now, table)
        if self._unwritten and now >= self._retry_at:
            self._write_again(now)

    # launching

    def _spawn(self, execution: Execution, record: int, order: dict[str, Any]) -> None:
        own = {spawn.encode(name): spawn.encode(value) for name, value in order["environment"].items()}
        arguments = [spawn.encode(word) for word in order["arguments"]]
        aside = f"{execution.node}/volatile/.{self._ledger}.{execution.id}"
        execution.began, before = time.monotonic(), processes.clock()
        if "user" in order:
            variables = {**spawn_as.bare(self.environment), **own, **execution.marks}
            through = order["user"].get("through_sudo", False)
            execution.through = order["user"]["name"] if through else None
            marks = {**execution.marks, THROUGH_MARK: spawn.encode(order["user"]["name"])} if through else execution.marks
            started = spawn_as.start({**order, "drain_grace_s": self.drain_grace_s}, self._root, aside, variables, marks)
            pid, put_aside, execution.status = started.pid, started.put_aside, started.status
            execution.tick_at, execution.pause_s = execution.began, TICK_MIN_S
            self._busy[execution.id] = execution
        else:
            variables = {**self.environment, **own, **execution.marks}
            pid, put_aside = spawn.spawn(execution.folder, aside, order.get("staged"), arguments, variables)
        execution.pid, execution.span = pid, processes.span_since(before)
        self._all[execution.id] = self._family.leaders[pid] = execution
        try:
            records.write(record, self._claimed(execution.id) + self._started(execution))
        except OSError:
            self._keep(self._path(execution.id, execution.node), self._started(execution))
        self._tell_started(execution)
        if put_aside and (helper := _remove_in_background(aside)) is not None:
            self._family.helpers[helper] = execution.node

    def _tell_started(self, execution: Execution) -> None:
        if execution.status is None:
            self._send({"op": "started", "x": execution.id, "pid": execution.pid})

    def _not_started(self, execution: Execution, refusal: spawn.NotLaunched) -> None:
        self._append(execution, self._claimed(execution.id))
        self._tell_not_started(execution, refusal.fact)

    def _tell_not_started(self, execution: Execution, fact: dict[str, Any]) -> None:
        subject = execution.program if fact["stage"] in spawn.STAGES_OF_PROGRAM else execution.folder
        fact = {**fact, "subject": fact["subject"] or subject}
        self._append(execution, records.line(not_started=fact))
        self._send({"op": "not_started", "x": execution.id, **fact})

    def _await_program(self, execution: Execution, now: float) -> None:
        """Look whether the program has taken over from what became its user."""
        self._listen(execution)
        if execution.kill_at is None:
            execution.pause_s = min(execution.pause_s * 1.5, TICK_MAX_S)
            execution.tick_at = now + execution.pause_s
            if execution.status is None:
                del self._busy[execution.id]
            elif not execution.said and now > execution.began + LAUNCH_BOUND_S:
                self._end(execution, 0)

    def _listen(self, execution: Execution, *, ended: bool = False) -> None:
        """Read what the process says on its way to become the program; when the pipe ends, it has, or it never will."""
        if execution.status is None:
            return
        try:
            while part := os.read(execution.status, 65536):
                execution.said += part
        except BlockingIOError:
            if not ended:
                return
        os.close(execution.status)
        execution.status = None
        said = execution.said.splitlines()
        if said[-1:] == [spawn_as.READY]:
            self._tell_started(execution)
        elif said and said[-1] != spawn_as.ENTERED:
            execution.refused = json.loads(said[-1])
        else:
            execution.refused = STOPPED if execution.stopping else UNANSWERED

    # ending

    def _stop(self, execution: Execution, grace_s: float) -> None:
        execution.stopping = True
        self._end(execution, grace_s)

    def _end(self, execution: Execution, grace_s: float) -> None:
        """Begin to end all of the execution; the next tick sends the first signals."""
        now = time.monotonic()
        if execution.kill_at is None:
            execution.kill_at = now + grace_s
            execution.pause_s = TICK_MIN_S
        execution.kill_at = min(execution.kill_at, now + grace_s)
        execution.give_up_at = execution.kill_at + KILL_BOUND_S
        execution.tick_at = now
        self._busy[execution.id] = execution

    def _leader_ended(self, execution: Execution, status: int, orphans: list[int]) -> None:
        self._listen(execution, ended=True)
        if execution.refused is not None:
            self._tell_not_started(execution, execution.refused)
            self._drop(execution, [])
            return
        code = os.waitstatus_to_exitcode(status)
        execution.ended = True
        execution.exit = {
            "code": code if code >= 0 else 128 - code,
            "signal": -code if code < 0 else None,
            "stopped": execution.stop_reached,
            "wall_us": int((time.monotonic() - execution.began) * 1_000_000),
        }
        execution.group_held = family.group_lives(execution.pid or 0)
        orphaned = any(self._family.owner(pid, self._all.values()) is execution for pid in orphans)
        lines = records.line(exited=None, **execution.exit)
        if execution.group_held or orphaned or execution.known:
            self._append(execution, lines)
            self._end(execution, self.drain_grace_s)
        else:
            self._append(execution, lines + records.line(drained=[]))
            self._report_end(execution, [])

    def _press(self, execution: Execution, kill_at: float, now: float, table: dict[int, Row]) -> None:
        """Look at what lives of the execution, signal it as is due, and finish when nothing is left."""
        members = self._family.members(execution, table, self._all.values())
        if (not members and (execution.ended or execution.foreign)) or now >= execution.give_up_at:
            self._finish(execution, sorted(row.pid for row in members))
            return
        killing = now >= kill_at
        if killing or not execution.termed:
            if execution.stopping and any(row.pid == execution.pid for row in members):
                execution.stop_reached = True
            if execution.through is not None:
                signalled = self._family.signal_through_sudo(execution, members, signal.SIGKILL if killing else signal.SIGTERM)
                execution.termed = execution.termed or (signalled and bool(members))
            elif killing:
                family.kill(execution, members)
            else:
                family.terminate(execution, members)
                execution.termed = bool(members)
        execution.pause_s = TICK_MIN_S if killing else min(execution.pause_s * 1.5, TICK_MAX_S)
        execution.tick_at = now + execution.pause_s if killing else min(now + execution.pause_s, kill_at)

    def _finish(self, execution: Execution, leftover: list[int]) -> None:
        """Nothing is left to be done about the execution: put its end on record and report it."""
        if execution.exit is None and not execution.foreign:
            wall_us = int((time.monotonic() - execution.began) * 1_000_000)
            execution.exit = {"code": 128 + signal.SIGKILL, "signal": int(signal.SIGKILL), "stopped": execution.stopping, "wall_us": wall_us}
            self._append(execution, records.line(exited=None, **execution.exit))
        if execution.exit is not None:
            self._append(execution, records.line(drained=leftover))
            self._report_end(execution, leftover)
            return
        reason = "the supervisor died while it ran, and so its exit code is not known"
        if leftover:
            reason += f"; processes {', '.join(map(str, leftover))} cannot be killed"
        self._lose(execution.id, execution.node, reason)
        self._drop(execution, leftover)

    def _report_end(self, execution: Execution, leftover: list[int]) -> None:
        self._send({"op": "exited", "x": execution.id, **(execution.exit or {}), "leftover": leftover})
        self._drop(execution, leftover)

    def _drop(self, execution: Execution, leftover: list[int]) -> None:
        self._all.pop(execution.id, None)
        self._busy.pop(execution.id, None)
        if execution.status is not None:
            os.close(execution.status)
        if execution.pid is not None and self._family.leaders.get(execution.pid) is execution:
            del self._family.leaders[execution.pid]
        if execution.node in self._clearing:
            self._clearing[execution.node].update(leftover)
            self._answer_clear(execution.node)

    def _answer_clear(self, node: str) -> None:
        if node not in self._family.helpers.values() and not any(execution.node == node for execution in self._all.values()):
            self._send({"op": "cleared", "node": node, "leftover": sorted(self._clearing.pop(node))})

    # adopting

    def _foreign(self, number: int, node: str, facts: Facts | None) -> Execution:
        execution = Execution(number, node, self._marks(number, node))
        execution.foreign = True
        if facts is not None:
            execution.pid, execution.span, execution.exit = facts.pid, facts.span, facts.exited
            _learn_user(execution)
        return execution

    def _watch(self, execution: Execution, folder: str = "") -> None:
        execution.folder = folder
        self._all[execution.id] = self._busy[execution.id] = execution
        if execution.exit is not None:
            execution.ended = True
            self._end(execution, self.drain_grace_s)
        elif execution.pid is not None and processes.lives(execution.pid, execution.span):
            self._tell_started(execution)

    def _adopt_marked(self, number: int, node: str, reason: str) -> None:
        """Watch an execution of unknown pid if anything carries its mark; else it is lost."""
        execution = self._foreign(number, node, None)
        if any(processes.marked(execution.marks, processes.snapshot())):
            self._watch(execution)
        else:
            self._lose(number, node, reason)

    def _adopt_unrecorded(self, number: int, node: str, error: OSError) -> None:
        """What the disk does not let us know or forbid is of unknown outcome.  To die of it would lose all others' ends too."""
        self._adopt_marked(number, node, f"its record cannot be used: {os.strerror(error.errno or errno.EIO)}")

    def _find_leader(self, execution: Execution, table: dict[int, Row], now: float) -> bool:
        """Whether an execution of unknown pid lives still; its leader is the marked process that leads a session."""
        if execution.pid is not None:
            return False
        members = self._family.members(execution, table, ())
        for row in members:
            if row.pid == row.session:
                execution.pid, execution.span = row.pid, (row.start, row.start)
                _learn_user(execution)
                self._append(execution, self._started(execution))
                self._tell_started(execution)
        execution.tick_at = now + WATCH_S
        return bool(members)

    def _adopt_strangers(self, node: str) -> None:
        """Take in what runs on the node and was never asked about: executions of a supervisor that died."""
        if not processes.LINUX:
            return
        for row in processes.marked({NODE_MARK: self._home(node)}, processes.snapshot()):
            ledger, _, number = processes.environment_of(row.pid).get(MARK, b"").decode(errors="replace").partition(".")
            if ledger == self._ledger and number.isdigit() and int(number) not in self._all:
                self._watch(self._foreign(int(number), node, None))

    # records

    def _path(self, number: int, node: str) -> str:
        return f"{node}/{records.FOLDER}/{self._ledger}.{number}"

    def _marks(self, number: int, node: str) -> dict[bytes, bytes]:
        return {MARK: f"{self._ledger}.{number}".encode(), NODE_MARK: self._home(node)}

    def _home(self, node: str) -> bytes:
        return f"{self._root}/{node}".encode(errors="surrogateescape")

    def _claim_for_good(self, number: int, node: str, lines: bytes) -> bool:
        """Claim the execution so that it never starts; False where it was claimed before.  Raises OSError."""
        path = self._path(number, node)
        processes.make_private(os.path.dirname(path))
        try:
            record = records.claim(path)
        except FileExistsError:
            return False
        try:
            records.write(record, self._claimed(number) + lines)
        finally:
            os.close(record)
        return True

    def _claimed(self, number: int) -> bytes:
        return records.line(claimed=f"{self._ledger}.{number}", boot=self._boot)

    def _started(self, execution: Execution) -> bytes:
        return records.line(started=execution.pid, span=execution.span, boot=self._boot)

    def _lose(self, number: int, node: str, reason: str) -> None:
        self._append_to(self._path(number, node), records.line(lost=reason))
        self._send({"op": "lost", "x": number, "reason": reason})

    def _append(self, execution: Execution, lines: bytes) -> None:
        self._append_to(self._path(execution.id, execution.node), lines)

    def _append_to(self, path: str, lines: bytes) -> None:
        if path in self._unwritten:
            self._unwritten[path] += lines
            return
        try:
            records.append(path, lines, sync=not self.attached)
        except FileNotFoundError:
            return  # the node was wiped, and the record with it
        except OSError:
            # A full disk.  The engine hears of the end all the same; for the next one it is kept until there is room.
            self._keep(path, lines)

    def _keep(self, path: str, lines: bytes) -> None:
        """Remember lines for which there was no room; they begin after whatever was torn."""
        self._unwritten[path] = b"\n" + lines
        self._retry_at = time.monotonic() + RETRY_S

    def _write_again(self, now: float) -> None:
        self._retry_at = now + RETRY_S
        for path, lines in list(self._unwritten.items()):
            del self._unwritten[path]
            self._append_to(path, lines)


def _learn_user(execution: Execution) -> None:
    """An adopted execution that runs through `sudo` has that in its leader's environment."""
    name = processes.environment_of(execution.pid or 0).get(THROUGH_MARK)
    execution.through = None if name is None else name.decode()


def _remove_in_background(path: str) -> int | None:
    """Remove a folder in a child of its own, since it may be large; the child's pid.

    None where there can be no more processes: then the folder lies in the node's `volatile` until that is emptied.
    """
    try:
        pid = os.fork()
    except OSError:
        return None
    if pid == 0:
        try:
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # above all the lock: it must end with the supervisor
            processes.remove_tree(path)
        finally:
            os._exit(0)
    return pid
