"""The conformance suites find what is wrong: each is run on implementations that break one promise, and fails by the tests that are named there."""

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

HERE = Path(__file__).parent
TOP = HERE.parents[1]
WRONG = ("wrong_crashes", "wrong_executors", "wrong_stores")

Failed = Mapping[str, frozenset[str]]


def failures(module: Path, folder: Path) -> tuple[Failed, str]:
    """Which tests of a module failed, by class and without their parameters, in a pytest of its own; and what that printed."""
    told = folder / "told.xml"
    words = ["-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp"), "--junitxml", str(told), str(module)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=TOP, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    failed: dict[str, set[str]] = defaultdict(set)
    for case in ET.parse(told).getroot().iter("testcase"):  # noqa: S314 - our own child wrote it
        failed[case.attrib["classname"].rpartition(".")[2]] |= {
            case.attrib["name"].partition("[")[0] for _ in [*case.iter("failure"), *case.iter("error")]
        }
    return {name: frozenset(tests) for name, tests in failed.items()}, done.stdout


def expected(module: Path) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """By class: the tests that must fail for it, and those that may, as its `caught_by` and `at_times` say."""
    space: dict[str, object] = {"__name__": module.stem}
    exec(compile(module.read_text(encoding="utf-8"), str(module), "exec"), space)  # noqa: S102 - our own file
    classes = {name: kind for name, kind in space.items() if name.startswith("Test") and hasattr(kind, "caught_by")}
    return {name: (frozenset(kind.caught_by), frozenset(getattr(kind, "at_times", ()))) for name, kind in classes.items()}


@pytest.mark.parametrize("name", WRONG)
def test_each_broken_promise_is_found_by_the_tests_that_are_named(name: str, tmp_path: Path) -> None:
    module = HERE / f"{name}.py"
    failed, printed = failures(module, tmp_path)
    wanted = expected(module)
    assert failed.keys() == wanted.keys()
    wrong = {kind: sorted(failed[kind] ^ must) for kind, (must, may) in wanted.items() if not must <= failed[kind] <= must | may}
    assert wrong == {}, f"{wrong}\n{printed}"


@pytest.mark.parametrize("name", WRONG)
def test_every_class_but_the_right_one_breaks_something(name: str) -> None:
    text = (HERE / f"{name}.py").read_text(encoding="utf-8")
    written = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name.startswith("Test")}
    harmless = {kind for kind, (must, _) in expected(HERE / f"{name}.py").items() if not must}
    assert harmless == {"TestRight"}
    assert written == expected(HERE / f"{name}.py").keys()
