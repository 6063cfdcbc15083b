"""Who a user identity is on this machine, and whether the engine may run a command line as that user.

1. Nobody runs as somebody else: what the engine may not do is refused, by a text that says what would mend it.
2. Azure's `autoUser` means: `admin` is root; `nonadmin` is the engine's own user, or `nobody` where that is root.
3. It is asked when a command line is submitted and again at each launch, since accounts and folders change.
"""

import asyncio
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from ..core.specs import UserIdentity
from . import as_user, spawn_as, sudo
from .as_user import Refused
from .processes import LINUX, look_up

ROOT: Final = 0
NOBODY: Final = "nobody"
GOOD_FOR_S: Final = 10.0
PROBE_TIMEOUT_S: Final = 20.0
"""For a process that tries to become the user; it takes some 20 ms, or longer where users are looked up in a network."""


@frozen(kw_only=True)
class OtherUser:
    """A user that is not the engine's own."""

    name: str
    uid: int
    gid: int
    through_sudo: bool


def order(user: UserIdentity) -> dict[str, Any] | None:
    """What the supervisor is told about the user; None for the engine's own.

    It is told of a refusal too: only it knows whether the execution was launched before that.
    """
    try:
        other = choose(user)
    except Refused as refused:
        return {"refused": str(refused)}
    return None if other is None else asdict(other)


def choose(user: UserIdentity) -> OtherUser | None:
    """The user that is meant; None for the engine's own.  Raises Refused."""
    own = os.geteuid()
    name = user.username
    if name is None:
        is_admin = user.auto_user is not None and user.auto_user.elevation_level == "admin"
        if is_admin == (own == ROOT):
            return None
        name = NOBODY if own == ROOT else _name_of(ROOT)
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise Refused(f"there is no user '{name}' on this machine: create it, or name another") from None
    if account.pw_uid == own:
        return None
    if own != ROOT:
        _refuse_without_sudo(name, own)
    return OtherUser(name=name, uid=account.pw_uid, gid=account.pw_gid, through_sudo=own != ROOT)


def _refuse_without_sudo(name: str, own: int) -> None:
    """Raises Refused where it is plain that `sudo` is of no use."""
    if sudo.find() is None:
        raise Refused(f"the engine runs as '{_name_of(own)}' and cannot become '{name}': run it as root or as '{name}', or install sudo")
    if LINUX and look_up(1) is None:
        raise Refused(f"other users' processes are hidden from the engine (/proc is mounted with hidepid), and so it could not end those of '{name}'")


class Inquiry:
    """Asks the machine, and believes a good answer for a while: tasks of the same user may come one by one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._good_until: dict[OtherUser, float] = {}

    async def refusal(self, user: UserIdentity) -> str | None:
        """Why nothing below the root can run as `user`; None where it can."""
        try:
            other = choose(user)
        except Refused as refused:
            return str(refused)
        if other is None or self._good_until.get(other, 0.0) > time.monotonic():
            return None
        if (reason := await asyncio.to_thread(_probe, other, self._root)) is None:
            self._good_until[other] = time.monotonic() + GOOD_FOR_S
        return reason


def _probe(other: OtherUser, root: Path) -> str | None:
    """Have a process become the user and look whether it may come to the root; why not, if so."""
    probe = ["probe", other.name, str(other.uid), str(root)]
    try:
        words = sudo.words(other.name, *probe) if other.through_sudo else [*spawn_as.PYTHON, spawn_as.PROGRAM, *probe]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=sudo.ENVIRONMENT, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it cannot be told within {PROBE_TIMEOUT_S:.0f} s whether the engine may become '{other.name}': try again"
    except OSError as error:
        return f"it cannot be told whether the engine may become '{other.name}': {error.strerror}; try again"
    if done.returncode == as_user.EXIT_REFUSED:
        return done.stdout.decode(errors="replace")
    complaint = done.stderr.decode(errors="replace").splitlines()
    if done.returncode == 0:
        return None
    return sudo.about_refusal(other.name, complaint) if other.through_sudo else f"the engine cannot become '{other.name}': {''.join(complaint[-1:])}"


def _name_of(uid: int) -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
