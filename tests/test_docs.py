"""The documents: links lead somewhere, examples run, and pages made from code say what the code does."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from jobledger import docsgen, jobfile, plaindata, scenariofile
from jobledger.cli import main

TOP = Path(__file__).parents[1]
PAGES = sorted([*(TOP / "docs").rglob("*.md"), *TOP.glob("*.md"), TOP / "tests" / "README.md"])
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Example(NamedTuple):
    """A block of Python in a page that says of itself, by its first line `# runs`, that it runs."""

    page: str
    line: int
    text: str


def by_name(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them: lower case, hyphens for spaces, punctuation left out."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            if block["language"] == "python" and block["text"].startswith("# runs\n"):
                yield Example(by_name(page), text.count("\n", 0, block.start("text")) + 1, block["text"])


def job_files() -> Iterator[Example]:
    """Every block of YAML in a page: a job file or a part of one, or a scenario file, as a reader would paste it."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            if block["language"] == "yaml":
                yield Example(by_name(page), text.count("\n", 0, block.start("text")) + 1, block["text"])


def as_job_file(data: dict[str, Any]) -> dict[str, Any]:
    """A part of a job file with what it leaves out: a job and its pool, and around properties of a job the job itself."""
    if not data.keys() & {"pool", "job", "tasks"}:
        data = {"job": data}
    job = {"id": "job"} | data.get("job", {})
    return data | {"pool": {"id": "pool"} | data.get("pool", {}), "job": job}


def broken_links(page: Path) -> list[str]:
    """The targets in a page that are neither a web address nor a file of ours with such a heading."""
    broken = []
    for link in LINK.finditer(prose(page)):
        target, _, anchor = link["target"].partition("#")
        if target.startswith(("https://", "http://")):
            continue
        place = (page.parent / target) if target else page
        is_page = place.suffix == ".md" and place.is_file()
        if not place.exists() or (anchor and not (is_page and anchor in anchors(place))):
            broken.append(link["target"])
    return broken


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_page_has_one_title_and_it_comes_first(page: Path) -> None:
    lines = FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    assert [number for number, line in enumerate(lines) if line.startswith("# ")] == [0]


@pytest.mark.parametrize("page", sorted((TOP / "docs").rglob("*.md")), ids=by_name)
def test_every_page_is_reached_from_the_index(page: Path) -> None:
    index = TOP / "docs" / "README.md"
    targets = {(index.parent / link["target"].partition("#")[0]).resolve() for link in LINK.finditer(prose(index))}
    assert page == index or page.resolve() in targets


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: f"{example.page}:{example.line}")
def test_an_example_runs(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    padding = "\n" * (example.line - 1)  # so that a traceback names the page's own line
    exec(compile(padding + example.text, example.page, "exec"), {"__name__": "__main__"})  # noqa: S102 - running it is the test


@pytest.mark.parametrize("example", list(job_files()), ids=lambda example: f"{example.page}:{example.line}")
def test_a_job_file_in_a_page_is_right(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "what a page reads from the environment")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "db-password").write_text("what a page reads from a file\n")
    data = plaindata.read_yaml(textwrap.dedent(example.text))
    if data.keys() & {"launches", "bootDuration"}:
        scenariofile.parse_scenario(data, source=example.page)
    else:
        jobfile.parse(as_job_file(data), source=example.page, base=tmp_path)


def test_the_output_in_the_page_about_dry_runs_is_that_of_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(TOP / "examples")
    blocks = [(block["language"], block["text"]) for block in FENCE.finditer((TOP / "docs" / "how-to" / "dry-run.md").read_text(encoding="utf-8"))]
    shown = [(command, output) for (first, command), (second, output) in pairwise(blocks) if (first, second) == ("sh", "text")]
    assert len(shown) == 2
    for command, output in shown:
        assert CliRunner().invoke(main, shlex.split(command)[1:]).stdout == output


def test_the_pages_made_from_code_are_current() -> None:
    assert docsgen.outdated(TOP) == [], "run 'make docs'"


def test_an_outdated_page_is_noticed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert docsgen.main(["--check"]) == 1
    assert "docs/reference/job-file.md is out of date: run 'make docs'" in capsys.readouterr().err
    assert docsgen.main([]) == 0
    assert docsgen.main(["--check"]) == 0
    (tmp_path / "docs" / "reference" / "job-file.md").write_text("old")
    assert docsgen.main(["--check"]) == 1


def test_pages_are_written_in_the_repository_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert docsgen.main([]) == 2


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](none.md) [b](#a-page) [c](#nothing) [d](page.md#a-page) `[e](code.md)`\n")
    assert broken_links(page) == ["none.md", "#nothing"]
