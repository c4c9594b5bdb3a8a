"""The picture of a ladder as an SVG drawing: normalized entropy with its interval against what a model costs.

Down is better, left is cheaper. The cost is p50 of the service where it was measured, else seconds of training, on a
logarithmic axis. Without colours of its own: classes let the page decide, in light, in dark and on paper. A drawing is
480 units wide so that its text stays readable when a phone shrinks it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from models.comparing.figures import Contender, Ladder, Standing
from models.comparing.front import chosen
from models.comparing.verdict import title

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 76, 466, 16, 284
LETTER = 13.5
"""Size of the text on a phone, the largest that the page shows; names must not meet there either."""
LABEL_HEIGHT = 1.2 * LETTER
LETTER_WIDTH = 0.6 * LETTER
FAR = 15.0
"""What a line of distance between a point and its name weighs, in square units of overlap."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

LEADS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


def scatter_plot(ladder: Ladder, places: Sequence[Standing]) -> str:
    """An `<svg>` element: one point with its interval a model; those on the front are joined."""
    contenders = ladder.contenders
    served = all(each.latency is not None for each in contenders)
    costs = {each.learner: _cost(each, served) for each in contenders}
    x, y = _LogAxis(list(costs.values())), _EntropyAxis(ladder)
    unit = "p50 of 100 candidates through the service (ms)" if served else "seconds of training"
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Normalized entropy with 95 % '
        f'intervals against {escape(unit)}; the figures are in the tables">'
    ]
    for value, label in x.ticks():
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x(value):.1f}" y="{BOTTOM + 19}" text-anchor="middle">{label}</text>')
    for value, label in y.ticks():
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    if ladder.attainable is not None:
        at = y(ladder.attainable.value)
        parts.append(f'<line class="attainable" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{RIGHT}" y="{at - 5:.1f}" text-anchor="end">all that can be known</text>')
    front = [ladder.contender(place.learner) for place in places if place.on_front]
    points = " ".join(f"{x(costs[each.learner]):.1f},{y(each.entropy.value):.1f}" for each in front)
    parts.append(f'<polyline class="front" points="{points}"/>')
    best = chosen(tuple(places))
    bars = [(x(costs[c.learner]), y(c.entropy.high), y(c.entropy.low)) for c in contenders]
    names = [(x(costs[c.learner]), y(c.entropy.value), c.learner) for c in contenders]
    labels = _label_places(names, bars, _oracle_name(y, ladder))
    for contender, (label_x, label_y, anchor) in zip(contenders, labels, strict=True):
        point_y = y(contender.entropy.value)
        if abs(label_y - 4 - point_y) > LABEL_HEIGHT:  # too far from its point to be seen as its name
            end_x = label_x - 2 if anchor == "start" else label_x + 2
            parts.append(
                f'<line class="leader" x1="{x(costs[contender.learner]):.1f}" y1="{point_y:.1f}" x2="{end_x:.1f}" '
                f'y2="{label_y - 4:.1f}"/>'
            )
        at, ne = x(costs[contender.learner]), contender.entropy
        kind = "chosen" if contender.learner == best else "on-front" if contender in front else "off-front"
        tip = f"{title(contender.learner)}: NE {ne.value:.4f} ({ne.low:.4f} to {ne.high:.4f})"
        parts += [
            f'<g class="{kind}"><title>{escape(tip)}</title>',
            f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{y(ne.low):.1f}" y2="{y(ne.high):.1f}"/>',
            f'<circle class="point" cx="{at:.1f}" cy="{y(ne.value):.1f}" r="{6 if kind == "chosen" else 4.5}"/>',
            f'<text class="name" x="{label_x:.1f}" y="{label_y:.1f}" text-anchor="{anchor}">'
            f"{escape(contender.learner)}</text>",
            "</g>",
        ]
    middle_x, middle_y = WIDTH / 2, (TOP + BOTTOM) / 2  # of the drawing: the words are longer than the axis
    parts += [
        f'<text class="label" x="{middle_x}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(unit)}; left is cheaper</text>",
        f'<text class="label" x="13" y="{middle_y}" text-anchor="middle" transform="rotate(-90 13 {middle_y})">'
        "normalized entropy; down is better</text>",
        "</svg>",
    ]
    return "\n".join(parts)


def _cost(contender: Contender, served: bool) -> float:
    if served and contender.latency is not None:
        return contender.latency.p50_us / 1000.0
    return max(contender.wall_s, 1e-3)


class _LogAxis:
    """A cost to its place from the left."""

    def __init__(self, values: Sequence[float]) -> None:
        self._low = math.log10(min(values)) - 0.05
        self._high = math.log10(max(values)) + 0.05
        if self._high - self._low < 0.4:
            spare = (0.4 - (self._high - self._low)) / 2
            self._low, self._high = self._low - spare, self._high + spare

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return LEFT + 14 + share * (RIGHT - LEFT - 28)

    def ticks(self) -> list[tuple[float, str]]:
        """As many leading digits as leave room for their labels."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for leads in (LEADS, (1.0, 1.5, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0,)):
            values = [lead * 10.0**decade for decade in decades for lead in leads]
            inside = [value for value in values if self._low <= math.log10(value) <= self._high]
            if all(self(b) - self(a) >= 42 for a, b in pairwise(inside)):
                break
        return [(value, f"{value:g}") for value in inside]


class _EntropyAxis:
    """A normalized entropy to its place from the top; the larger, the higher up."""

    def __init__(self, ladder: Ladder) -> None:
        ends = [end for each in ladder.contenders for end in (each.entropy.low, each.entropy.high)]
        ends += [] if ladder.attainable is None else [ladder.attainable.value]
        spare = max((max(ends) - min(ends)) * 0.06, 1e-4)
        self._low, self._high = min(ends) - spare, max(ends) + spare

    def __call__(self, value: float) -> float:
        return BOTTOM - (value - self._low) / (self._high - self._low) * (BOTTOM - TOP)

    def ticks(self) -> list[tuple[float, str]]:
        """Five or so round values."""
        step = 10.0 ** math.floor(math.log10((self._high - self._low) / 4))
        step = next(step * lead for lead in (1, 2, 2.5, 5, 10) if (self._high - self._low) / (step * lead) <= 6)
        digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step:e}".startswith("2.5") else 0))
        first = math.ceil(self._low / step)
        values = [n * step for n in range(first, math.floor(self._high / step) + 1)]
        return [(value, f"{value:.{digits}f}") for value in values]


def _label_places(
    points: Sequence[tuple[float, float, str]], bars: Sequence[tuple[float, float, float]], kept_free: Sequence[Box]
) -> list[tuple[float, float, str]]:
    """Where each name goes: beside its point, and clear of points, bars and other names where there is room.

    Args:
        points: place and name of each.
        bars: x, upper and lower end of each.
        kept_free: what else is written.
    """
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y, _ in points]
    taken += [(x - 2, top, x + 2, bottom) for x, top, bottom in bars]
    taken += kept_free
    found = []
    for x, y, text in points:
        wide = LETTER_WIDTH * len(text)
        options = [
            (anchor, x + 10 * side, y + 4 + shift * LABEL_HEIGHT, FAR * abs(shift))
            for shift in (0.0, -0.8, 0.8, -1.7, 1.7, -2.6, 2.6, -3.5, 3.5, -4.5, 4.5)
            for side, anchor in ((1, "start"), (-1, "end"))
        ]
        boxes = [
            (
                at if anchor == "start" else at - wide,
                line - 0.9 * LETTER,
                at + wide if anchor == "start" else at,
                line + 3,
            )
            for anchor, at, line, _ in options
        ]
        cost = [_overlap(box, taken) + 1e6 * _outside(box) + o[3] for box, o in zip(boxes, options, strict=True)]
        pick = min(range(len(options)), key=cost.__getitem__)
        taken.append(boxes[pick])
        anchor, at, line, _ = options[pick]
        found.append((at, line, anchor))
    return found


def _oracle_name(y: _EntropyAxis, ladder: Ladder) -> list[Box]:
    """Where the oracle's line and its name are."""
    if ladder.attainable is None:
        return []
    at = y(ladder.attainable.value)
    return [(RIGHT - 150, at - 18, RIGHT, at + 2), (LEFT, at - 1, RIGHT, at + 1)]


def _overlap(box: Box, others: Sequence[Box]) -> float:
    """Area that a box shares with others."""
    return sum(
        max(0.0, min(box[2], b[2]) - max(box[0], b[0])) * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
        for b in others
    )


def _outside(box: Box) -> bool:
    return box[0] < LEFT or box[2] > WIDTH or box[1] < 0 or box[3] > BOTTOM
