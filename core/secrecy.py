"""Secret values among environment settings: where they stand in a record, and whether they are sealed.

The value of a secret setting never enters a ledger.  Requests, events and the world have a digest in its place: the setting is *sealed*.

1. A sealed value is `hmac-sha256:` and 64 hexadecimal digits, keyed per ledger (`jobledger.sealing`).  A plain value that looks like one
   is taken for one.
2. Where settings may stand is read from the records' own types, so that a new kind of command line needs no line here.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_type_hints

from attrs import evolve, fields, has

from .specs import EnvironmentSetting

SEALED_PREFIX: Final = "hmac-sha256:"
_SEALED: Final = re.compile(re.escape(SEALED_PREFIX) + "[0-9a-f]{64}")

T = TypeVar("T")


def is_sealed(value: str) -> bool:
    """Whether a value is the digest of a secret, by its form."""
    return _SEALED.fullmatch(value) is not None


def settings_in(record: object) -> Iterator[EnvironmentSetting]:
    """Every environment setting in a record or a tuple of records, however deep."""
    if isinstance(record, EnvironmentSetting):
        yield record
    elif isinstance(record, tuple):
        for part in record:
            yield from settings_in(part)
    else:
        for name in _carriers_of(record):
            yield from settings_in(getattr(record, name))


def unsealed_in(record: object) -> str | None:
    """The name of a secret setting whose value is plain; None where there is no such setting.  Asked about every event that is stored."""
    if not _carriers_of(record):
        return None
    return next((setting.name for setting in settings_in(record) if setting.secret and not is_sealed(setting.value)), None)


def digests_in(record: object) -> frozenset[str]:
    """The sealed values of all secret settings in a record."""
    return frozenset(setting.value for setting in settings_in(record) if setting.secret and is_sealed(setting.value))


def with_settings(record: T, change: Callable[[EnvironmentSetting], EnvironmentSetting]) -> T:
    """The record with every environment setting changed; the very same record where `change` gives all of them back as they were."""
    changed: Any = record
    if isinstance(record, EnvironmentSetting):
        changed = change(record)
    elif isinstance(record, tuple):
        parts = tuple(with_settings(part, change) for part in record)
        changed = parts if any(new is not old for new, old in zip(parts, record, strict=True)) else record
    else:
        new_parts = {name: part for name in _carriers_of(record) if (part := with_settings(old := getattr(record, name), change)) is not old}
        if new_parts:
            changed = evolve(changed, **new_parts)
    found: T = changed
    return found


def _carriers_of(record: object) -> tuple[str, ...]:
    kind: Any = type(record)
    return _carriers(kind)


@cache
def _carriers(record: Any) -> tuple[str, ...]:
    """The fields of a record that may hold environment settings; none where it is no record of ours."""
    if not has(record):
        return ()
    hints = get_type_hints(record)
    return tuple(field.name for field in fields(record) if _may_hold_settings(hints[field.name]))


def _may_hold_settings(kind: Any) -> bool:
    if isinstance(kind, type) and (kind is EnvironmentSetting or _carriers(kind)):
        return True
    return any(_may_hold_settings(part) for part in get_args(kind))
