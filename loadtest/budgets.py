"""Budgets: the bounds a measured run is judged by, read from a TOML file.

A bound that is left out is not judged. Times are milliseconds, shares lie in [0, 1].
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from loadtest.errors import BudgetError
from loadtest.strict import StrictReadError, read_strict

DEFAULT_BUDGETS = Path(__file__).with_name("budgets.toml")

Milliseconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class RankBudget(msgspec.Struct, frozen=True):
    """What ranking must keep at the offered rate. `None` means: not judged."""

    p50_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    p999_ms: Milliseconds | None = None
    error_share: Share | None = None
    """Requests without a 2xx answer, divided by all requests."""
    degraded_share: Share | None = None
    """Answers that carry a degraded code, divided by the answers that were looked at."""


class GeneratorBudget(msgspec.Struct, frozen=True):
    """How late the open loop's own sends may be before its run is no longer judged."""

    lateness_p99_ms: Milliseconds = 1.0


class Budgets(msgspec.Struct, frozen=True):
    """The whole file."""

    rank: RankBudget
    generator: GeneratorBudget = GeneratorBudget()


def read_budgets(path: Path = DEFAULT_BUDGETS) -> Budgets:
    """Read a budget file.

    Raises:
        BudgetError: not there, not TOML, an unknown key (with the nearest name), or a value out of range.
    """
    try:
        return read_strict(tomllib.loads(path.read_text(encoding="utf-8")), Budgets)
    except OSError as error:
        raise BudgetError(f"budgets {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BudgetError(f"budgets {path}: not TOML: {error}") from error
    except StrictReadError as error:
        raise BudgetError(f"budgets {path}: {error}") from error
