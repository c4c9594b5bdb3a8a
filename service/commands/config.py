"""`clickserve config show | check | reference`: what the service would run with, and all that can be said to it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from service.commands import serve
from service.commands.options import config_option, json_option
from service.console import Console, Screen, key_value_table


@click.group("config")
def command() -> None:
    """Show or check the configuration (flag > environment > clickserve.toml > default)."""


@command.command("show")
@config_option
@json_option
def show(config_file: Path | None, as_json: bool) -> None:
    """Print every setting as the service would use it.

    Passwords are masked.
    """
    from service.settings_origins import load_settings

    shown = load_settings(config_file, os.environ, {}).shown()

    def draw(screen: Screen) -> None:
        for section, values in shown.items():
            screen.print(key_value_table(f"[{section}]", {key: str(value) for key, value in values.items()}))

    Console(json_only=as_json).result(shown, draw)


@command.command("check")
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Exit 2 and name the setting that is wrong, or exit 0.

    Refuses whatever `serve` would refuse about the configuration; `doctor` looks at what it points to.
    """
    from service.admin import read_token
    from service.settings_origins import load_settings

    read_token(load_settings(config_file, os.environ, {}).admin.token_file)
    name = str(config_file) if config_file else "environment and defaults"
    Console(json_only=as_json).result({"ok": True, "config": name}, lambda screen: screen.print(f"{name}: ok"))


@command.command("reference")
def reference() -> None:
    """Print what each setting means, as Markdown."""
    from service import settings_reference

    options = {option.name: option.opts[0] for option in serve.command.params}
    flags = {setting: options[parameter] for parameter, setting in serve.FLAG_SETTINGS.items()}
    click.echo(settings_reference.reference(flags), nl=False)
