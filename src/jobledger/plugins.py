"""Executors by name: built-in ones and those of third parties come through the same entry points.

An entry point of the group `jobledger.executors` names a callable that takes `root`, the folder for nodes' files, and returns
an object with the `Executor` protocol (`jobledger.core.ports`).
"""

from importlib.metadata import entry_points
from pathlib import Path

from .core.errors import ExecutorError
from .core.ports import Executor

GROUP = "jobledger.executors"


def executor_names() -> list[str]:
    """Names that a pool's `executor` may have."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def make_executor(name: str, root: Path) -> Executor:
    """A new executor.  Raises `ExecutorError` where there is none of that name or it cannot be loaded."""
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise ExecutorError(f"there is no executor '{name}'; there are: {', '.join(executor_names())}")
    try:
        factory = found[0].load()
    except ImportError as error:
        raise ExecutorError(f"executor '{name}' cannot be loaded: {error}") from error
    executor: Executor = factory(root=root)
    return executor
