"""The command line: `jobledger`.  One file per family of commands; `common` has what they share."""

import click

from .. import __version__
from . import files, jobs, nodes, planning, pools, reading, replaying, running, tasks
from .common import Group

_COMMANDS: tuple[click.Command, ...] = (
    running.run,
    running.engine,
    jobs.submit,
    tasks.add_tasks,
    jobs.terminate,
    jobs.delete,
    jobs.disable,
    jobs.enable,
    tasks.terminate_task,
    reading.status,
    jobs.jobs,
    tasks.tasks,
    pools.pools,
    nodes.nodes,
    reading.explain,
    planning.plan,
    planning.compare,
    reading.events,
    replaying.replay,
    reading.log,
    files.files,
    reading.machines,
    reading.completion,
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "--version", message="jobledger %(version)s")
def main() -> None:
    """Run batch jobs with per-node preparation and release, on a ledger that proves what happened.

    \b
      jobledger run FILE            run a job file to its end, here and now
      jobledger engine              drive a ledger; submit, terminate and others ask it
      jobledger status [JOB]        what the ledger says, with no engine needed
      jobledger explain JOB [TASK]  why it is where it is

    Exit status: 0 done and all tasks succeeded, 1 it ended otherwise, 2 bad input (nothing was recorded), 3 refused in this state,
    4 ledger in use, damaged or of a newer version, 130 interrupted.
    """


for _command in _COMMANDS:
    main.add_command(_command)
