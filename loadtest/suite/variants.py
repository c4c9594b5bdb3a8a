"""Variants: our own server with one decision switched off each, to see what that decision is worth.

They are listed in `variants.toml`, each with the arguments or environment that switch it:

    [[variant]]
    name = "numpy-kernel"
    says = "plain NumPy instead of the compiled kernel"
    environment = { CLICKSERVE_PLAN__KERNEL = "numpy" }
    arguments = []
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from loadtest.errors import LoadTestError
from loadtest.strict import StrictReadError, read_strict

VARIANTS = Path(__file__).with_name("variants.toml")


class Variant(msgspec.Struct, frozen=True):
    """How one variant differs from the service as it is."""

    name: str
    says: str
    environment: dict[str, str] = {}
    arguments: list[str] = []
    """Added to `clickserve serve`."""


class _File(msgspec.Struct, frozen=True):
    variant: list[dict[str, object]] = []


def read_variants(path: Path = VARIANTS) -> list[Variant]:
    """Read the list.

    Raises:
        LoadTestError: not TOML, an unknown key, a missing name, or the same name twice.
    """
    try:
        listed = read_strict(tomllib.loads(path.read_text(encoding="utf-8")), _File).variant
        variants = [read_strict(entry, Variant) for entry in listed]
    except (tomllib.TOMLDecodeError, StrictReadError) as error:
        raise LoadTestError(f"variants {path}: {error}") from error
    names = [variant.name for variant in variants]
    if len(set(names)) != len(names):
        raise LoadTestError(f"variants {path}: expected distinct names, got {', '.join(names)}")
    return variants
