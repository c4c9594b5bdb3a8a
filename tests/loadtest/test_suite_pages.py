"""The pages of a suite say every figure with its statistic, escape what came from outside, and can be drawn again."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from loadtest import charts
from loadtest.errors import LoadTestError
from loadtest.suite.drawings import goodput_drawing, latency_drawing
from loadtest.suite.pages import SHORT_RUN, read_result, render_html, write_document, write_report
from loadtest.suite.results import MeasuredServer, SuiteResult
from loadtest.suite.section import Section
from loadtest.suite.tables import REFUSED, sections
from tests.conftest import REPOSITORY
from tests.loadtest.suite_runs import closed, inner_parts, opened, suite_result


def section(title: str, result: SuiteResult) -> Section:
    """The section of that name."""
    return next(found for found in sections(result) if found.title == title)


def row(title: str, result: SuiteResult, *names: str) -> tuple[str, ...]:
    """The row of a table that holds these cells."""
    table = section(title, result).table
    assert table is not None
    return next(cells for cells in table.rows if set(names) <= set(cells))


def test_throughput_has_median_extremes_and_ratios() -> None:
    """40 000 and 30 000 for echo, 7 000 and 6 000 for us: ratios 0.175 and 0.2."""
    cells = row("Requests per second", suite_result(), "ours")

    assert cells[1] == "6,500 (6,000 to 7,000)"
    assert cells[2] == "0.188 (0.175 to 0.200)"
    assert row("Requests per second", suite_result(), "tuned")[3] == "4.50 (4.00 to 5.00)"


def test_answers_that_were_left_out_are_told() -> None:
    """Two rounds with a degraded answer each; where there are none the page says nothing of them."""
    result = suite_result()
    hiccups = suite_result(closed=[msgspec.structs.replace(measured, n_degraded=1) for measured in result.closed[:2]])

    assert "40 answers given" in section("Requests per second", hiccups).sentences[1]
    assert "2 more carried a degraded code and were left out" in section("Requests per second", hiccups).sentences[1]
    assert "degraded" not in section("Requests per second", result).sentences[1]


def test_small_shares_keep_their_digits() -> None:
    """A server of a three-hundredth of echo's rate differs between the rounds, which 0.003 would not show."""
    slow = [
        closed("slow", 0, 120.0),
        closed("echo", 0, 40_000.0),
        closed("slow", 1, 100.0),
        closed("echo", 1, 30_000.0),
    ]
    servers = [MeasuredServer(name, name, "baseline", None, 0.1, None) for name in ("echo", "slow")]

    cells = row("Requests per second", suite_result(closed=slow, servers=servers), "slow")

    assert cells[2] == "0.00317 (0.00300 to 0.00333)"


def test_a_single_run_is_not_called_a_median() -> None:
    """A quick suite measures once: nothing stands in parentheses."""
    quick = suite_result(
        plan=msgspec.structs.replace(suite_result().plan, mode="quick", open_runs=1), open=[opened("ours", 0, 0.9)]
    )

    said = section("Latency under a given load", quick).sentences[0]

    assert "One run of 10 s after 1 s of warm-up." in said
    assert "parentheses" not in said
    assert "Median of 3 runs of 10 s" in section("Latency under a given load", suite_result()).sentences[0]


def test_a_quick_look_says_so_before_the_first_figure(tmp_path: Path) -> None:
    """Its page looks like the published one."""
    quick = suite_result(plan=msgspec.structs.replace(suite_result().plan, mode="quick"))

    for result, warns in ((quick, True), (suite_result(), False)):
        write_document(result, tmp_path / "performance.md")
        assert (SHORT_RUN in (tmp_path / "performance.md").read_text().partition("##")[0]) == warns
        assert (SHORT_RUN in render_html(result)) == warns


def test_the_subject_is_the_reference_of_its_own_comparison() -> None:
    """A difference of 0 from itself would look like a finding."""
    assert row("The servers", suite_result(), "ours")[-1] == "30,000 in 300 requests; the reference"
    assert row("The servers", suite_result(), "tuned")[-1] == "30,000 in 300 requests; largest difference 3e-08"


def test_a_late_generators_percentile_is_refused_in_words() -> None:
    """An empty cell would look like something not measured."""
    late = [opened("ours", run, 5.0, believable=False) for run in range(3)]

    assert REFUSED in row("Latency under a given load", suite_result(open=late), "ours")
    assert REFUSED in row("Past saturation", suite_result(), "tuned")


def test_a_rate_above_which_the_generator_was_late_is_a_lower_bound() -> None:
    """It must not read as the server's limit."""
    result = suite_result()
    late = suite_result(highest=[msgspec.structs.replace(found, ended_by="generator") for found in result.highest])

    title = "Highest Poisson rate within a bound"
    assert row(title, result, "ours")[1] == "6,400/s"
    assert row(title, late, "ours")[1] == "at least 6,400/s"


def test_a_server_that_is_not_installed_is_named_with_its_reason() -> None:
    """Silence would look like a choice."""
    cells = row("The servers", suite_result(), "mlserver")

    assert "not installed" in cells[-1]


def test_inner_parts_have_their_tables() -> None:
    """671 088 ads of 800 bytes are 512 MiB; a half of a request is compared with nothing whole."""
    result = suite_result(inner_parts=inner_parts())

    assert row("Bytes per ad and per tree", result, "200") == ("200", "2,486", "800", "908", "671,088", "16.0", "134.0")
    assert row("Scoring alone", result, "compiled")[-1] == "16.0 × as long"
    assert row("Scoring alone", result, "compiled, join")[-1] == "–"
    assert "0.325 (0.300 to 0.350)" in row("What each decision of the route is worth", result, "typed-route")
    assert row("Reading from the store", result, "64 callers") == ("64 callers", "3.7", "4.8", "64.1")
    assert row("JSON and binary frames", result, "service reads the request")[2:] == (
        *("20.65", "7.35", "2.81"),
        *("2,962", "1,466"),
    )
    assert row("JSON and binary frames", result, "caller reads the ranking")[-2:] == ("7,051", "1,679")


def test_the_ablation_says_throughput_and_latency() -> None:
    """Half of the requests, at the same median."""
    cells = row("What each decision is worth", suite_result(), "numpy-kernel")

    assert cells == ("numpy-kernel", "NumPy", "3,500", "0.50", "0.90", "100")


def test_what_was_not_measured_has_no_section() -> None:
    """A quick suite leaves out the search; an empty table says nothing."""
    titles = [found.title for found in sections(suite_result(highest=[], variants=[], open=[]))]

    assert "Highest Poisson rate within a bound" not in titles
    assert not [
        title for title in titles if title.startswith(("What each decision", "Scoring", "Bytes", "Reading", "JSON"))
    ]


def test_the_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    """No script, no address; a description is text."""
    html = render_html(suite_result())

    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="', html)
    assert "&lt;b&gt;expert" in html
    assert html.count("<svg") == 3


def test_a_slow_server_is_drawn_as_wide_as_a_fast_one() -> None:
    """Beside echo's rates those of others would be a dot at the left edge."""
    curves = [
        opened(server, 0, 1.0, rate_per_s=share * capacity_per_s, goodput_per_s=share * capacity_per_s)
        for server, capacity_per_s in (("echo", 35_000.0), ("tuned", 1_450.0))
        for share in (0.2, 0.8)
    ]
    result = suite_result(curves=curves)

    for drawing in (latency_drawing(result), goodput_drawing(result)):
        echo, tuned = drawing.lines
        assert (echo.name, tuned.name) == ("echo", "tuned")
        assert echo.points == tuned.points
        first_x, last_x = (float(point.split(",")[0]) for point in tuned.points.split())
        assert last_x - first_x > (charts.RIGHT - charts.LEFT) / 2
    assert row("Past saturation", result, "tuned")[1:3] == ("20%", "290")


def test_drawings_are_files_beside_the_document(tmp_path: Path) -> None:
    """A Markdown page shows them by a relative path; each is well-formed SVG."""
    write_document(suite_result(), tmp_path / "docs" / "performance.md")

    text = (tmp_path / "docs" / "performance.md").read_text()
    linked = re.findall(r"!\[[^]]+\]\((performance/[^)]+\.svg)\)", text)
    assert len(linked) == 3
    for name in linked:
        root = ET.fromstring((tmp_path / "docs" / name).read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "expert's</b> \\| FastAPI" in text  # a bar inside a cell does not end it
    widths = {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| ours |")}
    assert all(width > 2 for width in widths)


def test_the_pages_can_be_drawn_again_from_the_recorded_figures(tmp_path: Path) -> None:
    """Half an hour of measuring must survive a changed sentence."""
    page = write_report(suite_result(), tmp_path)

    assert read_result(tmp_path / "suite.json") == suite_result()
    command = [sys.executable, "-m", "service", "bench", "--suite", "--json", "--out", str(tmp_path / "again")]
    subprocess.run(
        [*command, "--from", str(tmp_path / "suite.json"), "--write", str(tmp_path / "performance.md")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (tmp_path / "again" / "suite.html").read_text() == page.read_text()
    assert (tmp_path / "performance.md").read_text().startswith("# Performance\n")


def test_another_file_is_no_result(tmp_path: Path) -> None:
    """Named, instead of a traceback."""
    (tmp_path / "suite.json").write_text("{}")

    with pytest.raises(LoadTestError, match=r"suite\.json is no result of a suite"):
        read_result(tmp_path / "suite.json")
