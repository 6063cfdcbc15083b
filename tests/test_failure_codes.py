"""The page of failure codes has every code that the core and the executors can give, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "reference" / "failure-codes.md"
SOURCES = [TOP / "core" / "failure.py", *sorted((TOP / "executors").glob("*.py"))]
CODE = re.compile(r"(?:[A-Z][a-z]+){2,}|Unknown")
OF_OTHER_THINGS = {
    "UploadFailure",
    "BlobSource",
    "BlockBlob",
    "FilePath",
    "FilePattern",
    "ExitCode",
    "BlobName",
    "ContainerUrl",
    "ApplicationPackage",
}
"""Names of details and of headers."""


def given() -> Iterator[str]:
    """Every code in the sources: a constant that reads like one."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value) and node.value not in OF_OTHER_THINGS:
                yield node.value


def test_the_page_has_every_code_and_no_other():
    told = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(told) == len(set(told))
    assert sorted(told) == sorted(set(given()))
