"""YAML or JSON text as plain data: dicts with text for keys, lists, and scalars.

Nothing that was written is lost on the way: a mapping that gives a key twice comes back as `Ambiguous`, which remembers the key, so that
whoever checks the data can name it by its path.  A key is always text, whatever YAML thinks of `on` or `1`.  No message has a value in it:
that may be a secret which was meant to stand in quotes.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import yaml

Path = tuple[str | int, ...]
"""Where in the data something stands: keys and list indexes from the top."""

NESTING_MAX: Final = 100
"""How deep lists and mappings may stand in each other; a job file needs six, and whoever walks the data may recurse."""

_Loader: TypeAlias = Any  # PyYAML's stubs leave the parser's methods untyped ...
_Event: TypeAlias = Any  # ... and the marks of events optional, which a parser always sets
_Mark: TypeAlias = Any

_YamlLoader: Final[_Loader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_TOO_DEEP: Final = f"nested more than {NESTING_MAX} deep"
_NO_TAGS: Final = "this tag has no meaning here: put text that begins with ! in quotes"
_HINTS: Final = {
    "mapping values are not allowed": ": put text with ': ' in it in quotes, and begin all keys of a mapping in the same column",
    "cannot start any token": ": indent with spaces, and put text that begins with such a character in quotes",
    "tab character": ": indent with spaces",
    "did not find expected key": ": put the whole text in quotes, and begin all keys of a mapping in the same column",
}
"""What to do about the slips that are made most, by a part of what the parser says of them."""
_VALUES_PER_CHARACTER_MAX: Final = 10
"""How far aliases may multiply a YAML text: a list of aliases stays far below, a bomb of nested ones passes it at once."""


class Ambiguous(dict[str, Any]):
    """A mapping in whose text some keys stand twice; the first value of each was kept."""

    def __init__(self, values: dict[str, Any], twice: Sequence[tuple[str, str]]) -> None:
        super().__init__(values)
        self.twice = tuple(twice)
        """The keys, each with the rest of a sentence that begins with the key."""


class Unreadable(ValueError):
    """Text that is not YAML or JSON; the message says where, by line and column from 1."""


def read_yaml(text: str) -> Any:
    """The one document of a YAML text; None where it is empty.  Raises `Unreadable`."""
    try:
        loader = _YamlLoader(text)
        try:
            return _FromYaml(loader, _VALUES_PER_CHARACTER_MAX * len(text)).document()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context or "not YAML"
        hint = next((hint for part, hint in _HINTS.items() if part in problem), "")
        raise _not_yaml(f"{problem}{hint}", error.problem_mark or error.context_mark) from error
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error


def read_json(text: str) -> Any:
    """The value of a JSON text.  Raises `Unreadable`."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits
        raise Unreadable(str(error)) from error
    except RecursionError as error:
        raise Unreadable(_TOO_DEEP) from error
    _refuse_depth(value)
    return value


def ambiguities(data: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every key that was written twice, with its path and the rest of a sentence about it."""
    if isinstance(data, dict):
        if isinstance(data, Ambiguous):
            for key, text in data.twice:
                yield (*path, key), text
        for key, value in data.items():
            if isinstance(value, (dict, list)):
                yield from ambiguities(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            if isinstance(value, (dict, list)):
                yield from ambiguities(value, (*path, number))


class _Open:
    """A mapping or list whose end has not been read yet."""

    def __init__(self, event: _Event) -> None:
        self.anchor = event.anchor
        self.values: list[Any] | None = [] if isinstance(event, yaml.SequenceStartEvent) else None
        self.items: dict[str, Any] = {}
        self.merged: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.twice: list[tuple[str, str]] = []
        self.key: str | None = None
        self.merging = False
        self.size = 1

    @property
    def wants_key(self) -> bool:
        return self.values is None and self.key is None and not self.merging

    def begin(self, key: str, line: int) -> None:
        """Take a key; the value is the next to come."""
        self.key = key
        if key not in self.lines:
            self.lines[key] = line
        else:
            self.twice.append((key, f"is written twice, in line {self.lines[key]} and in line {line}"))

    def add(self, value: Any, mark: _Mark) -> None:
        """Take a value, for the key that came before it or for the list."""
        if self.values is not None:
            self.values.append(value)
        elif self.merging:
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise _not_yaml("'<<' merges mappings only", mark)
                self.merged = source | self.merged
        elif self.key is not None:
            self.items.setdefault(self.key, value)
        self.key, self.merging = None, False

    def close(self) -> Any:
        if self.values is not None:
            return self.values
        values = self.merged | self.items if self.merged else self.items
        return Ambiguous(values, self.twice) if self.twice else values


class _FromYaml:
    """Plain data from the events of a YAML parser.

    PyYAML would make a tree of nodes first; its C version crashes where that nests deeply, and keeps the garbage collector
    busy for seconds with a file of 100,000 tasks.
    """

    def __init__(self, loader: _Loader, values_max: int) -> None:
        self._loader = loader
        self._values_max = values_max
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: list[_Open] = []
        self._documents: list[Any] = []

    def document(self) -> Any:
        event: _Event
        while not isinstance(event := self._loader.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                ended = self._open.pop()
                self._place(ended.close(), ended.size, event.start_mark, ended.anchor)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    raise _not_yaml("an alias names nothing that is complete before it: put text that begins with * in quotes", event.start_mark)
                self._place(*self._anchors[event.anchor], event.start_mark)
            elif isinstance(event, yaml.DocumentStartEvent) and self._documents:
                raise _not_yaml("a second document begins, and a file is one", event.start_mark)
        return self._documents[0] if self._documents else None

    def _start(self, event: _Event) -> None:
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if event.tag not in {None, "!", f"{_TAG}{kind}"}:
            raise _not_yaml(_NO_TAGS, event.start_mark)
        if self._open and self._open[-1].wants_key:
            raise _not_yaml("a key must be text", event.start_mark)
        if len(self._open) >= NESTING_MAX:
            raise _not_yaml(_TOO_DEEP, event.start_mark)
        self._open.append(_Open(event))

    def _scalar(self, event: _Event) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit) if event.implicit[0] else f"{_TAG}str"
        if self._open and self._open[-1].wants_key:
            if tag == f"{_TAG}merge":
                self._open[-1].merging = True
            else:
                self._open[-1].begin(event.value, event.start_mark.line + 1)
            if event.anchor is not None:
                self._anchors[event.anchor] = (event.value, 1)
            return
        value: Any = event.value
        if tag != f"{_TAG}str":
            try:
                value = self._loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark))
            except yaml.constructor.ConstructorError:
                raise _not_yaml(_NO_TAGS, event.start_mark) from None
            except ValueError:
                raise _not_yaml("this looks like a date or a number and is none: put it in quotes", event.start_mark) from None
        self._place(value, 1, event.start_mark, event.anchor)

    def _place(self, value: Any, size: int, mark: _Mark, anchor: str | None = None) -> None:
        """Put a complete value, of `size` values in all, where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self._documents.append(value)
            return
        around = self._open[-1]
        around.size += size
        if around.size > self._values_max:
            raise _not_yaml("aliases make far more of this text than it holds", mark)
        if around.wants_key:
            if not isinstance(value, str):
                raise _not_yaml("a key must be text", mark)
            around.begin(value, mark.line + 1)
        else:
            around.add(value, mark)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    keys = [key for key, _ in pairs]
    return Ambiguous(dict(reversed(pairs)), [(key, "is written twice") for key in values if keys.count(key) > 1])


def _refuse_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth > NESTING_MAX:
            raise Unreadable(_TOO_DEEP)
        level = [inner for outer in level if isinstance(outer, (dict, list)) for inner in (outer.values() if isinstance(outer, dict) else outer)]
        depth += 1


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


def _not_yaml(problem: str, mark: _Mark | None) -> Unreadable:
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return Unreadable(f"{where}{problem}")
