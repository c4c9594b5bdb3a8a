"""Numbers on a generator's command line, refused where a run of them would never end or never begin."""

from __future__ import annotations

import argparse


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    return 0.0 if float(text) == 0 else positive(text)


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    return 0 if int(text) == 0 else count(text)
