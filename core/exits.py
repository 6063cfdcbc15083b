"""Exit conditions: what the way a task ended means for its job and for the tasks that depend on it.

1. An exit code that is mapped, by itself or by a range, has the options of its mapping; the code itself comes before a range.
2. Every other failure has those of `preProcessingError` (the program or its files could not be had), of `fileUploadError` (output files
   could not be uploaded, whatever the code) or else of `default`; exit code 0 with its outputs uploaded never has the default's (semantics 3.2).
3. `jobAction` is `none` for success and `terminate` for all else where nothing is said, and it is performed only where the job says
   `onTaskFailure: performexitoptionsjobaction`.  `dependencyAction` is `satisfy` for success and `block` for all else.
4. They are for a task that is over: not for a try that is followed by a retry, nor for a task that was ended on request.
"""

from typing import Final

from .specs import ExitOptions, JobAction, JobSpec, TaskSpec

STRENGTH: Final[dict[JobAction, int]] = {"none": 0, "disable": 1, "terminate": 2}
"""Which action wins where several tasks ask for one at once."""


def job_action(job: JobSpec, options: ExitOptions | None, *, good: bool) -> JobAction:
    """What the job does about a task that ended well (`good`) or not, with these options."""
    if job.on_task_failure == "noaction":
        return "none"
    if options is not None and options.job_action is not None:
        return options.job_action
    return "none" if good else "terminate"


def options_for(task: TaskSpec, exit_code: int | None, *, upload_failed: bool = False) -> ExitOptions | None:
    """The options that a task states for an exit code (None: it could not be launched); None where it states none."""
    conditions = task.exit_conditions
    if conditions is None:
        return None
    if exit_code is None:
        return conditions.pre_processing_error or conditions.default
    for mapping in conditions.exit_codes:
        if mapping.code == exit_code:
            return mapping.exit_options
    for part in conditions.exit_code_ranges:
        if part.start <= exit_code <= part.end:
            return part.exit_options
    if upload_failed and conditions.file_upload_error is not None:
        return conditions.file_upload_error
    return conditions.default if exit_code != 0 or upload_failed else None


def default_of(task: TaskSpec) -> ExitOptions | None:
    """The options that a task states for whatever it does not name, such as the end of its time."""
    return task.exit_conditions.default if task.exit_conditions is not None else None
