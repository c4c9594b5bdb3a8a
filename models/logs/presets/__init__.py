"""Built-in definitions of the logs that clickserve knows by name, used where nobody names a `features.toml`."""

from __future__ import annotations

from importlib.resources import files

from feature_store.definition import Project, parse_project

PRESETS = ("avazu", "criteo", "ipinyou", "movielens", "movielens_static", "obd", "simulated", "talkingdata")


def preset(name: str) -> Project:
    """A built-in project; its tables lie beside the log it describes."""
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_project(text, origin=f"{name}.toml")
