"""Mutation testing of the core: break a rule on purpose, again and again, and see whether a test notices.

    python benchmarks/mutation.py [MODULE ...] [--again] [--jobs N] [--folder build/mutation]

mutmut makes the mutants: each function of `core/` is written down once for each way to break it, beside the right one.
What runs them is our own loop, since mutmut starts pytest anew for every mutant, and with the core's 2,000 quick tests that takes longer than the tests:

1. The tree is copied, so that `jobledger.core` is a real folder, and its modules are replaced by those with mutants.
2. All tests are collected once and run once; what each calls of the core, and how long it takes, is written down.
3. For each mutant a child is forked that puts the wrong code in the place of the right one, and runs the tests which call its function, until one fails.
   Those that killed mutants of the same function go first, and then the quick ones.
   A test that takes much longer than it did is a mutant that does not end.

`MODULE` is a name such as `job`; without one it is all.  `--again` takes only mutants that no test killed the last time.
In the folder are `results.json`, `survivors.txt` with what each surviving mutant changed, and `table.md`.
"""

import argparse
import difflib
import gc
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TextIO

import libcst as cst
import pytest
from attrs import define, frozen
from mutmut.mutation import trampoline
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.trampoline_templates import mangle_function_name

TOP = Path(__file__).parent.parent
CORE = Path("src/jobledger/core")
TESTS = [
    "tests/core",
    "tests/test_scenarios.py",
    "tests/test_golden.py",
    "tests/test_jobfile.py",
    "tests/test_views.py",
    "property_tests/test_planted.py",
]
NOT_ASKED = {"growth", "walking"}
"""Fixtures of tests that measure time or walk at random: they take long, and say little about one mutant."""
PATIENCE_S, PATIENCE = 2.0, 20
"""How much CPU time a test may take with a mutant: some, and this many times what it took without."""
MEMORY_BYTES_MAX = 4 << 30
KILLED, SURVIVED, TIMEOUT, UNTESTED = "killed", "survived", "timeout", "no test"


# --- making mutants -------------------------------------------------------------------------------------------


def negated(node: cst.If) -> Iterable[cst.If]:
    """What mutmut leaves out: a condition that is a plain value or a call is turned round."""
    if not isinstance(node.test, cst.Comparison | cst.BooleanOperation | cst.UnaryOperation):
        yield node.with_changes(
            test=cst.UnaryOperation(operator=cst.Not(), expression=node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]))
        )


@frozen
class Mutant:
    """`function` is as mutmut names it, and `changed` the lines that are not those of the source."""

    name: str
    module: str
    function: str
    changed: str


def lay_tree(folder: Path) -> None:
    """Copy what the tests need, with real folders in place of links."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("src", "tests", "property_tests", "examples", "docs"):
        shutil.copytree(TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(TOP / name, folder / name)


def make_mutants(modules: list[str]) -> list[Mutant]:
    """Replace modules of the tree by those with mutants."""
    mutation_operators.append((cst.If, negated))
    made = []
    for module in modules or sorted(path.stem for path in CORE.glob("*.py")):
        path = CORE / f"{module}.py"
        mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
        path.write_text(mutated.code, encoding="utf-8")
        lines = mutated.code.splitlines()

        def text(name: str, lines: list[str] = lines, spans: Any = mutated.line_span_by_function_name) -> list[str]:
            return [line for line in lines[spans[name].start - 1 : spans[name].end] if not line.strip().startswith("def x")]

        for name in mutated.mutant_names:
            function = name.partition("__mutmut_")[0]
            changed = [
                line
                for line in difflib.unified_diff(text(f"{function}__mutmut_orig"), text(name), n=0, lineterm="")
                if line[:2] not in {"--", "++", "@@"}
            ]
            made.append(Mutant(f"jobledger.core.{module}.{name}", module, f"jobledger.core.{module}.{function}", "\n".join(changed)))
    return made


# --- putting one in its place ----------------------------------------------------------------------------------

RIGHT: dict[str, FunctionType] = {}
"""The functions of the core that have mutants, by the names that mutmut gives them."""
WRONG: dict[str, dict[str, Any]] = {}


def keeper(mutants: dict[str, Any], **_: bool) -> Callable[[FunctionType], FunctionType]:
    """What stands before each function in a module with mutants: in place of mutmut's own, which asks at every call which one is meant."""

    def keep(function: FunctionType) -> FunctionType:
        owner, _, name = function.__qualname__.rpartition(".")
        mangled = f"{function.__module__}.{mangle_function_name(name=name, class_name=owner or None)}"
        RIGHT[mangled], WRONG[mangled] = function, mutants
        return function

    return keep


def put_in_place(mutant: Mutant) -> None:
    """Answers that the right code gave before are forgotten: a function that is asked once for all would never be asked again."""
    wrong = WRONG[mutant.function][mutant.name.rpartition(".")[2]]
    wrong = getattr(wrong, "fget", None) or getattr(wrong, "__func__", wrong)
    right = RIGHT[mutant.function]
    right.__code__, right.__defaults__, right.__kwdefaults__ = wrong.__code__, wrong.__defaults__, wrong.__kwdefaults__
    for name, module in list(sys.modules.items()):
        if name.startswith("jobledger.core."):
            for part in vars(module).values():
                if callable(forget := getattr(part, "cache_clear", None)) and part.__module__ == name:
                    forget()


# --- running them ---------------------------------------------------------------------------------------------


@define
class Child:
    mutant: Mutant
    answer: int
    """Where the child writes the id of the test that failed."""


class Judge:
    """A plugin for pytest that runs the collected tests its own way."""

    def __init__(self, mutants: list[Mutant], jobs: int, survivors: TextIO, results: dict[str, str], kept: Path) -> None:
        self.mutants = mutants
        self.jobs = jobs
        self.survivors = survivors
        self.results = results
        self.kept = kept
        self.took: dict[str, float] = {}
        self.tests: dict[str, list[pytest.Item]] = defaultdict(list)
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)
        self.children: dict[int, Child] = {}
        self.has_failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.has_failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        items = [item for item in session.items if not NOT_ASKED & set(getattr(item, "fixturenames", ()))]
        self.look_on(items)
        gc.collect()
        gc.freeze()  # What a child does not touch is not copied.
        began = time.monotonic()
        for number, mutant in enumerate(self.mutants):
            if not self.tests[mutant.function]:
                self.note(mutant, UNTESTED)
                continue
            while len(self.children) >= self.jobs:
                self.reap()
            self.fork(mutant)
            if number % 200 == 0:
                print(f"{number} of {len(self.mutants)} mutants, {mutant.module}, {time.monotonic() - began:.0f} s", flush=True)
                self.keep()
        while self.children:
            self.reap()
        self.keep()
        return True

    def keep(self) -> None:
        """So that a run that was cut short goes on with `--again`."""
        self.kept.write_text(json.dumps(self.results, indent=0), encoding="utf-8")

    def run(self, item: pytest.Item, after: pytest.Item | None) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)

    def look_on(self, items: list[pytest.Item]) -> None:
        """Run every test without any mutant, and note what it calls."""
        named = {function.__code__: name for name, function in RIGHT.items()}
        for item, after in zip(items, [*items[1:], None], strict=True):
            called: set[CodeType] = set()
            began = time.process_time()
            sys.setprofile(lambda frame, event, _, called=called: called.add(frame.f_code) if event == "call" else None)
            self.run(item, after)
            sys.setprofile(None)
            self.took[item.nodeid] = time.process_time() - began
            if self.has_failed:
                print(f"{item.nodeid} fails without any mutant", flush=True)
                pytest.exit(returncode=1)
            for code in called & named.keys():
                self.tests[named[code]].append(item)
        print(f"{len(items)} tests, {sum(self.took.values()):.1f} s of CPU time", flush=True)

    def fork(self, mutant: Mutant) -> None:
        killers = self.killers[mutant.function]
        items = sorted(self.tests[mutant.function], key=lambda item: (-killers[item.nodeid], self.took[item.nodeid]))
        answer, question = os.pipe()
        if child := os.fork():
            os.close(question)
            self.children[child] = Child(mutant, answer)
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        put_in_place(mutant)
        for item, after in zip(items, [*items[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_PROF, PATIENCE_S + PATIENCE * self.took[item.nodeid])  # Its signal ends the child.
            self.run(item, after)
            if self.has_failed:
                os.write(question, item.nodeid.encode())
                os._exit(1)
        os._exit(0)

    def reap(self) -> None:
        """Wait for one child, and note how it ended."""
        child, status = os.wait()
        ended = self.children.pop(child)
        killer = os.read(ended.answer, 65536).decode()
        os.close(ended.answer)
        if os.WIFSIGNALED(status):
            is_timeout = os.WTERMSIG(status) == signal.SIGPROF
            self.note(ended.mutant, TIMEOUT if is_timeout else KILLED)
        elif os.WEXITSTATUS(status) == 0:
            self.note(ended.mutant, SURVIVED)
        else:
            self.note(ended.mutant, KILLED)
            self.killers[ended.mutant.function][killer] += 1

    def note(self, mutant: Mutant, result: str) -> None:
        self.results[mutant.name] = result
        if result != KILLED:
            print(f"{mutant.name}: {result}\n{mutant.changed}\n", file=self.survivors, flush=True)


# --- telling of it --------------------------------------------------------------------------------------------


def row(name: str, found: Counter[str]) -> str:
    total = sum(found.values())
    score = 100 * (found[KILLED] + found[TIMEOUT]) / total
    return f"| {name} | {total} | {found[KILLED]} | {found[TIMEOUT]} | {found[SURVIVED]} | {found[UNTESTED]} | {score:.1f} % |"


def table(results: dict[str, str]) -> str:
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for name, result in results.items():
        by_file[name.split(".")[2]][result] += 1
    head = ["| file | mutants | killed | timeout | survived | no test | score |", "|---|--:|--:|--:|--:|--:|--:|"]
    rows = [row(f"`core/{module}.py`", found) for module, found in sorted(by_file.items())]
    return "\n".join([*head, *rows, row("**all**", sum(by_file.values(), Counter()))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", help="a file of core/, without .py; all unless named")
    parser.add_argument("--again", action="store_true", help="only mutants that no test killed the last time; the results of all others stay")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--folder", type=Path, default=TOP / "build" / "mutation", help="where the tree and the results are")
    given = parser.parse_args()
    folder = given.folder.resolve()
    past = folder / "results.json"
    results: dict[str, str] = json.loads(past.read_text(encoding="utf-8")) if (given.again or given.module) and past.exists() else {}
    tree = folder / "tree"
    lay_tree(tree)
    os.chdir(tree)
    mutants = make_mutants(given.module)
    if given.again:
        mutants = [mutant for mutant in mutants if results.get(mutant.name) != KILLED]
    sys.path.insert(0, str(tree / "src"))
    trampoline.wrap_in_trampoline = keeper
    with (folder / "survivors.txt").open("w", encoding="utf-8") as survivors:
        judge = Judge(mutants, given.jobs, survivors, results, past)
        code = pytest.main(
            ["-qq", "--tb=no", "--assert=plain", "-p", "no:xdist", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--rootdir=.", *TESTS],
            plugins=[judge],
        )
    if code != pytest.ExitCode.OK:
        sys.exit(code)
    (folder / "table.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
