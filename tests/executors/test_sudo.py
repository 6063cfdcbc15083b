"""Command lines that run as another user, started by an engine that is not root.

`through_sudo_suite` is run as a user who may `sudo` to some others, on a machine of its own: see `private_world`.  The sudo is the
real one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOP = HERE.parents[1]
BOUND_S = 280

ENGINE, WORKER, LOCKED, GROUP = 61001, 61002, 61003, 61010

ACCOUNTS = f"""\
jl-engine:*:{ENGINE}:{ENGINE}::/nonexistent:/bin/sh
jl-worker:*:{WORKER}:{WORKER}::/nonexistent:/bin/sh
jl-locked:*:{LOCKED}:{LOCKED}::/nonexistent:/bin/sh
"""
GROUPS = f"""\
jl-engine:x:{ENGINE}:
jl-worker:x:{WORKER}:
jl-locked:x:{LOCKED}:
jl-data:x:{GROUP}:jl-worker
"""
SUDOERS = """\
Defaults env_reset
Defaults use_pty
root ALL=(ALL:ALL) ALL
jl-engine ALL=(jl-worker, root) NOPASSWD: ALL
jl-engine ALL=(jl-locked) PASSWD: ALL
"""


def can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may lay other accounts over this machine's"),
    pytest.mark.skipif(shutil.which("sudo") is None, reason="needs sudo"),
    pytest.mark.skipif(not can_unshare(), reason="needs a mount namespace of its own"),
]


@pytest.fixture
def world() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="jobledger-world-", dir="/tmp"))
    folder.chmod(0o755)
    etc = folder / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(Path("/etc/passwd").read_text() + ACCOUNTS)
    (etc / "group").write_text(Path("/etc/group").read_text() + GROUPS)
    (etc / "sudoers").write_text(SUDOERS)
    (etc / "sudoers").chmod(0o440)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", ["TestThroughSudo", "not TestThroughSudo"])
def test_an_engine_that_is_not_root_uses_sudo(world: Path, part: str) -> None:
    paths = ":".join({str(Path(path).resolve()) for path in (TOP, sys.prefix, sys.base_prefix)})
    world_words = ["unshare", "--mount", "--propagation", "private", sys.executable, str(HERE / "private_world.py"), str(world), "jl-engine", paths]
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", part, str(HERE / "through_sudo_suite.py")]
    inner = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*world_words, *suite], cwd=TOP, env=inner, capture_output=True, text=True, timeout=BOUND_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
