"""The examples do what their texts promise, step by step.  `job_prep_release.yaml` is run in `tests/cli/test_run.py`."""

import io
import runpy
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from jobledger import jobfile

EXAMPLE = Path(__file__).parents[1] / "examples" / "job_prep_release.py"
FILES = EXAMPLE.with_name("files.yaml")
JOB_FILES = sorted(file for file in EXAMPLE.parent.rglob("*.yaml") if file.parent.name != "scenarios")
RULE = "-------------------------------------------"


@pytest.fixture
def sample(tmp_path):
    def run(*options, answers=""):
        return subprocess.run(
            [sys.executable, EXAMPLE, *options], cwd=tmp_path, input=answers, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def shared_files(text):
    """The contents of each node's shared file, as printed."""
    files = {}
    for part in text.split("Contents of shared/job_prep_and_release.txt on ")[1:]:
        node, rule, *lines = part.splitlines()
        assert rule == RULE
        files[node.removesuffix(":")] = lines[: lines.index("")]
    return files


def test_the_sample_without_questions(sample, tmp_path):
    result = sample("--yes")
    assert (result.returncode, result.stderr) == (0, "")
    files = shared_files(result.stdout)
    nodes = [f"JobPrepReleaseSamplePool-{number}" for number in (1, 2)]
    assert sorted(files) == nodes
    assert sorted(line for lines in files.values() for line in lines[1:]) == [f"  task{number:03}" for number in range(1, 9)]
    for node in nodes:
        assert files[node][0] == f"{node} tasks:"
        assert f"{node}:\n  Prep task exit code:    0\n  Release task exit code: 0\n" in result.stdout
    assert result.stdout.endswith("\nSample complete.\n")
    assert not list(tmp_path.rglob("job_prep_and_release.txt"))


def test_the_sample_with_answers_and_a_job_left_over(tmp_path, monkeypatch, capsys):
    """In this process, since most of the time of four others would be spent on starting them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE)])

    def sample(answers):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        return ended.value.code, capsys.readouterr().out

    code, told = sample("no\nno\n")
    assert code == 0
    assert "Delete job? [yes] no" in told
    assert "Delete pool? [yes] no" in told
    code, told = sample("no\n")
    assert code == 1
    assert "exists from an earlier run" in told
    assert "Submitting tasks" not in told
    code, told = sample("yes\n\ny\n")
    assert code == 0
    assert "deleted, creating it anew..." in told
    assert "Sample complete." in told
    code, told = sample("")  # no answer at all is no
    assert code == 0
    assert "not found, creating..." in told
    code, told = sample("")
    assert code == 1


def test_files_are_fetched_once_per_node_and_results_and_logs_come_back(tmp_path):
    (tmp_path / "files.yaml").write_text(FILES.read_text().replace("/tmp/jobledger-files", f"{tmp_path}/results"))
    command = [Path(sysconfig.get_path("scripts")) / "jobledger", "run", "files.yaml", "--ledger", "ledger.db", "--root", "nodes"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    nodes = sorted(node.name for node in (tmp_path / "nodes/files").iterdir() if (node / "workitems/files-sample").exists())
    lines = len(Path("/etc/hosts").read_bytes().splitlines())
    assert [int((tmp_path / f"results/task00{number}/count.txt").read_text()) for number in range(1, 5)] == [lines] * 4
    logs = []
    for node in nodes:
        assert not list((tmp_path / "nodes/files" / node / "shared").iterdir())
        with tarfile.open(tmp_path / "results" / node / "logs.tgz") as packed:
            logs += packed.getnames()
    assert sorted(logs) == [f"task00{number}/stdout.txt" for number in range(1, 5)]


def test_the_job_files_go_together_in_one_ledger():
    """Whoever tries them one after another is not told that a pool or a job is there already with another specification."""
    found = [jobfile.load(file) for file in JOB_FILES]
    assert len({file.job.id for file in found}) == len(found)
    pools = {file.pool.id: file.pool for file in found}
    assert [file.pool for file in found] == [pools[file.pool.id] for file in found]
