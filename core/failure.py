"""`failureInfo`: why a task, preparation, release or start task failed (semantics section 3.11)."""

from typing import Literal

from attrs import evolve, frozen

from .ids import SECOND, Duration
from .limits import INTERNAL_RETRIES_MAX

Result = Literal["success", "failure"]


@frozen(kw_only=True)
class Detail:
    name: str
    value: str


@frozen(kw_only=True)
class FailureInfo:
    """Azure Batch's failure record.  `code` is one of its codes, such as `FailureExitCode` or `TaskEnded`."""

    category: Literal["usererror", "servererror"]
    code: str
    message: str
    details: tuple[Detail, ...] = ()


def exit_code_failure(exit_code: int, signal: int | None) -> FailureInfo:
    """The failure of a program that ended with a code other than 0."""
    details = [Detail(name="ExitCode", value=str(exit_code))]
    if signal is not None:
        details.append(Detail(name="Signal", value=str(signal)))
    return FailureInfo(
        category="usererror", code="FailureExitCode", message="The task exited with an exit code representing a failure", details=tuple(details)
    )


def end_failure(exit_code: int, signal: int | None, upload: FailureInfo | None) -> FailureInfo | None:
    """The failure of a program that ended by itself, None for a good end.  An exit code tells more than output files that are missing."""
    return upload if exit_code == 0 else with_upload(exit_code_failure(exit_code, signal), upload)


def with_upload(failure: FailureInfo, upload: FailureInfo | None) -> FailureInfo:
    """A failure, with what is to be said of output files that could not be uploaded either."""
    if upload is None:
        return failure
    return evolve(failure, details=(*failure.details, Detail(name="UploadFailure", value=f"{upload.code}: {upload.message}")))


def ended_failure(why: str) -> FailureInfo:
    """The failure of something that was ended on request; `why` says by which."""
    return FailureInfo(category="usererror", code="TaskEnded", message="Task was ended by request", details=(Detail(name="Message", value=why),))


def wall_clock_failure() -> FailureInfo:
    """The failure of something that ran longer than its maxWallClockTime (semantics section 9: `TaskEnded` with a detail)."""
    return ended_failure("The maximum execution time configured on the task was exceeded")


def silent_failure(limit: Duration) -> FailureInfo:
    """The failure of something that wrote nothing for as long as its silentTimeout."""
    return ended_failure(f"The program wrote nothing to stdout or stderr for {limit / SECOND:g} seconds, its silentTimeout")


def internal_retries_failure(cause: str) -> FailureInfo:
    """The failure of something that its executor lost or stopped unasked, again and again."""
    message = f"It was run again {INTERNAL_RETRIES_MAX} times in a row and each time lost or stopped by its executor"
    return FailureInfo(category="servererror", code="MaxInternalRetryCountReached", message=message, details=(Detail(name="Message", value=cause),))


def unknown_outcome_failure(reason: str) -> FailureInfo:
    """The failure of something whose end nobody saw and that does not run again."""
    return FailureInfo(
        category="servererror", code="Unknown", message="How the program ended is not known", details=(Detail(name="Message", value=reason),)
    )
