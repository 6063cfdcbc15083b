import pytest

pytest.register_assert_rewrite(
    "jobledger.testing.store_faults", "jobledger.testing.store_kit", "jobledger.testing.store_races", "jobledger.testing.stores"
)
