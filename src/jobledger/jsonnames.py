"""The JSON names of the specs: Azure Batch's, which are our field names in camelCase.

Each record accepts the names of its fields and no others.  A name that Azure Batch has and this version does not support is refused by name,
because a property that is silently dropped changes what a job does; any other name is taken for a slip and answered with the nearest one.
"""

import difflib
import functools
import typing
from collections.abc import Mapping
from typing import Final, NamedTuple

import attrs

from jobledger.core import requests, specs


class Name(NamedTuple):
    """One property of a record: its JSON name, its attrs field and its type with the annotations resolved."""

    json: str
    field: "attrs.Attribute[typing.Any]"
    type: typing.Any

    @property
    def required(self) -> bool:
        return self.field.default is attrs.NOTHING


def camel(name: str) -> str:
    """`max_task_retry_count` as `maxTaskRetryCount`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@functools.cache
def names_of(record: type) -> Mapping[str, Name]:
    """The properties of a record by JSON name, in the order of its fields."""
    hints = typing.get_type_hints(record)
    return {camel(field.name): Name(camel(field.name), field, hints[field.name]) for field in attrs.fields(record)}


def record_in(kind: typing.Any) -> type | None:
    """The record that a field of type `kind` holds: `R`, `R | None` and `tuple[R, ...]` hold R, a plain type holds none."""
    if isinstance(kind, type) and attrs.has(kind):
        return kind
    return next((record for argument in typing.get_args(kind) if (record := record_in(argument)) is not None), None)


def _names_in(kind: typing.Any) -> Mapping[str, Name]:
    inner = record_in(kind)
    return {} if inner is None else names_of(inner)


def is_refused_by_name(record: type, key: str) -> bool:
    """Whether `key` is a property of Azure Batch's that we know of and do not accept."""
    return key in _UNSUPPORTED.get(record, {}) or _is_reported(record, key)


@functools.lru_cache(maxsize=1024)
def about_unknown(record: type, key: str) -> str:
    """What to tell a user who wrote `key`, which is no name of `record`: the rest of a sentence that begins with the key."""
    if (text := _UNSUPPORTED.get(record, {}).get(key)) is not None:
        return text
    if _is_reported(record, key):
        return "is what is answered and nothing that can be asked for: leave it out"
    if inside := [name.json for name in names_of(record).values() if typing.get_origin(name.type) is not tuple and key in _names_in(name.type)]:
        return f"is not known here: it belongs inside {' or '.join(map(repr, inside))}"
    names = [*names_of(record), *_OF_THE_FILE.get(record, ())]
    meant = nearest(key, names)
    return f"is not known here: did you mean '{meant}'?" if meant else f"is not known here: the names are {', '.join(names)}"


def nearest(word: str, choices: typing.Iterable[str]) -> str | None:
    """The choice that `word` was probably meant to be."""
    plain = {_plain(choice): choice for choice in choices}
    near = difflib.get_close_matches(_plain(word), plain, n=1)
    return plain[near[0]] if near else None


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


_LATER: Final = "is a property of Azure Batch that is not supported by this version of jobledger"


def _later(*names: str, instead: str = "") -> dict[str, str]:
    """The names, each refused with what to do instead."""
    return dict.fromkeys(names, f"{_LATER}: {instead}" if instead else _LATER)


_OF_ANY_COMMAND_LINE: Final = _later(
    "containerSettings", instead="no containers are run; let the command line run one, as in 'docker run --rm IMAGE PROGRAM'"
)

_SCHEDULE: Final = "no jobs are scheduled; let cron or a systemd timer run 'jobledger submit FILE'"

_UNSUPPORTED_IN_JOB: Final = (
    _later("allowTaskPreemption", instead="leave it out; a task that runs is never displaced by another job's")
    | _later("jobManagerTask", instead="let a program of yours add tasks ('jobledger tasks add', or Engine.add_tasks) and terminate the job")
    | _later("networkConfiguration", instead="leave it out; nodes have the network of their host")
    | _later("schedule", "jobSpecification", instead=_SCHEDULE)
)

UNSUPPORTED_AT_TOP: Final = _later("jobSchedule", "schedule", "jobSpecification", instead=_SCHEDULE)
"""Keys that a job file may not have at its top, with the rest of a sentence that begins with the key."""

_NOT_PATCHED: Final = "cannot be changed once a job is submitted: submit another job, or leave it out"

_UNSUPPORTED: Final[dict[type, dict[str, str]]] = {
    specs.JobSpec: _UNSUPPORTED_IN_JOB,
    requests.PatchJob: dict.fromkeys(names_of(specs.JobSpec).keys() - names_of(requests.PatchJob).keys(), _NOT_PATCHED) | _UNSUPPORTED_IN_JOB,
    specs.PoolInfo: _later("autoPoolSpecification", instead="describe the pool under 'pool', or name one that is there with 'poolId'"),
    specs.PreparationSpec: _OF_ANY_COMMAND_LINE,
    specs.ReleaseSpec: _OF_ANY_COMMAND_LINE
    | {
        "constraints": "is not known here: a job release task is never retried, and 'maxWallClockTime' stands on the task itself (Azure Batch's rule)"
    },
    specs.FinalizerSpec: _OF_ANY_COMMAND_LINE
    | _later("retentionTime")
    | {"constraints": "is not known here: a job finalizer is never retried, and 'maxWallClockTime' stands on the finalizer itself"},
    specs.StartTaskSpec: _OF_ANY_COMMAND_LINE
    | {"constraints": "is not known here: 'maxTaskRetryCount' stands on the start task itself (Azure Batch's rule)"},
    specs.ResourceFile: _later("autoStorageContainerName", "identityReference"),
    specs.OutputFileContainer: _later("identityReference", "uploadHeaders"),
    specs.TaskSpec: _OF_ANY_COMMAND_LINE
    | _later("authenticationTokenSettings", instead="leave it out; there is no account that a task could ask")
    | _later("multiInstanceSettings", instead="a task runs on one node; write a task for each, or let one start the others itself"),
    specs.TaskSchedulingPolicy: _later(
        "jobDefaultOrder", instead="leave it out; jobs of the same priority take turns in the order of submission, as with 'creationtime'"
    ),
    specs.PoolSpec: _later(
        "enableAutoScale",
        "autoScaleFormula",
        "autoScaleEvaluationInterval",
        instead="write 'nodes', and change it with 'jobledger pools resize'",
    )
    | _later(
        "vmSize",
        "virtualMachineConfiguration",
        "cloudServiceConfiguration",
        "upgradePolicy",
        "resourceTags",
        instead="leave it out; what a node is, its 'executor' says",
    )
    | _later(
        "networkConfiguration",
        "targetNodeCommunicationMode",
        "enableInterNodeCommunication",
        instead="leave it out; nodes have the network of their host",
    )
    | _later("mountConfiguration", instead="mount it on the host, or in the pool's startTask")
    | _later("userAccounts", instead="make the users on the host, and name them in 'userIdentity'")
    | _later("certificateReferences", "applicationLicenses", instead="install it on the host, or in the pool's startTask")
    | _later("targetLowPriorityNodes", instead="write 'nodes', since a pool of jobledger has one kind of node")
    | {"targetDedicatedNodes": "is not known here: write 'nodes', since a pool of jobledger has one kind of node"},
}

_UNSUPPORTED_CHOICES: Final[dict[typing.Any, dict[str, str]]] = {
    specs.AutoUserScope: {"task": "cannot be 'task': no user is made for one task alone; 'pool' is what there is, or name a user with 'username'"},
}


def about_choice(kind: typing.Any, value: str) -> str | None:
    """What to tell a user who wrote `value` where one of `kind` stands, if it is a choice of Azure Batch's that we know of and do not offer."""
    return _UNSUPPORTED_CHOICES.get(kind, {}).get(value.lower())


_OF_THE_FILE: Final[dict[type, tuple[str, ...]]] = {specs.EnvironmentSetting: ("valueFrom",)}
"""Names that only a job file has: what they say is in the specs under another name."""

_REPORTED: Final = frozenset(
    (
        "url",
        "eTag",
        "lastModified",
        "creationTime",
        "state",
        "stateTransitionTime",
        "previousState",
        "previousStateTransitionTime",
        "executionInfo",
        "stats",
    )
)
_COUNTED: Final = frozenset(("blocked", "taskCounts", "taskSlotCounts"))
"""What `jobs show` tells beside Azure Batch's."""

_REPORTED_OF: Final[dict[type, frozenset[str]]] = {
    specs.JobSpec: _REPORTED | _COUNTED,
    requests.PatchJob: _REPORTED | _COUNTED,
    specs.TaskSpec: _REPORTED | {"nodeInfo"},
    specs.PoolSpec: _REPORTED
    | {
        "allocationState",
        "allocationStateTransitionTime",
        "autoScaleRun",
        "currentDedicatedNodes",
        "currentLowPriorityNodes",
        "currentNodeCommunicationMode",
        "identity",
        "resizeErrors",
    },
}


def _is_reported(record: type, key: str) -> bool:
    return key in _REPORTED_OF.get(record, ()) or key.startswith("odata.")
