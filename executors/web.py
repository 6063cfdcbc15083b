"""Requests to web servers: what is sent, which redirects are followed, and what an answer means.

1. Only http and https are spoken, and a redirect leads to nothing else, nor from https to http.
2. A user and password in an address are sent to the server it names, and to no other that this one redirects to.

Part of the transfer's process (see `transfer`): standard library only.  Its imports take a tenth of a second, and so are made late.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from .trouble import CONFLICT, DENIED, FAILED, LATE, MISSING, WRONG, Trouble
from .urls import WEB, scheme_of, shown

AGENT = "jobledger"
AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Answers that ask to try again, beside those that say the server is at fault."""


@contextmanager
def web_opened(url: str, timeout_s: float, *, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None) -> Iterator[Any]:
    """The server's good answer, an `http.client.HTTPResponse`.  Raises Trouble."""
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    name = shown(url)
    plain, authorization = _without_user(url)
    try:
        request = Request(  # noqa: S310 - the opener speaks http and https only
            plain, data=body, method=method, headers={"User-Agent": AGENT, **(headers or {})}
        )
        if authorization is not None:
            request.add_unredirected_header("Authorization", authorization)
        response = _opener().open(request, timeout=timeout_s)
    except HTTPError as error:
        error.close()
        raise refusal_of(name, error.code) from None
    except (URLError, OSError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            raise Trouble(LATE, f"{name}: the server did not answer for {timeout_s:g} s; check it, or try again") from None
        raise Trouble(FAILED, f"{name}: the server cannot be reached: {cause}", again=True) from None
    except InvalidURL:  # its text has the whole address in it
        text = "this is no web address: write a space or a control character in it as %20 and the like, and a port in digits"
        raise Trouble(WRONG, f"{name}: {text}") from None
    except HTTPException as error:
        raise Trouble(FAILED, f"{name}: the server does not speak HTTP as expected ({type(error).__name__})", again=True) from None
    except ValueError as error:
        raise Trouble(WRONG, f"{name}: this is no web address: {error}") from None
    with response:
        yield response


def refusal_of(name: str, status: int) -> Trouble:
    """What an answer other than a good one means."""
    try:
        said = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        said = str(status)
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return Trouble(MISSING, f"{name} is not there (the server says {said}); check the address")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
        return Trouble(DENIED, f"{name}: the server denies access ({said}); check the address and its signature or password")
    if status in (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED):
        return Trouble(CONFLICT, f"{name}: something else is there ({said})")
    if 300 <= status < 400:
        return Trouble(FAILED, f"{name}: the server redirects for ever, or to nowhere ({said})")
    return Trouble(FAILED, f"{name}: the server says {said}", again=status >= 500 or status in AGAIN)


def _opener() -> Any:
    """What opens http and https, and nothing else that urllib could."""
    from urllib import request

    class Redirects(request.HTTPRedirectHandler):
        """Follows where it may (rule 1)."""

        def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
            wanted = urljoin(req.full_url, headers.get("location", ""))
            scheme = scheme_of(wanted)
            if scheme not in WEB or (req.type == "https" and scheme == "http"):
                raise Trouble(WRONG, f"{shown(req.full_url)}: the server redirects to {shown(wanted)}, and from {req.type} that is not followed")
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            after = super().redirect_request(req, fp, code, msg, headers, newurl)
            if after is not None and (after.type, after.host) == (req.type, req.host) and (same := req.unredirected_hdrs.get("Authorization")):
                after.add_unredirected_header("Authorization", same)
            return after

    opener = request.OpenerDirector()
    kinds = (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, Redirects, request.HTTPErrorProcessor, request.HTTPDefaultErrorHandler)
    for kind in kinds:
        opener.add_handler(kind())
    return opener


def _without_user(url: str) -> tuple[str, str | None]:
    """The address without user and password, and the header that carries them."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    name, _, password = user.partition(":")
    words = f"{unquote(name)}:{unquote(password)}".encode()
    return parts._replace(netloc=host).geturl(), f"Basic {base64.b64encode(words).decode()}"
