"""What commands say to people and machines while they work."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
from rich.styled import Styled
from rich.table import Table

from service.console import Console, Screen, key_value_table
from service.terminal_text import say_error

HOSTILE = "[/nope][bold]x[/bold] :bomb: reg[a]\\[b] \x1b[31mred\x9b2J\u202e\udcff\r\x07"
SHOWN = r"[/nope][bold]x[/bold] :bomb: reg[a]\[b] \x1b[31mred\x9b2J\u202e\udcff\r\x07"


def titled(text: str) -> Table:
    return Table("wider than its title".ljust(200), title=text, box=None)


def celled(text: str) -> Table:
    table = Table(text, box=None)
    table.add_row("under the heading")
    table.add_row(text)
    table.add_row(Styled(text, "red"))
    return table


@pytest.mark.parametrize(
    ("times", "draw"),
    [
        (1, lambda screen, text: screen.print(text)),
        (1, lambda screen, text: screen.print(text, style="red", soft_wrap=True)),
        (1, lambda screen, text: screen.print(titled(text))),
        (3, lambda screen, text: screen.print(celled(text))),
        (3, lambda screen, text: screen.print(key_value_table(text, {text: text}))),
    ],
    ids=["line", "styled line", "title", "heading and cells", "names and values"],
)
def test_whatever_is_printed_is_text(times: int, draw: Callable[[Screen, str], None]) -> None:
    """A name from a file or an answer must neither end a command with a traceback nor move or colour a terminal."""
    stream = StringIO()
    screen = Screen(file=stream, width=400)

    draw(screen, HOSTILE)

    assert stream.getvalue().count(SHOWN) == times
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_stages_and_lines_are_text(is_terminal: bool) -> None:
    """They name paths and views; on a terminal a bar is drawn beside them."""
    console = Console(json_only=False)
    stream = StringIO()
    console.err = Screen(file=stream, width=400, force_terminal=is_terminal, soft_wrap=True)
    with console.progress() as on_progress:
        on_progress(f"reading {HOSTILE}", 0.5)

    console.say(HOSTILE)

    assert f"reading {SHOWN}" in stream.getvalue()
    assert stream.getvalue().endswith(f"{SHOWN}\n")
    assert "\x1b[31mred" not in stream.getvalue()


def test_an_error_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It may repeat what a service or a file said; its line ends are its own."""
    say_error(f"two\nlines {HOSTILE}")

    assert capsys.readouterr().err == f"clickserve: two\nlines {SHOWN}\n"


def test_the_document_tells_what_each_stage_took(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order they began, added up where a stage comes again; the figures are of the work, not of the printing."""
    now = [0.0]
    console = Console(json_only=True, clock=lambda: now[0])
    with console.progress() as on_progress:
        for stage, at in (("reading", 10.0), ("learning", 11.5), ("reading", 13.5)):
            now[0] = at
            on_progress(stage, 0.0)
            on_progress(stage, 1.0)
        now[0] = 17.5

    console.result({"rows": 3}, lambda screen: None)

    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 3
    assert list(document["seconds"].items()) == [("reading", 1.5 + 4.0), ("learning", 2.0)]


def test_a_command_without_stages_has_no_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """And one that tells seconds of its own keeps them."""
    quick, own = Console(json_only=True), Console(json_only=True)
    with own.progress() as on_progress:
        on_progress("reading", 0.0)

    quick.result({"rows": 3}, lambda screen: None)
    own.result({"seconds": 7}, lambda screen: None)

    first, second = (json.loads(text + "}") for text in capsys.readouterr().out.split("}\n")[:2])
    assert "seconds" not in first
    assert second == {"seconds": 7}


def test_a_stage_whose_words_change_is_one_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """A search tells the best so far with every trial: one sum in the document, a line each on the screen."""
    now = [0.0]
    console = Console(json_only=True, clock=lambda: now[0])
    with console.progress() as on_progress:
        for at, text in enumerate(("searching | trial 1", "searching | trial 2", "training")):
            now[0] = float(at)
            on_progress(text, 0.5)
        now[0] = 5.0
    spoken = Console(json_only=False)
    with spoken.progress() as on_progress:
        for text in ("searching | trial 1", "searching | trial 1", "searching | trial 2"):
            on_progress(text, 0.5)

    console.result({}, lambda screen: None)

    captured = capsys.readouterr()
    assert json.loads(captured.out)["seconds"] == {"searching": 2.0, "training": 3.0}
    assert [line.split("|")[1].strip() for line in captured.err.splitlines()] == ["trial 1", "trial 2"]
