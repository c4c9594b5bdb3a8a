"""What a command says: progress and tables for people on stderr and stdout, one JSON document for machines.

A command builds one result (a plain dict) and hands it to `Console.result` with a function that shows it to a person.
With `--json` the dict is printed instead, alone on stdout, and progress is silent. Progress goes to stderr, so that
stdout stays clean in a pipe; where stderr is no terminal each stage prints one line when it ends.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

OnProgress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done (0 to 1)."""


class Console:
    """Where one command writes. `json_only` is the command's `--json`."""

    def __init__(self, *, json_only: bool) -> None:
        self.json_only = json_only
        self.out = RichConsole(soft_wrap=True, highlight=False)
        self.err = RichConsole(stderr=True, soft_wrap=True, highlight=False, quiet=json_only)

    def say(self, text: str) -> None:
        """One line for a person; silent with `--json`."""
        self.err.print(escape(text))

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """A callback that draws one bar per stage, with elapsed and remaining time."""
        if self.json_only:
            yield lambda text, fraction: None
            return
        if not self.err.is_terminal:
            yield _PlainProgress(self.err)
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=self.err,
        ) as bars:
            tasks: dict[str, Any] = {}

            def on_progress(text: str, fraction: float) -> None:
                if text not in tasks:
                    tasks[text] = bars.add_task(escape(text), total=1.0)
                bars.update(tasks[text], completed=min(1.0, fraction))

            yield on_progress

    def result(self, result: Mapping[str, Any], show: Callable[[RichConsole], None]) -> None:
        """Ends a command: the JSON document, or what `show` draws on stdout."""
        if self.json_only:
            print(json.dumps(_finite(result), indent=2, ensure_ascii=False))  # noqa: T201 - the machine's channel
        else:
            show(self.out)


class _PlainProgress:
    """One line when a stage ends: what a log file can hold."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._started: dict[str, float] = {}
        self._done: set[str] = set()

    def __call__(self, text: str, fraction: float) -> None:
        started = self._started.setdefault(text, time.monotonic())
        if fraction >= 1.0 and text not in self._done:
            self._done.add(text)
            self._console.print(f"{escape(text)}: done in {time.monotonic() - started:.1f} s")


def key_value_table(title: str, rows: Mapping[str, str]) -> Table:
    """A table of two columns: what, and its value."""
    table = Table(title=escape(title), show_header=False, title_justify="left", pad_edge=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(escape(name), escape(value))
    return table


def _finite(value: Any) -> Any:
    """The same document with null for NaN and infinities, which JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
