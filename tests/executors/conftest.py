import pytest

pytest.register_assert_rewrite(
    "jobledger.testing.crashes",
    "jobledger.testing.driver",
    "jobledger.testing.environment",
    "jobledger.testing.executors",
    "jobledger.testing.processes",
)
