"""`plan`: what of a job ran, or in a dry run would run, where and when.  It only reads, and a copy of the ledger will do."""

from pathlib import Path

import click

from ..core.ids import JobId
from ..plan import plan_of
from ..planview import Form, render
from .common import ledger_option, opened
from .complete import job_ids


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
