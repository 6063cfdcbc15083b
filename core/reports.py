"""Reports: what an executor saw, carrying the identity of the command it answers.

No report is refused: a stale or repeated one decides to nothing.  `execution` is the fencing number of the launch;
`incarnation` is that of the node's boot.
"""

from typing import Literal

from attrs import frozen

from .failure import FailureInfo
from .ids import Duration, ExecutionId, JobId, NodeId, TaskId


@frozen(kw_only=True)
class ExecutionStarted:
    """The program runs (or ran: an executor may learn of the start only from a record)."""

    execution: ExecutionId
    pid: int | None = None


@frozen(kw_only=True)
class ExecutionExited:
    """The program ended and nothing of its process group is left, unless `leftover` names what could not be killed.

    `exit_code` is the program's, or 128 plus `signal` where a signal ended it.  `stopped` tells that the end was
    brought about by `StopExecution`; a program that ended by itself before the stop reached it has `stopped=False`.
    `wall` is how long the program ran on its node, None where nobody measured it.  Output files have been dealt with: `upload_failure` says why
    some could not be uploaded.
    """

    execution: ExecutionId
    exit_code: int
    signal: int | None = None
    stopped: bool = False
    wall: Duration | None = None
    leftover: tuple[int, ...] = ()
    upload_failure: FailureInfo | None = None


@frozen(kw_only=True)
class ExecutionNotStarted:
    """The program certainly never ran: it or its files could not be had (`failure`), or a stop came first (None)."""

    execution: ExecutionId
    failure: FailureInfo | None = None


@frozen(kw_only=True)
class ExecutionLost:
    """The program certainly runs no more (or is fenced off), and how it ended cannot be known."""

    execution: ExecutionId
    reason: str


@frozen(kw_only=True)
class ExecutionSilent:
    """The program runs and has written nothing to stdout or stderr for `silent_for`: said once that is `Launch.silent_after`."""

    execution: ExecutionId
    silent_for: Duration


@frozen(kw_only=True)
class NodeReady:
    """The node is up: `boot_id` names this boot of it.  `incarnation` is that of the `BootNode` command, None if unasked."""

    node: NodeId
    boot_id: str
    incarnation: int | None = None


@frozen(kw_only=True)
class NodeRetired:
    """The node is off and nothing runs there: the answer to `RetireNode`."""

    node: NodeId
    incarnation: int


@frozen(kw_only=True)
class NodeFaulted:
    """The node cannot be used (`unusable`), cannot be reached and is given up (`lost`), was taken away (`preempted`), or is there and
    has lost all its files (`wiped`).
    """

    node: NodeId
    fault: Literal["unusable", "lost", "preempted", "wiped"]
    reason: str


@frozen(kw_only=True)
class NodeReallocated:
    """A preempted node's capacity came back, as new and under the same id."""

    node: NodeId


@frozen(kw_only=True)
class FilesRemoved:
    """The folder is gone, or cannot be removed because of `problem`: the answer to `RemoveFiles`, with its identity."""

    node: NodeId
    job: JobId
    task: TaskId | None
    before: ExecutionId
    problem: str | None = None


Report = (
    ExecutionStarted
    | ExecutionExited
    | ExecutionNotStarted
    | ExecutionLost
    | ExecutionSilent
    | NodeReady
    | NodeRetired
    | NodeFaulted
    | NodeReallocated
    | FilesRemoved
)
