"""Dials: settings of a learner that a search may turn, each with its range and with the default that it begins at.

A range is where a person who knows the learner would look, and there are few dials on purpose: a trial is a training,
and every dial more spreads the same few trials thinner. Pure: no library of any search is known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Setting = float | int


@dataclass(frozen=True, slots=True)
class Real:
    """A number from `low` to `high`; `log`: equal ratios are equally likely, for what spans decades."""

    low: float
    high: float
    default: float
    log: bool = True


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`; `log` as for `Real`."""

    low: int
    high: int
    default: int
    log: bool = True


Dial = Real | Whole
Space = Mapping[str, Dial]
"""Dials by name, as the manifest calls them."""


def defaults(space: Space) -> dict[str, Setting]:
    """Where a search begins."""
    return {name: dial.default for name, dial in space.items()}
