"""Every command, option, target and setting that a page shows exists: also what takes too long to run, or needs what a
test has not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from service.cli import cli
from service.settings_origins import load_settings
from tests.conftest import REPOSITORY
from tests.snippets import PAGES, page


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Each line of each shell block of each page, in words; a line that ends in a backslash goes on."""
    for path in PAGES:
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(clickserve|make|(\.venv/bin/)?python -m) ", line):
                    yield f"{path.relative_to(REPOSITORY)}: {line}", shlex.split(line, comments=True)


def missing_words(words: list[str]) -> list[str]:
    """Commands, options, targets and modules that are not there."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", page("Makefile"), re.MULTILINE)
        return [word for word in words[1:] if "=" not in word and word not in targets]
    if words[0] != "clickserve":
        module = REPOSITORY / words[2].replace(".", "/")
        return [] if module.is_dir() or module.with_suffix(".py").exists() else [words[2]]
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        found = command.get_command(
            click.Context(command), rest[0].removeprefix("--")
        )  # `bench --suite` is `bench suite`
        if found is None:
            break
        command, rest = found, rest[1:]
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        return [rest[0]]
    known = {
        name for option in command.get_params(click.Context(command)) for name in option.opts + option.secondary_opts
    }
    return [word for word in rest if word.startswith("--") and word != "--" and word.partition("=")[0] not in known]


def test_every_command_that_a_page_shows_exists_with_its_options() -> None:
    """Those that take too long to run as well, or need what a test has not."""
    shown = list(shown_commands())

    assert len(shown) >= 40
    assert [line for line, words in shown if missing_words(words)] == []


@pytest.mark.parametrize("name", ["configuration.md", "served-log.md"])
def test_settings_that_a_page_shows_are_taken(name: str, tmp_path: Path) -> None:
    """They are pasted into `clickserve.toml`."""
    for block in re.findall(r"^```toml\n(.*?)^```", page(f"docs/{name}"), re.MULTILINE | re.DOTALL):
        (tmp_path / "clickserve.toml").write_text(block)
        load_settings(tmp_path / "clickserve.toml", {}, {})
