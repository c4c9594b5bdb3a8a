"""Which version of clickserve runs: the installed package says it, or `pyproject.toml` where there is only a folder."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path


def product_version() -> str:
    """The version, as `pyproject.toml` writes it."""
    try:
        return metadata.version("clickserve")
    except metadata.PackageNotFoundError:  # the container image runs from its folder
        document = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
        version: str = document["project"]["version"]
        return version
