"""Addresses: which kind one is, and how it is shown without the secrets that it may hold.

1. What is shown of an address is its scheme, host and path: never user, password, query or fragment, where passwords and signatures are.

Part of the transfer's process (see `transfer`): standard library only.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

from .trouble import WRONG, Trouble

LOCAL = "file"
WEB = ("http", "https")

SECRET_LENGTH_MIN = 8
"""Shorter values of a query (`b`, `r`, a year) keep no secret, and hiding each `b` in a message would leave no message."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s'\"<>]+")
"""In a text; without a bound on the scheme a long word would take the square of its length."""
HIDDEN = "***"


def scheme_of(url: str) -> str:
    """The scheme of an address, in lower case; an absolute path is a `file`.  Raises Trouble."""
    if url.startswith("/"):
        return LOCAL
    found = _SCHEME.match(url)
    if found is None:
        raise Trouble(WRONG, f"{shown(url)!r} is neither an address with a scheme (https://, file://, s3://) nor an absolute path")
    return found[1].lower()


def local_path(url: str) -> str:
    """The path that a `file://` address or an absolute path means.  Raises Trouble."""
    if url.startswith("/"):
        path = url
    else:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise Trouble(WRONG, f"{shown(url)}: a file address names no other host; write file:///path")
        path = unquote(parts.path)
    if not path.startswith("/") or "\0" in path:
        raise Trouble(WRONG, f"{shown(url)}: a file address has an absolute path")
    return path


def below(url: str, name: str) -> str:
    """The address of `name` below a web address, in front of its query."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


def shown(url: str) -> str:
    """An address as it may be shown (rule 1)."""
    if url.startswith("/"):
        return url
    rest, _, _ = url.partition("#")
    rest, _, _ = rest.partition("?")
    head, slashes, tail = rest.partition("://")
    host, slash, path = tail.partition("/")
    return f"{head}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def secrets_of(url: str) -> set[str]:
    """What of an address must not be shown, as it stands and as it is meant."""
    if url.startswith("/"):
        return set()
    rest, _, fragment = url.partition("#")
    rest, _, query = rest.partition("?")
    user = rest.partition("://")[2].partition("/")[0].rpartition("@")[0]
    words = {query, user, fragment, *(part.partition("=")[2] for part in query.split("&"))}
    password = user.partition(":")[2]
    found = {each for word in words for each in (word, unquote(word), quote(unquote(word), safe="")) if len(each) >= SECRET_LENGTH_MIN}
    return found | {each for each in (password, unquote(password)) if each}


def redactor(urls: Iterable[str]) -> "Redactor":
    """What hides the secrets of these addresses in messages."""
    return Redactor({secret for url in urls for secret in secrets_of(url)})


class Redactor:
    """Hides in any text what addresses in it hold, and the secrets it was told of."""

    def __init__(self, secrets: set[str]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = _ADDRESS.sub(lambda found: shown(found[0]), text)
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text
