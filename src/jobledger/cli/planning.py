"""`plan` and `compare`: what of a job ran, or in a dry run would run, where and when.  They only read, and copies of ledgers will do."""

import sys
from pathlib import Path

import click

from .. import comparisonview
from ..comparison import compare as compare_plans
from ..comparison import job_in_both
from ..core.errors import RequestRefused
from ..core.ids import JobId
from ..core.ports import EventStore
from ..plan import Plan, plan_of
from ..planview import Form, render
from .common import ENDED_OTHERWISE, json_option, ledger_option, opened, print_json
from .complete import job_ids
from .looking import print_lines


@click.command()
@click.argument("job", shell_complete=job_ids)
@click.option("--format", "form", type=click.Choice(["table", "json", "sh"]), default="table", show_default=True, help="How to print it.")
@ledger_option
def plan(job: str, form: Form, ledger: Path) -> None:
    """Print what of a job ran where and when, or would run if the ledger is that of a dry run.

    A line for each execution, with start and end from the job's submission, and how busy the nodes were.  With --format sh it is a shell
    script of the command lines in that order, with their environment, which runs them one after the other below a folder of your choice.

    \b
      jobledger plan sample
      jobledger plan sample --format json | jq .makespanSeconds
      jobledger plan sample --format sh > sample.sh && sh sample.sh /tmp/sample
    """
    with opened(ledger) as store:
        click.echo(render(plan_of(store, JobId(job)), form), nl=False)


_a_ledger = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("dry", type=_a_ledger)
@click.argument("real", type=_a_ledger)
@click.option("--job", help="The job, where the ledgers have more than one in common.", shell_complete=job_ids)
@json_option
def compare(dry: Path, real: Path, job: str | None, as_json: bool) -> None:
    """Show the plan of a job in one ledger against what happened in another: DRY is the plan, REAL the fact.

    Both may be real runs, or both dry ones.  For each execution: planned and real start and duration, node, outcome, and the differences;
    what is in one ledger only; and makespan and utilisation of both.

    Exit status: 0 every task ended in both with the same result, exit code and failure code, 1 tasks ended differently or are missing in one of them.
    Times, nodes and tries never change it, and neither do preparation and release.

    \b
      jobledger compare dry.db .jobledger/ledger.db
      jobledger compare monday.db tuesday.db --job sample --json | jq .differences
    """
    with opened(dry) as planned_store, opened(real) as real_store:
        which = job_in_both(planned_store, real_store) if job is None else JobId(job)
        found = compare_plans(_plan_in(planned_store, dry, which), _plan_in(real_store, real, which))
    if as_json:
        print_json(comparisonview.document(found))
    else:
        print_lines(comparisonview.table(found))
    sys.exit(0 if found.is_same else ENDED_OTHERWISE)


def _plan_in(store: EventStore, ledger: Path, job: JobId) -> Plan:
    """The plan of a job.  Refused: JobNotFound, with the ledger that has it not."""
    try:
        return plan_of(store, job)
    except RequestRefused as refusal:
        raise RequestRefused(refusal.code, f"{ledger}: {refusal.message}") from None
