"""`run --executor dry-run`: the options of a dry run, and what is told of one."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click
from click.core import ParameterSource

from ..core.ids import SECOND, Micros
from ..dryrun import DEFAULT_START, Assumptions, DryRun, dry_run
from ..durations import for_people
from ..eventstore import Durability, rfc3339
from ..executors.fortune import Source
from ..jobfile import load
from ..plan import plan_of
from ..planview import Form, render
from ..recordings import recordings_of
from ..scenariofile import load_scenario
from ..views import status_document
from .common import counted, opened, print_json
from .summary import print_summary

DRY_RUN_LEDGER: Final = Path(".jobledger/dry-run.db")
"""Where a dry run is recorded unless another ledger is named; the one before makes room."""

_FROM: Final[dict[Source, str]] = {
    "scenario": "from the scenario",
    "recorded": "recorded",
    "median": "the median of what was recorded",
    "drawn": "drawn",
}

F = TypeVar("F", bound=Callable[..., Any])


class DryRunOptions:
    """What `run` was asked for about a dry run."""

    def __init__(self, seed: int | None, scenario: str | None, recorded: Path | None, start: Micros | None, plan: Form | None) -> None:
        self.seed = seed
        self.scenario = scenario
        self.recorded = recorded
        self.start = start
        self.plan = plan

    def assumptions(self) -> Assumptions:
        """Read what the options name.  Raises `JobFileError`, `StoreError`, `LedgerCorrupt`."""
        recordings, name = None, ""
        if self.recorded is not None:
            with opened(self.recorded) as store:
                name = f"{store.ledger_id} to {store.head().position}"
                recordings = recordings_of(store)
        return Assumptions(
            seed=self.seed,
            scenario=None if self.scenario is None else load_scenario(self.scenario),
            recordings=recordings,
            recorded_name=name,
            start=DEFAULT_START if self.start is None else self.start,
        )


def dry_run_options(command: F) -> F:
    """The options of a dry run; `command` is given `dry`, which is None where a real run is wanted."""

    @functools.wraps(command)
    def collected(**options: Any) -> Any:
        executor = options.pop("executor")
        own = {name: options.pop(name) for name in ("seed", "scenario", "recorded", "start", "plan")}
        if executor is None and (given := [f"--{name}" for name, value in own.items() if value is not None]):
            raise click.UsageError(f"{', '.join(given)} is for dry runs: add --executor dry-run")
        if own["plan"] is not None and options.get("as_json"):
            raise click.UsageError("--plan and --json exclude each other: --plan json prints the plan as JSON")
        return command(**options, dry=None if executor is None else DryRunOptions(**own))

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected  # type: ignore[return-value]  # a function of the same options and some more


def run_dry(file: str, dry: DryRunOptions, ledger: Path, durability: Durability, *, leave_active: bool, quiet: bool, as_json: bool) -> DryRun:
    """Run the file without running anything, and print what came of it; the result is closed.  Raises what `dry_run` does."""
    job_file = load(file, read_secrets=False)
    is_named, is_asked = _is_given("ledger"), _is_given("durability")
    where = ledger if is_named else DRY_RUN_LEDGER

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    with dry_run(
        job_file,
        dry.assumptions(),
        ledger=where,
        replace=not is_named,
        durability=durability if is_asked else "relaxed",
        leave_active=leave_active,
        say=say,
    ) as found:
        if found.left and not leave_active:
            say(f"nothing more can happen, so the dry run ends here, before the end of job {job_file.job.id}")
        if dry.plan is not None:
            click.echo(render(plan_of(found.store, job_file.job.id), dry.plan), nl=False)
        elif as_json and found.job is not None:
            told = {"virtualSeconds": found.took / SECOND, "durationsFrom": {name: found.told[name] for name in get_args(Source) if found.told[name]}}
            print_json(status_document(found.world, found.job.id, found.store.head().position) | told)
        elif found.job is not None:
            print_summary(found.world, found.job, root=None, ledger=where, explain=found.job.state != "completed")
            click.echo(_sources_text(found))
        return found


def _sources_text(found: DryRun) -> str:
    """How long it took in virtual time, and how many durations are from where."""
    parts = [f"{found.told[source]} {text}" for source, text in _FROM.items() if found.told[source]]
    return f"Virtual time: {for_people(found.took)}; {counted(found.told.total(), 'duration')}" + (f": {', '.join(parts)}" if parts else "")


def _is_given(option: str) -> bool:
    """Whether an option stands on the command line: what the environment says is meant for real work."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def _instant(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> Micros | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: write it as {rfc3339(DEFAULT_START)}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment.timestamp() < 0:
        raise click.BadParameter(f"{text} is before 1970")
    return Micros(round(moment.timestamp()) * SECOND)


_OPTIONS: Final = (
    click.option(
        "--executor",
        type=click.Choice(["dry-run"]),
        help="dry-run: decide everything and run nothing, on a virtual clock; the pool may say anything.",
    ),
    click.option(
        "--seed", type=int, metavar="N", help="Dry run: what all draws are made from.  Alone, it draws failures, reboots and lost nodes too."
    ),
    click.option(
        "--scenario", type=click.Path(allow_dash=True), metavar="FILE", help="Dry run: how long things take, how they end, and what nodes do."
    ),
    click.option(
        "--recorded", type=click.Path(dir_okay=False, path_type=Path), metavar="LEDGER", help="Dry run: durations and exit codes of an earlier run."
    ),
    click.option("--start", callback=_instant, metavar="TIME", help=f"Dry run: when it begins.  [default: {rfc3339(DEFAULT_START)}]"),
    click.option("--plan", type=click.Choice(get_args(Form)), help="Dry run: print what would run where and when, in place of the summary."),
)
