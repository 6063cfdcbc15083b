"""Planted bugs in what follows from the ends of tasks: missing files, missing outputs, exit conditions."""

from contextlib import AbstractContextManager
from typing import Any

from planting import TERMINATE, Planted, a_job, around, swapped

from jobledger.core import exits, release, task
from jobledger.core import specs as s
from jobledger.testing.trail import Trail

UPLOADED = (s.OutputFile(file_pattern="*", destination=s.OutputFileDestination(container=s.OutputFileContainer(container_url="/outputs"))),)
ACTING = a_job(prep=False, on_task_failure="performexitoptionsjobaction", uses_task_dependencies=True)
SAYING = s.ExitConditions(
    exit_codes=(s.ExitCodeMapping(code=3, exit_options=s.ExitOptions(job_action="none")),),
    file_upload_error=s.ExitOptions(job_action="disable", dependency_action="satisfy"),
    default=s.ExitOptions(job_action="none"),
)


def ending(exit_code: int, *, uploads: bool = True) -> Trail:
    """A task with exit conditions and output files ends."""
    trail = Trail(job=ACTING, tasks=(s.TaskSpec(id="t", command_line="work", exit_conditions=SAYING, output_files=UPLOADED),)).arrive()
    trail.end(1, exit_code, uploads=uploads)
    return trail.arrive()


def released_without_outputs() -> Trail:
    """A release ends with exit code 0, and its output files cannot be uploaded."""
    job = a_job()
    tidy = s.ReleaseSpec(command_line="release", output_files=UPLOADED)
    trail = Trail(job=s.JobSpec(id="j", pool_info=job.pool_info, job_preparation_task=job.job_preparation_task, job_release_task=tidy))
    trail.exit(0, 0).do(TERMINATE).arrive()
    trail.end(3, 0, uploads=False)
    return trail.arrive()


def outputs_do_not_matter(rules: Any) -> AbstractContextManager[None]:
    return around(rules, "end_failure", lambda right, exit_code, signal, _upload: right(exit_code, signal, None))


CATALOGUE = [
    Planted(
        name="exit conditions are not read",
        caught_by="ends_have_what_exit_conditions_say",
        bug=lambda: swapped(exits, "options_for", lambda *_, **__: None),
        script=lambda: ending(3),
    ),
    Planted(
        name="a failed upload has the options of an exit code that nobody mapped",
        rare=True,
        caught_by="ends_have_what_exit_conditions_say",
        bug=lambda: around(exits, "options_for", lambda right, spec, exit_code, **_: right(spec, exit_code)),
        script=lambda: ending(0, uploads=False),
    ),
    Planted(
        name="a task succeeds without its outputs",
        rare=True,
        caught_by="results_are_what_was_seen",
        bug=lambda: outputs_do_not_matter(task),
        script=lambda: ending(0, uploads=False),
    ),
    Planted(
        name="a release succeeds without its outputs",
        rare=True,
        caught_by="results_are_what_was_seen",
        bug=lambda: outputs_do_not_matter(release),
        script=released_without_outputs,
    ),
]
