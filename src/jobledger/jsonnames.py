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

from jobledger.core import specs


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
        return "is what Azure Batch answers and nothing that can be asked for: leave it out"
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


def _later(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, _LATER)


_OF_ANY_COMMAND_LINE: Final = _later("containerSettings")

_UNSUPPORTED: Final[dict[type, dict[str, str]]] = {
    specs.JobSpec: _later("allowTaskPreemption", "jobManagerTask", "networkConfiguration"),
    specs.PoolInfo: {"autoPoolSpecification": f"{_LATER}: describe the pool under 'pool'"},
    specs.PreparationSpec: _OF_ANY_COMMAND_LINE,
    specs.ReleaseSpec: _OF_ANY_COMMAND_LINE
    | _later("retentionTime")
    | {
        "constraints": "is not known here: a job release task is never retried, and 'maxWallClockTime' stands on the task itself (Azure Batch's rule)"
    },
    specs.FinalizerSpec: _OF_ANY_COMMAND_LINE
    | _later("retentionTime")
    | {"constraints": "is not known here: a job finalizer is never retried, and 'maxWallClockTime' stands on the finalizer itself"},
    specs.StartTaskSpec: _OF_ANY_COMMAND_LINE
    | {"constraints": "is not known here: 'maxTaskRetryCount' stands on the start task itself (Azure Batch's rule)"},
    specs.TaskConstraints: _later("retentionTime"),
    specs.ResourceFile: _later("autoStorageContainerName", "identityReference"),
    specs.OutputFileContainer: _later("identityReference", "uploadHeaders"),
    specs.TaskSpec: _OF_ANY_COMMAND_LINE
    | _later(
        "authenticationTokenSettings",
        "multiInstanceSettings",
    ),
    specs.TaskSchedulingPolicy: _later("jobDefaultOrder"),
    specs.PoolSpec: _later(
        "applicationLicenses",
        "autoScaleEvaluationInterval",
        "autoScaleFormula",
        "certificateReferences",
        "cloudServiceConfiguration",
        "enableAutoScale",
        "enableInterNodeCommunication",
        "mountConfiguration",
        "networkConfiguration",
        "resourceTags",
        "targetLowPriorityNodes",
        "targetNodeCommunicationMode",
        "upgradePolicy",
        "userAccounts",
        "virtualMachineConfiguration",
        "vmSize",
    )
    | {"targetDedicatedNodes": "is not known here: write 'nodes', since a pool of jobledger has one kind of node"},
}

_UNSUPPORTED_CHOICES: Final[dict[typing.Any, dict[str, str]]] = {
    specs.AutoUserScope: {"task": "cannot be 'task': no user is made for one task alone; 'pool' is what there is, or name a user with 'userName'"},
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
_REPORTED_OF: Final[dict[type, frozenset[str]]] = {
    specs.JobSpec: _REPORTED,
    specs.TaskSpec: _REPORTED | {"nodeInfo"},
    specs.PoolSpec: _REPORTED
    | {"allocationState", "allocationStateTransitionTime", "currentDedicatedNodes", "currentLowPriorityNodes", "resizeErrors"},
}


def _is_reported(record: type, key: str) -> bool:
    return key in _REPORTED_OF.get(record, ()) or key.startswith("odata.")
