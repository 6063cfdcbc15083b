"""How much is walked: the profile `ci` (default) is the same walks every time, `nightly` ten times as many, other ones each time.

A walk that fails in `ci` is shown as it was; `nightly` also shrinks it, which takes minutes.

JOBLEDGER_WALKS=nightly python -m pytest property_tests
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

_QUIET = list(HealthCheck)  # Walks are long and reject nothing; what is slow shows in the run's own time.
_PROFILES = {
    "ci": settings(
        max_examples=300,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=_QUIET,
    ),
    "nightly": settings(max_examples=3000, stateful_step_count=60, deadline=None, print_blob=True, suppress_health_check=_QUIET),
}


@pytest.fixture(scope="session")
def walking() -> settings:
    """The settings of walks, by the environment variable JOBLEDGER_WALKS."""
    return _PROFILES[os.environ.get("JOBLEDGER_WALKS", "ci")]
