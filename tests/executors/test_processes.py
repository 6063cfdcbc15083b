"""What the system says about processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobledger.executors import processes


def test_a_process_is_found_with_its_place_in_the_family() -> None:
    row = processes.look_up(os.getpid())
    assert row is not None
    assert (row.pid, row.parent, row.group, row.session, row.zombie) == (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), False)


def test_a_span_holds_the_start_time() -> None:
    before = processes.clock()
    with subprocess.Popen(["sleep", "1000"]) as child:
        span = processes.span_since(before)
        assert processes.lives(child.pid, span)
        assert not processes.lives(child.pid, (span[0] - 1000, span[0] - 500))
        assert child.pid in processes.descendants(processes.snapshot(), [os.getpid()])
        child.kill()
    assert not processes.lives(child.pid, span)


def test_ps_tells_the_same_where_there_is_no_proc() -> None:
    """The way of macOS, where `ps` is all there is; its columns are the same here."""
    rows = {row.pid: row for row in processes._ps("-A")}
    mine = rows[os.getpid()]
    assert (mine.parent, mine.group, mine.zombie) == (os.getppid(), os.getpgid(0), False)
    assert mine.start > 1_700_000_000


def test_an_environment_is_read_where_the_system_allows_it() -> None:
    with subprocess.Popen(["sleep", "1000"], env={"MARK": "a=b"}) as child:
        if processes.LINUX:
            assert [row.pid for row in processes.marked({b"MARK": b"a=b"}, processes.snapshot())] == [child.pid]
        else:
            assert processes.environment_of(child.pid) == {}
        child.kill()


@pytest.mark.skipif(not processes.LINUX or os.geteuid() != 0, reason="needs to mount a /proc of its own")
def test_processes_of_others_may_be_closed_to_us() -> None:
    """With `hidepid=1` they are listed and cannot be read; ours are found all the same."""
    code = (
        "import os, subprocess; from jobledger.executors import processes\n"
        "subprocess.run(['mount', '-t', 'proc', '-o', 'hidepid=1', 'proc', '/proc'], check=True)\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "assert os.getpid() in processes.snapshot() and processes.look_up(1) is None"
    )
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", '"$0" -c "$1"; exit', sys.executable, code], check=True, timeout=30
    )


def test_a_tree_is_removed_though_parts_are_closed() -> None:
    """Nothing is closed to root, so a root becomes nobody first; the interpreter may be in a folder that nobody can read, so not before it runs."""
    code = (
        "import os, sys, pathlib; from jobledger.executors import processes\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "tree = pathlib.Path(sys.argv[1], 'tree')\n"
        "closed = tree / 'closed' / 'below'\n"
        "closed.mkdir(parents=True)\n"
        "(closed / 'file').touch()\n"
        "closed.chmod(0); closed.parent.chmod(0)\n"
        "assert not os.access(closed, os.F_OK)\n"
        "processes.remove_tree(tree)\n"
        "assert not tree.exists()"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        subprocess.run([sys.executable, "-c", code, folder], check=True, timeout=30)
