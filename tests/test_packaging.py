"""What is shipped: the wheel holds every package, and works without the repository around it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
LINKS = ("core", "eventstore", "executors")
SHIPPED = [TOP / name for name in (*LINKS, "src")]


def name_of(package: Path) -> str:
    """The import name of a package's folder."""
    parts = package.relative_to(TOP).parts
    return ".".join(parts[1:] if parts[0] == "src" else ("jobledger", *parts))


def files(suffix: str) -> list[Path]:
    """Every shipped file with a suffix, each once and by the folder it lies in."""
    return [path for top in SHIPPED for folder, _, names in os.walk(top) for name in names if (path := Path(folder, name)).suffix == suffix]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the sources so that nothing is left among them."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*LINKS, "src"):
        shutil.copytree(TOP / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source / name)
    run(sys.executable, "-c", "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])", str(out), cwd=source)
    (built,) = out.glob("*.whl")
    return built


def test_every_package_is_listed_and_every_listed_package_is_there() -> None:
    folders = {name_of(path.parent) for path in files(".py") if path.name == "__init__.py"}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_no_module_lies_outside_a_package() -> None:
    assert [path for path in files(".py") if not (path.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", LINKS)
def test_the_links_lead_to_the_top_folders(name: str) -> None:
    link = TOP / "src" / "jobledger" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", "..", name)
    assert link.resolve() == (TOP / name).resolve()


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    wanted = {f"{name_of(path.parent).replace('.', '/')}/{path.name}" for suffix in (".py", ".sql") for path in files(suffix)}
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    metadata = {name for name in held if ".dist-info/" in name}
    assert held - metadata == wanted | {"jobledger/py.typed"}
    assert [name for name in metadata if name.endswith("licenses/LICENSE")]


def test_the_wheel_works_where_the_repository_is_not(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # The dependencies are those of the environment that tests run in: a path of last resort, so that jobledger itself is the wheel's.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    code = "import jobledger, jobledger.core, jobledger.core.specs, jobledger.eventstore, jobledger.executors, jobledger.jobfile; print(jobledger.__file__)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    where = Path(run(python, "-c", code, cwd=tmp_path, env=clean).strip())
    assert where.is_relative_to(site)
    assert (python.parent / "jobledger").is_file()


def make_environment(folder: Path, wheel: Path) -> Path:
    """A fresh environment with nothing but the wheel in it; the path of its Python."""
    python = folder / "bin" / "python"
    if importlib.util.find_spec("ensurepip"):
        run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    else:  # Debian's Python without python3-venv, where uv made the environment of the tests
        run("uv", "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
        run("uv", "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-index", wheel, cwd=folder.parent)
    return python
