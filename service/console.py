"""What a command says: progress and tables for people on stderr and stdout, one JSON document for machines.

A command builds one result (a plain dict) and hands it to `Console.result` with a function that shows it to a person.
With `--json` the dict is printed instead, alone on stdout, and progress is silent. Progress goes to stderr, so that
stdout stays clean in a pipe; where stderr is no terminal each stage prints one line when it begins. How long each took
stands in the document, as `seconds`.

Whatever is printed is taken as it is: no markup, no emoji codes, no control characters. Colour comes from `style=` and
`rich.styled.Styled`, so no text, wherever it came from, needs to be escaped before it is printed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from service.terminal_text import visible

OnProgress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done (0 to 1).

`stage | detail` is a stage whose words change while it goes on: one bar, one sum of seconds."""

WIDTH_OF_A_FILE = 140
"""Columns for tables where stdout is no terminal."""


class Screen(RichConsole):
    """A terminal or a file on which text is text: neither markup nor control characters in it are obeyed.

    Rich makes all that is printed, cells and titles of tables included, in `render_str`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is, with what a terminal would obey made visible."""
        return super().render_str(visible(text), **options)


class Console:
    """Where one command writes. `json_only` is the command's `--json`."""

    def __init__(self, *, json_only: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.json_only = json_only
        self._clock = clock
        self.out = Screen()
        if not self.out.is_terminal:
            self.out = Screen(width=WIDTH_OF_A_FILE)
        self.err = Screen(stderr=True, soft_wrap=True, quiet=json_only)
        self.seconds: dict[str, float] = {}
        """What each stage of the work took so far, in the order they began."""

    def say(self, text: str) -> None:
        """One line for a person; silent with `--json`."""
        self.err.print(text)

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """A callback that draws one bar per stage, with elapsed and remaining time."""
        with self._shown() as shown:
            timed = _Timed(shown, self.seconds, self._clock)
            yield timed
            timed.end()

    @contextmanager
    def _shown(self) -> Iterator[OnProgress]:
        if self.json_only:
            yield lambda text, fraction: None
            return
        if not self.err.is_terminal:
            yield _Lines(self.err)
            return
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=self.err,
        ) as bars:
            yield _Bars(bars)

    def result(self, result: Mapping[str, Any], show: Callable[[Screen], None]) -> None:
        """Ends a command: the JSON document, or what `show` draws on stdout."""
        if self.json_only:
            if self.seconds:
                result = {"seconds": {stage: round(took, 3) for stage, took in self.seconds.items()}, **result}
            print(json.dumps(_finite(result), indent=2, ensure_ascii=False))  # noqa: T201 - the machine's channel
        else:
            show(self.out)


class _Timed:
    """Adds up what each stage takes; a stage is over when the next begins."""

    def __init__(self, shown: OnProgress, seconds: dict[str, float], clock: Callable[[], float]) -> None:
        self._shown, self._seconds, self._clock = shown, seconds, clock
        self._stage: str | None = None
        self._since = 0.0

    def __call__(self, text: str, fraction: float) -> None:
        if (stage := _stage_of(text)) != self._stage:
            self.end()
            self._stage, self._since = stage, self._clock()
            self._seconds.setdefault(stage, 0.0)
        self._shown(text, fraction)

    def end(self) -> None:
        """The last stage is over as well."""
        if self._stage is not None:
            self._seconds[self._stage] += self._clock() - self._since
        self._stage = None


class _Bars:
    """One bar a stage; a stage is over when the next begins."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage: str | None = None
        self._task: TaskID | None = None

    def __call__(self, text: str, fraction: float) -> None:
        if (stage := _stage_of(text)) != self._stage:
            if self._task is not None:
                self._bars.update(self._task, completed=1.0)
            self._stage, self._task = stage, self._bars.add_task(visible(text), total=1.0)
        assert self._task is not None
        self._bars.update(self._task, completed=min(1.0, fraction), description=visible(text))


class _Lines:
    """One line when a stage or its detail begins, with the seconds so far: what a log file can hold."""

    def __init__(self, console: Screen) -> None:
        self._console = console
        self._started = time.monotonic()
        self._text: str | None = None

    def __call__(self, text: str, fraction: float) -> None:
        if text != self._text:
            self._text = text
            self._console.print(f"{time.monotonic() - self._started:7.1f} s  {text}")


def _stage_of(text: str) -> str:
    return text.partition(" | ")[0]


def key_value_table(title: str, rows: Mapping[str, str]) -> Group:
    """A title and two columns under it: what, and its value."""
    table = Table(show_header=False, pad_edge=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return Group(Styled(title, "italic"), table)


def _finite(value: Any) -> Any:
    """The same document with null for NaN and infinities, which JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
