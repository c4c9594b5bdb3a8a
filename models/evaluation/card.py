"""The model card: what a model is, how good, and where it ends, for a person to read before trusting it.

One set of facts, two templates (`templates/`): Markdown for a repository, HTML that needs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2

from models.evaluation.calibration import ReliabilityBin
from models.evaluation.reliability_plot import reliability_plot
from models.registry.manifest import FIRST_PLAUSIBLE_MS, Calibrator, Interval, Manifest, Recalibrated

TEMPLATES = Path(__file__).parent / "templates"
TOP_COLUMNS = 15

METRIC_NAMES = {
    "auc": "AUC",
    "gauc": "gAUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss (nats)",
    "normalized_entropy": "Normalized entropy",
    "calibration_ratio": "Promised / seen clicks",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "calibration_in_the_large": "Calibration in the large (log-odds)",
    "relative_calibration_error": "Relative calibration error",
    "relative_calibration_floor": "… of which chance explains",
    "lift_1": "Lift of the top 1 %",
    "lift_5": "Lift of the top 5 %",
    "lift_10": "Lift of the top 10 %",
    "f1": "F1 at its best threshold",
}
METRIC_MEANINGS = {
    "auc": "chance that a click is scored above a non-click; 0.5 knows nothing",
    "gauc": "AUC within one user's impressions, averaged over users who have clicks and non-clicks",
    "pr_auc": "mean precision over the clicks; chance is the click rate",
    "log_loss": "smaller is better; depends on the click rate",
    "normalized_entropy": "log loss over that of always guessing the mean; below 1 beats that guess",
    "calibration_ratio": "1 keeps its promise; above 1 it promises too much",
    "calibration_slope": "1 is exact; below 1 the promises are spread too far, above 1 too little",
    "calibration_intercept": "0 is exact, where the slope is 1",
    "calibration_in_the_large": "what all log-odds lack on average; 0 is exact",
    "relative_calibration_error": "mean gap over 15 score bins, over the mean click rate",
    "relative_calibration_floor": "what exact probabilities would show on a sample of this size",
    "lift_1": "click rate of the best-scored 1 % over that of all; 1 is chance",
    "lift_5": "the same of the best-scored 5 %",
    "lift_10": "the same of the best-scored 10 %",
    "f1": "the threshold is chosen on the same rows, which flatters a little",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card tells beyond the manifest."""

    manifest: Manifest
    reliability: Sequence[ReliabilityBin]
    base_rate_entropy: Interval
    coverage: dict[str, float]
    """Share of impressions in which each column was present."""


def render_card(facts: CardFacts) -> dict[str, bytes]:
    """`card.md` and `card.html`."""
    environment = _environment()
    values = {
        "manifest": facts.manifest,
        "metrics": [
            (shown, METRIC_MEANINGS[name], facts.manifest.figures[name])
            for name, shown in METRIC_NAMES.items()
            if name in facts.manifest.figures
        ],
        "tail": facts.manifest.figures["normalized_entropy"],
        "base_rate_entropy": facts.base_rate_entropy,
        "reliability": facts.reliability,
        "columns": _columns(facts),
        "n_columns": len(facts.coverage),
        "plot": reliability_plot(facts.reliability),
    }
    return {name: environment.get_template(f"{name}.j2").render(values).encode() for name in ("card.md", "card.html")}


def render_imported_card(manifest: Manifest) -> dict[str, bytes]:
    """The same of a model that was trained elsewhere and measured by nobody here."""
    environment, values = _environment(), {"manifest": manifest, "origin": manifest.imported}
    cards = {f"card.{kind}": f"imported.{kind}.j2" for kind in ("md", "html")}
    return {name: environment.get_template(template).render(values).encode() for name, template in cards.items()}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "day": _day,
        "moment": _moment,
        "figure": _figure,
        "percent": _percent,
        "duration": _duration,
        "segments": _segments,
        "recalibrated": _recalibrated,
    }
    return environment


def _columns(facts: CardFacts) -> list[tuple[str, float, float]]:
    """Name, importance and coverage of the most important columns, then of the least covered."""
    importance = facts.manifest.importance
    ranked = sorted(facts.coverage, key=lambda name: (-importance.get(name, 0.0), facts.coverage[name]))
    return [(name, importance.get(name, 0.0), facts.coverage[name]) for name in ranked[:TOP_COLUMNS]]


def _segments(calibrator: Calibrator) -> str:
    """Which have a line of their own, and the clicks behind it."""
    lines = [f"{segment.number} ({segment.clicks:,} clicks)" for segment in calibrator.segments]
    return f"{', '.join(lines) or 'none'} calibrated by a line of their own, all others by the common map alone"


def _recalibrated(fresh: Recalibrated) -> str:
    """Whose core it is, and what the new calibrator changed."""
    ratio = fresh.before["calibration_ratio"]
    return (
        f"The core is that of version {fresh.version}, to the bit; only the calibrator is new, fitted to "
        f"{fresh.impressions:,} impressions with {fresh.clicks:,} clicks from {_moment(fresh.first_ms)} to "
        f"{_moment(fresh.last_ms)}. With the old calibrator, promised / seen clicks were {_figure(ratio.value)} "
        f"({_figure(ratio.low)} to {_figure(ratio.high)}) on the impressions that judge it."
        + (f" {fresh.pending_impressions:,} impressions were left out as pending." if fresh.pending_impressions else "")
    )


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _moment(time_ms: int) -> str:
    """A time of the log; one without times counts its rows from 0, and year 1970 would only puzzle."""
    return f"row {time_ms:,} of the file" if time_ms < FIRST_PLAUSIBLE_MS else _day(time_ms)


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 0.1 else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _duration(window_ms: int | None) -> str:
    if window_ms is None:
        return "whenever it came"
    for unit, size_ms in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)):
        if window_ms >= size_ms and window_ms % size_ms == 0:
            count = window_ms // size_ms
            return f"if it came within {count} {unit}{'s' if count > 1 else ''} of the impression"
    return f"if it came within {window_ms} ms of the impression"
