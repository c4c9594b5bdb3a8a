"""What the suite makes of its runs: ratios within rounds, refused percentiles, searched rates, marginal costs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtest.errors import DisagreementError, LoadTestError
from loadtest.intervals import Spread
from loadtest.suite.agreement import compare, read_answers, read_ranking
from loadtest.suite.baseline_plans import baseline_plans
from loadtest.suite.candidate_cost import marginal_us
from loadtest.suite.closed_rounds import per_s, ratio
from loadtest.suite.cores import choose_cores
from loadtest.suite.open_rates import median_of_punctual
from loadtest.suite.results import CandidateCost, Tried
from loadtest.suite.search import PRECISION, highest_rate, judge_tries
from loadtest.suite.spending import libraries_of, stages_us
from loadtest.suite.variants import read_variants
from tests.loadtest.suite_runs import closed, opened


def test_ratios_are_taken_within_a_round() -> None:
    """The machine became twice as slow between the rounds, and the ratio does not notice."""
    rounds = [closed("ours", 0, 200.0), closed("echo", 0, 1_000.0), closed("echo", 1, 500.0), closed("ours", 1, 100.0)]

    assert ratio(rounds, "ours", "echo") == Spread(0.2, 0.2, 0.2, 2)
    assert per_s(rounds, "ours") == Spread(150.0, 100.0, 200.0, 2)
    assert ratio(rounds, "ours", "nobody") is None


def test_the_median_leaves_out_runs_of_a_late_generator() -> None:
    """Their latency is the generator's."""
    runs = [opened("ours", 0, 1.0), opened("ours", 1, 9.0, believable=False), opened("ours", 2, 2.0)]

    assert median_of_punctual(runs, "p99_ms") == Spread(1.5, 1.0, 2.0, 2)


def test_a_percentile_is_refused_where_half_of_the_runs_were_late() -> None:
    """The punctual half would be a selection."""
    runs = [opened("ours", 0, 1.0), opened("ours", 1, 9.0, believable=False)]

    assert median_of_punctual(runs, "p99_ms") is None


@pytest.mark.parametrize("limit_per_s", [150.0, 431.0, 777.0, 990.0])
def test_the_search_finds_the_highest_rate_that_keeps_the_bound(limit_per_s: float) -> None:
    """On a server that is fine up to a limit, the answer lies just below it and was measured."""

    def measure(rate_per_s: float) -> Tried:
        return Tried(rate_per_s, 1.0 if rate_per_s <= limit_per_s else 50.0, late=False)

    found = highest_rate("ours", 10.0, capacity_per_s=1_000.0, measure=measure)

    assert found.rate_per_s is not None
    assert limit_per_s - PRECISION * 1_000 <= found.rate_per_s <= limit_per_s
    assert found.rate_per_s in [tried.rate_per_s for tried in found.tried]
    assert found.ended_by == "missed"


def test_a_second_search_measures_nothing_twice() -> None:
    """What the first one saw narrows the range of a tighter bound."""
    asked: list[float] = []

    def measure(rate_per_s: float) -> Tried:
        asked.append(rate_per_s)
        return Tried(rate_per_s, rate_per_s / 100, late=False)

    wide = highest_rate("ours", 8.0, 1_000.0, measure)
    narrow = highest_rate("ours", 2.0, 1_000.0, measure, known=wide.tried)

    assert len(set(asked)) == len(asked)
    assert narrow.rate_per_s == pytest.approx(200, abs=PRECISION * 1_000)


def test_a_search_that_never_keeps_its_bound_says_so() -> None:
    """No rate is an answer; the lowest that was tried is none."""
    found = highest_rate("slow", 2.0, 1_000.0, lambda rate: Tried(rate, 40.0, late=False))

    assert (found.rate_per_s, found.ended_by, len(found.tried)) == (None, "missed", 1)


def test_a_search_stopped_by_a_late_generator_says_so() -> None:
    """Above that rate nobody knows: the figure is a lower bound."""
    found = highest_rate("ours", 2.0, 1_000.0, lambda rate: Tried(rate, 1.0 if rate < 500 else None, late=rate >= 500))

    assert found.ended_by == "generator"
    assert found.rate_per_s is not None
    assert found.rate_per_s < 500


def test_a_failed_request_misses_every_bound() -> None:
    """A server that sheds is not fast; its fast answers must not carry the rate."""
    runs = [opened("ours", run, 0.5, errors={"http_5xx": 1}) for run in range(3)]

    assert judge_tries(500.0, runs) == Tried(500.0, None, late=False)


def test_the_median_run_decides_a_rate() -> None:
    """One disturbed run of three does not."""
    assert judge_tries(500.0, [opened("ours", run, p99_ms) for run, p99_ms in enumerate([1.0, 70.0, 2.0])]) == Tried(
        500.0, 2.0, late=False
    )


def test_the_marginal_cost_is_a_slope() -> None:
    """What a request costs whatever it asks for is left out; sizes below 100 as well."""
    costs = [
        CandidateCost("ours", count, Spread.of([100.0 + 0.5 * count]), None, None) for count in (1, 100, 500, 1_000)
    ]

    assert marginal_us(costs, "ours") == pytest.approx(0.5)
    assert marginal_us(costs[:2], "ours") is None


REFERENCE = {0: [("a", 0.9), ("b", 0.5), ("c", 0.5)]}


def test_equal_probabilities_may_stand_in_any_order() -> None:
    """And differences below the tolerance are differences of arithmetic."""
    agreement = compare("other", REFERENCE, [(0, [("a", 0.9), ("c", 0.5), ("b", 0.5 + 1e-8)])])

    assert (agreement.n_requests, agreement.n_candidates) == (1, 3)
    assert agreement.largest_difference == pytest.approx(1e-8)


@pytest.mark.parametrize(
    ("ranking", "complaint"),
    [
        ([("a", 0.9), ("b", 0.5)], "2 results that are not the 3 wanted candidates"),
        ([("a", 0.9), ("b", 0.5), ("b", 0.5)], "3 results that are not the 3 wanted candidates"),
        ([("a", 0.9), ("b", 0.5), ("c", 0.6)], "c: p_click 0.6, the reference says 0.5"),
        ([("a", float("nan")), ("b", 0.5), ("c", 0.5)], "a: p_click nan"),
        ([("b", 0.5), ("a", 0.9), ("c", 0.5)], "a with 0.9 stands below 0.5"),
    ],
)
def test_another_answer_is_a_disagreement_with_its_place(ranking: list[tuple[str, float]], complaint: str) -> None:
    """The speed of a server that does other work means nothing."""
    with pytest.raises(DisagreementError, match=complaint):
        compare("other", REFERENCE, [(0, ranking)])


def test_an_answer_without_a_ranking_is_a_disagreement() -> None:
    """A null probability is what a partial answer holds: such a server would look fast."""
    with pytest.raises(DisagreementError, match="no ranking"):
        read_ranking(b'{"results": [{"ad_id": "a", "p_click": null}]}')


def answer(*codes: str, p_click: float | None = 0.9) -> bytes:
    """One answer about one ad."""
    return msgspec.json.encode({"results": [{"ad_id": "a", "p_click": p_click}], "degraded": codes})


def test_a_degraded_answer_is_left_out_before_it_is_read() -> None:
    """A partial one holds null where a probability should be; without a code that is a disagreement."""
    answers = [
        (0, answer()),
        (1, answer("deadline_partial", p_click=None)),
        (2, answer("store_timeout", "user_missing")),
    ]

    readings = read_answers(answers, lambda _number, body: read_ranking(body))

    assert readings.whole == [(0, [("a", 0.9)])]
    assert readings.n_degraded == 2
    assert readings.codes == {"deadline_partial": 1, "store_timeout": 1, "user_missing": 1}
    with pytest.raises(DisagreementError, match="no ranking"):
        read_answers([(0, answer(p_click=None))], lambda _number, body: read_ranking(body))


def test_a_model_servers_list_of_probabilities_is_never_degraded() -> None:
    """It knows nothing of users and ads, so it can lack none of them."""
    readings = read_answers([(0, b"[0.5]")], lambda _number, _body: [("a", 0.5)])

    assert (readings.whole, readings.n_degraded) == ([(0, [("a", 0.5)])], 0)


@pytest.mark.parametrize(
    ("n_whole", "n_degraded", "are_too_many"),
    [(5, 0, False), (5, 5, False), (5, 6, True), (0, 1, False), (1, 1, False), (0, 2, True), (1, 2, True)],
)
def test_fewer_than_half_to_compare_are_too_few(n_whole: int, n_degraded: int, are_too_many: bool) -> None:
    """A lone degraded answer is a hiccup, even where a slow server's round kept no other."""
    answers = [(number, answer(*["store_timeout"] * (number >= n_whole))) for number in range(n_whole + n_degraded)]
    readings = read_answers(answers, lambda _number, body: read_ranking(body))

    complaint = None
    try:
        readings.check_that_most_are_whole("ours")
    except DisagreementError as error:
        complaint = str(error)

    assert (complaint is not None) == are_too_many
    if complaint:
        assert complaint.startswith(f"ours: {n_degraded} of {n_whole + n_degraded} answers are degraded (")


def test_cores_that_are_hyper_threads_of_one_are_avoided() -> None:
    """Two threads of one core slow each other down."""
    cores = choose_cores(
        {2, 3, 4, 5}, siblings_of=lambda core: frozenset({2, 3}) if core in (2, 3) else frozenset({core})
    )

    assert (cores.server, cores.client) == (2, 4)


def test_one_core_is_not_enough() -> None:
    """A generator on the server's core measures itself."""
    with pytest.raises(LoadTestError, match="--no-pin"):
        choose_cores({0})


def test_server_timings_become_medians_of_microseconds() -> None:
    """Descriptions and unknown parameters are part of the header's grammar."""
    headers = ["features;dur=0.2, model;desc=x;dur=0.1", "features;dur=0.4", "features;dur=0.3,model;dur=0.3", ""]

    assert stages_us(headers) == {"features": pytest.approx(300), "model": pytest.approx(200)}


def test_shares_of_libraries_add_up() -> None:
    """Extension modules and versions are shortened, what is small becomes `other`."""
    report = """
    47.77%  [kernel.kallsyms]
    40.00%  libpython3.11.so.1.0
    11.40%  _trees.cpython-311-x86_64-linux-gnu.so (deleted)
     0.43%  libc.so.6
     0.40%  [vdso]
    """

    shares = libraries_of(report)

    assert list(shares) == ["kernel", "libpython3.11", "_trees", "other"]
    assert sum(shares.values()) == pytest.approx(1.0)


def test_every_baseline_is_a_server_of_the_suite() -> None:
    """A baseline is found by being there, and says itself what it is."""
    plans = {plan.name: plan for plan in baseline_plans(Path("folder"))}

    assert {"echo", "tuned", "tutorial", "mlserver", "bentoml"} == plans.keys()
    assert [name for name, plan in plans.items() if plan.role == "echo"] == ["echo"]
    assert all(len(plan.says) > 20 for plan in plans.values())


def test_the_variants_that_are_listed_can_be_read() -> None:
    """The file is written by hand."""
    assert all(variant.environment or variant.arguments for variant in read_variants())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[[variant]]\nname = "a"\nsays = "b"\nenvironmen = {}', "did you mean 'environment'"),
        ('[[variant]]\nname = "a"\nsays = "b"\n' * 2, "expected distinct names"),
        ("[[variant", "variants "),
    ],
)
def test_a_wrong_list_of_variants_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    """A switch that is not switched would show a decision worth nothing."""
    path = tmp_path / "variants.toml"
    path.write_text(content)

    with pytest.raises(LoadTestError, match=complaint):
        read_variants(path)
