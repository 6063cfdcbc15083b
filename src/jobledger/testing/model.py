"""A model of an executor: programs and nodes in memory, driven by commands, answering with reports.

1. It knows nothing of the core's state: what it is told are commands, and what it remembers is what really happened.  That
   makes it a witness: `complaints` lists what must never happen on real machines, such as a task on an unprepared node.
2. Commands for one node arrive in order; each may arrive twice; those still under way are lost when the engine dies.
   Reports arrive in any order, may be repeated, and a report of a start may be lost for good.
3. The engine's host is always up while there is an engine; `restart_host` is the end of both, and of what runs there.
4. A machine that lost its power or its network is told nothing until it is booted again.
"""

from collections.abc import Iterable
from typing import Literal

from attrs import Factory, define

from jobledger.core import commands as c
from jobledger.core import events as e
from jobledger.core import reports as r
from jobledger.core.failure import FailureInfo
from jobledger.core.ids import ENGINE_HOST, START_TASK_ID, ExecutionId, JobId, NodeId, PoolId, TaskId
from jobledger.core.specs import JobSpec, PoolSpec, ReleaseScope, TaskSpec, UserIdentity

Kind = Literal["starttask", "preparation", "task", "release", "finalizer"]
Fault = Literal["unusable", "lost", "preempted", "wiped"]
Visit = tuple[JobId, int, NodeId]
"""A job on a node; the number tells jobs apart that had the same id one after the other."""

_KIND: dict[type[c.RunCommand], Kind] = {
    c.RunStartTask: "starttask",
    c.RunPreparation: "preparation",
    c.RunTask: "task",
    c.RunRelease: "release",
    c.RunFinalizer: "finalizer",
}
NO_SUCH_PROGRAM = FailureInfo(category="usererror", code="CommandProgramNotFound", message="The specified program is not found")
NO_SUCH_FILE = FailureInfo(category="usererror", code="BlobNotFound", message="The file to be fetched is not there")
NOT_UPLOADED = FailureInfo(category="usererror", code="FileUploadContainerNotFound", message="There is no such container")


@define
class Program:
    """One launch: `running`, `ended` with what `last_word` says, or never run because it was `forbidden` or `failed`."""

    kind: Kind
    launch: c.Launch
    visit: Visit | None
    state: Literal["running", "ended", "forbidden", "failed", "lost"]
    last_word: r.Report | None = None


@define
class Machine:
    """A node as it really is.  `done` is what its disk holds; `this_boot` what was done since it booted."""

    boot: int = 0
    incarnation: int = 0
    up: bool = False
    reachable: bool = True
    spoiled: bool = False
    """It lost its files in this boot: commands under way may still start what has nothing to build on."""
    done: set[tuple[str, JobId, int]] = Factory(set)
    this_boot: set[tuple[str, JobId, int]] = Factory(set)
    folders: dict[tuple[JobId, TaskId], ExecutionId] = Factory(dict)
    """Folders on its disk, each with the execution that wrote there last."""


@define
class ModelExecutor:
    machines: dict[NodeId, Machine] = Factory(lambda: {ENGINE_HOST: Machine(up=True)})
    programs: dict[ExecutionId, Program] = Factory(dict)
    asked: dict[ExecutionId, c.RunCommand] = Factory(dict)
    """Launches that were ever on their way: the engine may have died since."""
    queues: dict[NodeId, list[c.Command]] = Factory(dict)
    """Commands under way, in order for each node."""
    reports: list[r.Report] = Factory(list)
    """Reports under way."""
    heard: set[ExecutionId] = Factory(set)
    """Executions whose end the engine was told of."""
    specs: dict[JobId, JobSpec] = Factory(dict)
    lives: dict[JobId, int] = Factory(dict)
    """How many jobs have had this id."""
    users: dict[tuple[PoolId | JobId, TaskId], UserIdentity | None] = Factory(dict)
    """As which user each command line was asked to run."""
    complaints: list[str] = Factory(list)
    released: dict[Visit, int] = Factory(dict)
    """How often a release ran to its own end."""
    finalized: dict[Visit, int] = Factory(dict)
    """How often a finalizer did."""
    started: list[tuple[Kind, Visit]] = Factory(list)
    """Every program of a job that was started, in order."""
    in_doubt: list[tuple[Kind, Visit]] = Factory(list)
    """Programs that were not started, which nobody could say of them when their machine was lost."""
    boots: int = 0

    # --- what happens to it --------------------------------------------------------------------------------

    def submitted(self, spec: JobSpec) -> None:
        """A job was created anew."""
        self.specs[spec.id] = spec
        self.lives[spec.id] = self.lives.get(spec.id, 0) + 1
        for of_job in (spec.job_preparation_task, spec.job_release_task, spec.job_finalizer_task):
            if of_job is not None:
                self.users[(spec.id, of_job.id)] = of_job.user_identity

    def added(self, job: JobId, spec: TaskSpec) -> None:
        """A task was added."""
        self.users[(job, spec.id)] = spec.user_identity

    def created(self, spec: PoolSpec) -> None:
        """A pool was created anew."""
        if spec.start_task is not None:
            self.users[(spec.id, START_TASK_ID)] = spec.start_task.user_identity

    def send(self, command: c.Command) -> None:
        """Put a command on its way."""
        node = command.launch.node if isinstance(command, c.RunCommand) else command.node
        if isinstance(command, c.RunCommand):
            wanted = self.users.get((command.launch.job or command.launch.pool, command.launch.task))
            self._complain_if(command.launch.user != wanted, f"{command.launch.task} is to run as {command.launch.user} and not as {wanted}")
            self.asked.setdefault(command.launch.execution, command)
        self.queues.setdefault(node, []).append(command)

    def deliver(self, node: NodeId, *, again: bool = False, launches: bool = True, obeys: bool = True, uploads: bool = True) -> None:
        """Let the next command arrive, `again` if it will come once more.

        A launch or a removal may fail, a stop may find that the program just ended, and the outputs of what is stopped may be impossible to upload.
        """
        command = self.queues[node][0] if again else self.queues[node].pop(0)
        match command:
            case c.StopExecution():
                self._stop(command, obeys=obeys, uploads=uploads)
            case c.BootNode():
                self._boot(command)
            case c.RetireNode():
                self._retire(command)
            case c.RemoveFiles():
                self._remove(command, removes=launches)
            case _:
                self._run(command, launches=launches)

    def hand_over(self, index: int, *, again: bool = False) -> r.Report:
        """The report that arrives now, `again` if it will come once more."""
        report = self.reports[index] if again else self.reports.pop(index)
        if isinstance(report, r.ExecutionExited | r.ExecutionNotStarted):
            self.heard.add(report.execution)
        return report

    def end(self, execution: ExecutionId, exit_code: int, *, stopped: bool = False, uploads: bool = True) -> None:
        """A running program ends, and its output files are uploaded if it has any, unless that fails."""
        program = self.programs[execution]
        program.state = "ended"
        report = r.ExecutionExited(
            execution=execution,
            exit_code=exit_code,
            signal=15 if stopped else None,
            stopped=stopped,
            upload_failure=NOT_UPLOADED if program.launch.output_files and not uploads else None,
        )
        program.last_word = report
        self._tell(report, program)
        if program.visit is not None and (ran := self._ran_to_the_end(program.kind)) is not None and not stopped:
            ran[program.visit] = ran.get(program.visit, 0) + 1
        if program.visit is not None and program.kind == "preparation" and exit_code == 0 and not stopped:
            machine = self.machines[program.launch.node]
            machine.done.add(("prepared", *program.visit[:2]))
            machine.this_boot.add(("prepared", *program.visit[:2]))

    def cut_power(self, node: NodeId) -> None:
        """The machine goes down by itself, what ran there is gone, and it comes up from another boot."""
        machine = self.machines[node]
        machine.up = False
        self.boots += 1
        machine.boot = self.boots
        machine.this_boot.clear()
        self._lose_programs(node, "the machine lost its power")
        self.reports.append(r.NodeReady(node=node, boot_id=_boot_id(machine)))

    def restart_host(self) -> None:
        """The engine's host goes down, and with it the engine; it comes up as another boot."""
        self._lose_programs(ENGINE_HOST, "the host was rebooted while it ran")
        self.lose_mail()

    def fault(self, node: NodeId, fault: Fault) -> r.NodeFaulted:
        """The node fails; what runs on one that is lost goes on there, unseen."""
        machine = self.machines.setdefault(node, Machine())
        if fault == "wiped":
            machine.done.clear()
            machine.folders.clear()
            machine.this_boot.clear()
            machine.spoiled = True
        elif fault != "unusable":
            machine.reachable = False
            self.queues.pop(node, None)
            self._doubt_what_was_asked(node)
            for number, program in self.programs.items():
                if isinstance(program.last_word, r.ExecutionExited) and number not in self.heard:
                    self._unsee(program, node)
        if fault == "preempted":
            machine.up = False
            for program in self._on(node):
                program.state = "lost"
        return r.NodeFaulted(node=node, fault=fault, reason=f"it is {fault}")

    def come_back(self, node: NodeId) -> r.NodeReady:
        """A faulted node answers again."""
        machine = self.machines.setdefault(node, Machine())
        return r.NodeReady(node=node, boot_id=_boot_id(machine))

    def forget(self, node: NodeId) -> None:
        """The node is out of its pool; another one may come with its name."""
        self.queues.pop(node, None)
        machine = self.machines.pop(node, None)
        for program in self._on(node):
            program.state = "lost"
            self._complain_if(machine is not None and machine.reachable, f"{node} left while {program.kind} {program.launch.execution} ran there")

    def doubt(self, requested: e.ExecutionRequested) -> None:
        """The engine gave up an execution without knowing how it ended: it has to take one that never ran for one that did."""
        launch = _unseen(requested.execution, requested.node, requested.task, requested.job)
        program = self.programs.setdefault(requested.execution, Program(requested.kind, launch, self._visit(launch), "lost"))
        if program.state in {"forbidden", "failed", "lost"}:
            self._doubt(Program(requested.kind, launch, self._visit(launch), "lost"))
        elif program.state == "ended":
            self._unsee(program, requested.node)

    def lose_mail(self) -> None:
        """The engine died: what was under way is lost."""
        self.queues.clear()
        self.reports.clear()

    def recognise(self, executions: list[ExecutionId]) -> None:
        """A new engine asks what has become of these, and which nodes are there."""
        for execution in executions:
            program = self.programs.get(execution)
            if program is not None and program.last_word is not None:
                self._tell(program.last_word, program)
        for node, machine in self.machines.items():
            if machine.reachable and machine.boot:
                self.reports.append(r.NodeReady(node=node, boot_id=_boot_id(machine)))

    def running(self) -> list[ExecutionId]:
        """Programs that run and can be seen to."""
        return [number for number, program in self.programs.items() if program.state == "running" and self._seen(program.launch.node)]

    def files_left(self, nodes: Iterable[NodeId]) -> list[str]:
        """Folders on these machines."""
        return [f"{task} of job {job} on {node}" for node in nodes if node in self.machines for job, task in self.machines[node].folders]

    # --- commands ------------------------------------------------------------------------------------------

    def _run(self, command: c.RunCommand, *, launches: bool) -> None:
        launch = command.launch
        known = self.programs.get(launch.execution)
        if known is not None:
            self._answer_again(known)
        elif not self.machines.setdefault(launch.node, Machine()).up:
            self._doubt(Program(_KIND[type(command)], launch, self._visit(launch), "lost"))  # A boot will end it before anybody knows whether it ran.
        elif launches:
            program = self._program(command, "running")
            self._witness(program)
            self._mark(program)
            if launch.job is not None:
                self.machines[launch.node].folders[(launch.job, launch.task)] = launch.execution
            if program.visit is not None:
                self.started.append((program.kind, program.visit))
            self.reports.append(r.ExecutionStarted(execution=launch.execution, pid=int(launch.execution)))
        else:
            program = self._program(command, "failed")
            program.last_word = r.ExecutionNotStarted(
                execution=launch.execution, failure=NO_SUCH_FILE if launch.resource_files or launch.packages else NO_SUCH_PROGRAM
            )
            self.reports.append(program.last_word)

    def _program(self, command: c.RunCommand, state: Literal["running", "failed", "lost"]) -> Program:
        launch = command.launch
        program = self.programs[launch.execution] = Program(_KIND[type(command)], launch, self._visit(launch), state)
        if state == "lost":
            self._doubt(program)
        return program

    def _answer_again(self, program: Program) -> None:
        if program.last_word is not None:
            self._tell(program.last_word, program)
        elif program.state == "running":
            self._tell(r.ExecutionStarted(execution=program.launch.execution, pid=int(program.launch.execution)), program)

    def _stop(self, command: c.StopExecution, *, obeys: bool, uploads: bool) -> None:
        program = self.programs.get(command.execution)
        if program is None:
            launch = _unseen(command.execution, command.node, TaskId("unknown"), None)
            report = r.ExecutionNotStarted(execution=command.execution)
            self.programs[command.execution] = Program("starttask", launch, None, "forbidden", report)
            self.reports.append(report)
        elif program.state == "running":
            self.end(command.execution, 143 if obeys else 0, stopped=obeys, uploads=uploads or not command.upload)
        else:
            self._answer_again(program)

    def _boot(self, command: c.BootNode) -> None:
        machine = self.machines.setdefault(command.node, Machine())
        if machine.incarnation != command.incarnation or not machine.up or not machine.reachable:
            if machine.reachable:
                for program in self._on(command.node):
                    self.complaints.append(f"{command.node} is booted while {program.kind} {program.launch.execution} runs there")
            self._lose_programs(command.node, "the node was booted")
            if command.wipe:
                machine.done.clear()
                machine.folders.clear()
            self.boots += 1
            machine.boot, machine.incarnation, machine.up, machine.reachable = self.boots, command.incarnation, True, True
            machine.this_boot.clear()
            machine.spoiled = False
        self.reports.append(r.NodeReady(node=command.node, boot_id=_boot_id(machine), incarnation=command.incarnation))

    def _retire(self, command: c.RetireNode) -> None:
        machine = self.machines.setdefault(command.node, Machine())
        for program in self._on(command.node):
            if machine.reachable:
                self.complaints.append(f"{command.node} is retired while {program.kind} {program.launch.execution} runs there")
        self._lose_programs(command.node, "the node was retired")
        machine.up = False
        self.reports.append(r.NodeRetired(node=command.node, incarnation=command.incarnation))

    def _remove(self, command: c.RemoveFiles, *, removes: bool) -> None:
        machine = self.machines.setdefault(command.node, Machine())
        meant = [place for place in machine.folders if place[0] == command.job and command.task in {None, place[1]}]
        for place in meant:
            job, task = place
            running = any(program.launch.execution == machine.folders[place] for program in self._on(command.node))
            self._complain_if(running, f"files of {task} of job {job} are removed on {command.node} while it runs there")
            self._complain_if(
                machine.folders[place] >= command.before, f"files of {task} of job {job} are removed on {command.node} by an older wish"
            )
            del machine.folders[place]  # What cannot be removed is out of the way, and nobody asks for it again.
        if self._seen(command.node):
            problem = None if removes else "Permission denied"
            self.reports.append(r.FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before, problem=problem))

    # --- the witness ---------------------------------------------------------------------------------------

    def _witness(self, program: Program) -> None:
        """What must hold on real machines whenever a program starts."""
        if program.visit is None:
            return
        job, life, node = program.visit
        beside = [
            other
            for number in self.running()
            if (other := self.programs[number]) is not program and other.visit is not None and other.visit[:2] == (job, life)
        ]
        what = f"{program.kind} {program.launch.task} of job {job} starts on {node}"
        if program.kind != "finalizer":
            self._complain_if(any(kind == "finalizer" and visit[:2] == (job, life) for kind, visit in self.started), f"{what} after its finalizer")
        if program.kind == "task":
            self._complain_if(any(other.launch.task == program.launch.task for other in beside), f"{what} while it runs elsewhere")
            self._complain_if(any(kind == "release" and visit[:2] == (job, life) for kind, visit in self.started), f"{what} after a release ran")
            self._complain_if(not self._is_prepared(job, life, node), f"{what}, which is not prepared")
        elif program.kind == "preparation":
            self._complain_if(any(other.kind == "preparation" and other.visit == program.visit for other in beside), f"{what} twice at a time")
        elif program.kind == "finalizer":
            self._complain_if(bool(beside), f"{what} while others of the job run")
            self._complain_if(any((of_job, of_life) == (job, life) for of_job, of_life, _ in self.finalized), f"{what} a second time")
        elif program.kind == "release":
            self._complain_if(any(other.kind != "release" or other.visit == program.visit for other in beside), f"{what} while others of the job run")
            self._complain_if(bool(self.released.get(program.visit)), f"{what} a second time")
            self._complain_if(not self._is_in_scope(job, life, node), f"{what}, which is not in its scope")

    def _complain_if(self, bad: bool, text: str) -> None:
        if bad:
            self.complaints.append(text)

    def _is_prepared(self, job: JobId, life: int, node: NodeId) -> bool:
        spec = self.specs[job].job_preparation_task
        if spec is None or not spec.wait_for_success:
            return True
        machine = self.machines[node]
        return machine.spoiled or ("prepared", job, life) in (machine.this_boot if spec.rerun_on_node_reboot_after_success else machine.done)

    def _is_in_scope(self, job: JobId, life: int, node: NodeId) -> bool:
        release = self.specs[job].job_release_task
        scopes: dict[ReleaseScope, set[str]] = {
            "taskRan": {"task"},
            "prepared": {"task", "prepared"},
            "attempted": {"task", "prepared", "preparation"},
        }
        marks = {what for what, of_job, of_life in self.machines[node].done if (of_job, of_life) == (job, life)}
        return release is not None and (self.machines[node].spoiled or bool(marks & scopes[release.release_scope]))

    def _mark(self, program: Program) -> None:
        """The program ran, or nobody can say that it did not: the node's disk shows it."""
        if program.visit is not None:
            self.machines.setdefault(program.launch.node, Machine()).done.add((program.kind, *program.visit[:2]))

    def _doubt_what_was_asked(self, node: NodeId) -> None:
        """Of launches that were asked for on a node that is lost nobody can say that they did not run, unless the engine heard it before."""
        for number, command in self.asked.items():
            program = self.programs.get(number)
            if command.launch.node == node and program is None:
                self._program(command, "lost")
            elif command.launch.node == node and program is not None and program.state in {"forbidden", "failed"} and number not in self.heard:
                self._doubt(Program(_KIND[type(command)], command.launch, self._visit(command.launch), "lost"))

    def _doubt(self, program: Program) -> None:
        """Nobody can say that the program did not run, and it has to be taken for one that did."""
        self._mark(program)
        if program.visit is not None:
            self.in_doubt.append((program.kind, program.visit))

    # --- helpers -------------------------------------------------------------------------------------------

    def _on(self, node: NodeId) -> list[Program]:
        return [program for program in self.programs.values() if program.launch.node == node and program.state == "running"]

    def _unsee(self, program: Program, node: NodeId) -> None:
        """Its end was not reported in time: nobody knows of it, and it may have to run again."""
        if program.visit is not None and program.launch.node == node and (ran := self._ran_to_the_end(program.kind)) is not None:
            ran.pop(program.visit, None)

    def _lose_programs(self, node: NodeId, reason: str) -> None:
        for program in self._on(node):
            program.state = "lost"
            program.last_word = r.ExecutionLost(execution=program.launch.execution, reason=reason)
            self._tell(program.last_word, program)

    def _ran_to_the_end(self, kind: Kind) -> dict[Visit, int] | None:
        """Where it is counted how often programs of a kind ran to their own end, if it is."""
        counted: dict[Kind, dict[Visit, int]] = {"release": self.released, "finalizer": self.finalized}
        return counted.get(kind)

    def _visit(self, launch: c.Launch) -> Visit | None:
        return (launch.job, self.lives[launch.job], launch.node) if launch.job is not None else None

    def _seen(self, node: NodeId) -> bool:
        return (machine := self.machines.get(node)) is not None and machine.reachable

    def _tell(self, report: r.Report, program: Program) -> None:
        if self._seen(program.launch.node):
            self.reports.append(report)


def _unseen(execution: ExecutionId, node: NodeId, task: TaskId, job: JobId | None) -> c.Launch:
    """What is known of a launch whose command never arrived."""
    return c.Launch(execution=execution, pool=PoolId("unknown"), node=node, job=job, task=task, attempt=0, command_line="", environment=())


def _boot_id(machine: Machine) -> str:
    return f"boot-{machine.boot}"
