"""Requests to a running service from a shell: what the commands that ask one have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from service import exit_codes
from service.terminal_text import say_error

if TYPE_CHECKING:
    from service.client import ClickserveError, Client

REFUSED_REQUESTS = (400, 413, 422)
"""What the service answers where the request itself is wrong: here, what was typed."""


class NotAnswered(click.ClickException):
    """The service gave no answer, or refused to; the exit code says whose fault it is."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click's own way, though typed as the class's

    def show(self, file: object = None) -> None:
        """One line, as all errors of the command line."""
        say_error(self.message)


@contextmanager
def asking(url: str, *, timeout_s: float) -> Iterator[Client]:
    """A client of the service at `url`, whose errors become lines and exit codes.

    Raises:
        NotAnswered: nothing that speaks our HTTP answered in time, or the answer was a problem.
        click.UsageError: the address is not an http or https one, or a value cannot be sent.
    """
    try:
        from service.client import ClickserveError, Client  # httpx is an extra: the serving image does without it
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise NotAnswered("asking a service needs httpx; pip install 'clickserve[client]'", exit_codes.USAGE) from error
    try:
        with Client(url, timeout_s=timeout_s) as client:
            yield client
    except ClickserveError as error:
        raise _not_answered(url, error) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def context_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`hour=13` is a number, `device=phone` text, `--context 'note="13"'` the text 13.

    Raises:
        click.UsageError: a pair without `=`, or a key that is given twice.
    """
    context: dict[str, Any] = {}
    for text in pairs:
        key, value = _context_value(text)
        if key in context:
            raise click.UsageError(f"--context {key} is given twice, with {context[key]!r} and {value!r}; keep one")
        context[key] = value
    return context


def warn_of_unknown_keys(client: Client, model: str, context: Mapping[str, Any]) -> None:
    """Says on stderr which keys of a context the model does not read: a service passes over them, a person mistyped.

    Asks the service once, and not at all without a context.
    """
    if not context:
        return
    known = next((slot.context for slot in client.models() if slot.name == model), None)
    if known is None:  # an older service, or no such model, which its answer says
        return
    for key in context:
        if key not in known:
            there_are = f"it reads {', '.join(known)}" if known else "it reads none"
            say_error(f"warning: model {model} does not read the context key {key!r}; {there_are}")


def _context_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--context {text!r}: expected KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _not_answered(url: str, error: ClickserveError) -> NotAnswered:
    if not error.status:
        return NotAnswered(
            f"no answer from {url} ({error}); is it running? clickserve serve starts it", exit_codes.DEPENDENCY_DOWN
        )
    return NotAnswered(str(error), exit_codes.USAGE if error.status in REFUSED_REQUESTS else exit_codes.FAILURE)
