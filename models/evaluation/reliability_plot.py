"""The reliability plot as an SVG drawing: promised against seen click rate on logarithmic axes.

Self-contained and without colours of its own: strokes and fills are CSS classes, so the page decides how it looks in
light and in dark. A point on the diagonal keeps its promise; a bar that crosses the diagonal cannot be told from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.evaluation.calibration import ReliabilityBin

WIDTH, HEIGHT = 640, 520
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 20, 64
SMALLEST_RATE = 1e-7


def reliability_plot(bins: Sequence[ReliabilityBin]) -> str:
    """An `<svg>` element of one point with its interval and number of clicks per bin."""
    axis = _Axis(bins)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Promised against seen click rate by bin, with 95 % intervals">'
    ]
    for value in axis.ticks:
        x, y = axis.x(value), axis.y(value)
        parts += [
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{_percent(value)}</text>',
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_percent(value)}</text>',
        ]
    parts.append(
        f'<line class="diagonal" x1="{axis.x(axis.low):.1f}" y1="{axis.y(axis.low):.1f}" '
        f'x2="{axis.x(axis.high):.1f}" y2="{axis.y(axis.high):.1f}"/>'
    )
    for point in bins:
        x, low, high = axis.x(point.promised), axis.y(point.low), axis.y(point.high)
        kind = "agrees" if point.agrees else "differs"
        title = (
            f"promised {_percent(point.promised)}, seen {_percent(point.seen)} "
            f"({_percent(point.low)} to {_percent(point.high)}), {point.clicks:,} clicks of {point.n:,}"
        )
        parts += [
            f'<g class="{kind}"><title>{title}</title>',
            f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>',
            f'<line class="bar" x1="{x - 4:.1f}" x2="{x + 4:.1f}" y1="{low:.1f}" y2="{low:.1f}"/>',
            f'<line class="bar" x1="{x - 4:.1f}" x2="{x + 4:.1f}" y1="{high:.1f}" y2="{high:.1f}"/>',
            f'<circle class="point" cx="{x:.1f}" cy="{axis.y(point.seen):.1f}" r="4.5"/>',
            f'<text class="count" x="{x:.1f}" y="{high - 7:.1f}" text-anchor="middle">{_short(point.clicks)}</text>',
            "</g>",
        ]
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts += [
        f'<text class="label" x="{middle_x}" y="{HEIGHT - 16}" text-anchor="middle">'
        "promised: mean p_click of the bin</text>",
        f'<text class="label" x="18" y="{middle_y}" text-anchor="middle" transform="rotate(-90 18 {middle_y})">'
        "seen: clicks per impression</text>",
        "</svg>",
    ]
    return "\n".join(parts)


class _Axis:
    """One logarithmic scale for both directions, so that the diagonal is where promise and sight agree."""

    def __init__(self, bins: Sequence[ReliabilityBin]) -> None:
        # An interval from 0 has no place on a logarithmic axis: its bar ends at the edge.
        rates = [r for b in bins for r in (b.promised, b.low, b.high) if r > SMALLEST_RATE]
        rates += [b.seen for b in bins if b.seen > SMALLEST_RATE]
        self.low = max(SMALLEST_RATE, min(rates, default=0.001) * 0.8)
        self.high = min(1.0, max(rates, default=1.0) * 1.4)
        decades = range(math.floor(math.log10(self.low)), 1)
        ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        self.ticks = [tick for tick in ticks if self.low <= tick <= self.high]

    def x(self, rate: float) -> float:
        """Place of a rate from the left edge."""
        return LEFT + self._share(rate) * (WIDTH - LEFT - RIGHT)

    def y(self, rate: float) -> float:
        """Place of a rate from the top edge."""
        return HEIGHT - BOTTOM - self._share(rate) * (HEIGHT - TOP - BOTTOM)

    def _share(self, rate: float) -> float:
        inside = min(max(rate, self.low), self.high)
        return math.log(inside / self.low) / math.log(self.high / self.low)


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _short(count: int) -> str:
    return f"{count / 1000:.3g}k" if count >= 10_000 else f"{count}"
