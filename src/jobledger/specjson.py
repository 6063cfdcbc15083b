"""Specs from plain data and back: Azure Batch's JSON on one side, the attrs records of `jobledger.core.specs` on the other.

Reading is strict (a number is not text, a misspelt name is not ignored) and complete: `structure` finds every mistake of form, and gives back
a record all the same, in which a harmless value stands for each wrong one, so that the checks of sense can run over the rest.
`structure(unstructure(spec), type(spec))` is the spec again.  No mistake and no difference tells the value of an environment setting that is
secret, or may be meant to be.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import attrs
from cattrs import AttributeValidationNote, ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from jobledger.core.checks import Mistake
from jobledger.core.ids import UNLIMITED_RETENTION, Duration, Retention
from jobledger.core.specs import EnvironmentSetting, JobSpec, PoolSpec, TaskSpec

from . import durations
from .jsonnames import about_choice, about_unknown, is_refused_by_name, names_of, nearest
from .plaindata import Path

Spec = JobSpec | PoolSpec | TaskSpec
T = TypeVar("T")
_Wrong = tuple[Path, str, bool]
"""A mistake of form: its path, the rest of a sentence, and whether the name at its end is unknown."""

_STAND_INS: Final[dict[str, Any]] = {
    "affinityId": "_",
    "commandLine": "true",
    "job": {"id": "_", "poolInfo": {"poolId": "_"}, "jobPreparationTask": {"commandLine": "true"}},
    "jobPreparationTask": {"commandLine": "true"},
    "name": "_",
    "poolId": "_",
    "poolInfo": {"poolId": "_"},
    "value": "",
}
"""What stands for a wrong or missing value where leaving it out would be a mistake of its own; an `id` gets one made of its path."""
_NAMED_LISTS: Final = frozenset({"environmentSettings", "commonEnvironmentSettings", "metadata"})
"""Lists whose elements are names with values."""


def structure(data: object, record: type[T]) -> tuple[T | None, list[Mistake]]:
    """A record from plain data, and every mistake of form in it.

    With mistakes the record is a likeness only, good for checks of sense and nothing else; it is None where `data` is no mapping at all.
    """
    try:
        return _converter().structure(data, record), []
    except (ClassValidationError, _WrongValue) as error:
        wrong = list(_explain(error, ()))
    mistakes = [Mistake(path=spell(path), text=text) for path, text, _ in wrong]
    if any(not path for path, _, _ in wrong):
        return None, mistakes
    return _likeness(_copy(data), record, wrong), mistakes


def _likeness(data: Any, record: type[T], wrong: list[_Wrong]) -> T:
    """The record with something harmless in each wrong place; what has nothing harmless to stand in for it is left out with what it is in."""
    while True:
        for path, _, unknown in wrong:
            _repair(data, path, unknown=unknown)
        try:
            return _converter().structure(data, record)
        except ClassValidationError as error:
            wrong = [(path[:-1], text, False) for path, text, _ in _explain(error, ())]


def unstructure(spec: Any) -> dict[str, Any]:
    """A spec as Azure Batch's JSON: camelCase names, durations in ISO 8601, defaults written out, and what is absent or empty left out.

    `secret` shows only where it is true.
    """
    plain: dict[str, Any] = _converter().unstructure(spec)
    return plain


def retention_text(retention: Retention) -> str:
    """A retention time in ISO 8601; without limit it is Azure Batch's longest duration."""
    return durations.UNLIMITED if retention == UNLIMITED_RETENTION else durations.to_iso(Duration(retention))


def difference(old: Spec, new: Spec) -> list[str]:
    """What `new` asks for that `old` did not, a line for each property: `job.priority: 0 -> 5`.  Empty for equal specs.

    Secrets are compared as they are, so both have to be sealed for that, and are shown as such.
    """
    prefix = f"task {old.id}" if isinstance(old, TaskSpec) else "job" if isinstance(old, JobSpec) else "pool"
    before, after = dict(_leaves(unstructure(old), ())), dict(_leaves(unstructure(new), ()))
    return [
        f"{prefix}.{spell(path)}: {_shown(before.get(path, _NOTHING))} -> {_shown(after.get(path, _NOTHING), before.get(path, _NOTHING))}"
        for path in before | after
        if (path in before) != (path in after) or before[path] != after[path]
    ]


def task_differences(old: Iterable[TaskSpec], new: Iterable[TaskSpec]) -> list[str]:
    """As `difference` for the tasks of a job, matched by id: tasks that changed, that are new and that are gone."""
    before, after = {task.id: task for task in old}, {task.id: task for task in new}
    lines = []
    for key in before | after:
        if key in before and key in after:
            lines += difference(before[key], after[key])
        else:
            lines.append(f"task {key}: {'is gone' if key in before else 'is new'}")
    return lines


def spell(path: Path) -> str:
    """A path as a user would write it: `tasks[3].constraints.maxTaskRetryCount`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[\w.-]+", part) else repr(part)
            text += f".{name}" if text else name
    return text


_NOTHING: Final = object()
"""Stands for what a spec does not have."""


@attrs.frozen
class _Secret:
    """The value of a secret, to be compared but not shown."""

    value: str


class _WrongValue(ValueError):
    """A value that cannot stand where it stands; the message is the rest of a sentence that begins with its path."""


@functools.cache
def _converter() -> Converter:
    """A converter of cattrs with our strictness, built once, when the first file is read."""
    converter = Converter(detailed_validation=True, unstruct_collection_overrides={tuple: list})
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bool, _true_or_false)
    converter.register_structure_hook_func(_is_choice, _one_of)
    converter.register_structure_hook_func(_is_duration, _limited_time)
    converter.register_structure_hook_func(_is_optional_duration, _time_limit)
    converter.register_structure_hook_func(_is_retention, _time_kept)
    converter.register_structure_hook_factory(attrs.has, lambda record: _record_from_data(record, converter))
    converter.register_structure_hook_factory(_is_list, lambda kind: _list_from_data(kind, converter))
    converter.register_unstructure_hook_func(_is_duration, durations.to_iso)
    converter.register_unstructure_hook_func(_is_optional_duration, lambda value: None if value is None else durations.to_iso(value))
    converter.register_unstructure_hook_func(_is_retention, lambda value: None if value is None else retention_text(value))
    converter.register_unstructure_hook_factory(attrs.has, lambda record: _data_from_record(record, converter))
    return converter


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_duration(kind: Any) -> bool:
    return kind is Duration


def _is_optional_duration(kind: Any) -> bool:
    return bool(kind == Duration | None)


def _is_retention(kind: Any) -> bool:
    return kind is Retention or bool(kind == Retention | None)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _record_from_data(record: type, converter: Converter) -> Callable[[Any, Any], Any]:
    names = names_of(record)
    is_setting = record is EnvironmentSetting
    renamed = {name.field.name: override(rename=name.json) for name in names.values()}
    if is_setting:
        renamed["value"] = override(rename="value", struct_hook=_text_not_told)
    from_mapping: Callable[[Any, Any], Any] = make_dict_structure_fn(record, converter, _cattrs_forbid_extra_keys=True, **renamed)  # type: ignore[arg-type]  # cattrs' options and ours share **kwargs

    def from_data(data: Any, kind: Any) -> Any:
        if not isinstance(data, dict):
            required = [name.json for name in names.values() if name.required]
            described = _kind_of(data) if is_setting else _described(data)
            raise _WrongValue(f"must be a mapping{' with ' + ' and '.join(required) if required else ''}, not {described}")
        if None in data.values():  # null is how much JSON says that a property is absent
            data = {key: value for key, value in data.items() if value is not None or not (key in names or is_refused_by_name(record, key))}
        return from_mapping(data, kind)

    return from_data


def _list_from_data(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    element = get_args(kind)[0]
    from_element = converter.get_structure_hook(element)

    def from_data(data: Any, _: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise _WrongValue(f"must be a list, not {_described(data)}")
        values, errors = [], []
        for index, value in enumerate(data):
            try:
                values.append(from_element(value, element))
            except (ClassValidationError, _WrongValue) as error:
                error.add_note(IterableValidationNote(f"element {index}", index, element))
                errors.append(error)
        if errors:
            raise IterableValidationError("wrong elements", errors, kind)
        return tuple(values)

    return from_data


def _data_from_record(record: type, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    is_setting = record is EnvironmentSetting
    renamed = {
        name.field.name: override(rename=name.json, omit_if_default=is_setting and name.json == "secret") for name in names_of(record).values()
    }
    to_mapping: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(record, converter, **renamed)  # type: ignore[arg-type]  # as above

    def to_data(value: Any) -> dict[str, Any]:
        return {key: item for key, item in to_mapping(value).items() if item is not None and item != []}

    return to_data


def _text(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise _WrongValue(
            f"must be text, not {_described(value)}: put it in quotes (YAML takes a bare yes, no, on, off, true or false for a truth value)"
        )
    if isinstance(value, (list, dict)):
        raise _WrongValue(f"must be text, not {_described(value)}")
    raise _WrongValue(f"must be text, not {_described(value)}: put it in quotes, as '001' and not as 001")


def _text_not_told(value: Any, _: Any) -> str:
    """As `_text` for what may be meant as a secret: a mistake in it does not tell it."""
    if isinstance(value, str):
        return value
    raise _WrongValue(f"must be text, not {_kind_of(value)}: put it in quotes")


def _whole_number(value: Any, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _WrongValue(f"must be a whole number, not {_described(value)}")


def _number(value: Any, _: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _WrongValue(f"must be a number, not {_described(value)}")


def _true_or_false(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _WrongValue(f"must be true or false, not {_described(value)}")


def _one_of(value: Any, kind: Any) -> str:
    choices: dict[str, str] = {choice.lower(): choice for choice in get_args(kind)}
    if not isinstance(value, str):
        raise _WrongValue(f"must be one of {', '.join(choices.values())}, not {_described(value)}")
    if (choice := choices.get(value.lower())) is None:
        if (unsupported := about_choice(kind, value)) is not None:
            raise _WrongValue(unsupported)
        meant = nearest(value, choices.values())
        raise _WrongValue(f"must be one of {', '.join(choices.values())}, not {value!r}{f': did you mean {meant}?' if meant else ''}")
    return choice


def _time_limit(value: Any, _: Any) -> Duration | None:
    if not isinstance(value, str):
        raise _WrongValue(f"must be an ISO 8601 duration such as PT15M (15 minutes) or P1DT2H (a day and 2 hours), not {_described(value)}")
    try:
        return durations.parse(value)
    except ValueError as error:
        raise _WrongValue(str(error)) from error


def _time_kept(value: Any, kind: Any) -> Retention:
    duration = _time_limit(value, kind)
    return UNLIMITED_RETENTION if duration is None else Retention(duration)


def _limited_time(value: Any, kind: Any) -> Duration:
    if (duration := _time_limit(value, kind)) is None:
        raise _WrongValue(f"cannot be unlimited, which is what {value} means")
    return duration


def _described(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return f"the truth value {'true' if value else 'false'}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value if len(value) < 60 else value[:57] + '...'!r}"
        case _:
            return f"the {type(value).__name__} {value}"


def _kind_of(value: object) -> str:
    """As `_described`, without what the value is."""
    match value:
        case dict() | list() | tuple() | None:
            return _described(value)
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case _:
            return f"a {type(value).__name__}"


def _explain(error: Exception, path: Path) -> Iterator[_Wrong]:
    """Each mistake in cattrs' tree of errors."""
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        for inner in error.exceptions:
            step = next(
                (note for note in getattr(inner, "__notes__", ()) if isinstance(note, (AttributeValidationNote, IterableValidationNote))), None
            )
            yield from _explain(inner, path if step is None else (*path, _step(error.cl, step)))
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield (*path, key), about_unknown(error.cl, key), True
    elif isinstance(error, KeyError):
        yield path, _missing(str(path[-1])), False
    elif isinstance(error, _WrongValue):
        yield path, str(error), False
    else:
        raise error


def _step(record: type, note: AttributeValidationNote | IterableValidationNote) -> str | int:
    if isinstance(note, IterableValidationNote):
        return note.index
    return next(name.json for name in names_of(record).values() if name.field.name == note.name)


def _missing(name: str) -> str:
    if name == "poolInfo":
        return "is missing: name a pool with {poolId: ...}, or describe one under 'pool'"
    return "is missing"


def _copy(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, (list, tuple)) else data


def _repair(data: Any, path: Path, *, unknown: bool) -> None:
    """Take what stands at `path` out of `data`, and put a stand-in there where one is needed and there is one."""
    *way, last = path
    if isinstance(last, int) and way[-1] not in _NAMED_LISTS | {"tasks"}:
        *way, last = way  # of other lists nothing is left: who looks at the rest of it would count wrongly
    for part in way:
        if isinstance(data, dict) and part not in data:
            return  # it was left out before
        data = data[part]
    if isinstance(last, int):
        data[last] = {"id": _id_of(path), "commandLine": "true"} if way[-1] == "tasks" else {"name": "_", "value": ""}
        return
    data.pop(last, None)
    if not unknown and last == "id":
        data[last] = _id_of(path)
    elif not unknown and last in _STAND_INS:
        data[last] = _copy(_STAND_INS[last])


def _id_of(path: Path) -> str:
    return "_" + re.sub(r"[^\w-]+", "_", spell(path), flags=re.ASCII)[:63]


def _leaves(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(data, dict):
        for key, value in data.items():
            is_secret = key == "value" and data.get("secret") is True
            yield from _leaves(_Secret(value) if is_secret else value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _leaves(value, (*path, number))
    else:
        yield path, data


def _shown(leaf: Any, before: Any = _NOTHING) -> str:
    if isinstance(leaf, _Secret):
        return "(another secret)" if isinstance(before, _Secret) else "(secret)"
    return "(none)" if leaf is _NOTHING else json.dumps(leaf, ensure_ascii=False)
