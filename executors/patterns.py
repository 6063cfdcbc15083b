"""Output patterns: which files of a task's folder are meant (semantics section 3.6).

    *        any characters of one name            ?        one character
    [a-c]    one of these, [!a-c] any other        **       any folders, none too; at the end, all files below

1. A pattern begins in the task's `wd`; one leading `../` lets it begin in the task's own folder.  It never leaves that folder: names
   are looked up one by one, in open folders, and `..` is none of them.
2. A name that begins with a dot is only matched by a part of the pattern that begins with one.
3. A link is followed if what it means lies in the task's folder, but `**` passes through none: they may lead in circles.
4. Variables, $NAME and ${NAME}, stand for what they are before the pattern is looked at.
5. What matches and is not read is told, each with the reason: a link that leads out, or what is no plain file.

Part of the transfer's process (see `transfer`): standard library only.
"""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping

from .beneath import FOLDER_FLAGS, open_file
from .trouble import DENIED, FAILED, WRONG, Trouble, reason

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_WILDCARDS = re.compile(r"[*?[]")

WORK = "wd"
EXPANDED_LENGTH_MAX = 4096
"""The longest path that the system takes: a variable may be a hundred times as long, and there may be hundreds in a pattern."""
LINKS_MAX = 40
"""Links followed for one name, as the system itself has it."""

Parts = tuple[str, ...]


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """The text with the values of its variables.  Raises Trouble for one that is not set, and for what gets too long to be a path."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in environment:
            raise Trouble(WRONG, f"{text!r}: the task has no environment variable {name}, or it is secret and not to be in a name")
        return environment[name]

    found = _VARIABLE.sub(value, text)
    if len(found) > EXPANDED_LENGTH_MAX:
        raise Trouble(WRONG, f"{text!r}: with its variables in place it has {len(found)} characters, and may have {EXPANDED_LENGTH_MAX}")
    return found


def has_wildcard(pattern: str) -> bool:
    return _WILDCARDS.search(pattern) is not None


class Tree:
    """A task's folder, to be searched.  Told of each file that is skipped."""

    def __init__(self, path: str, base: int, *, most: int, depth: int, moved: Callable[[int], None]) -> None:
        self._path = path
        self._base = base
        self._most = most
        self._depth = depth
        self._moved = moved
        self._owner = _owner_of(base)
        self._visited: set[tuple[Parts, Parts]] = set()
        self.skipped: list[tuple[str, str]] = []
        """Names that matched, with the reason why they are not read."""

    def parts_of(self, pattern: str) -> Parts:
        """An expanded pattern as names below the task's folder.  Raises Trouble where it leads elsewhere (rule 1)."""
        if pattern.startswith("/"):
            inside = next((pattern[len(top) :] for top in (self._path + "/", os.path.realpath(self._path) + "/") if pattern.startswith(top)), None)
            if inside is None:
                raise Trouble(WRONG, f"{pattern!r} lies outside the task's folder, and only files of the task are uploaded")
            parts = [part for part in inside.split("/") if part not in ("", ".")]
        else:
            up = pattern.startswith("../")
            parts = [part for part in pattern.removeprefix("../").split("/") if part not in ("", ".")]
            parts = parts if up else [WORK, *parts]
        if ".." in parts or "\0" in pattern:
            raise Trouble(WRONG, f"{pattern!r} leads out of the task's folder, and only files of the task are uploaded")
        return tuple(parts)

    def matches(self, parts: Parts) -> list[Parts]:
        """Every plain file that matches, in the order of names; each as the names that lead to it.  Raises Trouble."""
        found: dict[Parts, None] = {}
        self._visited.clear()
        for names in self._search((), parts):
            found[names] = None
            if len(found) > self._most:
                raise Trouble(WRONG, f"more than {self._most} files match; make an archive of them, and upload that")
        return list(found)

    def open(self, names: Parts) -> int:
        """The descriptor of a plain file, for reading.  Raises OSError, ValueError with the reason why it is not read."""
        folder, name = self._resolve(names)
        try:
            file = open_file(folder, name)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ESTALE):
                raise ValueError(error.strerror) from None
            raise
        finally:
            os.close(folder)
        if (why := self._foreign(os.fstat(file))) is not None:
            os.close(file)
            raise ValueError(why)
        return file

    # search

    def _search(self, here: Parts, rest: Parts) -> Iterator[Parts]:
        """Files below `here` that match the rest of a pattern."""
        if not rest or (here, rest) in self._visited:  # `**/**` leads to the same place in many ways
            return
        self._visited.add((here, rest))
        self._moved(0)
        if len(here) > self._depth:
            self.skipped.append(("/".join(here), f"it is more than {self._depth} folders deep"))
            return
        part, after = rest[0], rest[1:]
        if part == "**":
            yield from self._search_deep(here, after)
        elif not has_wildcard(part):
            yield from self._step(here, part, after)
        else:
            for name in self._names(here):
                if _matches(name, part):
                    yield from self._step(here, name, after)

    def _step(self, here: Parts, name: str, after: Parts) -> Iterator[Parts]:
        found = (*here, name)
        kind = self._kind(found)
        if not after and kind == "file":
            yield found
        elif after and kind == "folder":
            yield from self._search(found, after)

    def _search_deep(self, here: Parts, after: Parts) -> Iterator[Parts]:
        """`**`: here, and in every folder below that has no leading dot and is no link."""
        yield from self._search(here, after or ("*",))
        for name in self._names(here):
            found = (*here, name)
            if not name.startswith(".") and self._is_real_folder(found):
                yield from self._search(found, ("**", *after))

    def _names(self, folder: Parts) -> list[str]:
        try:
            here = self._folder(folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return []  # it went away, or is none
            raise _unreadable(folder, error) from None
        except ValueError:
            return []  # it became a link that leads out
        try:
            return sorted(os.listdir(here))  # noqa: PTH208 - by descriptor
        except OSError as error:
            raise _unreadable(folder, error) from None
        finally:
            os.close(here)

    def _kind(self, names: Parts) -> str:
        """`file` for a plain file and `folder` for a folder, links followed; else empty, and told why if there is a reason."""
        try:
            folder, name = self._resolve(names)
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            self.skipped.append(("/".join(names), reason(error) if isinstance(error, OSError) else str(error)))
            return ""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return ""
        finally:
            os.close(folder)
        if stat.S_ISDIR(found.st_mode):
            return "folder"
        why = self._foreign(found) if stat.S_ISREG(found.st_mode) else "it is no plain file"
        if why is not None:
            self.skipped.append(("/".join(names), why))
            return ""
        return "file"

    def _is_real_folder(self, names: Parts) -> bool:
        try:
            folder = self._folder(names[:-1])
        except (OSError, ValueError):
            return False
        try:
            return stat.S_ISDIR(os.stat(names[-1], dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            return False
        finally:
            os.close(folder)

    # names to descriptors

    def _folder(self, names: Parts) -> int:
        """The descriptor of a folder, links inside followed.  Raises OSError, ValueError."""
        here, name = self._resolve((*names, "."))
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=here)
        finally:
            os.close(here)

    def _resolve(self, names: Parts) -> tuple[int, str]:
        """The folder in which the last name really lies, and that name: links are followed by hand, one name at a time (rule 1).

        Raises OSError where there is no such thing, ValueError where it leads out.
        """
        stack = [os.dup(self._base)]
        todo = list(reversed(names))
        links = 0
        try:
            while True:
                name = todo.pop()
                if name == "..":
                    if len(stack) == 1:
                        raise ValueError("it is a link that leads out of the task's folder")
                    os.close(stack.pop())
                    name = "."
                if name != "." and (target := _target(stack[-1], name)) is not None:
                    links += 1
                    if links > LINKS_MAX:
                        raise ValueError("its links lead in a circle")
                    todo.extend(reversed(self._link_parts(target, stack)))
                    continue
                if not todo:
                    return stack.pop(), name
                if name != ".":
                    stack.append(os.open(name, FOLDER_FLAGS, dir_fd=stack[-1]))
        finally:
            for descriptor in stack:
                os.close(descriptor)

    def _link_parts(self, target: str, stack: list[int]) -> list[str]:
        """What a link says, as names to go on with; an absolute one has to lead into the task's folder again."""
        if target.startswith("/"):
            if not f"{target}/".startswith(f"{self._path}/"):
                raise ValueError("it is a link that leads out of the task's folder")
            target = target[len(self._path) :]
            while len(stack) > 1:
                os.close(stack.pop())
        return [part for part in target.split("/") if part not in ("", ".")] or ["."]

    def _foreign(self, found: os.stat_result) -> str | None:
        """Why a file that somebody linked to here under another name is not read: it may be one that the task itself could not."""
        if found.st_nlink > 1 and found.st_uid != self._owner:
            return "it has another name somewhere, and belongs to another user than the task"
        return None


def _owner_of(base: int) -> int:
    """The user who runs the task: its `wd` is that user's."""
    try:
        return os.stat(WORK, dir_fd=base, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return os.fstat(base).st_uid


def _matches(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, part)


def _unreadable(folder: Parts, error: OSError) -> Trouble:
    """A folder whose names cannot be had must not pass for an empty one: what is in it would be missing, and nobody told."""
    return Trouble(DENIED if isinstance(error, PermissionError) else FAILED, f"the folder {'/'.join(folder)} cannot be read: {reason(error)}")


def _target(folder: int, name: str) -> str | None:
    """What a link says; None for what is none.  Raises OSError where nothing is there."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise
