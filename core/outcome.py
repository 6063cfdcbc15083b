"""How an execution ended, as its owner (task, preparation, release or start task) is told of it."""

from attrs import frozen

from .failure import FailureInfo


@frozen(kw_only=True)
class Ended:
    """The program ended with `exit_code`; `stopped` tells whether a stop brought that about, `upload_failure` that output files are missing."""

    exit_code: int
    signal: int | None
    stopped: bool
    upload_failure: FailureInfo | None = None


@frozen(kw_only=True)
class NeverRan:
    """The program certainly never ran: it or its files could not be had (`failure`), or a stop came first."""

    failure: FailureInfo | None


@frozen(kw_only=True)
class Unresolved:
    """Nobody knows how the program ended; it runs no more."""

    reason: str


Outcome = Ended | NeverRan | Unresolved
