"""The admin port: what operators and Prometheus ask the parent process.

`/metrics` adds up all workers; `/workers` shows their states; `/livez` says that the parent turns. Where a token is set
every request must carry it (`Authorization: Bearer …`), whoever asks.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from service.asgi import Message, Receive, Send
from service.errors import SettingsError

JSON = "application/json"
PROBLEM = "application/problem+json"


def read_token(path: Path | None) -> str | None:
    """The bearer token of the admin port, None where no file is named.

    Raises:
        SettingsError: the file cannot be read, or holds no token that a header can carry.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"admin.token_file = {path} cannot be read: {error}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"admin.token_file = {path} must hold one line of visible ASCII characters, the token")
    return token


class AdminApp:
    """An ASGI application of three pages."""

    def __init__(
        self,
        *,
        metrics: Callable[[], bytes],
        metrics_content_type: str,
        workers: Callable[[], list[dict[str, object]]],
        token: str | None,
    ) -> None:
        """`metrics` and `workers` are called once for each request to their page."""
        self._token = None if token is None else token.encode()
        self.pages: Mapping[str, tuple[str, Callable[[], bytes]]] = {
            "/metrics": (metrics_content_type, metrics),
            "/workers": (JSON, lambda: msgspec.json.encode({"workers": workers()})),
            "/livez": (JSON, lambda: b'{"status":"ok"}'),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        status, kind, body, headers = self._answer(scope)
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Message) -> tuple[int, str, bytes, list[tuple[bytes, bytes]]]:
        """Status, content type, body and further headers."""
        if not self._may_ask(scope):
            detail = "the admin port needs the bearer token of admin.token_file"
            return 401, PROBLEM, _problem(401, "Unauthorized", detail), [(b"www-authenticate", b"Bearer")]
        page = self.pages.get(scope["path"])
        if page is None:
            detail = f"no page {scope['path']!r}; there is {', '.join(self.pages)}"
            return 404, PROBLEM, _problem(404, "Not Found", detail), []
        if scope["method"] not in ("GET", "HEAD"):
            return 405, PROBLEM, _problem(405, "Method Not Allowed", "ask with GET"), [(b"allow", b"GET, HEAD")]
        kind, content = page
        return 200, kind, content(), []

    def _may_ask(self, scope: Message) -> bool:
        if self._token is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        # A scheme's case says nothing, and any number of blanks may follow it (RFC 9110, 11.1 and 11.4).
        return hmac.compare_digest(token.lstrip(b" "), self._token) and scheme.lower() == b"bearer"


def _problem(status: int, title: str, detail: str) -> bytes:
    return msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
