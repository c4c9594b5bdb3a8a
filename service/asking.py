"""Requests to a running service from a shell: what the commands that ask one have in common."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import click

from service import exit_codes

REFUSED_REQUESTS = (400, 413, 422)
"""What the service answers where the request itself is wrong: here, what was typed."""


class NotAnswered(click.ClickException):
    """The service gave no answer, or refused to; the exit code says whose fault it is."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click's own way, though typed as the class's

    def show(self, file: object = None) -> None:
        """One line, as all errors of the command line."""
        click.echo(f"clickserve: {self.message}", err=True)


def asked(url: str, route: str, body: object, *, timeout_s: float) -> dict[str, Any]:
    """The answer of a service to one POST.

    Raises:
        NotAnswered: nothing that speaks HTTP answered in time, or the answer was a problem.
        click.UsageError: the address is not an http or https one.
    """
    try:
        status, answer = _post_json(f"{url.rstrip('/')}{route}", body, timeout_s=timeout_s)
    except (OSError, HTTPException) as error:
        raise NotAnswered(
            f"no answer from {url} ({error}); is it running? clickserve serve starts it", exit_codes.DEPENDENCY_DOWN
        ) from error
    if status != 200:
        code = exit_codes.USAGE if status in REFUSED_REQUESTS else exit_codes.FAILURE
        raise NotAnswered(f"{status} {answer.get('title', '')}: {answer.get('detail', answer)}", code)
    return answer


def context_of(pairs: tuple[str, ...]) -> dict[str, object]:
    """`hour=13` is a number, `device=phone` text, `--context 'note="13"'` the text 13."""
    return dict(_context_value(text) for text in pairs)


def _context_value(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--context {text!r}: expected KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _post_json(url: str, body: object, *, timeout_s: float) -> tuple[int, dict[str, Any]]:
    """Status and decoded document of one POST with a JSON body."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"{url!r} is not an address like http://host:port")
    connection = (HTTPSConnection if parts.scheme == "https" else HTTPConnection)(
        parts.hostname, parts.port, timeout=timeout_s
    )
    try:
        connection.request("POST", parts.path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    try:
        document = json.loads(text)
    except ValueError:
        document = {"detail": text[:200].decode(errors="replace")}
    return response.status, document if isinstance(document, dict) else {"detail": document}
