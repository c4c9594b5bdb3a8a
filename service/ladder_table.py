"""What `clickserve compare` prints: the page's verdict and its most important figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.console import Screen
from service.evaluation_tables import figure_text, table_of

if TYPE_CHECKING:
    from models.comparing.page import Report


def show_ladder(screen: Screen, report: Report, page: Path) -> None:
    """The verdict, a line a model, and where the page lies."""
    from models.comparing.page import milliseconds_text, price_texts, seconds_text, size_text

    for sentence in report.verdict:
        screen.print(sentence, soft_wrap=True)
    ladder = report.ladder
    oracle = ["attainable gain"] if ladder.attainable else []
    table = table_of("model", "NE [95 %]", *oracle, "promised / seen", "p50", "p99", "bytes", "training", "0.001 of NE")
    for place in report.standings:
        each = ladder.contender(place.learner)
        latency, price, share = each.latency, price_texts(place), each.share_of_attainable_gain
        ratio = each.metrics["calibration_ratio"]
        shown = [figure_text(each.entropy)]
        if share is not None:
            shown.append(f"{round(100 * share.value)} % [{round(100 * share.low)}, {round(100 * share.high)}]")
        shown += [
            f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
            milliseconds_text(latency.p50_us if latency else None),
            milliseconds_text(latency.p99_us if latency else None),
            size_text(each.trained.graph_bytes),
            seconds_text(each.wall_s),
            ", ".join(text for text in (price[0], price[2]) if text != "–")
            if price
            else "no gain"
            if place.over
            else "",
        ]
        mark = "* " if place.learner == report.chosen and report.useful else "  "
        table.add_row(mark + place.learner, *shown)
    screen.print(table)
    if caution := ladder.contender(report.chosen).entropy.caution():
        screen.print(caution, soft_wrap=True)
    if report.load is None:
        screen.print(f"latency was not measured: {report.why_no_latency}", soft_wrap=True)
    for each_left in report.left_out:
        screen.print(f"left out: {each_left.learner}: {each_left.why}", soft_wrap=True)
    screen.print(str(page), soft_wrap=True)
