"""The built-in executors pass the suite that third parties run on theirs."""

from pathlib import Path

from jobledger.core.ids import SECOND, Duration
from jobledger.executors.local import LocalExecutor
from jobledger.testing.processes import ProcessConformance


class TestLocalExecutor(ProcessConformance):
    def make_executor(self, folder: Path) -> LocalExecutor:
        return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))
