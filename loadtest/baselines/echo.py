"""The echo server: reads the body, answers `{}`. Nothing that uvicorn serves can be faster: the unit of speed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from loadtest.baselines.serving import Given, run, serve_asgi

NAME = "echo"
BODY = b"{}"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
END = {"type": "http.response.body", "body": BODY}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers every path and method alike."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(END)


async def _live(receive: Receive, send: Send) -> None:
    """Start and end of the server."""
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


def serve(given: Given) -> None:
    """Serves until a signal."""
    serve_asgi(NAME, app, given.port)


if __name__ == "__main__":
    run(NAME, "Read the body, answer {}.", serve)
