"""What the job file's properties are, as a JSON Schema for editors and as a page for people; both are made from the specs' records.

Names, types, defaults and what is required come from the records themselves; the meanings and bounds below are all that is written by hand,
and a test holds them to exactly the records' fields.
"""

import inspect
import typing
from collections.abc import Iterator
from typing import Any, Final, Literal

import attrs

from jobledger.core import limits, specs
from jobledger.core.ids import ID_PATTERN, Duration, JobId, NodeId, PoolId, Retention, TaskId

from . import durations
from .jsonnames import Name, names_of, record_in
from .specjson import retention_text, unstructure
from .valuefrom import NAME as VALUE_FROM
from .valuefrom import ValueFrom

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

RECORDS: Final[dict[type, str]] = {
    specs.PoolSpec: "pool",
    specs.TaskSchedulingPolicy: "taskSchedulingPolicy",
    specs.StartTaskSpec: "startTask",
    specs.JobSpec: "job",
    specs.PoolInfo: "poolInfo",
    specs.JobConstraints: "jobConstraints",
    specs.PreparationSpec: "jobPreparationTask",
    specs.ReleaseSpec: "jobReleaseTask",
    specs.FinalizerSpec: "jobFinalizerTask",
    specs.TaskSpec: "task",
    specs.TaskDependencies: "taskDependencies",
    specs.TaskIdRange: "taskIdRange",
    specs.ExitConditions: "exitConditions",
    specs.ExitCodeMapping: "exitCodeMapping",
    specs.ExitCodeRangeMapping: "exitCodeRangeMapping",
    specs.ExitOptions: "exitOptions",
    specs.TaskConstraints: "taskConstraints",
    specs.UserIdentity: "userIdentity",
    specs.AutoUserSpecification: "autoUserSpecification",
    specs.AffinityInfo: "affinityInfo",
    specs.ResourceFile: "resourceFile",
    specs.OutputFile: "outputFile",
    specs.OutputFileDestination: "outputFileDestination",
    specs.OutputFileContainer: "outputFileContainer",
    specs.OutputFileUploadOptions: "outputFileUploadOptions",
    specs.ApplicationPackageReference: "applicationPackageReference",
    specs.EnvironmentSetting: "environmentSetting",
    ValueFrom: "valueFrom",
    specs.MetadataItem: "metadataItem",
}
"""Every record of a job file in reading order, with the name it has in the schema and on the page."""

_COMMAND_LINE: Final = (
    'The program and its arguments. It is split into words but not given to a shell: write `/bin/sh -c "..."` for variables and redirection.'
)
_RETRIES: Final = "How often it is run again after an exit code other than 0; -1 is without limit."
_RETRY_DELAY: Final = (
    "how long the first retry waits, a day at most; each one after it waits twice as long as the one before. This property is jobledger's own."
)
_RETRY_DELAY_MAX: Final = "The longest that a retry waits; without it that is a day. This property is jobledger's own."
_IDENTITY: Final = "As which user of the node it runs; without it, as the user that the engine runs as."
_RETENTION: Final = f"`PT0S` is not at all, `{durations.UNLIMITED}` without limit. Without it, the job's `constraints` say."
_ENVIRONMENT: Final = "Environment variables for the command line; they win over the job's common ones."
_RESOURCES: Final = "Files that are fetched into the working directory before the command line runs; where one cannot be had, it does not run."
_OUTPUTS: Final = "Files that are uploaded when the program has ended."

MEANINGS: Final[dict[type, dict[str, str]]] = {
    specs.PoolSpec: {
        "id": "Name of the pool in its ledger. Its nodes are named after it.",
        "executor": "What runs the command lines: `local` for processes on this machine, `dry-run` to pretend in real time, or the name of an installed executor.",
        "nodes": "How many nodes the pool has.",
        "taskSlotsPerNode": "How many tasks a node runs at the same time, or fewer where they require several slots each.",
        "taskSchedulingPolicy": "How tasks are shared out among the nodes.",
        "startTask": "What runs on a node when it joins the pool and each time it boots.",
        "displayName": "A name for people; it need not be unique.",
        "metadata": "Names and values that are stored and shown, and mean nothing to jobledger.",
        "resizeTimeout": "How long a resize waits for nodes that come or leave, 5 minutes at least; then the pool is steady and says what is missing.",
        "applicationPackageReferences": "Packages that are there for every command line on the pool's nodes.",
    },
    specs.TaskSchedulingPolicy: {
        "nodeFillType": "`spread` places a task on the node with the most free slots, `pack` on the one with the fewest.",
    },
    specs.StartTaskSpec: {
        "commandLine": _COMMAND_LINE,
        "environmentSettings": "Environment variables for the command line.",
        "maxTaskRetryCount": _RETRIES,
        "waitForSuccess": "Whether the node takes no tasks until the start task has succeeded.",
        "userIdentity": _IDENTITY,
        "resourceFiles": _RESOURCES,
    },
    specs.JobSpec: {
        "id": "Name of the job in its ledger.",
        "poolInfo": "Which pool the job runs on. May be left out where the file describes a pool.",
        "displayName": "A name for people; it need not be unique.",
        "priority": "Tasks of a job with a higher priority are placed first.",
        "maxParallelTasks": "How many of its tasks may be at work at the same time; -1 is without limit.",
        "constraints": "Limits of the job, and of its tasks that state none of their own.",
        "jobPreparationTask": "What runs on a node before the first task of the job there.",
        "jobReleaseTask": "What runs on a node when the job ends. It needs a job preparation task.",
        "commonEnvironmentSettings": "Environment variables for all of the job's command lines, preparation, release and finalizer included.",
        "onAllTasksComplete": "Whether the job is terminated when all of its tasks are completed; a job without tasks counts as such.",
        "onTaskFailure": "`performexitoptionsjobaction` has a failed task terminate or disable the job, as its `exitConditions` say.",
        "usesTaskDependencies": "Whether tasks of the job may say `dependsOn`.",
        "metadata": "Names and values that are stored and shown, and by which jobs are selected; they mean nothing to jobledger.",
        "jobFinalizerTask": "What runs once at the very end of the job, however it ends. This property is jobledger's own.",
    },
    specs.PoolInfo: {"poolId": "Id of the pool. A pool that does not exist yet is waited for."},
    specs.JobConstraints: {
        "maxWallClockTime": "How long the job may live, from its creation; then it is terminated.",
        "maxTaskRetryCount": "Retries of the job's tasks that have no constraints of their own. " + _RETRIES,
        "retryDelay": "Of the job's tasks that have no constraints of their own: " + _RETRY_DELAY,
        "retryDelayMax": _RETRY_DELAY_MAX,
        "retentionTime": "How long the folders of its tasks, preparation and release are kept that state no time of their own: "
        f"`PT0S` is not at all, `{durations.UNLIMITED}` without limit. This property is jobledger's own.",
    },
    specs.PreparationSpec: {
        "commandLine": _COMMAND_LINE,
        "id": "Id of the preparation task; no task of the job may have it.",
        "environmentSettings": _ENVIRONMENT,
        "constraints": "Limits of the preparation task.",
        "waitForSuccess": "Whether the job's tasks on a node wait until preparation there has succeeded.",
        "rerunOnNodeRebootAfterSuccess": "Whether preparation runs again after its node booted anew, before the job's next task there.",
        "userIdentity": _IDENTITY,
        "resourceFiles": _RESOURCES,
    },
    specs.ReleaseSpec: {
        "commandLine": _COMMAND_LINE,
        "id": "Id of the release task; no task of the job may have it.",
        "environmentSettings": _ENVIRONMENT,
        "maxWallClockTime": "How long it may run before it is ended, 15 minutes at most; it is never retried.",
        "releaseScope": "On which nodes it runs: `taskRan` where a task of the job ran, `prepared` also where preparation succeeded, "
        "`attempted` also where preparation was launched. This property is jobledger's own.",
        "userIdentity": _IDENTITY,
        "resourceFiles": _RESOURCES,
        "outputFiles": _OUTPUTS + " This property of a release task is jobledger's own.",
        "retentionTime": f"How long its folder on a node is kept, from its end there. {_RETENTION}",
    },
    specs.FinalizerSpec: {
        "commandLine": _COMMAND_LINE,
        "id": "Id of the finalizer; no task of the job may have it.",
        "environmentSettings": _ENVIRONMENT,
        "maxWallClockTime": "How long it may run before it is ended; it is never retried.",
        "nodeId": "Id of the node that it runs on, of any pool. Without it, it runs on the engine's host.",
        "userIdentity": _IDENTITY,
        "resourceFiles": _RESOURCES,
        "outputFiles": _OUTPUTS,
    },
    specs.TaskSpec: {
        "id": "Name of the task in its job.",
        "commandLine": _COMMAND_LINE,
        "displayName": "A name for people; it need not be unique.",
        "environmentSettings": _ENVIRONMENT,
        "constraints": "Limits of the task; the job's apply where it has none.",
        "dependsOn": "Tasks that have to succeed before this one is placed; the job has to say `usesTaskDependencies: true`.",
        "exitConditions": "What follows for the job and for dependent tasks from the way the task ends.",
        "userIdentity": _IDENTITY,
        "requiredSlots": "How many of its node's task slots it takes. One that requires more than its pool's `taskSlotsPerNode` waits for ever.",
        "affinityInfo": "Where the task had best run.",
        "metadata": "Names and values that are stored and shown, and by which tasks are selected; they mean nothing to jobledger. "
        "Azure Batch has them on jobs and pools only.",
        "resourceFiles": _RESOURCES,
        "outputFiles": _OUTPUTS,
        "applicationPackageReferences": "Packages that are unpacked on the node, once, before the task runs there.",
    },
    specs.ExitConditions: {
        "exitCodes": "What follows from single exit codes; they come before ranges.",
        "exitCodeRanges": "What follows from ranges of exit codes.",
        "preProcessingError": "What follows when the program could not be launched, or its files could not be had.",
        "default": "What follows from every other failure; exit code 0 is none.",
        "fileUploadError": "What follows when output files could not be uploaded, unless the exit code is mapped.",
    },
    specs.ExitCodeMapping: {"code": "The exit code.", "exitOptions": "What follows from it."},
    specs.ExitCodeRangeMapping: {
        "start": "The first exit code.",
        "end": "The last exit code.",
        "exitOptions": "What follows from each of them.",
    },
    specs.ExitOptions: {
        "jobAction": "What the job does: `none`, `disable` (its running tasks are requeued) or `terminate` (with the reason `TaskFailed`). "
        "Without it, `none` for exit code 0 and `terminate` for the rest. Only with the job's `onTaskFailure: performexitoptionsjobaction`.",
        "dependencyAction": "Whether tasks that depend on this one may run: `satisfy` or `block`. Without it, `satisfy` for exit code 0 and "
        "`block` for the rest. Only with the job's `usesTaskDependencies: true`.",
    },
    specs.TaskDependencies: {
        "taskIds": "Ids of tasks of the job; one that the job has not yet is waited for.",
        "taskIdRanges": "Ranges of ids that are whole numbers; every number of them has to have succeeded.",
    },
    specs.TaskIdRange: {
        "start": "The first number.",
        "end": "The last number. A task counts if its id reads as a number of the range: `4`, `04` and `004` are all 4.",
    },
    specs.TaskConstraints: {
        "maxWallClockTime": "How long each try may run before it is ended; without it there is no limit.",
        "maxTaskRetryCount": _RETRIES,
        "retryDelay": _RETRY_DELAY[0].upper() + _RETRY_DELAY[1:] + " Not for a preparation task.",
        "retryDelayMax": _RETRY_DELAY_MAX,
        "silentTimeout": "How long a try may write nothing to stdout or stderr before it is ended, at least a second; "
        "without it there is no limit. This property is jobledger's own.",
        "retentionTime": "How long its folder on a node is kept: a task's from the end of its latest run there, the preparation's from the end of "
        f"the job. {_RETENTION}",
    },
    specs.UserIdentity: {
        "username": "The user by name. The engine has to run as that user or as root, or to be allowed `sudo -n -u NAME`.",
        "autoUser": "A user that the node chooses; either this or `username`.",
    },
    specs.AutoUserSpecification: {
        "scope": "Who shares the user: all of a pool. Azure Batch's `task`, a user for one task alone, is not supported.",
        "elevationLevel": "`admin` runs it as root. `nonadmin` runs it as the engine's own user, or as `nobody` where that is root.",
    },
    specs.AffinityInfo: {
        "affinityId": "Id of a node, or its `affinityId` as `jobledger nodes --json` shows it. A hint: another node takes the task if that one has no room."
    },
    specs.ResourceFile: {
        "httpUrl": "The address of one file: `http`, `https`, `file`, whatever fsspec knows, or an absolute path.",
        "storageContainerUrl": "The address of a folder, all of which is fetched: `file`, what fsspec knows (not `http`), or an absolute path.",
        "blobPrefix": "Only files whose path in the folder begins so; with `storageContainerUrl`.",
        "filePath": "Where it goes, relative to the working directory: the file with `httpUrl`, a folder with `storageContainerUrl`.",
        "fileMode": "Its permissions, in octal, such as `0755`; `0770` without it.",
    },
    specs.OutputFile: {
        "filePattern": "Which files, relative to the working directory: `*`, `**`, `?`, `[...]` and variables; one leading `../` reaches the "
        "task's own folder with `stdout.txt` and `stderr.txt`.",
        "destination": "Where they go.",
        "uploadOptions": "When they are uploaded.",
    },
    specs.OutputFileDestination: {"container": "The container they go to."},
    specs.OutputFileContainer: {
        "containerUrl": "The address of a folder or container: `https` or `http` (each file is PUT below it), `file`, what fsspec knows, "
        "or an absolute path.",
        "path": "The name of the file there or, where the pattern has wildcards, of the folder; it may hold variables.",
    },
    specs.OutputFileUploadOptions: {
        "uploadCondition": "`tasksuccess` is exit code 0, `taskfailure` any other end, `taskcompletion` both.",
    },
    specs.ApplicationPackageReference: {
        "applicationId": "Name of the application.",
        "version": "Its version; it is part of the name of the environment variable that tells where the package lies.",
        "url": "The address of the package, a zip. This property is jobledger's own.",
        "sha256": "What the zip's SHA-256 digest must be. This property is jobledger's own.",
    },
    specs.EnvironmentSetting: {
        "name": "Name of the variable.",
        "value": "Its value.",
        "secret": "Whether the value is kept out of the ledger and of all that is shown; only the program gets it. This property is jobledger's own.",
    },
    ValueFrom: {
        "environment": "Name of an environment variable of the process that reads the job file.",
        "file": "Path of a file, from the job file's folder on. Its text is the value, but for an end of line at its end.",
    },
    specs.MetadataItem: {"name": "Name of the item.", "value": "Its value."},
}
"""What each property means, in a sentence or two."""

_RETRY_BOUNDS: Final = (-1, 1_000_000)
_BOUNDS: Final[dict[tuple[type, str], tuple[int, int]]] = {
    (specs.PoolSpec, "nodes"): (0, limits.NODES_PER_POOL_MAX),
    (specs.PoolSpec, "taskSlotsPerNode"): (1, limits.TASK_SLOTS_PER_NODE_MAX),
    (specs.StartTaskSpec, "maxTaskRetryCount"): _RETRY_BOUNDS,
    (specs.JobSpec, "priority"): (limits.PRIORITY_MIN, limits.PRIORITY_MAX),
    (specs.TaskSpec, "requiredSlots"): (1, limits.TASK_SLOTS_PER_NODE_MAX),
    (specs.JobSpec, "maxParallelTasks"): (-1, limits.PARALLEL_TASKS_MAX),
    (specs.JobConstraints, "maxTaskRetryCount"): _RETRY_BOUNDS,
    (specs.TaskConstraints, "maxTaskRetryCount"): _RETRY_BOUNDS,
}
"""Least and greatest value of each number; `check_*` of the specs say the same, and a test compares them."""

_NOT_ZERO: Final = {(specs.JobSpec, "maxParallelTasks")}
"""Numbers whose bounds have 0 between them and that may not be it."""

_PLAIN_TYPES: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    Duration: {"type": "string", "format": "duration", "pattern": f"^{durations.PATTERN}$"},
    Retention: {"type": "string", "format": "duration", "pattern": f"^{durations.PATTERN}$"},
    **{kind: {"type": "string", "pattern": f"^{ID_PATTERN}$"} for kind in (JobId, NodeId, PoolId, TaskId)},
}


_VALUE_FROM_MEANING: Final = "Takes the value from elsewhere as the job file is read, in place of `value`; it is always secret."
_SETTING_RULES: Final[dict[str, Any]] = {
    "not": {"required": ["value", VALUE_FROM]},
    "if": {"required": [VALUE_FROM]},
    "then": {"properties": {"secret": {"const": True}}},
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a job file: what an editor needs to complete, explain and check one."""
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "jobledger job file",
        "description": "A pool to run on, a job, and the job's tasks.",
        "type": "object",
        "properties": {
            "pool": {"$ref": "#/$defs/pool"},
            "job": {"$ref": "#/$defs/job"},
            "tasks": {"type": "array", "items": {"$ref": "#/$defs/task"}, "description": "The job's first tasks."},
        },
        "required": ["job"],
        "anyOf": [{"required": ["pool"]}, {"properties": {"job": {"required": ["poolInfo"]}}}],
        "additionalProperties": False,
        "$defs": {name: _record_schema(record) for record, name in RECORDS.items()},
    }


def job_file_reference_markdown() -> str:
    """The reference page of the job file: a table of properties for each record."""
    return "\n".join(_reference_lines()) + "\n"


def _record_schema(record: type) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "description": _first_paragraph(record)}
    schema["properties"] = {name.json: _property_schema(record, name) for name in names_of(record).values()}
    if required := [name.json for name in _required(record)]:
        schema["required"] = required
    if record is specs.EnvironmentSetting:
        schema["properties"][VALUE_FROM] = {"description": _VALUE_FROM_MEANING, "$ref": f"#/$defs/{RECORDS[ValueFrom]}"}
        schema |= _SETTING_RULES
    if record is ValueFrom:
        schema["minProperties"] = schema["maxProperties"] = 1
    schema["additionalProperties"] = False
    return schema


def _property_schema(record: type, name: Name) -> dict[str, Any]:
    schema = {"description": MEANINGS[record][name.json], **_type_schema(name.type)}
    if bounds := _BOUNDS.get((record, name.json)):
        schema["minimum"], schema["maximum"] = bounds
    if (record, name.json) in _NOT_ZERO:
        schema["not"] = {"const": 0}
    default = _default(name)
    return schema if default is None else {**schema, "default": default}


def _type_schema(kind: Any) -> dict[str, Any]:
    if kind in _PLAIN_TYPES:
        return _PLAIN_TYPES[kind]
    if kind in RECORDS:
        return {"$ref": f"#/$defs/{RECORDS[kind]}"}
    if typing.get_origin(kind) is Literal:
        return {"enum": list(typing.get_args(kind))}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": _type_schema(typing.get_args(kind)[0])}
    return _type_schema(_without_none(kind))


def _required(record: type) -> Iterator[Name]:
    """The properties that must be written; a job's pool is named by the file's own pool where there is one."""
    return (name for name in names_of(record).values() if name.required and record_in(name.type) is None)


def _default(name: Name) -> Any:
    """The default as JSON, None where there is none worth showing: no value, an empty list, or a record of defaults."""
    default = name.field.default
    if name.required or default is None or default == () or attrs.has(type(default)):
        return None
    if name.type is Retention:
        return retention_text(default)
    return durations.to_iso(default) if name.type is Duration else default


def _without_none(kind: Any) -> Any:
    return next(argument for argument in typing.get_args(kind) if argument is not type(None))


def _first_paragraph(record: type) -> str:
    text = inspect.getdoc(record) or ""
    return " ".join(text.split("\n\n")[0].split())


def _reference_lines() -> Iterator[str]:
    yield "# The job file"
    yield ""
    yield "<!-- Made by `make docs` from the specs; changes belong in src/jobledger/jobschema.py. -->"
    yield ""
    yield "A job file is YAML or JSON with up to three keys: `pool`, `job` and `tasks`."
    yield "Property names, defaults and meanings are Azure Batch's, so that existing job and task JSON can be pasted."
    yield "A file with any mistake is refused as a whole, and every mistake is named with its path."
    yield "Editors can check and complete a job file with its [JSON Schema](job-file.schema.json)."
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    yield "| `pool` | [pool](#pool) | | The pool to run on, created if the ledger does not have it. |"
    yield "| `job` | [job](#job) | *required* | The job. |"
    yield "| `tasks` | list of [task](#task) | | The job's first tasks. |"
    for record, title in RECORDS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield _first_paragraph(record)
        yield ""
        yield "| property | type | default | meaning |"
        yield "|---|---|---|---|"
        for name in names_of(record).values():
            yield f"| `{name.json}` | {_type_text(record, name)} | {_default_text(name)} | {MEANINGS[record][name.json]} |"
        if record is specs.EnvironmentSetting:
            yield f"| `{VALUE_FROM}` | [{RECORDS[ValueFrom]}](#{RECORDS[ValueFrom].lower()}) | | {_VALUE_FROM_MEANING} |"


def _type_text(record: type, name: Name) -> str:
    text = _kind_text(name.type)
    if bounds := _BOUNDS.get((record, name.json)):
        text += f" from {bounds[0]} to {bounds[1]}"
    return text


def _kind_text(kind: Any) -> str:
    if kind in RECORDS:
        return f"[{RECORDS[kind]}](#{RECORDS[kind].lower()})"
    if typing.get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"list of {_kind_text(typing.get_args(kind)[0])}"
    names = {
        str: "text",
        int: "number",
        bool: "`true` or `false`",
        Duration: "duration",
        Retention: "duration",
        JobId: "id",
        NodeId: "id",
        PoolId: "id",
        TaskId: "id",
    }
    return names[kind] if kind in names else _kind_text(_without_none(kind))


def _default_text(name: Name) -> str:
    if name.required:
        return "*required*" if name.json != "poolInfo" else "*the file's pool*"
    default = _default(name)
    if default is None:
        record = type(name.field.default)
        return ", ".join(f"`{key}: {value}`" for key, value in unstructure(name.field.default).items()) if attrs.has(record) else ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "empty"
