"""The admin port answers operators, and with a token nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.admin import AdminApp, read_token
from service.asgi import Message
from service.errors import SettingsError


async def ask(
    app: AdminApp, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of one answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": encoded}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def admin(token: str | None = None) -> AdminApp:
    return AdminApp(
        metrics=lambda: b"clickserve_workers 2.0\n",
        metrics_content_type="text/plain; version=0.0.4",
        workers=lambda: [{"worker": 0, "pid": 7, "state": "ready"}],
        token=token,
    )


async def test_metrics_and_workers_are_shown() -> None:
    """The two questions that the parent alone can answer."""
    metrics = await ask(admin(), "/metrics")
    workers = await ask(admin(), "/workers")

    assert metrics == (
        200,
        {b"content-type": b"text/plain; version=0.0.4", b"content-length": b"23"},
        b"clickserve_workers 2.0\n",
    )
    assert json.loads(workers[2]) == {"workers": [{"worker": 0, "pid": 7, "state": "ready"}]}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        *({"authorization": value} for value in ("Bearer wrong", "secret", "Basic secret", "Bearer", "Bearer SECRET")),
    ],
)
async def test_a_token_is_demanded_of_everybody(headers: dict[str, str]) -> None:
    """Also for pages that do not exist: a stranger learns nothing."""
    for path in ("/metrics", "/workers", "/livez", "/nothing"):
        status, answered, _ = await ask(admin("secret"), path, **headers)

        assert (status, answered[b"www-authenticate"]) == (401, b"Bearer")


@pytest.mark.parametrize("value", ["Bearer secret", "bearer secret", "BEARER  secret"])
async def test_the_token_opens(value: str) -> None:
    """Prometheus sends it as `authorization: type: Bearer`; the scheme's case says nothing (RFC 9110, 11.1)."""
    status, _, _ = await ask(admin("secret"), "/metrics", authorization=value)

    assert status == 200


@pytest.mark.parametrize(("path", "method", "status"), [("/nothing", "GET", 404), ("/metrics", "POST", 405)])
async def test_other_questions_are_answered_as_problems(path: str, method: str, status: int) -> None:
    """One shape of error on every port."""
    answered, headers, body = await ask(admin(), path, method=method)

    assert (answered, headers[b"content-type"]) == (status, b"application/problem+json")
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "pässwort"])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    """Otherwise every scrape fails, and nobody knows why."""
    path = tmp_path / "token"
    path.write_text(content)

    with pytest.raises(SettingsError, match=r"admin\.token_file"):
        read_token(path)


def test_a_token_may_end_with_a_line_break(tmp_path: Path) -> None:
    """Editors and `echo` add one."""
    path = tmp_path / "token"
    path.write_text("secret\n")

    assert read_token(path) == "secret"
    assert read_token(None) is None
