"""A plan as a shell script: the command lines in order of their start, one after the other, with their environment.

What the script does is said at its own top, for it travels alone.  What holds of every script:

1. Any POSIX `/bin/sh` runs it.  The same plan makes the same script.
2. No secret is in it: its value is not in the ledger either.  The script demands it as a variable, which only those command lines get
   that had it.
3. Folders lie below the script's one argument as the local executor would lay them out, and the variables that it sets say so.
4. Texts of users are quoted, in comments made printable, and are never read by the shell that runs the script.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from .core.commands import Launch, RunCommand, RunFinalizer, RunPreparation, RunRelease, RunStartTask, RunTask
from .core.ids import ENGINE_POOL, ExecutionKind, NodeId, PoolId, place_name
from .core.specs import ApplicationPackageReference, EnvironmentSetting, ResourceFile, TaskSpec
from .durations import for_people
from .executors.layout import NODE_FOLDERS, OWN_PREFIXES, arguments, environment, node_folder, task_folder
from .executors.records import FOLDER as RECORDS
from .plan import NAMES, Plan, Row, offset
from .printing import printable

_ROOT: Final = "\0"
"""Stands for the script's folder in values: no value of a user can have it."""

_COMMANDS: Final[dict[ExecutionKind, type[RunCommand]]] = {
    "starttask": RunStartTask,
    "preparation": RunPreparation,
    "task": RunTask,
    "release": RunRelease,
    "finalizer": RunFinalizer,
}
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# fmt: off
_SHELLS_OWN: Final = frozenset({
    "BASHOPTS", "EUID", "HOME", "IFS", "LANG", "LOGNAME", "OLDPWD", "OPTARG", "OPTIND", "PATH", "PPID", "PS1", "PS2", "PS4", "PWD", "SHELL",
    "SHELLOPTS", "TERM", "TMPDIR", "UID", "USER", "_",
})
# fmt: on
"""Variables that are set in most shells, or that a shell sets or obeys: one of these is not asked for under its own name."""

_TOP: Final = """\
#!/bin/sh
# The command lines of job {job}, in the order of their start, one after the other.
# Made by jobledger from ledger {ledger}{dry}: {count}, planned for {makespan}.
#
#     sh SCRIPT FOLDER
#
# Each runs in a working folder of its own below FOLDER, which is made; give a new or an empty one.  A node is a folder there:
# POOL/NODE/workitems/JOB/job-1/TASK has stdout.txt, stderr.txt and wd, and POOL/NODE/shared is what tasks on a node share.
#
# The script ends at the first command line that fails and that did not fail in the plan, with its exit status.  One that
# failed in the plan may end as it likes.  One that did not end by itself there, because it was stopped or lost, is only told of.
# It does not fetch resource files, unpack packages, upload outputs, reboot or empty nodes, or change to another user.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: sh SCRIPT FOLDER" >&2
    exit 2
fi"""

_FUNCTIONS: Final = """
case $1 in /*) plan_root=$1 ;; *) plan_root=./$1 ;; esac
mkdir -p -- "$plan_root"
plan_root=$(cd -- "$plan_root" && pwd -P && echo .)
plan_root=${plan_root%??}

# What this script finds of another task's variables is not passed on.
for plan_name in $(env | sed -n -e 's/^\\(AZ_BATCH_[A-Za-z0-9_]*\\)=.*/\\1/p' -e 's/^\\(JOBLEDGER_[A-Za-z0-9_]*\\)=.*/\\1/p'); do
    unset "$plan_name"
done

# node NODE: make a node's folders.
node() {
    for plan_name in """

_FUNCTIONS_2: Final = """; do
        mkdir -p -- "$plan_root/$1/$plan_name"
    done
}

# enter FOLDER: go to the working folder of a command line; what it writes goes to its files.
enter() {
    mkdir -p -- "$plan_root/$1/wd" &&
    cd -- "$plan_root/$1/wd" &&
    exec </dev/null >../stdout.txt 2>../stderr.txt
}

# ended STATUS WHAT: one that succeeded in the plan has failed here.
ended() {
    printf '%s\\n' "$2 ended with exit status $1, and succeeded in the plan: its output is below $plan_root" >&2
    exit "$1"
}"""


def script(plan: Plan) -> str:
    """The whole script, as text that ends with a newline."""
    secrets = _Secrets()
    for row in plan.rows:
        for setting in _secret_settings(plan, row):
            secrets.add(setting)
    parts = [_top(plan), *secrets.demands(), _FUNCTIONS + " ".join(name for name in NODE_FOLDERS if name != RECORDS) + _FUNCTIONS_2]
    nodes: set[tuple[PoolId, NodeId]] = set()
    folders: set[str] = set()
    for row in plan.rows:
        parts += ["", *_comments(row)]
        if row.outcome in {"succeeded", "failed"}:
            if (row.pool, row.node) not in nodes:
                parts.append(f"node {shlex.quote(node_folder(row.pool, row.node))}")
            nodes.add((row.pool, row.node))
            folder = task_folder(row.pool, row.node, None if row.kind == "starttask" else plan.job, row.task)
            if folder in folders:
                parts.append(f'rm -rf -- "$plan_root"/{shlex.quote(folder)}')
            folders.add(folder)
            parts += _launch(plan, row, folder, secrets)
    return "\n".join(parts) + "\n"


# --- one command line -----------------------------------------------------------------------------------------


def _launch(plan: Plan, row: Row, folder: str, secrets: "_Secrets") -> Iterator[str]:
    """The lines that run one command line."""
    exported, given = [], []
    for setting in _secret_settings(plan, row):
        variable = secrets.variable(setting)
        if _VARIABLE.fullmatch(setting.name) and not _is_taken(setting.name):
            exported.append(f'    export {setting.name}="${variable}" &&')
        else:
            given.append(f'        {shlex.quote(setting.name)}="${variable}" \\')
    variables = environment(_ROOT, _command(plan, row))
    words = arguments(row.what.command_line)
    if "=" in words[0]:  # env would take it for a variable.
        words = ("/bin/sh", "-c", 'exec "$@"', "sh", *words)
    yield "("
    yield f"    enter {shlex.quote(folder)} &&"
    yield from exported
    yield "    exec env \\"
    yield from given
    yield from (f"        {shlex.quote(name)}={_quote(value)} \\" for name, value in variables.items())
    yield f"        {' '.join(map(_quote, words))}"
    if row.outcome == "succeeded":
        yield f") || ended $? {shlex.quote(_name(row))}"
    else:
        yield ") || :"


def _command(plan: Plan, row: Row) -> RunCommand:
    """The command that an executor gets, without what is secret."""
    is_of_job = row.kind != "starttask"
    preparation = plan.spec.job_preparation_task
    launch = Launch(
        execution=row.execution,
        pool=row.pool,
        node=row.node,
        job=plan.job if is_of_job else None,
        task=row.task,
        attempt=row.attempt,
        command_line=row.what.command_line,
        environment=tuple(setting for setting in _settings(plan, row) if not setting.secret),
        preparation=preparation.id if preparation is not None and row.kind in {"task", "release"} else None,
        packages=_packages(plan, row),
        facts=row.facts,
    )
    return _COMMANDS[row.kind](launch=launch)


def _settings(plan: Plan, row: Row) -> tuple[EnvironmentSetting, ...]:
    """The job's common settings overlaid with those of the command line."""
    common = plan.spec.common_environment_settings if row.kind != "starttask" else ()
    return tuple({setting.name: setting for setting in (*common, *row.what.environment_settings)}.values())


def _secret_settings(plan: Plan, row: Row) -> list[EnvironmentSetting]:
    return [setting for setting in _settings(plan, row) if setting.secret and not setting.name.startswith(OWN_PREFIXES)]


def _packages(plan: Plan, row: Row) -> tuple[ApplicationPackageReference, ...]:
    common = plan.pools[row.pool].application_package_references if row.pool != ENGINE_POOL else ()
    own = row.what.application_package_references if isinstance(row.what, TaskSpec) else ()
    return tuple({(one.application_id.lower(), one.version): one for one in (*common, *own)}.values())


def _quote(value: str) -> str:
    """A word for the shell, in which `_ROOT` is the script's folder."""
    return '"$plan_root"'.join(shlex.quote(part) if part else "" for part in value.split(_ROOT)) or "''"


# --- comments -------------------------------------------------------------------------------------------------


def _top(plan: Plan) -> str:
    return _TOP.format(
        job=plan.job,
        ledger=printable(plan.ledger),
        dry=f", a dry run ({printable(plan.dry_run)})" if plan.dry_run else "",
        count=f"{len(plan.rows)} execution" + ("" if len(plan.rows) == 1 else "s"),
        makespan=for_people(plan.makespan),
    )


def _name(row: Row) -> str:
    return f"{NAMES[row.kind]} {row.task} on {place_name(row.node)}" if row.kind == "task" else f"{NAMES[row.kind]} on {place_name(row.node)}"


def _comments(row: Row) -> Iterator[str]:
    """When and where, how it ended in the plan, and what the command line needs that the script does not do."""
    took = f" in {for_people(row.took)}" if row.took is not None else ""
    code = f" (exit {row.exit_code})" if row.outcome == "failed" else ""
    why = f" ({printable(row.why)})" if row.why else ""
    yield f"# {offset(row.began)}  {_name(row)}, attempt {row.attempt}: {row.outcome}{code}{why}{took}"
    if row.outcome not in {"succeeded", "failed"}:
        yield f"#   not run here: {printable(row.what.command_line)}"
        return
    yield from (f"#   not fetched: {printable(_file(file))}" for file in row.what.resource_files)
    if row.what.user_identity is not None:
        yield f"#   meant to run as another user: {printable(str(row.what.user_identity.username or 'autoUser'))}"


def _file(file: ResourceFile) -> str:
    return f"{file.file_path or '.'} from {file.http_url or file.storage_container_url}"


# --- secrets --------------------------------------------------------------------------------------------------


def _is_taken(name: str) -> bool:
    """Whether the shell or the script has the variable for itself."""
    return name in _SHELLS_OWN or name.startswith("plan_")


class _Secrets:
    """The variables by which secrets come in: one for each value, as its digest tells values apart."""

    def __init__(self) -> None:
        self._asked: dict[EnvironmentSetting, str] = {}
        """Each secret with the variable that is asked for."""
        self._kept: dict[EnvironmentSetting, str] = {}
        """Each secret with the variable of the script's own that then has it."""

    def add(self, setting: EnvironmentSetting) -> None:
        if setting in self._asked:
            return
        name = re.sub(r"[^A-Za-z0-9_]|^(?=[0-9])", "_", setting.name)
        if _is_taken(name):
            name = f"SECRET_{name}"
        taken = set(self._asked.values())
        names = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 2)))
        self._asked[setting] = next(one for one in names if one not in taken)
        self._kept[setting] = f"plan_secret_{len(self._asked)}"

    def variable(self, setting: EnvironmentSetting) -> str:
        """The script's own variable that has the value."""
        return self._kept[setting]

    def demands(self) -> Iterator[str]:
        """The lines that demand each, and take it out of the environment, where every command line would get it."""
        if self._asked:
            yield "\n# Secrets: the plan does not have their values."
        for setting, name in self._asked.items():
            yield f': "${{{name}:?is a secret that the plan does not have; set it to its value}}"'
            yield f"{self._kept[setting]}=${name}"
            yield f"unset {name}"
