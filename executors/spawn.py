"""Start a task's program: its folder made ready, its own session, stdout and stderr to files, nothing on stdin.

`posix_spawn` shares the supervisor's memory until the program takes over, so a start costs the same however large the supervisor is
(a fork that copies its page tables was measured at twice the cost), and tells by its error why the program cannot run.  It
takes no working directory: the supervisor, being of one thread, enters the folder itself and goes back.
"""

import errno
import os
from collections.abc import Callable
from typing import NoReturn

from .processes import make_private

# Paths are text relative to the root, and pathlib costs more than the calls it wraps.
# ruff: noqa: PTH102, PTH104, PTH106, PTH113, PTH120

STAGE_FOLDER = "folder"
"""The task's folder could not be made, put aside or entered."""
STAGE_OUTPUT = "output"
"""stdout.txt or stderr.txt could not be created."""
STAGE_PROGRAM = "program"
"""There is no such program."""
STAGE_LAUNCH = "launch"
"""The program is there and cannot be executed."""
STAGE_PROCESS = "process"
"""No process could be made."""
STAGE_CLAIM = "claim"
"""The record could not be created."""
STAGE_ENCODING = "encoding"
"""The command line or environment holds what no program can be given."""
STAGE_IDENTITY = "identity"
"""It cannot run as the user it is meant for; the subject says why."""
STAGE_STOPPED = "stopped"
"""A stop came first."""
STAGES_OF_PROGRAM = (STAGE_PROGRAM, STAGE_LAUNCH, STAGE_ENCODING)
"""Those whose failure is about the program and not about its folder."""

OUTPUTS = ("stdout.txt", "stderr.txt")

OUT_OF_PROCESSES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class NotLaunched(Exception):
    """The program does not run and never did: which stage failed, its errno (0 where there is none), and of what, where that is not plain."""

    def __init__(self, stage: str, number: int, subject: str = "") -> None:
        super().__init__(f"{stage}: {subject or os.strerror(number)}")
        self.fact = {"stage": stage, "errno": number, "subject": subject}


def encode(text: str) -> bytes:
    """What a program is given for `text`; bytes that are not UTF-8 come as lone surrogates.  Raises NotLaunched."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise NotLaunched(STAGE_ENCODING, 0) from None


def spawn(folder: str, aside: str, staged: str | None, arguments: list[bytes], environment: dict[bytes, bytes]) -> tuple[int, bool]:
    """Run `arguments` in `<folder>/wd`; the pid, and whether an earlier run's folder was put at `aside`, to be removed.

    `staged` is a folder with files for the program, which becomes that `wd`.

    Raises NotLaunched.
    """
    stage = STAGE_FOLDER
    root = os.open(".", os.O_RDONLY)
    outputs: list[int] = []
    try:
        put_aside = _enter(folder, aside, staged)
        stage = STAGE_OUTPUT
        for name in OUTPUTS:
            outputs.append(open_output(f"../{name}"))
        return _execute(arguments, environment, outputs), put_aside
    except ValueError:
        raise NotLaunched(STAGE_ENCODING, 0) from None  # a NUL, or a name with "=" in it
    except OSError as error:
        raise NotLaunched(stage, error.errno or errno.EIO) from error
    finally:
        os.fchdir(root)
        for descriptor in (root, *outputs):
            os.close(descriptor)


def make_folder(folder: str, aside: str) -> bool:
    """Make the task's folder anew; what an earlier run left is put aside first (node agent 1.8.3 empties it).  Raises OSError."""
    try:
        os.mkdir(folder, 0o700)
    except FileNotFoundError:
        make_private(folder)
    except FileExistsError:
        put_aside = _put_aside(folder, aside)
        os.mkdir(folder, 0o700)
        return put_aside
    return False


def open_output(path: str) -> int:
    """Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def make_wd(folder: str, staged: str | None) -> str:
    """Make the task's `wd`, of what was `staged` if anything was.  Raises OSError."""
    wd = folder + "/wd"
    if staged is None:
        os.mkdir(wd, 0o700)
    else:
        os.rename(staged, wd)
    return wd


def _enter(folder: str, aside: str, staged: str | None) -> bool:
    """Make the task's folder and enter its `wd`."""
    put_aside = make_folder(folder, aside)
    os.chdir(make_wd(folder, staged))
    return put_aside


def _put_aside(folder: str, aside: str) -> bool:
    """Move the folder away, which takes no longer for a large one; False where it was empty and has just been removed."""
    try:
        os.rmdir(folder)
    except OSError:
        make_private(os.path.dirname(aside))
        os.rename(folder, aside)
        return True
    return False


def _execute(words: list[bytes], environment: dict[bytes, bytes], outputs: list[int]) -> int:
    out, err = outputs
    actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
    return _start(words[0], environment, lambda path: os.posix_spawn(path, words, environment, file_actions=actions, setsid=True))


def execute(words: list[bytes], environment: dict[bytes, bytes]) -> NoReturn:
    """Become the program.  Raises NotLaunched."""
    try:
        _start(words[0], environment, lambda path: os.execve(path, words, environment))  # noqa: S606 - that no shell has a part in it is meant
    except ValueError:
        raise NotLaunched(STAGE_ENCODING, 0) from None
    raise AssertionError  # where it starts, this process is another


def _start(program: bytes, environment: dict[bytes, bytes], start: Callable[[bytes], int]) -> int:
    """Start the program, found as a shell would find it.  Raises NotLaunched."""
    refusal = NotLaunched(STAGE_PROGRAM, errno.ENOENT)
    for candidate in _candidates(program, environment):
        try:
            return start(candidate)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.isfile(candidate):  # then it is its interpreter that is missing
                raise NotLaunched(STAGE_LAUNCH, errno.ENOENT) from None
        except PermissionError as error:
            refusal = NotLaunched(STAGE_LAUNCH, error.errno or errno.EACCES)
        except OSError as error:
            number = error.errno or errno.EIO
            raise NotLaunched(STAGE_PROCESS if number in OUT_OF_PROCESSES else STAGE_LAUNCH, number) from None
    raise refusal


def _candidates(program: bytes, environment: dict[bytes, bytes]) -> list[bytes]:
    """Where the program may be: as named if there is a slash in it, else wherever PATH has such a file."""
    if b"/" in program:
        return [program]
    folders = environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    paths = [folder + b"/" + program if folder else program for folder in folders]
    return [path for path in paths if os.path.isfile(path)]
