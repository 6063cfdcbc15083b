import pytest

pytest.register_assert_rewrite("jobledger.testing.executors", "jobledger.testing.driver")
