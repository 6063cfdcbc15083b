"""Names of files that a user gives: where resource files go, which outputs are uploaded.

Looked at before anything is done, so that a job with a path that leads out of its folder is refused whole.  Whoever writes or reads the
files looks again, at the folder as it is then.

1. A file path is relative and stays inside: neither absolute nor with `..` in it.
2. An output pattern is relative to the task's `wd`; one leading `../` reaches the task's own folder, and nothing reaches further.
3. A file mode has no bits but those of read, write and execute.
"""

import re

from . import limits


def mistake_in_file_path(text: str) -> str | None:
    """What is wrong with the path of a file below some folder, such as `data/in.txt`; None where nothing is."""
    if (mistake := mistake_in_folder_path(text)) is not None:
        return mistake
    if text.split("/")[-1] in ("", "."):
        return f"{text!r} names no file"
    return None


def mistake_in_folder_path(text: str) -> str | None:
    """What is wrong with the path of a folder below some folder, such as `data/`; None where nothing is."""
    if not text:
        return "must not be empty"
    if text.startswith("/"):
        return f"{text!r} must be relative"
    if ".." in text.split("/"):
        return f"{text!r} must not contain '..'"
    return _mistake_in_form(text)


def mistake_in_pattern(text: str) -> str | None:
    """What is wrong with an output pattern, such as `out/**/*.csv` or `../std*.txt`; None where nothing is."""
    if not text:
        return "must not be empty"
    if text.startswith("/"):
        return f"{text!r} must be relative to the task's working directory"
    if ".." in text.removeprefix("../").split("/"):
        return f"{text!r} must not contain '..' but once, in front: nothing outside the task's folder is read"
    if text.split("/")[-1] in ("", "."):
        return f"{text!r} names no file: for all below a folder write 'folder/**'"
    return _mistake_in_form(text)


def mistake_in_file_mode(text: str) -> str | None:
    """What is wrong with an octal file mode, such as `0644`; None where nothing is, and then `int(text, 8)` is the mode."""
    if not re.fullmatch(r"[0-7]{1,4}", text):
        return f"{text!r} is not an octal mode such as '0755'"
    if int(text, 8) > 0o777:
        return f"{text!r} must be at most 0777: set-user-id, set-group-id and sticky bits are not allowed"
    return None


def _mistake_in_form(text: str) -> str | None:
    """What no file system takes."""
    if "\0" in text:
        return "must not contain a NUL character"
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > limits.FILE_PATH_BYTES_MAX:
        return f"is {len(encoded)} bytes long, and must have at most {limits.FILE_PATH_BYTES_MAX}"
    if max(map(len, encoded.split(b"/"))) > limits.FILE_NAME_BYTES_MAX:
        return f"a name in it is longer than {limits.FILE_NAME_BYTES_MAX} bytes"
    return None
