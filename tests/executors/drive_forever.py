"""An engine to be killed: gives one command to a local executor, says so when it runs, and then waits until the executor fails.

python drive_forever.py FOLDER COMMAND_LINE
"""

import asyncio
import sys
from pathlib import Path

from jobledger.core.reports import ExecutionStarted
from jobledger.executors.local import LocalExecutor
from jobledger.testing.executors import driving, run


async def main(folder: Path, command_line: str) -> None:
    executor = LocalExecutor(folder / "nodes")
    async with driving(executor) as driver:
        driver.submit(run(1, command_line))
        await driver.report(ExecutionStarted, 1)
        print("started", flush=True)  # noqa: T201 - to the test
        print(await executor.failed(), flush=True)  # noqa: T201 - to the test


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
