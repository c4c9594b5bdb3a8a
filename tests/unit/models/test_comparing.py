"""The front of a ladder, the price of climbing it, and its page, on made figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.comparing.figures import Contender, Difference, Ladder, Latency, LeftOut, Trained
from models.comparing.front import STEP, chosen, standings
from models.comparing.page import render_page, report_of
from models.comparing.scatter_plot import scatter_plot
from models.comparing.verdict import verdict
from models.evaluation.intervals import all_metrics
from models.registry.manifest import Interval

CERTAIN = 0.001
"""Half the width of the made intervals of a difference: a gap wider than that is beyond doubt."""


@dataclass(frozen=True)
class Rung:
    """A made model."""

    learner: str
    entropy: float
    p50_us: float | None = 300.0
    graph_bytes: int = 1_000
    wall_s: float = 1.0


def ladder_of(*rungs: Rung, certain: float = CERTAIN, seeds_agree: bool = True) -> Ladder:
    """Contenders with these figures, and differences that are certain beyond `certain`."""
    random = np.random.default_rng(1)
    p = random.uniform(0.02, 0.3, 400)
    figures = all_metrics(random.random(400) < p, p)
    contenders = [
        Contender(
            learner=rung.learner,
            trained=Trained(rung.learner, 1, "v000001-0", "models/x", rung.graph_bytes, rung.wall_s, rung.wall_s),
            metrics=figures
            | {"normalized_entropy": Interval(rung.entropy, rung.entropy - 0.02, rung.entropy + 0.02, 400, 40)},
            entropy_by_seed={1: rung.entropy},
            wall_s=rung.wall_s,
            cpu_s=rung.wall_s,
            latency=None if rung.p50_us is None else latency(rung.p50_us),
        )
        for rung in rungs
    ]
    differences = tuple(
        Difference(
            new.learner,
            old.learner,
            Interval(gap := new.entropy - old.entropy, gap - certain, gap + certain, 400, 40),
            seeds_agree,
        )
        for new in rungs
        for old in rungs
        if new is not old
    )
    return Ladder(400, 40, tuple(contenders), differences, None)


def latency(*rounds_us: float) -> Latency:
    return Latency(float(np.median(rounds_us)), None, rounds_us, None, 100, 0, 0.0, believable=True)


def front(ladder: Ladder) -> list[str]:
    return [place.learner for place in standings(ladder) if place.on_front]


def test_a_price_is_the_extra_cost_for_each_thousandth_gained() -> None:
    """The whole arithmetic once by hand: 0.02 of NE are 20 steps."""
    ladder = ladder_of(Rung("simple", 0.96), Rung("rich", 0.94, p50_us=350.0, graph_bytes=41_000, wall_s=11.0))

    place = standings(ladder)[1]

    assert place.over == "simple"
    assert place.price is not None
    assert place.price.steps == pytest.approx(20.0)
    assert place.price.p50_us == pytest.approx(50.0 / 20.0)
    assert place.price.graph_bytes == pytest.approx(40_000 / 20.0)
    assert place.price.train_s == pytest.approx(10.0 / 20.0)


def test_a_gain_that_chance_explains_has_no_price() -> None:
    """Dividing by a gain that may be 0 gives a figure without meaning."""
    ladder = ladder_of(Rung("simple", 0.96), Rung("rich", 0.94, wall_s=9.0), certain=0.03)

    place = standings(ladder)[1]

    assert (place.on_front, place.price) == (False, None)


def test_a_gain_that_changes_with_the_seed_has_no_price() -> None:
    """The interval knows the luck of the impressions, not that of the training."""
    ladder = ladder_of(Rung("simple", 0.96), Rung("rich", 0.94, wall_s=9.0), seeds_agree=False)

    assert front(ladder) == ["simple"]


def test_a_price_is_asked_over_the_front_and_not_over_a_model_that_gained_nothing() -> None:
    """The model in between is worth nothing; the next one must not look dear or cheap beside it."""
    ladder = ladder_of(Rung("a", 0.96), Rung("b", 0.9599, wall_s=50.0), Rung("c", 0.94, wall_s=9.0))

    places = standings(ladder)

    assert front(ladder) == ["a", "c"]
    assert places[2].over == "a"


def test_a_model_that_a_better_one_undercuts_in_everything_is_off_the_front() -> None:
    """Nobody should pay for it, so the price of the better one is asked over what is left."""
    slow = Rung("slow", 0.95, p50_us=900.0, graph_bytes=9_000, wall_s=9.0)
    ladder = ladder_of(Rung("a", 0.96), slow, Rung("fast", 0.94, p50_us=310.0, graph_bytes=5_000, wall_s=5.0))

    places = {place.learner: place for place in standings(ladder)}

    assert front(ladder) == ["a", "fast"]
    assert places["slow"].outdone_by == "fast"
    assert places["fast"].over == "a"


def test_latencies_whose_rounds_overlap_are_not_told_apart() -> None:
    """Two µs between medians of 100 µs of noise are no price."""
    slow = latency(341.0, 350.0, 370.0, 360.0)

    assert latency(300.0, 320.0, 340.0, 310.0).apart(slow)
    assert not latency(300.0, 320.0, 345.0, 310.0).apart(slow)


def test_a_single_round_tells_no_latencies_apart() -> None:
    """Two numbers always differ."""
    assert not latency(300.0).apart(latency(900.0))


rungs = st.lists(
    st.tuples(
        st.floats(0.8, 1.0),
        st.floats(100.0, 5_000.0),
        st.integers(100, 10**7),
        st.floats(0.1, 1_000.0),
    ),
    min_size=1,
    max_size=6,
)


@given(rungs)
def test_along_the_front_every_model_is_better_than_the_one_before(
    figures: list[tuple[float, float, int, float]],
) -> None:
    """And nobody off it is better beyond doubt than its end without being undercut."""
    ladder = ladder_of(*(Rung(f"m{i}", *figure) for i, figure in enumerate(figures)))

    places = standings(ladder)

    on_front = [ladder.contender(place.learner) for place in places if place.on_front]
    assert chosen(places) == on_front[-1].learner
    gains = np.diff([each.entropy.value for each in on_front])
    assert np.all(gains < -CERTAIN)
    for place in places:
        assert (place.price is not None) == (place.difference is not None and place.difference.better)
        if place.price is not None and place.over is not None:
            gain = ladder.contender(place.over).entropy.value - ladder.contender(place.learner).entropy.value
            assert place.price.steps * STEP == pytest.approx(gain)
        better = ladder.difference(place.learner, chosen(places)).better if place.learner != chosen(places) else False
        assert not better or place.outdone_by is not None


@given(rungs)
def test_all_points_of_the_picture_lie_inside_it(figures: list[tuple[float, float, int, float]]) -> None:
    """A model that falls off the edge would be missing without a word."""
    ladder = ladder_of(*(Rung(f"m{i}", *figure) for i, figure in enumerate(figures)))

    drawn = scatter_plot(ladder, standings(ladder))

    points = re.findall(r'<circle class="point" cx="([-\d.]+)" cy="([-\d.]+)"', drawn)
    assert len(points) == len(figures)
    assert all(76 <= float(x) <= 466 and 16 <= float(y) <= 284 for x, y in points)


CROWDED = (
    ("base-rate", 1.0001, 1574),
    ("smoothed-ctr", 0.9095, 6074),
    ("logistic", 0.9035, 3278),
    ("ftrl", 0.9036, 1710),
    ("fm", 0.9079, 2646),
    ("gbdt", 0.9062, 4449),
    ("xgboost", 0.9067, 6328),
    ("gbdt-lr", 0.9078, 3132),
)
"""Learner, normalized entropy and p50 in µs of eight models on a small log."""


def test_names_do_not_meet_at_the_size_of_a_phones_letters() -> None:
    """Its text is larger than a desk's, and eight models on a small log lie close together."""
    ladder = ladder_of(*(Rung(name, entropy, float(p50_us)) for name, entropy, p50_us in CROWDED))

    drawn = scatter_plot(ladder, standings(ladder))

    boxes = []
    for at, line, anchor, name in re.findall(
        r'class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)', drawn
    ):
        wide = 0.56 * 13.5 * len(name)
        left = float(at) - (wide if anchor == "end" else 0)
        boxes.append((left, float(line) - 10, left + wide, float(line) + 3))
    assert len(boxes) == len(CROWDED)
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1]), (a, b)


def test_where_nothing_beats_the_base_rate_nothing_is_recommended() -> None:
    """The honest answer to a log that teaches nothing."""
    ladder = ladder_of(Rung("base-rate", 1.0), Rung("logistic", 0.9999))

    said = verdict(ladder, standings(ladder))

    assert said[0].startswith("Choose none")


def test_the_verdict_names_who_cannot_be_told_apart() -> None:
    """A person may prefer one of them for reasons that no figure knows."""
    ladder = ladder_of(Rung("base-rate", 1.0), Rung("logistic", 0.9), Rung("gbdt", 0.8995, wall_s=5.0))

    said = " ".join(verdict(ladder, standings(ladder)))

    assert said.startswith("Choose logistic regression")
    assert "LightGBM trees cannot be told apart from it" in said


class WellFormed(HTMLParser):
    """Refuses a page whose elements are not closed in order, and gathers what it would fetch."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content; nothing to close."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(ladder: Ladder, *, served: bool) -> str:
    """The page of a made ladder; `served` where its latency was measured."""
    machine = {"cpu_model": "x", "cores_allowed": 2, "load_average_1m": 0.1, "os": "y", "python": "z"}
    report = report_of(
        ladder,
        standings(ladder),
        created_ms=0,
        product="0",
        commit="c",
        source="csv:<b>.csv",
        rows=(0.0, 1.0),
        seeds=(1,),
        trained_on=1,
        trained_on_clicks=1,
        left_out=(LeftOut("xgboost", "its library is missing"),),
        machine=machine,
        load={"rate_per_s": "300", "duration_s": "3", "rounds": 2, "n_candidates": 100} if served else None,
        why_no_latency="" if served else "it was switched off",
    )
    return render_page(report)


@pytest.mark.parametrize("served", [True, False])
def test_the_page_is_whole_and_needs_nothing_but_itself(served: bool) -> None:
    """It is mailed around, opened without a network, and printed."""
    p50s = (300.0, 340.0) if served else (None, None)
    ladder = ladder_of(Rung("base-rate", 1.0, p50s[0]), Rung("gbdt", 0.9, p50s[1], wall_s=3.0))

    page = page_of(ladder, served=served)

    reader = WellFormed()
    reader.feed(page)
    assert (reader.open, reader.fetched) == ([], [])
    assert "url(" not in page
    assert "@import" not in page
    assert "csv:&lt;b&gt;.csv" in page
    assert "its library is missing" in page
    assert ("0.300 ms" in page) == served


@pytest.mark.parametrize("why", ["", "3 users have all clicks"])
def test_the_page_says_where_intervals_are_by_row(why: str) -> None:
    """Whoever reads that one model is better must know what the interval could not see."""
    ladder = ladder_of(Rung("base-rate", 1.0, None), Rung("gbdt", 0.9, None))
    for contender in ladder.contenders:
        entropy = contender.metrics["normalized_entropy"]
        contender.metrics["normalized_entropy"] = msgspec.structs.replace(entropy, why_rows=why)

    page = page_of(ladder, served=False)

    assert ("Intervals are by row, because 3 users have all clicks;" in page) == bool(why)
