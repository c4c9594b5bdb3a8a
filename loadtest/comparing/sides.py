"""Sides: what a comparison reads, and why two reports may not be comparable.

A side is a `report.json`, a folder with one, or a folder of such folders: then every one is a round, in the order of
their times. Two reports are comparable where only the service differs: another workload, rate, machine or way of
counting changes the figures on its own, and a comparison would blame the service for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.comparing.sanity import nonsense
from loadtest.errors import ComparisonError
from loadtest.report import Report
from loadtest.results import EngineResult

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Side:
    """The rounds of one side, at least one, by time."""

    path: Path
    rounds: tuple[Report, ...]

    @property
    def commits(self) -> tuple[str, ...]:
        """What was measured, each once."""
        return tuple(dict.fromkeys(report.commit for report in self.rounds))


def judged(report: Report) -> EngineResult:
    """The run that a report's verdict is about."""
    return report.measured[0].result


def read_side(path: Path) -> Side:
    """Read one side.

    Raises:
        ComparisonError: there is no report, or one that cannot be read or measured.
    """
    if path.is_file():
        files = [path]
    elif (path / REPORT).is_file():
        files = [path / REPORT]
    else:
        files = sorted(path.glob(f"*/{REPORT}"))
    if not files:
        raise ComparisonError(f"{path}: no {REPORT} there and none a folder deeper; name what `clickserve bench` wrote")
    rounds = sorted((_read(file) for file in files), key=lambda report: report.created_at)
    return Side(path, tuple(rounds))


def _read(file: Path) -> Report:
    try:
        report = msgspec.json.decode(file.read_bytes(), type=Report)
    except (OSError, msgspec.DecodeError) as error:
        raise ComparisonError(f"{file} is no report of a bench: {error}") from error
    if not report.measured:
        raise ComparisonError(f"{file}: the report holds no measurement")
    if report.sweep is not None and not report.sweep.points:
        raise ComparisonError(f"{file} is no report of a bench: sweep.points is empty; a sweep has at least one rate")
    wrong = nonsense(report)
    if wrong:
        raise ComparisonError(f"{file}: {wrong}; take the report as `clickserve bench` wrote it, or measure again")
    return report


def differences(a: Side, b: Side) -> list[str]:
    """What makes the two sides incomparable, each as `what: value of A, value of B`; rounds of a side count as well."""
    first = a.rounds[0]
    found: dict[str, str] = {}
    for side, report in [("A", report) for report in a.rounds[1:]] + [("B", report) for report in b.rounds]:
        for name, of_first, of_other in _conditions(first, report):
            if of_first != of_other:
                found.setdefault(
                    name, f"{name}: A has {of_first}, {'a later round of A' if side == 'A' else 'B'} {of_other}"
                )
    return list(found.values())


def _conditions(first: Report, other: Report) -> Iterator[tuple[str, str, str]]:
    """Name and both values of everything that must be equal."""
    one, two = judged(first), judged(other)
    m1, m2 = first.machine, other.machine
    yield "workload", _workload(first), _workload(other)
    yield "engine", one.engine, two.engine
    yield "way of counting", one.method, two.method
    yield "offered rate", f"{one.rate_per_s:g}/s", f"{two.rate_per_s:g}/s"
    yield "length of a turn", f"{one.second_s:g} s", f"{two.second_s:g} s"
    yield "promised p99", f"{first.budgets.rank.p99_ms} ms", f"{other.budgets.rank.p99_ms} ms"
    yield "processor", m1.cpu_model, m2.cpu_model
    yield "cores", f"{m1.cores_allowed} of {m1.cores}", f"{m2.cores_allowed} of {m2.cores}"
    yield "CPU quota", str(m1.cpu_quota), str(m2.cpu_quota)
    yield "system", m1.os, m2.os
    rates = [",".join(f"{p.rate_per_s:g}" for p in r.sweep.points) if r.sweep else None for r in (first, other)]
    if None not in rates and first.sweep and other.sweep:
        seconds = [sweep.points[0].result.duration_s for sweep in (first.sweep, other.sweep)]
        yield "seconds a rate of the sweep", f"{seconds[0]:g}", f"{seconds[1]:g}"


def _workload(report: Report) -> str:
    return f"{report.workload} ({report.workload_sha256[:12]})"
