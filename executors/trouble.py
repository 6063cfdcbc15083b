"""What can go wrong when files are moved, and Azure Batch's code for it (semantics section 3.11).

Part of the transfer's process (see `transfer`): standard library only.
"""

import errno
import os

MISSING = "missing"
"""What was named is not there."""
DENIED = "denied"
"""It is there, or may be, and we may not have it."""
LATE = "late"
"""Nothing came for too long."""
FAILED = "failed"
"""Network, server or disk: nobody's mistake that can be seen from here."""
WRONG = "wrong"
"""What was asked for cannot be done by anybody: the one who asked has to change it."""
CONFLICT = "conflict"
"""Something else is in the place."""
FOLDER = "folder"
"""A folder cannot be made."""
CREATE = "create"
"""A file cannot be made."""
WRITE = "write"
"""A file cannot be written to its end."""
FULL = "full"
"""The disk, or what we may have of it, is used up."""

FETCHING = "fetching"
LISTING = "listing"
UNPACKING = "unpacking"
UPLOADING = "uploading"

_USERS = {MISSING, DENIED, WRONG, CONFLICT}
"""Kinds that are the user's to mend."""

_CODES = {
    FETCHING: {
        MISSING: "BlobNotFound",
        DENIED: "BlobAccessDenied",
        LATE: "BlobDownloadTimedOut",
        FOLDER: "ResourceDirectoryCreateFailed",
        CREATE: "ResourceFileCreateFailed",
        WRITE: "ResourceFileWriteFailed",
        CONFLICT: "ResourceFileCreateFailed",
    },
    LISTING: {MISSING: "ResourceContainerNotFound", DENIED: "ResourceContainerAccessDenied", LATE: "ResourceContainerListTimedOut"},
    UNPACKING: {},
    UPLOADING: {MISSING: "FileUploadContainerNotFound", DENIED: "FileUploadAccessDenied", CONFLICT: "FileUploadConflict", LATE: "FileUploadTimedOut"},
}
_ELSE = {
    FETCHING: "BlobDownloadMiscError",
    LISTING: "ResourceContainerListMiscError",
    UNPACKING: "ApplicationPackageError",
    UPLOADING: "FileUploadMiscError",
}


class Trouble(Exception):
    """Why a file was not moved.  `again`: another try may well succeed.  `phase`: where it is not that of the step."""

    def __init__(self, kind: str, text: str, *, again: bool = False, phase: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.again = again
        self.phase = phase
        self.number = 0
        """The system's reason, where it had one."""


def category_of(kind: str) -> str:
    """Azure Batch's category: whose it is to mend."""
    return "usererror" if kind in _USERS else "servererror"


def code_of(phase: str, kind: str) -> str:
    """Azure Batch's code for a kind of trouble at what was being done."""
    return "DiskFull" if kind == FULL else _CODES[phase].get(kind, _ELSE[phase])


def from_os(kind: str, text: str, error: OSError) -> Trouble:
    """Trouble of that kind with the system's reason; a full disk is one of its own."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble(FULL, f"{text}: {reason(error)}; make room on the disk")
    trouble = Trouble(kind, f"{text}: {reason(error)}")
    trouble.number = error.errno or 0
    return trouble


def reason(error: OSError) -> str:
    """Why, without the name of the file: that may be one of ours that nobody knows."""
    return os.strerror(error.errno) if error.errno else str(error)
