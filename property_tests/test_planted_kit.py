"""The kit is able to fail: every bug planted in an executor, a store, a policy or the engine is found, and by the check that speaks of it."""

import pytest
from planted import CATALOGUE
from planted_kit import ASKED_FOR, KIT_CATALOGUE


@pytest.mark.parametrize("planted", KIT_CATALOGUE, ids=lambda planted: planted.name)
def test_a_planted_bug_is_found_by_the_kit(planted, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBLEDGER_KIT_FAILURES", str(tmp_path))
    with pytest.raises(Exception, match=planted.found_by):
        planted.find()


def test_the_bugs_that_everybody_knows_are_among_the_planted_ones():
    names = {one.name for one in (*CATALOGUE, *KIT_CATALOGUE)}
    assert set(ASKED_FOR.values()) <= names
    assert len(names) >= 25
