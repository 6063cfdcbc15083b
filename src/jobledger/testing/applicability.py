"""What a conformance suite does where an implementation cannot have what a test is about: it says so, and hides no failure.

1. A hook that gives None makes its tests fail, unless the subclass names the hook in `not_applicable`, with the reason.  Then they are skipped.
2. A hook that is named there and gives something makes them fail too: what was true once may be so no more.
3. A name that no test asks for is a mistake in writing, and fails.

So a skipped test of a suite is always one that somebody wrote down; hold `not_applicable` by name in a test of your own.
"""

from collections.abc import Mapping
from typing import ClassVar, NoReturn, TypeVar

import pytest

T = TypeVar("T")


class Applicability:
    """The part of a suite that says which of its tests have no meaning for an implementation."""

    not_applicable: ClassVar[Mapping[str, str]] = {}
    """What this implementation does not have, by the name that the suite has for it, each with the reason."""

    def may_lack(self) -> frozenset[str]:
        """The names that `not_applicable` may hold."""
        return frozenset()

    def need(self, what: str, given: T | None) -> T:
        """What a hook gave; where that is None, the test is over: not applicable if that is written down, else failed."""
        if given is None:
            self.lack(what)
        if what in self.not_applicable:
            pytest.fail(f"{what} is said to be not applicable ({self.not_applicable[what]}), and is there all the same")
        return given

    def lack(self, what: str) -> NoReturn:
        """End the test for want of `what`."""
        reason = self.not_applicable.get(what)
        if reason is None:
            pytest.fail(f"{type(self).__name__} gives no {what}: give it, or say why it cannot, as not_applicable = {{{what!r}: '...'}}")
        pytest.skip(f"not applicable, {what}: {reason}")

    def test_what_is_not_applicable_is_known_by_name(self) -> None:
        """A name that nobody asks for would be an excuse for nothing, or for what has got another name meanwhile."""
        unknown = set(self.not_applicable) - self.may_lack()
        if unknown:
            pytest.fail(f"not_applicable names what no test asks for: {', '.join(sorted(unknown))}; there are {', '.join(sorted(self.may_lack()))}")
