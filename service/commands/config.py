"""`clickserve config show | check`: what the service would run with, and from where."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console as RichConsole

from service.commands.options import config_option, json_option
from service.console import Console, key_value_table


@click.group("config")
def command() -> None:
    """Show or check the configuration (flag > environment > clickserve.toml > default)."""


@command.command("show")
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Print every setting as the service would use it; passwords are masked."""
    from service.settings import load_settings

    shown = load_settings(config_file, os.environ, {}).shown()

    def draw(screen: RichConsole) -> None:
        for section, values in shown.items():
            screen.print(key_value_table(f"[{section}]", {key: str(value) for key, value in values.items()}))

    Console(json_only=as_json).result(shown, draw)


@command.command("check")
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Exit 0 if the configuration can be used; otherwise say which setting is wrong and exit 2."""
    from service.settings import load_settings

    load_settings(config_file, os.environ, {})
    name = str(config_file) if config_file else "environment and defaults"
    Console(json_only=as_json).result({"ok": True, "config": name}, lambda screen: screen.print(f"{name}: ok"))
