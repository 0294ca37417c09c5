"""Who is answered, and what a browser may do with an answer.

There is no password: whoever can open a connection from this machine may look. So a page of another site must not get
to look through the browser of somebody here. What is asked for under another name than this machine's own is refused
(a foreign name that is made to lead here would count as the same site), no other site may read an answer, and one that
has the browser ask all the same gets none, for each question costs a read.
"""

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_OWN_SITES = ("same-origin", "none")
_METHODS = ("GET", "HEAD")
DATA = "/data/"
"""Where what was read from the store is to be had."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Stands before the application; no answer leaves without its headers."""

    def __init__(self, app: ASGIApp, port: int, fault: Callable[[Exception], None]) -> None:
        self._app = app
        self._hosts = frozenset(f"{name}:{port}" for name in _OWN_NAMES)
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; a fault of ours is told to whoever started the server, and is no traceback."""
        if scope["type"] != "http":
            return
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_guarded)
        except Exception as fault:  # noqa: BLE001 - the last resort: one request that fails must not end the others
            self._fault(fault)
            if not has_begun:
                answer = PlainTextResponse("This is a fault of elastic; its terminal says more.\n", 500)
                await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if scope["method"] not in _METHODS:
            return PlainTextResponse("This page changes nothing: it can only be read.\n", 405, {"Allow": "GET, HEAD"})
        if headers.get("host", "").lower() not in self._hosts:  # of two, h11 has refused the request
            return PlainTextResponse("Use the address that `elastic dashboard` has printed.\n", 421)
        if scope["path"].startswith(DATA) and headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return PlainTextResponse("Other sites may not ask.\n", 403)
        return None
