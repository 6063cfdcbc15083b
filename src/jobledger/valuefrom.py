"""`valueFrom` of the job file: a secret that does not stand in the file, taken from the reader's environment or from a file.

It is resolved as the job file is read and always secret; the core never hears of it.  Only who reads a file of their own may have it resolved:
in data that came from somebody else it would hand out whatever the reading process can read.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from .core.checks import Mistake
from .core.limits import ENVIRONMENT_VALUE_BYTES_MAX
from .plaindata import Path as DataPath
from .specjson import spell, structure

NAME: Final = "valueFrom"
_ONE_OF_TWO: Final = "must be a mapping with either environment or file"
_LISTS: Final = frozenset(("environmentSettings", "commonEnvironmentSettings"))


@frozen(kw_only=True)
class ValueFrom:
    """Where the value of a secret comes from, in place of `value`: one of these."""

    environment: str | None = None
    file: str | None = None


def resolve(data: Any, base: Path | None, *, read: bool = True) -> tuple[Any, list[Mistake]]:
    """The data with the value of every setting that says `valueFrom`, and what is wrong with these; paths of files begin at `base`.

    Without a `base` they are refused.  Unless they are to be `read`, values are empty, whether or not they can be had.
    """
    reader = _Reader(base, read=read)
    return reader.walk(data, ()), reader.mistakes


class _Unusable(ValueError):
    """There is no such value; the message is the rest of a sentence that begins with the path of the setting."""


class _Reader:
    def __init__(self, base: Path | None, *, read: bool) -> None:
        self._base = base
        self._is_to_read = read
        self._known: dict[ValueFrom, str] = {}
        self.mistakes: list[Mistake] = []

    def walk(self, data: Any, path: DataPath) -> Any:
        """The data with all settings resolved; what has none comes back as it is."""
        if isinstance(data, dict):
            new = {key: self._below(key, value, (*path, key)) for key, value in data.items()}
            return new if any(new[key] is not value for key, value in data.items()) else data
        if isinstance(data, (list, tuple)):
            return _unless_same(data, [self.walk(part, (*path, number)) for number, part in enumerate(data)])
        return data

    def _below(self, key: str, value: Any, path: DataPath) -> Any:
        if key in _LISTS and isinstance(value, (list, tuple)):
            return _unless_same(value, [self._setting(part, (*path, number)) for number, part in enumerate(value)])
        return self.walk(value, path)

    def _setting(self, data: Any, path: DataPath) -> Any:
        if not isinstance(data, dict) or data.get(NAME) is None:
            return data
        if data.get("value") is not None:
            self._wrong((*path, NAME), "and 'value' exclude each other: give one of them")
        if data.get("secret") not in (None, True):
            self._wrong((*path, "secret"), f"must be true or absent beside '{NAME}': a value from elsewhere is always secret")
        kept = {key: value for key, value in data.items() if key not in {NAME, "value", "secret"}}
        return {**kept, "value": self._value(data[NAME], (*path, NAME)), "secret": True}

    def _value(self, data: Any, path: DataPath) -> str:
        """The value, empty where there is a mistake."""
        if not isinstance(data, dict):  # not told what it is: it may be the secret itself
            self._wrong(path, _ONE_OF_TWO)
            return ""
        found, wrong = structure(data, ValueFrom)
        self.mistakes += [evolve(mistake, path=spell(path) + (f".{mistake.path}" if mistake.path else "")) for mistake in wrong]
        if found is None or wrong:
            return ""
        if (found.environment is None) == (found.file is None):
            self._wrong(path, _ONE_OF_TWO)
            return ""
        try:
            if found not in self._known:
                self._known[found] = self._read(found)
            return self._known[found]
        except _Unusable as error:
            self._wrong((*path, "file" if found.environment is None else "environment"), str(error))
            return ""

    def _read(self, source: ValueFrom) -> str:
        if not self._is_to_read:
            return ""
        if self._base is None:
            raise _Unusable("is not read here, since this is not known to be a file of the reader's own: give 'value'")
        if source.environment is not None:
            return _from_environment(source.environment)
        return _from_file(self._base / (source.file or ""))

    def _wrong(self, path: DataPath, text: str) -> None:
        self.mistakes.append(Mistake(path=spell(path), text=text))


def _unless_same(old: Sequence[Any], new: Sequence[Any]) -> Sequence[Any]:
    return new if any(part is not before for part, before in zip(new, old, strict=True)) else old


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise _Unusable(f"there is no environment variable {name!r} here")
    return _checked(os.fsencode(value), f"the environment variable {name!r}")


def _from_file(path: Path) -> str:
    """All of a file but a last end of line."""
    try:
        with path.open("rb") as file:
            raw = file.read(ENVIRONMENT_VALUE_BYTES_MAX + 3)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _Unusable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _checked(raw.removesuffix(b"\r\n") if raw.endswith(b"\r\n") else raw.removesuffix(b"\n"), str(path))


def _checked(raw: bytes, what: str) -> str:
    if len(raw) > ENVIRONMENT_VALUE_BYTES_MAX:
        raise _Unusable(f"{what} is longer than the {ENVIRONMENT_VALUE_BYTES_MAX} bytes of an environment variable")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _Unusable(f"{what} is not UTF-8 text") from None  # not from the error, which has the value in it
