"""The suites that the how-to page shows pass as they stand there, in a pytest of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "how-to" / "verify-your-executor-or-store.md"
EXAMPLE = re.compile(r"^```python\n# runs\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_on_the_page_pass(tmp_path: Path) -> None:
    pretends, stores = (text for text in EXAMPLE.findall(PAGE.read_text(encoding="utf-8")) if "class Pretender" in text or "SqliteStore" in text)
    (tmp_path / "test_pretender.py").write_text(pretends)
    (tmp_path / "test_store.py").write_text(stores)
    (tmp_path / "conftest.py").write_text('import pytest\n\npytest.register_assert_rewrite("jobledger.testing")\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    words = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "tmp"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|skipped|failed)", done.stdout.splitlines()[-1])}
    assert counts.pop("passed") >= 75
    assert counts == {"skipped": 5}
