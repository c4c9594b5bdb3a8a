"""A finding: what was looked at, what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
    """What to do; empty where all is well."""
    exit_code: int = 0
    """What the command ends with because of this finding; 0 where the service would still serve."""


def ok(check: str, seen: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    """It will serve, but slower or with less knowledge than it could."""
    return Finding(check, "warning", seen, advice)


def failure(check: str, seen: str, advice: str, exit_code: int) -> Finding:
    """It will not serve, or not what was wanted."""
    return Finding(check, "failure", seen, advice, exit_code)
