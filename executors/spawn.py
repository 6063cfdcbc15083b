"""Fork and become a task's program; in the child nothing is logged or raised, only told through a pipe.

The pipe closes by itself when the program takes over (CLOEXEC).  Whatever is read from it before is a failure:
`<stage> <errno>`, with the stage that failed.  The child does the slow steps (folders, files), so that the supervisor goes on.
"""

# pathlib would make the supervisor's heap larger, and so each fork dearer.
# ruff: noqa: PTH102, PTH103, PTH108, PTH112, PTH113, PTH114, PTH208

import errno
import os

STAGE_FOLDER = "folder"
"""The task's folder could not be made, emptied or entered."""
STAGE_OUTPUT = "output"
"""stdout.txt or stderr.txt could not be created."""
STAGE_PROGRAM = "program"
"""There is no such program."""
STAGE_LAUNCH = "launch"
"""The program is there and cannot be executed."""
STAGE_FORK = "fork"
"""No process could be made; told by the supervisor itself."""
STAGE_CLAIM = "claim"
"""The record could not be created; told by the supervisor itself."""
STAGE_ENCODING = "encoding"
"""The command line or environment holds what no program can be given; told by the supervisor itself."""
STAGES_OF_PROGRAM = (STAGE_PROGRAM, STAGE_LAUNCH, STAGE_ENCODING)
"""Those whose failure is about the program and not about its folder."""

REPORT_BYTES_MAX = 64


def spawn(folder: str, arguments: list[bytes], environment: dict[bytes, bytes]) -> tuple[int, int]:
    """Fork a child that runs `arguments` in `<folder>/wd`; return its pid and the pipe to read.

    A folder that is there already is of an earlier try and emptied first.  Raises OSError where no process can be made.
    """
    supervisor = os.getpid()
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid == 0:
        _become(supervisor, write_end, folder, arguments, environment)
    os.close(write_end)
    os.set_blocking(read_end, False)
    return pid, read_end


def parse_report(text: bytes) -> tuple[str, int]:
    """Stage and errno of a failure."""
    stage, number = text.decode().split()
    return stage, int(number)


def _become(supervisor: int, report: int, folder: str, arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    """Never returns."""
    stage, number = STAGE_FOLDER, errno.EIO
    try:
        os.setsid()
        _enter(folder)
        stage = STAGE_OUTPUT
        _redirect(1, "../stdout.txt")
        _redirect(2, "../stderr.txt")
        stage = STAGE_LAUNCH
        # A supervisor that died just now cannot watch over this program: nobody would know that it began.
        if os.getppid() == supervisor:
            stage, number = _execute(arguments, environment)
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        os.write(report, f"{stage} {number}".encode())
        os._exit(127)


def _enter(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileNotFoundError:
        os.makedirs(folder, 0o700)
    except FileExistsError:
        _empty(folder)
    os.mkdir(folder + "/wd", 0o700)
    os.chdir(folder + "/wd")


def _empty(folder: str) -> None:
    """What an earlier run left is removed before the next one starts (node agent 1.8.3)."""
    from .processes import remove_tree  # only where a task runs again

    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            os.unlink(path)


def _redirect(descriptor: int, path: str) -> None:
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)


def _execute(arguments: list[bytes], environment: dict[bytes, bytes]) -> tuple[str, int]:
    """Run the program, found as a shell would find it; returns only with the stage and errno of the failure."""
    program = arguments[0]
    if b"/" in program:
        candidates = [program]
    else:
        folders = environment.get(b"PATH", os.defpath.encode()).split(b":")
        candidates = [folder + b"/" + program if folder else program for folder in folders]
    worst = (STAGE_PROGRAM, errno.ENOENT)
    for candidate in candidates:
        try:
            os.execve(candidate, arguments, environment)  # noqa: S606 - no shell is wanted
        except (FileNotFoundError, NotADirectoryError):
            if os.path.isfile(candidate):
                return STAGE_LAUNCH, errno.ENOENT
        except OSError as error:
            worst = (STAGE_LAUNCH, error.errno or errno.EIO)
            if error.errno != errno.EACCES:
                break
    return worst
