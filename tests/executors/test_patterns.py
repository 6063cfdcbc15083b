"""Output patterns: what they match, and that nothing outside the task's folder is ever read."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.executors import beneath
from jobledger.executors.patterns import Tree, expanded, has_wildcard
from jobledger.executors.trouble import Trouble

FILES = ("a", "b.txt", ".d", "x/a", "x/b.txt", "x/y/a", "x/y/.d", ".h/a", "[z]/a")
LINKS = {
    "out": "../../outside",
    "x/up": "../../..",
    "secret": "{outside}/secret",
    "absolute": "{task}/wd/a",
    "inside": "x/y/a",
    "folder": "x/y",
    "x/back": "..",
    "loop": "loop",
    "dangling": "nothing",
    "far": "x/../../../outside/secret",
    "passwd": "/etc/passwd",
    "near": "../stdout.txt",
    "through": "out/secret",
}
PART = st.sampled_from(
    ["*", "**", "?", "a", "x", "y", "*.txt", "[a-x]", ".*", "..", "out", "secret", "[[]z]", "folder", "up", "wd", "through", "far", ".", ""]
)
PATTERNS = st.builds(lambda up, parts: up + "/".join(parts), st.sampled_from(["", "", "", "../", "../../", "/"]), st.lists(PART, max_size=5))


def make_task(top: Path, links: bool) -> Path:
    """A task's folder below `top`; each file says what it is, and those outside say so."""
    outside, task = top / "outside", top / "task"
    (outside / "below").mkdir(parents=True)
    for name in ("secret", "a", "below/a"):
        (outside / name).write_text("outside")
    for name in (*(f"wd/{file}" for file in FILES), "stdout.txt", "stderr.txt"):
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(f"inside {name}")
    if links:
        for name, target in LINKS.items():
            (task / "wd" / name).symlink_to(target.format(outside=outside, task=task))
        os.mkfifo(task / "wd" / "fifo")
    return task


def read_all(task: Path, pattern: str, *, most: int = 100, depth: int = 20) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What a pattern finds, with the contents; and what it skips, with the reasons."""
    with beneath.top(str(task)) as base:
        tree = Tree(str(task), base, most=most, depth=depth, moved=lambda _: None)
        found = {}
        for names in tree.matches(tree.parts_of(pattern)):
            file = tree.open(names)
            found["/".join(names)] = b"".join(beneath.chunks(file)).decode()
            os.close(file)
        return found, tree.skipped


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path, links=True)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """One with links and one without; reading changes neither."""
    return {links: make_task(tmp_path_factory.mktemp("world"), links) for links in (False, True)}


@given(pattern=PATTERNS, links=st.booleans())
def test_nothing_outside_is_read(tasks: dict[bool, Path], pattern: str, links: bool) -> None:
    try:
        found, _ = read_all(tasks[links], pattern)
    except Trouble:
        return
    for name, content in found.items():
        assert content.startswith("inside "), name


RELATIVE = (
    st.lists(PART, min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda text: ".." not in text and not f"/{text}".endswith(("/", "/.")) and text[0] != "/")
)


@given(pattern=RELATIVE)
def test_the_same_is_found_as_by_pythons_own_glob(tasks: dict[bool, Path], pattern: str) -> None:
    """Where there are no links; folders, which glob finds too, are none of ours."""
    wd = tasks[False] / "wd"
    found, skipped = read_all(tasks[False], pattern)
    by_glob = glob.glob(pattern, root_dir=wd, recursive=True)  # noqa: PTH207 - Path.glob has another rule for dot files
    assert {name.removeprefix("wd/") for name in found} == {os.path.normpath(name) for name in by_glob if (wd / name).is_file() and name[-1] != "/"}
    assert skipped == []


def test_links_inside_are_followed_and_others_are_told(task: Path) -> None:
    found, skipped = read_all(task, "*")
    assert found == {
        "wd/a": "inside wd/a",
        "wd/absolute": "inside wd/a",
        "wd/b.txt": "inside wd/b.txt",
        "wd/inside": "inside wd/x/y/a",
        "wd/near": "inside stdout.txt",
    }
    leads_out = "it is a link that leads out of the task's folder"
    assert dict(skipped) == {
        "wd/fifo": "it is no plain file",
        "wd/loop": "its links lead in a circle",
        **{f"wd/{name}": leads_out for name in ("out", "secret", "far", "passwd", "through")},
    }


def test_a_folder_link_is_entered_by_name_and_not_by_stars(task: Path) -> None:
    assert list(read_all(task, "folder/a")[0]) == ["wd/folder/a"]
    assert list(read_all(task, "fol*/a")[0]) == ["wd/folder/a"]
    assert "wd/folder/a" not in read_all(task, "**/a")[0]


def test_a_link_that_comes_between_search_and_reading(task: Path) -> None:
    with beneath.top(str(task)) as base:
        tree = Tree(str(task), base, most=10, depth=10, moved=lambda _: None)
        assert tree.matches(("wd", "x", "a")) == [("wd", "x", "a")]
        (task / "wd" / "x" / "a").unlink()
        (task / "wd" / "x" / "a").symlink_to("../out/secret")
        with pytest.raises(ValueError, match="leads out of the task's folder"):
            tree.open(("wd", "x", "a"))
        (task / "wd" / "x").rename(task / "wd" / "was")
        (task / "wd" / "x").symlink_to(task.parent / "outside")
        with pytest.raises(ValueError, match="leads out of the task's folder"):
            tree.open(("wd", "x", "a"))


def test_a_working_directory_that_became_a_link(task: Path) -> None:
    (task / "wd").rename(task / "was")
    (task / "wd").symlink_to("../outside")
    found, skipped = read_all(task, "*")
    assert found == {}
    assert skipped == [("wd", "it is a link that leads out of the task's folder")]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_another_users_file_under_a_second_name_is_not_read(task: Path) -> None:
    """A program links to a file that it could not read itself, and leaves the reading to us."""
    os.chown(task / "wd", 65534, 65534)
    os.link(task.parent / "outside" / "secret", task / "wd" / "linked")
    found, skipped = read_all(task, "linked")
    assert found == {}
    assert skipped == [("wd/linked", "it has another name somewhere, and belongs to another user than the task")]
    os.chown(task / "wd" / "linked", 65534, 65534)
    assert list(read_all(task, "linked")[0]) == ["wd/linked"]


@pytest.mark.parametrize("pattern", ["/etc/*", "../../outside/*", "x/../../../outside/*", "{outside}/*", "{task}/../outside/*", "a\0b"])
def test_a_pattern_that_leads_out_is_refused(task: Path, pattern: str) -> None:
    with pytest.raises(Trouble, match="only files of the task are uploaded"):
        read_all(task, pattern.format(outside=task.parent / "outside", task=task))


def test_an_absolute_pattern_may_name_the_tasks_folder(task: Path) -> None:
    assert list(read_all(task, f"{task}/wd/x/*")[0]) == ["wd/x/a", "wd/x/b.txt"]


def test_there_are_bounds(task: Path) -> None:
    with pytest.raises(Trouble, match="more than 3 files match"):
        read_all(task, "**", most=3)
    found, skipped = read_all(task, "**/a", depth=2)
    assert "wd/x/a" in found
    assert ("wd/x/y", "it is more than 2 folders deep") in skipped


def test_many_stars_cost_no_more_than_few(tmp_path: Path) -> None:
    """Each way through `**/**` is gone once: 30 folders and 12 stars would else be more ways than can be counted."""
    deep = tmp_path / "task" / "wd"
    for _ in range(30):
        deep = deep / "f"
    deep.mkdir(parents=True)
    (deep / "file").write_text("inside")
    assert len(read_all(tmp_path / "task", "/".join(["**", "f"] * 12) + "/**/file", depth=50)[0]) == 1


@pytest.mark.parametrize(
    ("text", "result"),
    [("$A/${B}", "1/two"), ("$AB", "3"), ("cost$", "cost$"), ("$.x", "$.x"), ("${A", "${A"), ("$$A", "$1"), ("%A%", "%A%")],
)
def test_variables(text: str, result: str) -> None:
    assert expanded(text, {"A": "1", "B": "two", "AB": "3"}) == result


def test_a_value_is_not_looked_into() -> None:
    assert expanded("$A", {"A": "$B", "B": "x"}) == "$B"
    assert has_wildcard(expanded("$A", {"A": "*"}))
