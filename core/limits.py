"""Every bound of the core, with its reason.

A loop, queue or retry without a bound is a hang waiting for its day; each bound here turns one into an error
that says which bound was met.
"""

from typing import Final

from .ids import SECOND, Duration, Retention

BATCH_EVENTS_MAX: Final = 20_000_000
"""Events that one stimulus may cause before the joint rules are called livelocked.

The largest honest batch ends or adds the tasks of the largest job, with a few events for each."""

RULE_VISITS_MAX: Final = 2 * BATCH_EVENTS_MAX
"""Visits of joint rules within one stimulus: an event puts a few things on the agenda, most of them already there."""

COMMAND_LINE_BYTES_MAX: Final = 32_768
"""Longest command line accepted.  Well below the 128 KiB that Linux allows one argument."""

ENVIRONMENT_VALUE_BYTES_MAX: Final = 131_072
"""Longest value of a secret that is read from elsewhere: Linux gives a program no variable that is longer, its name included."""

TASKS_PER_REQUEST_MAX: Final = 1_000_000
"""Tasks in one request: they become one atomic batch, which has to fit in memory."""

DEPENDENCY_IDS_LENGTH_MAX: Final = 64_000
"""Azure Batch's bound on the characters of all ids that one task depends on."""

DEPENDENCY_NUMBERS_MAX: Final = 100_000
"""Numbers in the ranges that one task depends on: each is an entry in an index while it is waited for."""

NODE_ID_LENGTH_MAX: Final = 64
"""Longest id of a node, as of everything else that has a folder of its name."""

NODES_PER_POOL_MAX: Final = 100_000

RESIZE_TIMEOUT: Final = Duration(15 * 60 * SECOND)
"""Azure Batch's default for a pool's resizeTimeout."""

RESIZE_TIMEOUT_MIN: Final = Duration(5 * 60 * SECOND)
"""Azure Batch's least resizeTimeout."""

NODES_NAMED_MAX: Final = 8
"""Nodes that one text of a resize error names; it says how many more there are."""

TASK_SLOTS_PER_NODE_MAX: Final = 256
"""Azure Batch's own ceiling for taskSlotsPerNode."""

PARALLEL_TASKS_MAX: Final = NODES_PER_POOL_MAX * TASK_SLOTS_PER_NODE_MAX
"""Greatest maxParallelTasks: more than any pool has slots is no limit, which is written -1."""

PRIORITY_MIN: Final = -1000
PRIORITY_MAX: Final = 1000
"""Azure Batch's range for a job's priority."""

RELEASE_WALL_CLOCK_MAX: Final = Duration(15 * 60 * SECOND)
"""Azure Batch's default and ceiling for the job release task's maxWallClockTime."""

RETRY_DELAY_MAX: Final = Duration(24 * 60 * 60 * SECOND)
"""Longest wait between two tries: whoever wants to wait longer submits again, instead of keeping a job for it."""

SILENT_TIMEOUT_MIN: Final = SECOND
"""Shortest silentTimeout: a program has to be given the time to start."""

INTERNAL_RETRIES_MAX: Final = 8
"""How often in a row something is run again because its executor lost or stopped it unasked on a node that stayed up.

A supervisor that is killed costs one; an executor that loses every launch would go on for ever."""
RETENTION: Final = Retention(7 * 24 * 60 * 60 * SECOND)
"""Azure Batch's default retentionTime: how long files of what has ended are kept."""

REASON_TOLD_LENGTH_MAX: Final = 1024
"""Characters of a job's terminate reason that its finalizer finds in its environment: a program must be able to start with it."""

STOP_GRACE: Final = Duration(5 * SECOND)
"""Time between SIGTERM and SIGKILL when an execution is stopped."""

FILE_PATH_BYTES_MAX: Final = 1024
"""Longest path of a file below a task's folder: Linux takes 4096 bytes in all and macOS 1024, and Azure's blob names end at 1024 characters."""

URL_BYTES_MAX: Final = 8192
"""Longest address of a file: what web servers take, signature included."""

FILE_NAME_BYTES_MAX: Final = 255
"""Longest name of a single file: what Linux and macOS take."""

CONTAINER_FILES_MAX: Final = 100_000
"""Files that one container may have below the prefix: a task that needs more wants an archive, and a listing must end."""

PACKAGE_ENTRIES_MAX: Final = 200_000
"""Files and folders in one application package: a large Python environment has some 50,000."""

PACKAGE_BYTES_MAX: Final = 64 * 1024**3
"""Bytes of one application package, packed and unpacked: more than any is meant to have, and less than fills a node's disk many times over."""

PACKAGE_RATIO_MAX: Final = 100
"""How many times its own size a package may unpack to: programs and data stay below 10, and a bomb needs more to be worth its while."""

PACKAGE_RATIO_FREE_BYTES: Final = 256 * 1024**2
"""Unpacked bytes to which that is not applied: small packages of mostly empty files are no bombs."""

OUTPUT_FILES_MAX: Final = 100_000
"""Files that one output pattern may match."""

FOLDER_DEPTH_MAX: Final = 100
"""Folders below each other that are looked into: each level is an open descriptor, and a task can make any number of them."""

TRANSFER_STEPS_MAX: Final = 10_000
"""Files that one task may fetch or upload by name; all are sent to the transfer's process in one document."""

PACKAGE_DIRECTORY_BYTES_MAX: Final = 64 * 1024**2
"""Size of a package's list of contents, which is read into memory before its entries can be counted."""
