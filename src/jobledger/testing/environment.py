# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""What a program finds in its environment, whichever executor runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve

from jobledger.core.commands import Launch, RunTask
from jobledger.core.specs import EnvironmentSetting

SHOW_ENVIRONMENT: Final = "import json, os; print(json.dumps([dict(os.environ), os.getcwd()]))"
"""A Python program that prints what it finds."""
HIDDEN: Final = "correct-horse-battery-staple"
FACTS: Final = {"JOBLEDGER_TASKS_FAILED": "3", "JOBLEDGER_TERMINATE_REASON": "enough of it"}
"""What a finalizer may be told of its job."""


def check_environment(variables: Mapping[str, str], here: str, kind: str, launch: Launch, ledger_id: str) -> None:
    """Azure's variables as the semantics reference lists them (section 3.7), the execution's identity, and what a finalizer is told."""
    node = variables["AZ_BATCH_NODE_ROOT_DIR"]
    work = f"{node}/workitems/{launch.job}/job-1"
    folder = f"{node}/startup" if kind == "starttask" else f"{work}/{launch.task}"
    expected = {
        "AZ_BATCH_POOL_ID": launch.pool,
        "AZ_BATCH_NODE_ID": launch.node,
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_NODE_SHARED_DIR": f"{node}/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": f"{node}/startup",
        "AZ_BATCH_NODE_MOUNTS_DIR": f"{node}/fsmounts",
        "AZ_BATCH_TASK_DIR": folder,
        "AZ_BATCH_TASK_WORKING_DIR": f"{folder}/wd",
        "JOBLEDGER_EXECUTION": f"{ledger_id}.{launch.execution}",
    }
    if launch.job is not None:
        expected |= {"AZ_BATCH_JOB_ID": launch.job, "AZ_BATCH_TASK_ID": launch.task}
    if kind in ("task", "release"):
        expected |= {"AZ_BATCH_JOB_PREP_DIR": f"{work}/prep", "AZ_BATCH_JOB_PREP_WORKING_DIR": f"{work}/prep/wd"}
    if kind == "finalizer":
        expected |= FACTS
    told = {name: value for name, value in variables.items() if name.startswith(("AZ_BATCH_", "JOBLEDGER_"))}
    assert told.keys() >= {"AZ_BATCH_ACCOUNT_NAME", "AZ_BATCH_ACCOUNT_URL"}
    free = ("AZ_BATCH_ACCOUNT_NAME", "AZ_BATCH_ACCOUNT_URL", "AZ_BATCH_NODE_ROOT_DIR")
    assert {name: value for name, value in told.items() if name not in free} == expected
    assert Path(here).samefile(f"{folder}/wd")


def with_secret(command: RunTask) -> RunTask:
    """The same command, whose program is told a secret as TOKEN."""
    setting = EnvironmentSetting(name="TOKEN", value=HIDDEN, secret=True)
    return evolve(command, launch=evolve(command.launch, environment=(setting,)))


def files_with_secret(folder: Path) -> Sequence[Path]:
    """Where below a folder the secret was written to."""
    return [path for path in folder.rglob("*") if path.is_file() and HIDDEN.encode() in path.read_bytes()]
