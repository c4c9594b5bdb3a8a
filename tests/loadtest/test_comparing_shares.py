"""A service that fails more is a regression however fast it is; bursts are no crowd of witnesses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import beta

from loadtest.comparing.binomial import incomplete_beta, share_interval
from loadtest.comparing.page import document, headline, render_html
from loadtest.comparing.shares import burstiness
from loadtest.comparing.sides import Side, read_side
from loadtest.comparing.verdict import Comparison, compare
from loadtest.errors import ComparisonError
from loadtest.results import DegradedShare
from service import cli
from tests.loadtest.report_samples import in_turns_of, report_of, run_of

TRIES = 20


def side(rng: np.random.Generator, rounds: int = 1, **run: Any) -> Side:
    """A side of made-up rounds."""
    return Side(Path("runs/x"), tuple(report_of(run_of(rng, **run)) for _ in range(rounds)))


def verdicts(found: Comparison) -> dict[str, str]:
    """The verdict on each share."""
    return {share.name: share.verdict for share in found.shares}


@given(st.floats(0.5, 5_000), st.floats(0.5, 5_000), st.floats(0.0005, 0.9995))
def test_the_incomplete_beta_function_is_that_of_the_library(a: float, b: float, x: float) -> None:
    """It is written here only because the load tests do not bring SciPy along."""
    assert incomplete_beta(x, a, b) == pytest.approx(float(betainc(a, b, x)), abs=1e-9)


@pytest.mark.parametrize(("n_hit", "n"), [(0, 10), (1, 20), (3.3, 17.7), (5, 1_000), (1_000, 1_000), (400_000, 10**6)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(n_hit: float, n: float) -> None:
    """Quantiles of the beta distribution, as the library has them."""
    low, high = share_interval(n_hit, n, 0.99)

    assert low == pytest.approx(beta.ppf(0.005, n_hit, n - n_hit + 1) if n_hit else 0.0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.995, n_hit + 1, n - n_hit) if n_hit < n else 1.0, abs=1e-9)


def test_failing_a_fifth_of_the_requests_is_a_regression_in_one_round_of_seven_seconds() -> None:
    """Wider tolerances of a single round are for a machine's moods; no machine answers 500."""
    rng = np.random.default_rng(1)
    short = {"rate_per_s": 150, "duration_s": 7}

    found = compare(side(rng, **short), side(rng, failing=0.2, **short))

    assert found.regressed
    assert verdicts(found)["failed requests"] == "worse"
    assert headline(found).startswith("B is worse: failed requests 0.00\N{NO-BREAK SPACE}% → ")
    assert "✗ worse" in render_html(found)
    assert document(found)["shares"][0]["counted"]["a"] == [0, 1050]


def test_failing_less_is_better_and_ends_well() -> None:
    """The gate has a direction."""
    rng = np.random.default_rng(1)

    found = compare(side(rng, 4, failing=0.2), side(rng, 4))

    assert not found.regressed
    assert verdicts(found)["failed requests"] == "better"


def test_half_a_per_cent_of_failures_is_found_in_turns() -> None:
    """Forty turns each at 200 a second: 40 of 8 000."""
    rng = np.random.default_rng(2)
    a, b = in_turns_of(rng)
    worse = report_of(run_of(rng, failing=0.005, duration_s=40), in_turns=b.in_turns)

    found = compare(Side(Path("a"), (a,)), Side(Path("b"), (worse,)))

    assert found.in_turns
    assert verdicts(found)["failed requests"] == "worse"
    assert not compare(Side(Path("a"), (a,)), Side(Path("b"), (b,))).regressed


def test_equal_services_that_fail_in_bursts_pass_nineteen_of_twenty_tries() -> None:
    """A second of nothing but 503 hits either side now and then: hundreds of failures, one witness."""
    regressed = 0
    for seed in range(TRIES):
        rng = np.random.default_rng([3, seed])

        def bursting(rng: np.random.Generator = rng) -> Side:
            hit = tuple(int(second) for second in np.flatnonzero(rng.uniform(size=40) < 0.03))
            return side(rng, duration_s=40, failing=0.5, failing_seconds=hit, failing_with="503")

        regressed += compare(bursting(), bursting()).regressed

    assert regressed <= 1


def test_failures_spread_evenly_count_each_and_those_of_one_second_hardly() -> None:
    """The design effect is what tells them apart."""
    rng = np.random.default_rng(4)

    spread = burstiness([run_of(rng, failing=0.05)])
    burst = burstiness([run_of(rng, failing=1.0, failing_seconds=(7,))])

    assert 1 <= spread < 3
    assert burst > 100
    assert burstiness([run_of(rng)]) == 1.0


def test_shed_and_degraded_answers_are_shares_of_their_own() -> None:
    """Refused is a part of failed; a degraded answer is an answer, and counts from a hundredth on."""
    rng = np.random.default_rng(5)
    good = {"degraded": DegradedShare(400, 0, {}, 0)}
    poor = {"degraded": DegradedShare(400, 40, {"store_timeout": 40}, 0)}

    shed = verdicts(compare(side(rng, **good), side(rng, failing=0.05, failing_with="503", **good)))
    degraded = compare(side(rng, **good), side(rng, **poor))

    assert shed == {"failed requests": "worse", "refused at once (503)": "worse", "degraded answers": "same"}
    assert degraded.regressed
    assert verdicts(degraded)["degraded answers"] == "worse"


def test_nothing_is_as_fast_as_anything() -> None:
    """Two services that answer 500 to everything, or such a baseline, are no comparison; a new one is a regression."""
    rng = np.random.default_rng(6)
    good, broken = side(rng), side(rng, failing=1.0)

    for a, b, said in ((broken, broken, "A answered 0 of .* B answered 0 of"), (broken, good, "A answered 0 of")):
        with pytest.raises(ComparisonError, match=f"nothing to compare: {said} .*: how fast says nothing"):
            compare(a, b)
    found = compare(good, broken)

    assert found.regressed
    assert found.figures == []
    assert "No figure of speed was compared" in render_html(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [("p50_ms", 0.0), ("p50_ms", -1.0), ("p99_ms", 1e300), ("n_ok", -3), ("n_ok", 10**9), ("n_requests", 10**400)],
)
def test_what_no_bench_can_have_measured_is_refused_with_its_file(
    path: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report may have been written by hand; neither a traceback nor a number of 300 digits is an answer."""
    report = msgspec.to_builtins(report_of(run_of(np.random.default_rng(7))))
    result = report["measured"][0]["result"]
    (result["latency"] if path in result["latency"] else result)[path] = value
    (tmp_path / "report.json").write_text(json.dumps(report))

    code = cli.run(["bench", "compare", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")])

    said = capsys.readouterr().err
    assert code == 1
    assert str(tmp_path / "report.json") in said
    assert f"{path} is " in said
    assert len(said) < 400 + len(str(tmp_path))
    with pytest.raises(ComparisonError):
        read_side(tmp_path)
