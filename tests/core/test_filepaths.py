"""Names of files: what may stand in a job, and what leads out of its folder."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.core.filepaths import mistake_in_file_mode, mistake_in_file_path, mistake_in_folder_path, mistake_in_pattern

PATHS = st.lists(st.sampled_from(["..", ".", "", "a", "b.txt", "~", "*", "[x]", "$A", "ü", "\\"]), max_size=6).map("/".join)


@pytest.mark.parametrize("path", ["in.txt", "data/in.txt", "./in.txt", "a//b", "...", "..data/x", "a/.hidden", "ünï", "a\\b", "n" * 255])
def test_a_path_that_stays_inside_is_fine(path: str) -> None:
    assert mistake_in_file_path(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "must not be empty"),
        ("/etc/passwd", "'/etc/passwd' must be relative"),
        ("..", "'..' must not contain '..'"),
        ("../x", "'../x' must not contain '..'"),
        ("a/../../x", "'a/../../x' must not contain '..'"),
        ("a/..", "'a/..' must not contain '..'"),
        ("data/", "'data/' names no file"),
        (".", "'.' names no file"),
        ("a\0b", "must not contain a NUL character"),
        ("n" * 256, "a name in it is longer than 255 bytes"),
        ("ü" * 128, "a name in it is longer than 255 bytes"),
        ("n/" * 600 + "n", "is 1201 bytes long, and must have at most 1024"),
    ],
)
def test_a_path_that_does_not_is_named(path: str, why: str) -> None:
    assert mistake_in_file_path(path) == why


@pytest.mark.parametrize("path", ["data", "data/", "./", "."])
def test_a_folder_may_end_in_a_slash(path: str) -> None:
    assert mistake_in_folder_path(path) is None


@pytest.mark.parametrize("pattern", ["*.txt", "**/*.csv", "out/**", "../std*.txt", "../stdout.txt", "[ab]?.log", ".hidden", "$NAME/out", "a[*]b"])
def test_a_pattern_below_the_tasks_folder_is_fine(pattern: str) -> None:
    assert mistake_in_pattern(pattern) is None


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../../*", "../a/../../b", "a/../b", "out/..", "..", "out/", "../", "a\0", "n" * 256])
def test_a_pattern_that_leads_elsewhere_is_refused(pattern: str) -> None:
    assert mistake_in_pattern(pattern) is not None


@given(PATHS)
def test_what_is_accepted_stays_inside_by_the_rules_of_the_system(path: str) -> None:
    if mistake_in_file_path(path) is None:
        assert posixpath.normpath(posixpath.join("/top", path)).startswith("/top/")
    if mistake_in_pattern(path) is None:
        assert posixpath.normpath(posixpath.join("/task/wd", path)).startswith("/task/")


@pytest.mark.parametrize("mode", ["0644", "755", "0", "0777", "7"])
def test_a_mode_is_octal(mode: str) -> None:
    assert mistake_in_file_mode(mode) is None


@pytest.mark.parametrize("mode", ["", "0o644", "888", "rwx", "-1", "4755", "2755", "1777", "07777", "00644", " 644", "\u0667\u0667"])
def test_a_mode_with_special_bits_or_none_at_all_is_refused(mode: str) -> None:
    assert mistake_in_file_mode(mode) is not None
