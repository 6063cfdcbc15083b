"""The job file: what a user writes in YAML or JSON to run a job, read into the specs of the core.

    pool: {id: workstation, nodes: 2}
    job: {id: sample, jobPreparationTask: {commandLine: ...}}
    tasks: [{id: task001, commandLine: ...}]

Property names are Azure Batch's JSON names, so that existing job and task JSON can be pasted under `job` and `tasks`.
Either a file is right and comes back as specs, or `JobFileError` lists everything that is wrong with it at once.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen

from jobledger.core import limits
from jobledger.core.checks import Mistake, check_job, check_pool, check_tasks
from jobledger.core.errors import JobledgerError
from jobledger.core.ids import ID_PATTERN, JobId
from jobledger.core.requests import PatchJob
from jobledger.core.specs import JobSpec, PoolSpec, TaskSpec

from . import plaindata
from .jobschema import job_file_reference_markdown, json_schema
from .jsonnames import UNSUPPORTED_AT_TOP
from .specjson import difference, spell, structure, task_differences, unstructure
from .valuefrom import resolve

__all__ = [
    "JobFile",
    "JobFileError",
    "difference",
    "folder_of",
    "job_file_reference_markdown",
    "json_schema",
    "load",
    "parse",
    "parse_patch",
    "parse_pool",
    "parse_tasks",
    "read",
    "task_differences",
    "unstructure",
]

MISTAKES_SHOWN_MAX: Final = 100
"""Mistakes that the text of an error spells out: a wrong template times 100,000 tasks helps nobody."""

T = TypeVar("T")


class JobFileError(JobledgerError):
    """A job file that cannot be used; nothing was recorded.  `mistakes` has them all, the text names the first hundred."""

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(source, self.mistakes)

    def __str__(self) -> str:
        count = len(self.mistakes)
        lines = [f"{self.source} has {count} mistakes:" if count > 1 else f"{self.source} has a mistake:"]
        lines += [f"  {mistake}" for mistake in self.mistakes[:MISTAKES_SHOWN_MAX]]
        if count > MISTAKES_SHOWN_MAX:
            lines.append(f"  and {count - MISTAKES_SHOWN_MAX} more")
        return "\n".join(lines)


@frozen(kw_only=True)
class JobFile:
    """A pool to run on (where the file describes one), a job, and the job's first tasks."""

    pool: PoolSpec | None = None
    job: JobSpec
    tasks: tuple[TaskSpec, ...] = ()


@frozen(kw_only=True)
class _TaskList:
    tasks: tuple[TaskSpec, ...]


def load(file: str | PathLike[str], *, read_secrets: bool = True) -> JobFile:
    """The job file at a path, or standard input for `-`.  Raises `JobFileError`.

    Without `read_secrets` the value of what says `valueFrom` is empty, and need not be there.
    """
    return parse(read(file), source=_named(file), base=folder_of(file), read_secrets=read_secrets)


def folder_of(file: str | PathLike[str]) -> Path:
    """Where the paths in a file begin: its folder, or the working directory for `-`."""
    return Path() if file == "-" else Path(file).parent


def read(file: str | PathLike[str]) -> Any:
    """The plain data of a YAML or JSON file (`-` is standard input), for `parse`, `parse_tasks` or `parse_pool`.

    A file named `*.json` is JSON; any other is JSON if it can be and YAML if not.  Raises `JobFileError`.
    """
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise _error(file, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _error(file, f"is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from error
    is_json = str(file).endswith(".json")
    try:
        if is_json or text.lstrip()[:1] in {"{", "["}:
            try:
                return plaindata.read_json(text)
            except plaindata.Unreadable:
                if is_json:
                    raise
        return plaindata.read_yaml(text)
    except plaindata.Unreadable as error:
        raise _error(file, str(error)) from error


def parse(data: object, *, source: str = "job file", base: Path | None = None, read_secrets: bool = True) -> JobFile:
    """The specs of a job file's plain data.  Raises `JobFileError` with all mistakes of form and of sense.

    `base` lets the data say `valueFrom`, which reads this process's environment and files (whose paths begin at `base`): give it only for
    data of the caller's own.  `read_secrets` is as for `load`.
    """
    said_twice = _said_twice(data)
    if not read_secrets:
        data, unread = resolve(data, base, read=False)
        said_twice += unread
    data, refused = _without_unsupported(data)
    data, contradictions = _with_pool_info(data)

    def sense(found: JobFile) -> Iterator[Mistake]:
        if found.pool is not None:
            yield from _below("pool", check_pool(found.pool))
        yield from _below("job", check_job(found.job))
        yield from _check_task_list(found.job, found.tasks)

    return _checked(data, JobFile, sense, source, base, said_twice + refused + contradictions)


def parse_pool(data: object, *, source: str = "pool", base: Path | None = None) -> PoolSpec:
    """One pool from plain data, which may stand under a key `pool`; `base` as for `parse`.  Raises `JobFileError`."""
    mistakes = _said_twice(data)
    if isinstance(data, dict) and "pool" in data:
        beside = "stands beside 'pool', and this file is to say one pool: leave it out, or submit the whole file as a job"
        mistakes += [Mistake(path=str(key), text=beside) for key in data if key != "pool"]
        data = data["pool"]
    return _checked(data, PoolSpec, check_pool, source, base, mistakes)


def parse_tasks(job: JobSpec, data: object, *, source: str = "task file", base: Path | None = None) -> tuple[TaskSpec, ...]:
    """Tasks to be added to `job`: a list of them, `{tasks: [...]}`, or Azure Batch's `{value: [...]}`; `base` as for `parse`.

    Paths of mistakes begin with `tasks[...]` for each form.  Raises `JobFileError`.
    """
    said_twice = _said_twice(data)
    if isinstance(data, list):
        data = {"tasks": data}
    elif isinstance(data, dict) and "value" in data and "tasks" not in data:
        data = {"tasks" if key == "value" else key: value for key, value in data.items()}
    return _checked(data, _TaskList, lambda found: _check_task_list(job, found.tasks), source, base, said_twice).tasks


def parse_patch(job: JobId, data: object, *, source: str = "patch") -> PatchJob:
    """What is to change of `job`, which may stand under a key `job`.  Raises `JobFileError`; the sense of it is the engine's to check."""
    said_twice = _said_twice(data)
    if isinstance(data, dict) and set(data) == {"job"} and isinstance(data["job"], dict):
        data = data["job"]
    if isinstance(data, dict):
        if "job" in data:
            said_twice.append(Mistake(path="job", text="stands beside what is to change: put that below it, or leave it out"))
        data = {**data, "job": job}
    return _checked(data, PatchJob, lambda _: (), source, None, said_twice)


def _checked(data: object, record: type[T], sense: Callable[[T], Iterable[Mistake]], source: str, base: Path | None, mistakes: list[Mistake]) -> T:
    """The record, if `mistakes` (what was seen before), its form and the checks of sense together leave nothing to say."""
    data, unresolved = resolve(data, base)
    found, wrong = structure(data, record)
    mistakes = mistakes + unresolved + wrong
    if found is not None:
        mistakes += sense(found)
    if mistakes or found is None:
        raise JobFileError(source, mistakes)
    return found


def _without_unsupported(data: object) -> tuple[object, list[Mistake]]:
    """The data without what Azure Batch has at the top of a document and a job file has not, and a mistake for each of these."""
    if not isinstance(data, dict) or not (named := [key for key in data if key in UNSUPPORTED_AT_TOP]):
        return data, []
    kept = {key: value for key, value in data.items() if key not in UNSUPPORTED_AT_TOP}
    return kept, [Mistake(path=str(key), text=UNSUPPORTED_AT_TOP[key]) for key in named]


def _with_pool_info(data: object) -> tuple[object, list[Mistake]]:
    """The data with the file's own pool as the job's, where the job names none; a mistake where it names another."""
    match data:
        case {"pool": {"id": str(pool_id)}, "job": {"poolInfo": {"poolId": str(wanted)}}} if wanted != pool_id and _is_id(wanted) and _is_id(pool_id):
            return data, [Mistake(path="job.poolInfo.poolId", text=f"is '{wanted}', but the pool of this file is '{pool_id}'")]
        case {"pool": dict(pool), "job": dict(job)} if job.get("poolInfo") is None:
            own = pool.get("id")  # a bad one is the pool's mistake, and only that
            filled = {**job, "poolInfo": {"poolId": own if _is_id(own) else "_"}}
            return {**data, "job": filled}, []  # type: ignore[dict-item]  # a mapping pattern does not narrow the keys
        case _:
            return data, []


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(ID_PATTERN, value) is not None


def _said_twice(data: object) -> list[Mistake]:
    return [Mistake(path=spell(path), text=text) for path, text in plaindata.ambiguities(data)]


def _check_task_list(job: JobSpec, tasks: tuple[TaskSpec, ...]) -> Iterator[Mistake]:
    yield from check_tasks(job, tasks)
    if len(tasks) > limits.TASKS_PER_REQUEST_MAX:
        yield Mistake(path="tasks", text=f"{len(tasks)} are more than the {limits.TASKS_PER_REQUEST_MAX} of one request: add the rest with add-tasks")


def _below(prefix: str, mistakes: Iterable[Mistake]) -> Iterator[Mistake]:
    for mistake in mistakes:
        yield Mistake(path=f"{prefix}.{mistake.path}", text=mistake.text)


def _named(file: str | PathLike[str]) -> str:
    return "standard input" if file == "-" else str(file)


def _error(file: str | PathLike[str], text: str) -> JobFileError:
    return JobFileError(_named(file), [Mistake(path="", text=text)])
