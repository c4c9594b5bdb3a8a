"""Text that came from outside, as a terminal may get it: a control character is shown, never obeyed.

Names in a model file, an id, a path or a server's answer may hold escape sequences, which colour, move or rewrite what
stands on a screen, and marks that turn the order of reading round. Line ends and tabs pass: our own tables use them.
"""

from __future__ import annotations

import re

import click

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1, the marks of direction that reach over what follows, and halves of characters, which no stream encodes."""


def visible(text: str) -> str:
    r"""The text with each of these characters as Python writes it: `\x1b` for the one that begins a colour."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say_error(error: object) -> None:
    """One line on stderr, as all errors of the command line."""
    click.echo(f"clickserve: {visible(str(error))}", err=True)
