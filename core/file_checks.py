"""What makes sense in resource files, output files and application packages: every mistake, as its path and its text.

Part of `checks`, which puts the paths below those of the pool, job or task.  What is refused here is looked at again where files are moved,
since what a variable in a pattern stands for, and what lies in a folder or a zip, shows only then.
"""

import re
from collections.abc import Iterator, Sized
from typing import Final

from . import limits
from .filepaths import mistake_in_file_mode, mistake_in_file_path, mistake_in_folder_path, mistake_in_pattern
from .ids import ID_PATTERN
from .specs import ApplicationPackageReference, OutputFile, ResourceFile, package_variable

Found = tuple[str, str]
"""Where in the list (`[3].filePath`), and what is wrong there."""

_VERSION: Final = r"[A-Za-z0-9._-]{1,64}"
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")


def mistakes_in_resource_files(files: tuple[ResourceFile, ...]) -> Iterator[Found]:
    """What is wrong with files to be fetched."""
    yield from _too_many(files)
    for number, file in enumerate(files):
        for name, text in _resource_file(file):
            yield f"[{number}]{name}", text


def mistakes_in_output_files(files: tuple[OutputFile, ...]) -> Iterator[Found]:
    """What is wrong with files to be uploaded."""
    yield from _too_many(files)
    for number, file in enumerate(files):
        container = file.destination.container
        if (text := mistake_in_pattern(file.file_pattern)) is not None:
            yield f"[{number}].filePattern", text
        if (text := _mistake_in_address(container.container_url)) is not None:
            yield f"[{number}].destination.container.containerUrl", text
        if container.path is not None and (text := mistake_in_folder_path(container.path)) is not None:
            yield f"[{number}].destination.container.path", text


def mistakes_in_packages(references: tuple[ApplicationPackageReference, ...]) -> Iterator[Found]:
    """What is wrong with references to application packages."""
    yield from _too_many(references)
    seen: dict[str, int] = {}
    for number, reference in enumerate(references):
        for name, text in _package(reference):
            yield f"[{number}]{name}", text
        if (first := seen.setdefault(package_variable(reference), number)) != number:
            yield f"[{number}]", f"has the same environment variable as [{first}], {package_variable(reference)}"


def _too_many(what: Sized) -> Iterator[Found]:
    if len(what) > limits.TRANSFER_STEPS_MAX:
        yield "", f"{len(what)} are more than the {limits.TRANSFER_STEPS_MAX} of one command line; name a folder, or pack them"


def _resource_file(file: ResourceFile) -> Iterator[Found]:
    addresses = [(name, url) for name, url in (("httpUrl", file.http_url), ("storageContainerUrl", file.storage_container_url)) if url is not None]
    if len(addresses) != 1:
        yield "", "must have exactly one of httpUrl (a file) and storageContainerUrl (a folder)"
    for name, url in addresses:
        if (text := _mistake_in_address(url)) is not None:
            yield f".{name}", text
    if re.match(r"https?:", file.storage_container_url or "", re.IGNORECASE):
        yield ".storageContainerUrl", "http cannot list a folder; use an address that fsspec knows (abfs://..., s3://...), file:///... or a path"
    if file.http_url is not None and file.storage_container_url is None:
        if file.file_path is None:
            yield ".filePath", "is missing: with httpUrl it says where in the working directory the file goes"
        elif (text := mistake_in_file_path(file.file_path)) is not None:
            yield ".filePath", text
        if file.blob_prefix is not None:
            yield ".blobPrefix", "belongs to storageContainerUrl"
    elif file.file_path is not None and (text := mistake_in_folder_path(file.file_path)) is not None:
        yield ".filePath", text
    if file.file_mode is not None and (text := mistake_in_file_mode(file.file_mode)) is not None:
        yield ".fileMode", text


def _package(reference: ApplicationPackageReference) -> Iterator[Found]:
    if not re.fullmatch(ID_PATTERN, reference.application_id):
        yield ".applicationId", f"{reference.application_id!r} is not an id: 1 to 64 letters, digits, '-' and '_'"
    if reference.version is not None and not re.fullmatch(_VERSION, reference.version):
        yield ".version", f"{reference.version!r} is not a version: 1 to 64 letters, digits, '.', '-' and '_'"
    if (text := _mistake_in_address(reference.url)) is not None:
        yield ".url", text
    if reference.sha256 is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", reference.sha256):
        yield ".sha256", "is not a SHA-256 digest: 64 hexadecimal digits"


def _mistake_in_address(url: str) -> str | None:
    """What is wrong with an address; its text may hold a signature, so it is not repeated."""
    if "\0" in url:
        return "must not contain a NUL character"
    if len(url.encode("utf-8", "surrogatepass")) > limits.URL_BYTES_MAX:
        return f"longer than {limits.URL_BYTES_MAX} bytes"
    if not url.startswith("/") and not _ADDRESS.match(url):
        return "is neither an address (https://..., file:///..., s3://...) nor an absolute path"
    return None
