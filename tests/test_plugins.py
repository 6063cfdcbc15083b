"""Executors by name: the built-in one is found as a third party's would be."""

import pytest

from jobledger import ExecutorError
from jobledger.executors.local import LocalExecutor
from jobledger.plugins import executor_names, make_executor


def test_the_built_in_executor_is_found_by_its_entry_point(tmp_path):
    assert "local" in executor_names()
    assert isinstance(make_executor("local", tmp_path), LocalExecutor)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ExecutorError, match=r"no executor 'locl'; there are: .*local"):
        make_executor("locl", tmp_path)
