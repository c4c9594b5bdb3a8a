"""Checks on rows, as SQL: what makes a row unusable, and setting such rows aside with the reason.

A row is rejected by the first check it fails. Rejected rows go to the table of `rejects.py`; nothing is dropped
silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from feature_store.ids import MAX_ENTITY_ID_BYTES
from feature_store.offline.engine import SqlEngine, text
from feature_store.offline.rejects import REJECTED

FAILED = "_failed"
"""Column of judged rows: the number of the first check a row fails, null where it passes all."""

MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: later times are a wrong unit."""

CLOCK_TOLERANCE_MS = 86_400_000
"""How far a log may be ahead of this machine: clocks go wrong, and times without a zone are read in the wrong one."""

# The same characters as `ids.py`; RE2 reads \x{2028}.
_BAD_IN_ID = r"[{} \x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]"


class Check(NamedTuple):
    """Rows to reject: an SQL condition that is true for them, why, and what to show of them."""

    bad: str
    reason: str
    shown: str


def judged(relation: str, checks: Sequence[Check]) -> str:
    """The relation with the column `_failed`."""
    branches = " ".join(f"WHEN {check.bad} THEN {i}" for i, check in enumerate(checks))
    failed = f"CASE {branches} END" if checks else "CAST(NULL AS INTEGER)"
    return f"(SELECT *, {failed} AS {FAILED} FROM {relation})"


def reject_failed(engine: SqlEngine, relation: str, checks: Sequence[Check]) -> None:
    """Add the judged rows that failed to the table of rejected rows; they tell their place by `_line`."""
    if not checks:
        return
    reasons = " ".join(f"WHEN {i} THEN {text(check.reason)}" for i, check in enumerate(checks))
    shown = " ".join(f"WHEN {i} THEN {check.shown}" for i, check in enumerate(checks))
    engine.run(
        f"INSERT INTO {REJECTED} SELECT _line, CASE {FAILED} {reasons} END, coalesce(CASE {FAILED} {shown} END, '') "
        f"FROM {relation} WHERE {FAILED} IS NOT NULL"
    )


def id_checks(sql: str, name: str) -> list[Check]:
    """What makes an entity id unusable: the rules of `ids.entity_id`, in SQL."""
    return [
        Check(f"{sql} IS NULL", f"{name} is missing", "''"),
        Check(f"{sql} = ''", f"{name} is empty", "''"),
        Check(f"strlen({sql}) > {MAX_ENTITY_ID_BYTES}", f"{name} is longer than {MAX_ENTITY_ID_BYTES} bytes", sql),
        Check(f"regexp_matches({sql}, '{_BAD_IN_ID}')", f"{name} holds a brace, space or control character", sql),
    ]


def time_checks(sql: str, raw: str, name: str) -> list[Check]:
    """What makes a time unusable: `sql` in milliseconds, made of the value `raw`, which is what is shown."""
    shown = f"CAST({raw} AS VARCHAR)"
    return [
        Check(f"{raw} IS NULL", f"{name} is missing", "''"),
        Check(f"{sql} IS NULL", f"{name} is not a time", shown),
        Check(f"{sql} NOT BETWEEN 0 AND {MAX_TIME_MS}", f"{name} lies outside 1970 to 9999; is its unit right?", shown),
    ]


def future_check(sql: str, raw: str, name: str, now_ms: int) -> Check:
    """A time that has not come yet: what happened cannot lie ahead of the present by more than clocks differ."""
    return Check(
        f"{sql} > {now_ms + CLOCK_TOLERANCE_MS}",
        f"{name} lies more than a day after now; is its unit right?",
        f"CAST({raw} AS VARCHAR)",
    )
