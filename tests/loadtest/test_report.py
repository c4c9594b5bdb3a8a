"""The report is one self-contained page that says the verdict first and runs nothing it was given."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.budgets import Budgets, RankBudget
from loadtest.latency import percentile_curve, summarise
from loadtest.machine import Machine
from loadtest.report import Measured, Report, render_html
from loadtest.results import Connections, DegradedShare, EngineResult, LatencySummary, Lateness, Second
from loadtest.statuses import MEANINGS
from loadtest.verdict import judge
from service.http_errors import INTERNAL, KINDS, REFUSALS
from tests.loadtest.report_samples import full_report

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def engine_result(engine: str = "open-loop", **changes: Any) -> EngineResult:
    """A run of 2 000 requests with some errors and degraded answers."""
    latencies_ms = np.random.default_rng(1).lognormal(0, 0.7, 2_000)
    late = summarise(np.full(2_000, 0.02))
    result = EngineResult(
        engine=engine,
        method="counted from the due time",
        rate_per_s=200.0,
        duration_s=10.0,
        warmup_s=1.0,
        n_requests=2_003,
        n_ok=2_000,
        errors={"timeout": 3},
        statuses={"200": 2_000},
        latency=summarise(latencies_ms),
        curve=percentile_curve(latencies_ms),
        timeline=[Second(second, 200, int(second == 4), 1.0, 3.0) for second in range(10)],
        degraded=DegradedShare(200, 7, {"store_timeout": 7}, 0),
        lateness=Lateness(late, 1.0, believable=True),
        connections=Connections(9, 8, 1, 2),
        generator_cpu_share=0.05,
    )
    return msgspec.structs.replace(result, **changes)


def report(*results: EngineResult, **changes: Any) -> Report:
    """A report on these runs, the first one judged."""
    budgets = Budgets(rank=RankBudget(p50_ms=2.0, p99_ms=10.0, error_share=0.01))
    whole = Report(
        created_at="2026-11-21T10:00:00+00:00",
        url="http://127.0.0.1:8080",
        workload="POST /v1/rank, 100 candidates",
        workload_sha256="ab" * 32,
        mean_body_bytes=1234.5,
        server="uvicorn",
        model_version=None,
        commit="0123456789abcdef+dirty",
        machine=Machine("Some CPU", 2, 2, 1.5, 0.25, 8 << 30, "Some Linux", "CPython 3.11.7", {"numpy": "2.4.6"}),
        budgets=budgets,
        verdict=judge(results[0], budgets.rank),
        measured=[Measured(result, 1.1) for result in results],
    )
    return msgspec.structs.replace(whole, **changes)


class Page(HTMLParser):
    """The elements of a page and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_stays_text() -> None:
    """Error kinds, codes, URLs and versions come from outside; none of them may become an element or end the script."""
    result = engine_result(errors={HOSTILE: 3}, degraded=DegradedShare(10, 5, {HOSTILE: 5}, 0))

    html = render_html(report(result, url=HOSTILE, model_version=HOSTILE, commit=HOSTILE))

    page = Page(html)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert html.count("</script>") == 1
    assert page.text.count(HOSTILE) >= 5


def test_the_page_needs_nothing_but_itself() -> None:
    """A report is mailed, printed and kept: nothing may be fetched, and no script may run."""
    page = Page(render_html(report(engine_result(), engine_result("locust"))))

    fetched = [(tag, value) for tag, given in page.elements for name, value in given.items() if name in ("src", "href")]
    scripts = [given.get("type") for tag, given in page.elements if tag == "script"]
    assert {place for _, place in fetched if not (place or "").startswith("#")} == {"report.json"}
    assert scripts == ["application/json"]


def test_the_raw_figures_lie_in_the_page() -> None:
    """Whoever has the page can compute with it."""
    whole = report(engine_result())

    html = render_html(whole)

    raw = re.search(r'<script type="application/json" id="report">(.*?)</script>', html, re.DOTALL)
    assert raw is not None
    assert msgspec.convert(json.loads(raw[1]), Report) == whole


@pytest.mark.parametrize(
    ("p99_ms", "words"),
    [(3.0, ["✓ Passed", "within its budget of 10 ms"]), (12.0, ["✗ Failed", "over its budget of 10 ms"])],
)
def test_the_verdict_stands_first_in_words_and_symbol(p99_ms: float, words: list[str]) -> None:
    """Colour alone says nothing in print or to a colour-blind reader."""
    result = engine_result(latency=LatencySummary(2_000, 1.0, 1.0, 2.0, p99_ms))

    text = Page(render_html(report(result))).text

    places = [text.index(word) for word in words]
    assert max(places) < text.index("Latency by percentile")


def test_a_run_that_is_not_judged_shows_no_figure_as_kept_or_missed() -> None:
    """A green tick over a figure that the same page calls worthless would be remembered."""
    late = Lateness(summarise(np.full(2_000, 7.0)), 1.0, believable=False)

    page = Page(render_html(report(engine_result(lateness=late))))

    assert "? Not judged" in page.text
    assert "not judged: the generator was late by 7.00 ms at p99" in page.text
    assert "✓" not in page.text
    assert not {"kept", "missed"} & {given.get("class") for _, given in page.elements}


def test_two_engines_stand_side_by_side_with_the_reason_they_differ() -> None:
    """Without it a reader would pick the number that looks better."""
    text = Page(render_html(report(engine_result(), engine_result("locust", lateness=None, connections=None)))).text

    assert "Open loop beside Locust" in text
    assert "coordinated omission" in text


def test_a_run_without_a_single_answer_still_gives_a_report() -> None:
    """When everything failed the report is needed most."""
    nothing = engine_result(
        n_ok=0,
        errors={"refused": 2_003},
        statuses={},
        latency=LatencySummary(0),
        curve=[],
        timeline=[Second(0, 2_003, 2_003, None, None)],
        degraded=DegradedShare(0, 0, {}, 0),
    )

    page = Page(render_html(report(nothing)))

    assert "✗ Failed" in page.text
    assert "refused" in page.text


def test_the_page_says_which_statuses_failed_and_what_they_mean() -> None:
    """ "17 × http_5xx" beside "nothing refused" leaves the reader to guess."""
    failed = engine_result(
        n_requests=1_210,
        n_ok=1_193,
        errors={"http_5xx": 15, "timeout": 2},
        statuses={"200": 1_193, "500": 3, "503": 2, "504": 10},
    )

    text = " ".join(Page(render_html(report(failed))).text.split())

    assert "17 of 1,210 requests got no proper answer: 10 × 504 (the deadline passed with nothing scored), " in text
    for said in ("· 500: a defect of the service", "· 503: refused at once to protect", "· timeout: no answer within"):
        assert said in text
    assert "http_5xx" not in text.partition("Raw figures")[0]


def test_every_status_this_service_answers_has_a_meaning() -> None:
    """The load tests import nothing of the service, so their table is held to its table here."""
    answered = {kind.status for kind in [*KINDS.values(), INTERNAL, *REFUSALS]}

    assert answered == set(MEANINGS)


def test_every_drawn_point_lies_inside_the_plot() -> None:
    """A line that leaves its frame is a wrong picture."""
    spread = engine_result(curve=percentile_curve(np.geomspace(0.01, 50_000, 20_000)))

    html = render_html(report(spread, engine_result("locust")))

    points = [
        tuple(map(float, pair.split(","))) for drawn in re.findall(r'points="([^"]+)"', html) for pair in drawn.split()
    ]
    assert len(points) > 100
    assert all(0 <= x <= 480 and 0 <= y <= 280 for x, y in points)


def test_a_full_report_tells_its_story_in_words() -> None:
    """A manager reads the first card and nothing else."""
    text = " ".join(Page(render_html(full_report())).text.split())

    first_card = text.partition("How much it can do")[0]
    for words in ("so the promise was kept", "It kept 99 of 100 within 10 ms up to", "Overloaded with 6,400 requests"):
        assert words in first_card


def test_every_part_can_be_reached_by_keyboard_and_read_without_its_drawing() -> None:
    """Links lead somewhere, drawings have a name, what scrolls takes the focus, and every table has headings."""
    html = render_html(full_report())
    page = Page(html)

    ids = {given["id"] for _, given in page.elements if "id" in given}
    targets = [given["href"] or "" for tag, given in page.elements if tag == "a"]
    assert targets[0] == "#main"
    assert {target[1:] for target in targets if target.startswith("#")} <= ids
    drawings = [given for tag, given in page.elements if tag == "svg"]
    assert all(given.get("aria-hidden") == "true" or given.get("aria-label") for given in drawings)
    assert [given.get("tabindex") for tag, given in page.elements if tag == "pre"] == ["0"]
    assert html.count("<table") == html.count("<thead>")
