"""Names of things: one `NewType` each, so that a job id never goes where a task id belongs.

Pool, job and task ids are chosen by the user and obey `ID_PATTERN`, which is also what keeps them safe as
folder names.  Node ids are unique in a ledger.  An execution id is a number that the ledger never hands out
twice: it is the fencing number of one launch of one command line.
"""

from typing import Final, Literal, NewType

PoolId = NewType("PoolId", str)
NodeId = NewType("NodeId", str)
JobId = NewType("JobId", str)
TaskId = NewType("TaskId", str)
ExecutionId = NewType("ExecutionId", int)

Micros = NewType("Micros", int)
"""A point in time, in microseconds since 1970-01-01T00:00:00Z."""

Duration = NewType("Duration", int)
"""A length of time in microseconds."""

SECOND: Final = 1_000_000

Retention = NewType("Retention", int)
"""How long files are kept, in microseconds; 0 is removed at once, `UNLIMITED_RETENTION` never by the passing of time."""

UNLIMITED_RETENTION: Final = Retention(-1)

ID_CHARACTERS_MAX: Final = 64
ID_PATTERN: Final = rf"[A-Za-z0-9_-]{{1,{ID_CHARACTERS_MAX}}}"
"""Azure Batch's rule for ids: 1 to 64 letters, digits, hyphens and underscores."""

ExecutionKind = Literal["starttask", "preparation", "task", "release", "finalizer"]

START_TASK_ID: Final = TaskId("starttask")
"""What stands in the `task` field of an execution that runs a node's start task."""

ENGINE_HOST: Final = NodeId(".engine")
"""What stands in the `node` field of an execution that runs on the engine's host, in none of its pools' nodes; no node has a dot in its id."""

ENGINE_POOL: Final = PoolId(".engine")
"""The pool that it counts to."""

HOST_EXECUTOR: Final = "local"
"""What runs it, whatever the executor of the job's pool is."""


def place_name(node: NodeId) -> str:
    """What people call the place of an execution: its node's id, or the engine's host."""
    return "the engine's host" if node == ENGINE_HOST else node
