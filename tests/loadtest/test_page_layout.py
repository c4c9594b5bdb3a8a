"""Pages as a browser lays them out: on a phone and on a desktop nothing is cut, beyond the edge or overlapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtest.comparing.page import render_html as comparison_page
from loadtest.comparing.sides import Side
from loadtest.comparing.verdict import compare
from loadtest.latency import summarise
from loadtest.report import Report, render_html
from loadtest.results import DegradedShare, Lateness
from loadtest.sweep import Sweep, judge_point
from tests.loadtest.page_layout import CHROMIUM, WIDTHS_PX, faults
from tests.loadtest.report_samples import BUDGETS, full_report, in_turns_of, report_of, run_of

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def pages() -> dict[str, str]:
    """A page of each kind, with everything it can show."""
    rng = np.random.default_rng(3)
    sides = [
        Side(Path(f"runs/{name}"), tuple(report_of(run_of(rng, slower=slower)) for _ in range(3)))
        for name, slower in (("main", 1.0), ("branch", 1.3))
    ]
    in_turns = [Side(Path(f"runs/turns/{report.url}"), (report,)) for report in in_turns_of(rng, slower=1.3)]
    return {
        "report": render_html(full_report()),
        "late": render_html(late_report(rng)),
        "comparison": comparison_page(compare(*sides)),
        "turns": comparison_page(compare(*in_turns)),
        "failing": comparison_page(compare(sides[0], Side(Path("runs/b"), (report_of(run_of(rng, failing=1.0)),)))),
    }


def late_report(rng: np.random.Generator) -> Report:
    """The widest words and figures a sweep can show: late, waited for minutes, failed, degraded throughout."""
    late = Lateness(summarise(np.full(2_000, 7.0)), 1.0, believable=False)
    slow = {"lateness": late, "degraded": DegradedShare(200, 200, {"store_timeout": 200}, 0)}
    run = run_of(rng, slower=20_000.0, failing=0.3, failing_with="504", **slow)
    return report_of(run, sweep=Sweep([judge_point(run, 0.3, BUDGETS.rank)], 10.0, "generator"))


@needs_chromium
@pytest.mark.timeout(120)
@pytest.mark.parametrize("width_px", WIDTHS_PX)
@pytest.mark.parametrize("kind", ["report", "late", "comparison", "turns", "failing"])
def test_nothing_is_cut_or_overlaps(kind: str, width_px: int, tmp_path: Path) -> None:
    """A page that is passed around is read on whatever is at hand."""
    assert faults(pages()[kind], width_px, tmp_path) == []


@needs_chromium
@pytest.mark.timeout(120)
def test_planted_faults_of_a_layout_are_noticed(tmp_path: Path) -> None:
    """A measurement that finds nothing must be able to find something."""
    page = pages()["report"]
    for name in ("narrow", "crowded"):
        (tmp_path / name).mkdir()

    too_narrow = faults(page, 200, tmp_path / "narrow")
    crowded = faults(page.replace("font-size: 13.5px", "font-size: 40px"), 1280, tmp_path / "crowded")

    assert "beyond the edge" in {fault.partition(":")[0] for fault in too_narrow}
    assert "overlap" in {fault.partition(":")[0] for fault in crowded}
