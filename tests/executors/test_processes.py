"""What the system says about processes."""

import os
import subprocess
import sys
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


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_tree_is_removed_though_parts_are_closed(tmp_path: Path) -> None:
    closed = tmp_path / "tree" / "closed" / "below"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    closed.parent.chmod(0)
    processes.remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
