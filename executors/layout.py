"""Where things lie on a node, and what its programs find in their environment (semantics reference sections 3.7 and 3.8).

    <root>/<pool>/<node>/                   AZ_BATCH_NODE_ROOT_DIR, private to the user
        shared/                             AZ_BATCH_NODE_SHARED_DIR
        startup/{stdout.txt,stderr.txt,wd/}
        workitems/<job>/job-1/<task>/{stdout.txt,stderr.txt,wd/}
        applications/<id>.<version>.<digest>/   a package, which AZ_BATCH_APP_PACKAGE_<id>_<version> names
        fsmounts/ volatile/
        boot                                which boot of the node this is; ours, as is
        executions/<ledger>.<execution>     the records

What runs on the engine's host, which is no node, has `.engine` in place of pool and node.

Paths are text relative to the root, with `/`: ids are safe as folder names (see `core.ids.ID_PATTERN`).
"""

import hashlib
from functools import lru_cache
from typing import Final

from ..core.commands import Launch, RunCommand, RunRelease, RunTask
from ..core.ids import JobId, NodeId, PoolId, TaskId
from ..core.specs import ApplicationPackageReference, package_variable, split_command_line
from .records import FOLDER as EXECUTIONS

NODE_FOLDERS: Final = ("shared", "startup", "workitems", "applications", "fsmounts", "volatile", EXECUTIONS)
OUTPUT_NAMES: Final = {"stdout": "stdout.txt", "stderr": "stderr.txt"}

ACCOUNT_NAME: Final = "local"
"""There is no account; programs that print it should print something."""

OWN_PREFIXES: Final = ("AZ_BATCH_", "JOBLEDGER_")
"""Variables that only the executor sets: neither the engine's own nor the user's reach a program."""


def node_folder(pool: PoolId, node: NodeId) -> str:
    return f"{pool}/{node}"


def job_folder(pool: PoolId, node: NodeId, job: JobId) -> str:
    """The folder in which all of a job's lie."""
    return f"{pool}/{node}/workitems/{job}"


def task_folder(pool: PoolId, node: NodeId, job: JobId | None, task: TaskId) -> str:
    """The folder of a task, preparation, release, finalizer or start task (`job` is None for a start task)."""
    if job is None:
        return f"{pool}/{node}/startup"
    return f"{pool}/{node}/workitems/{job}/job-1/{task}"


def ways(launch: Launch) -> list[str]:
    """Folders beside the task's own that its variables name: another user must be able to pass through them."""
    node = node_folder(launch.pool, launch.node)
    found = [f"{node}/startup", f"{node}/applications", f"{node}/fsmounts"]
    if launch.job is not None and launch.preparation is not None:
        found.append(task_folder(launch.pool, launch.node, launch.job, launch.preparation))
    return found


@lru_cache(maxsize=1024)
def package_folder(package: ApplicationPackageReference) -> str:
    """The folder of an application package below its node's; another zip under the same name and version has another."""
    digest = hashlib.sha256(f"{package.url}\n{package.sha256}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"applications/{package.application_id}.{package.version or ''}.{digest}"


def environment(root: str, command: RunCommand) -> dict[str, str]:
    """A program's own variables: the user's settings, and over them those of Azure Batch and jobledger.

    The engine's environment lies beneath (`inherited`), so that PATH, HOME and LANG are what the user expects.
    """
    launch = command.launch
    node = f"{root}/{node_folder(launch.pool, launch.node)}"
    task = f"{root}/{task_folder(launch.pool, launch.node, launch.job, launch.task)}"
    variables = {setting.name: setting.value for setting in launch.environment if not setting.name.startswith(OWN_PREFIXES)}
    variables |= {
        "AZ_BATCH_ACCOUNT_NAME": ACCOUNT_NAME,
        "AZ_BATCH_ACCOUNT_URL": f"file://{root}",
        "AZ_BATCH_POOL_ID": launch.pool,
        "AZ_BATCH_NODE_ID": launch.node,
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_NODE_ROOT_DIR": node,
        "AZ_BATCH_NODE_SHARED_DIR": f"{node}/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": f"{node}/startup",
        "AZ_BATCH_NODE_MOUNTS_DIR": f"{node}/fsmounts",
        "AZ_BATCH_TASK_DIR": task,
        "AZ_BATCH_TASK_WORKING_DIR": f"{task}/wd",
    }
    variables |= {package_variable(package): f"{node}/{package_folder(package)}" for package in launch.packages}
    if launch.job is not None:
        variables |= {"AZ_BATCH_JOB_ID": launch.job, "AZ_BATCH_TASK_ID": launch.task}
        if launch.preparation is not None and isinstance(command, RunTask | RunRelease):
            preparation = f"{root}/{task_folder(launch.pool, launch.node, launch.job, launch.preparation)}"
            variables |= {"AZ_BATCH_JOB_PREP_DIR": preparation, "AZ_BATCH_JOB_PREP_WORKING_DIR": f"{preparation}/wd"}
    return variables | {fact.name: fact.value for fact in launch.facts}


def inherited(environment: dict[bytes, bytes]) -> dict[str, str]:
    """What programs get of the engine's environment: all of it but what only an executor sets.

    An engine that itself runs as a task must not pass its own identity on.
    """
    texts = {name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, value in environment.items()}
    return {name: value for name, value in texts.items() if not name.startswith(OWN_PREFIXES)}


@lru_cache(maxsize=4096)
def arguments(command_line: str) -> tuple[str, ...]:
    """The words of a command line; kept, since the tasks of a job often share theirs.  Raises ValueError."""
    return tuple(split_command_line(command_line))
