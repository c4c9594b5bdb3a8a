"""Pages: the template engine of the reports, and how they write figures.

A page needs nothing but itself: no script runs, no font or image is fetched, and its figures lie in it as JSON. Every
text that came from outside (URL, error kinds, codes, CPU name) is escaped by the engine.
"""

from __future__ import annotations

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).with_name("templates")
ENGINE_NAMES = {"open-loop": "Open loop", "locust": "Locust"}
_NO_BREAK = "\N{NO-BREAK SPACE}"


def page_environment() -> jinja2.Environment:
    """Templates with this package's filters; a name that is missing is an error, not an empty cell."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=ms,
        us=us,
        share=share,
        count=count,
        turn_length=turn_length,
        engine_name=lambda name: ENGINE_NAMES.get(name, name),
    )
    return environment


def ms(value: float | None) -> str:
    """Milliseconds, to 10 µs below 100 ms; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.2f}{_NO_BREAK}ms" if value < 100 else f"{value:,.0f}{_NO_BREAK}ms"


def us(value: float | None) -> str:
    """Microseconds, to a tenth below 10."""
    if value is None:
        return "–"
    return f"{value:,.1f}{_NO_BREAK}µs" if value < 10 else f"{value:,.0f}{_NO_BREAK}µs"


def share(value: float | None) -> str:
    """A share as a percentage; one that is above 0 never reads as 0."""
    if value is None:
        return "–"
    return f"<{_NO_BREAK}0.01{_NO_BREAK}%" if 0 < value < 0.0001 else f"{value * 100:.2f}{_NO_BREAK}%"


def turn_length(turn_s: float) -> str:
    """Behind "turns of"."""
    return "a second" if turn_s == 1 else f"{turn_s:g}{_NO_BREAK}s"


def count(value: float) -> str:
    """A whole number with thousands set apart."""
    return f"{value:,.0f}"
