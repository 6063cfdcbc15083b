"""The commands that only read: they need no engine, and a copy of the ledger will do.

What `--json` prints is a contract (`docs/reference/cli.md`); what people see may change.
"""

import json
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import attrs
import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from ..core.errors import RequestRefused
from ..core.events import STORED, Event, TaskAdded
from ..core.explain import Reason
from ..core.explain import explain as explain_state
from ..core.ids import TaskId
from ..core.machines import MACHINES
from ..core.ports import RecordedEvent
from ..core.world import Job
from ..diagrams import as_json as machine_as_json
from ..diagrams import mermaid, table
from ..eventstore import SqliteStore, event_as_json, rfc3339
from ..files import why_gone
from ..jsonnames import nearest
from ..modeldata import model_document
from ..owner import certainly_dead, describe
from ..printing import printable
from ..recorder import ENGINE_ACTOR
from ..replay import replay
from ..subscribe import follow as follow_events
from ..views import dry_run_view, find_task, job_view, pool_view, status_document, task_counts, task_slot_counts
from . import render, tail
from .common import INTERRUPTED, json_option, ledger_option, opened, print_json, root_option
from .complete import command_line_ids, event_types, job_ids, node_ids, task_ids
from .looking import job_in, now, now_in, print_lines, replayed

ASKED_MAX: Final = 5
"""How many of the latest requests `explain` tells of."""

_COMPLETIONS: Final[dict[str, type[ShellComplete]]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

_job_argument = click.argument("job", shell_complete=job_ids)
_task_argument = click.argument("task", shell_complete=task_ids)


# --- status, explain -----------------------------------------------------------------------------------------


@click.command()
@click.argument("job", required=False, shell_complete=job_ids)
@ledger_option
@root_option
@json_option
def status(job: str | None, ledger: Path, root: Path, as_json: bool) -> None:
    """Tell where a job is, or all jobs and pools without JOB.

    With JOB: its state and task counts, why it is not further, preparation and release on each node, what failed, and where output lies.
    With --json that is Azure Batch's objects under job, tasks, jobPreparationAndReleaseTaskStatus, taskCounts and
    taskSlotCounts, and the ledger's position; a job with a finalizer has a jobFinalizerTaskStatus too.

    \b
      jobledger status
      jobledger status sample
      jobledger status sample --json | jq .taskCounts
    """
    with opened(ledger) as store:
        world, position = replayed(store)
        engine = _engine(store)
        if job is not None:
            found = job_in(store, world, job)
            if as_json:
                print_json(status_document(world, found.id, position))
            else:
                print_lines(render.job_status(world, found, explain_state(world, found.id, None), root, now_in(store, world)))
                _warn_of_standstill(engine, ledger, found)
        elif as_json:
            jobs = [job_view(found) | {"taskCounts": task_counts(found), "taskSlotCounts": task_slot_counts(found)} for found in world.jobs.values()]
            print_json(
                dry_run_view(world)
                | {"jobs": jobs, "pools": [pool_view(pool) for pool in world.pools.values()], "engine": engine, "position": position}
            )
        else:
            print_lines(render.overview(world, now_in(store, world)))
            click.echo(f"\n{_engine_text(engine, ledger)}; position {position}")


@click.command()
@_job_argument
@click.argument("task", required=False, shell_complete=task_ids)
@ledger_option
@json_option
def explain(job: str, task: str | None, ledger: Path, as_json: bool) -> None:
    """Say why a job, or one of its tasks, is where it is.

    \b
      jobledger explain sample
      jobledger explain sample task003
    """
    asked: deque[RecordedEvent] = deque(maxlen=ASKED_MAX)

    def hear(recorded: RecordedEvent) -> None:
        if recorded.actor != ENGINE_ACTOR and _is_about(recorded.event, job, task):
            asked.append(recorded)

    with opened(ledger) as store:
        position = store.head().position
        world, _ = replay(store, until=position, hear=hear)
        engine = _engine(store)
        found = job_in(store, world, job)
    about = None if task is None else find_task(found, task)
    reasons = explain_state(world, found.id, None if about is None else about.spec.id)
    if as_json:
        print_json(
            dry_run_view(world)
            | {"job": found.id}
            | ({} if task is None else {"task": task})
            | {"reasons": [_reason_view(reason) for reason in reasons], "asked": [_asked_view(one) for one in asked], "position": position}
        )
        return
    click.echo(f"job {found.id} is {found.state}" if about is None else f"task {about.spec.id} of job {found.id} is {about.state}")
    if world.dry_run:
        click.echo(f"  {render.dry_run_text(world)}")
    for reason in reasons:
        until = f", at {rfc3339(reason.at)}" if reason.at is not None else ""
        click.echo(f"  {printable(reason.text)}{until} ({reason.code})")
    for one in asked:
        click.echo(f"  {printable(_asked_text(one))}")
    _warn_of_standstill(engine, ledger, found)


def _is_about(event: Event, job: str, task: str | None) -> bool:
    """Whether the event is the job's, or the task's where one is asked for; what adds tasks is of no interest."""
    named = getattr(event, "job", None) == job and not isinstance(event, TaskAdded)
    return named and (task is None or getattr(event, "task", None) == task)


def _asked_view(recorded: RecordedEvent) -> dict[str, Any]:
    reason = _given_reason(recorded.event)
    view = {"actor": recorded.actor, "event": STORED[type(recorded.event)][0], "time": rfc3339(recorded.recorded_at), "position": recorded.position}
    return view | ({"reason": reason} if reason else {})


def _asked_text(recorded: RecordedEvent) -> str:
    reason = _given_reason(recorded.event)
    what = f"{STORED[type(recorded.event)][0]} was asked for by {recorded.actor} at {rfc3339(recorded.recorded_at)} (position {recorded.position})"
    return f"{what}: {reason}" if reason else what


def _given_reason(event: Event) -> str:
    """What the caller gave as the reason, as the event has it; empty for none."""
    return str(getattr(event, "reason", "") or getattr(event, "cause", ""))


def _reason_view(reason: Reason) -> dict[str, Any]:
    view: dict[str, Any] = attrs.asdict(reason, filter=_told)
    return view | ({"at": rfc3339(reason.at)} if reason.at is not None else {})


# --- events ---------------------------------------------------------------------------------------------------


def _type_pattern(_ctx: click.Context, _parameter: click.Parameter, pattern: str | None) -> str | None:
    names = [name for name, _ in STORED.values()]
    if pattern is None or any(fnmatchcase(name, pattern) for name in names):
        return pattern
    meant = nearest(pattern, names)
    raise click.BadParameter(f"no event is called {pattern!r}" + (f"; did you mean {meant}?" if meant else "; try 'task.*'"))


@click.command()
@click.option("--job", help="Only events of this job.", shell_complete=job_ids)
@click.option(
    "--task", help="Only events that name this task (the id of a preparation or release task names its executions).", shell_complete=command_line_ids
)
@click.option("--node", help="Only events that name this node.", shell_complete=node_ids)
@click.option(
    "--type",
    "pattern",
    callback=_type_pattern,
    help="Only events whose stored name matches, such as task.completed or 'release.*'.",
    shell_complete=event_types,
)
@click.option("--after", type=click.IntRange(0), default=0, help="Only events after this position.")
@click.option("--until", type=click.IntRange(1), help="Only events up to this position.")
@click.option("-f", "--follow", is_flag=True, help="Go on with events as they happen, until --until or Ctrl-C.")
@ledger_option
@json_option
def events(
    job: str | None,
    task: str | None,
    node: str | None,
    pattern: str | None,
    after: int,
    until: int | None,
    follow: bool,
    ledger: Path,
    as_json: bool,
) -> None:
    """Print what happened, in order.

    All of the log is checked against its hashes on the way; with --job only that job's events are read, and the chain is not checked.
    With --json one object a line, with position, stream, type, version, recordedAt, causation, correlation, actor, data and hash.

    \b
      jobledger events --job sample
      jobledger events --type 'release.*' --node workstation-1
      jobledger events --follow --json --after 1200
    """

    def wanted(recorded: RecordedEvent) -> bool:
        event = recorded.event
        return (
            (job is None or getattr(event, "job", None) == job)
            and (task is None or getattr(event, "task", None) == task)
            and (node is None or getattr(event, "node", None) == node)
            and (pattern is None or fnmatchcase(STORED[type(event)][0], pattern))
        )

    with opened(ledger) as store, _interruption() as interrupted:
        if follow:
            recorded_events = _up_to(follow_events(store, after=after, stop=interrupted), until, after)
        else:
            recorded_events = store.read(after=after, until=until, stream=None if job is None else f"job/{job}")
        for recorded in filter(wanted, recorded_events):
            if interrupted():
                break
            click.echo(json.dumps(event_as_json(recorded), ensure_ascii=False) if as_json else render.event_line(recorded))


def _up_to(recorded_events: Iterable[RecordedEvent], until: int | None, after: int) -> Iterator[RecordedEvent]:
    """Events up to position `until`, without waiting for one beyond it."""
    if until is not None and until <= after:
        return
    for recorded in recorded_events:
        yield recorded
        if recorded.position == until:
            return


# --- log ------------------------------------------------------------------------------------------------------


@click.command()
@_job_argument
@click.argument("task", shell_complete=command_line_ids)
@click.option("--node", help="The node, where several ran it (a preparation or release task).", shell_complete=node_ids)
@click.option("--stderr", is_flag=True, help="What it wrote to standard error, in place of standard output.")
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the task has ended.")
@ledger_option
@root_option
def log(job: str, task: str, node: str | None, stderr: bool, follow: bool, ledger: Path, root: Path) -> None:
    """Print the output of a task's latest run.

    TASK may be the id of the job preparation task, release task or finalizer (jobpreparation, jobrelease and jobfinalizer, unless the job
    names them otherwise).

    \b
      jobledger log sample task001
      jobledger log sample jobpreparation --node workstation-1 --stderr
    """
    which: tail.Which = "stderr" if stderr else "stdout"
    with opened(ledger) as store, _interruptible():
        world, position = replayed(store)
        found = job_in(store, world, job)
        ran_on = tail.where_ran(found, task, node)
        path = tail.path_on(world, found, TaskId(task), which, root)
        out = sys.stdout.buffer
        if follow and (ran_on is not None or task in found.tasks):
            tail.follow(store, found, TaskId(task), ran_on, path, out, after=position)
        elif ran_on is None:
            hint = "; --follow waits for it" if task in found.tasks and found.tasks[TaskId(task)].state != "completed" else ""
            raise RequestRefused("FileNotFound", f"{task} of job {job} has not run, so there is no output{hint}")
        else:
            try:
                tail.copy(path(ran_on), out)
            except FileNotFoundError:
                raise _no_output(why_gone(store, world, found, TaskId(task), ran_on), path(ran_on)) from None


def _no_output(gone: RequestRefused, path: Path) -> RequestRefused:
    """Why there is no output: what the ledger knows of it, or else where it was looked for."""
    if gone.code != "FileNotFound":
        return gone
    return RequestRefused("FileNotFound", f"{path} is not there: its node was wiped, or --root is another folder than the engine's")


# --- machines and completion ----------------------------------------------------------------------------------


@click.command()
@click.argument("name", required=False, type=click.Choice(list(MACHINES)))
@click.option("--format", "form", type=click.Choice(["table", "mermaid", "json"]), default="table", show_default=True, help="How to print them.")
def machines(name: str | None, form: str) -> None:
    """Print the state machines.

    For each: what may happen in which state, and where it leads.  Without NAME, json is the whole model: machines with their tables, every
    event with its fields, and every invariant with its sentence.

    \b
      jobledger machines job
      jobledger machines release --format mermaid
      jobledger machines --format json | jq -r '.invariants[].sentence'
    """
    chosen = list(MACHINES.values()) if name is None else [MACHINES[name]]
    if form == "json":
        print_json(model_document() if name is None else machine_as_json(chosen[0]))
        return
    for number, machine in enumerate(chosen):
        if name is None:
            click.echo(("\n" if number else "") + (f"{machine.name}: {machine.of}\n" if form == "table" else f"%% {machine.name}: {machine.of}"))
        click.echo(table(machine) if form == "table" else mermaid(machine), nl=False)


@click.command()
@click.argument("shell", type=click.Choice(list(_COMPLETIONS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete commands.

    It completes options, and ids of jobs and tasks, too.

    \b
      bash: eval "$(jobledger completion bash)"           in ~/.bashrc
      zsh:  eval "$(jobledger completion zsh)"            in ~/.zshrc
      fish: jobledger completion fish > ~/.config/fish/completions/jobledger.fish
    """
    kind = _COMPLETIONS[shell]
    click.echo(kind(ctx.find_root().command, {}, "jobledger", "_JOBLEDGER_COMPLETE").source())


# --- helpers --------------------------------------------------------------------------------------------------


def _engine(store: SqliteStore) -> dict[str, Any]:
    """Whether an engine drives the ledger: `driving`, `gone` (its process has ended, or its lease has), or `none`."""
    lease = store.current_lease()
    if lease is None:
        return {"state": "none"}
    gone = lease.expires_at < now() or certainly_dead(lease)
    return {
        "state": "gone" if gone else "driving",
        "owner": lease.owner,
        "process": describe(lease),
        "epoch": lease.epoch,
        "leaseExpiresAt": rfc3339(lease.expires_at),
    }


def _engine_text(engine: dict[str, Any], ledger: Path) -> str:
    match engine["state"]:
        case "driving":
            return f"{ledger} is driven by an engine ({engine['process']})"
        case "gone":
            return f"{ledger}: its last engine ({engine['process']}) ended without a word; `jobledger engine` or `jobledger run` takes up from there"
        case _:
            return f"{ledger}: no engine drives it"


def _warn_of_standstill(engine: dict[str, Any], ledger: Path, job: Job) -> None:
    """A job that is not over goes no further without an engine, whatever its state says."""
    if job.state != "completed" and engine["state"] != "driving":
        click.echo(f"\n{_engine_text(engine, ledger)}: what is told here is what the ledger knew last")


def _told(_field: "attrs.Attribute[Any]", value: object) -> bool:
    return value is not None


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed, and afterwards ends the command with the status that says so, and without a word.

    It is noted and not raised: an exception in the midst of taking a lock leaves it taken, and closing the ledger would wait for it for ever.
    """
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        sys.exit(INTERRUPTED)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the command with the status that says so, and without a word."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
