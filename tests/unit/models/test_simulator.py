"""The simulator's promises, measured on one log of 300 000 impressions and a few small ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from models.errors import SimulationError
from models.logs import oracles
from models.logs.oracles import HiddenLogOdds, OracleScore, attainable_probability
from models.logs.simulated_world import DAY_MS, HOUR_MS, build_world
from models.logs.simulator import PRESETS, SIM_V1, SimulationSummary, simulate

GOLDEN = Path(__file__).parents[2] / "golden" / "sim_v1_summary.json"
N_LOG, SEED = 300_000, 7
N_SMALL = 20_000


@dataclass(frozen=True)
class Log:
    """A simulated log read back from its files, ids as numbers."""

    summary: SimulationSummary
    impressions: dict[str, npt.NDArray[np.generic]]
    truth: dict[str, npt.NDArray[np.float64]]
    users: dict[str, npt.NDArray[np.generic]]
    ads: dict[str, npt.NDArray[np.generic]]

    @classmethod
    def made(cls, folder: Path, **arguments: object) -> Log:
        summary = simulate(SIM_V1, out_dir=folder, **arguments)  # type: ignore[arg-type]
        tables = (_columns(folder / f"{name}.parquet") for name in ("impressions", "truth", "users", "ads"))
        return cls(summary, *tables)

    @property
    def segment(self) -> npt.NDArray[np.generic]:
        return self.users["segment"][self.impressions["user_id"]]

    @property
    def category(self) -> npt.NDArray[np.generic]:
        return self.ads["category"][self.impressions["ad_id"]]


def _columns(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Columns as arrays: numbered ids ("u12") as their number, missing click times as -1."""
    columns = {}
    for name, column in zip((table := pq.read_table(path)).column_names, table.columns, strict=True):
        if name == "click_time_ms":
            column = column.fill_null(-1)
        values = column.to_numpy()
        if values.dtype == object and name != "device":
            values = np.array([int(text.lstrip("abcdefghijklmnopqrstuvwxyz")) for text in values])
        columns[name] = values
    return columns


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the big log lies."""
    return tmp_path_factory.mktemp("simulated") / "log"


@pytest.fixture(scope="module")
def log(log_folder: Path) -> Log:
    """The big log; read, never changed."""
    return Log.made(log_folder, n_impressions=N_LOG, seed=SEED)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Log]:
    """Makes small logs, each in a folder of its own."""

    def make(name: str = "log", n_impressions: int = N_SMALL, seed: int = SEED, **arguments: object) -> Log:
        return Log.made(tmp_path / name, n_impressions=n_impressions, seed=seed, **arguments)

    return make


def _log_odds(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.log(p) - np.log1p(-p)


def _between_group_share(values: npt.NDArray[np.float64], group: npt.NDArray[np.generic]) -> float:
    """Variance of the group means, weighted by group size, over the whole variance."""
    counts = np.bincount(group)
    means = np.bincount(group, values) / np.maximum(counts, 1)
    return float(np.average((means - values.mean()) ** 2, weights=counts) / values.var())


def test_the_ctr_of_sim_v1_is_one_percent(log: Log) -> None:
    """Everything quoted against sim-v1 assumes this rarity of clicks: 1.0 ± 0.1 %."""
    clicked = log.impressions["clicked"]

    assert abs(clicked.mean() - 0.01) < 0.001
    assert abs(log.truth["true_p"].mean() - 0.01) < 0.0005
    assert (log.summary.n_clicks, log.summary.ctr) == (clicked.sum(), clicked.mean())


def test_the_log_odds_of_sim_v1_have_the_promised_spread_and_shares(log: Log) -> None:
    """Each component's share within one percentage point, the standard deviation within one percent."""
    promised = dataclasses.asdict(SIM_V1.shares)

    assert _log_odds(log.truth["true_p"]).std() == pytest.approx(1.2, rel=0.01)
    assert log.summary.log_odds_sd == pytest.approx(_log_odds(log.truth["true_p"]).std(), rel=1e-9)
    assert log.summary.variance_shares == pytest.approx(promised, abs=0.01)
    assert sum(log.summary.variance_shares.values()) == pytest.approx(1.0, abs=0.02)


def test_the_shares_in_the_summary_are_those_of_the_files(log: Log) -> None:
    """Seen from outside: the log-odds grouped by columns a reader has vary as much as the summary says."""
    log_odds = _log_odds(log.truth["true_p"])
    shares = log.summary.variance_shares
    _, device = np.unique(log.impressions["device"], return_inverse=True)
    context = (log.impressions["placement"] * 3 + device) * 24 + log.impressions["hour"]

    assert _between_group_share(log_odds, log.impressions["position"]) == pytest.approx(shares["position"], abs=0.01)
    assert _between_group_share(log_odds, context) == pytest.approx(shares["context"], abs=0.01)
    assert _between_group_share(log_odds, log.segment * 12 + log.category) == pytest.approx(
        shares["segment_category"], abs=0.015
    )


def test_both_oracles_promise_the_same_number_of_clicks(log: Log) -> None:
    """An expectation keeps the mean: the attainable oracle may be less sharp, never higher or lower."""
    difference = log.truth["attainable_p"] - log.truth["true_p"]
    standard_error = difference.std() / np.sqrt(N_LOG)

    assert abs(difference.mean()) < 4 * standard_error
    assert standard_error < 0.005 * SIM_V1.ctr


@pytest.mark.parametrize("by", ["attainable_p", "segment", "category", "placement", "hour", "day"])
def test_the_attainable_oracle_is_calibrated_in_every_group_serving_can_see(log: Log, by: str) -> None:
    """What serving sees leaves nothing to correct: in each group its mean is the mean of the true probability."""
    true_p, attainable_p = log.truth["true_p"], log.truth["attainable_p"]
    group = {
        "attainable_p": np.searchsorted(np.quantile(attainable_p, np.arange(0.1, 1.0, 0.1)), attainable_p),
        "segment": log.segment,
        "category": log.category,
        "placement": log.impressions["placement"],
        "hour": log.impressions["hour"],
        "day": (log.impressions["time_ms"] - SIM_V1.start_ms) // DAY_MS,
    }[by]

    for value in np.unique(group):
        rows = group == value
        difference = attainable_p[rows] - true_p[rows]
        standard_error = difference.std() / np.sqrt(rows.sum())
        # Users come back, so rows are not quite independent: 5 standard errors for some 70 groups.
        assert abs(difference.mean()) < 5 * standard_error, (by, value)


def test_the_attainable_probability_is_the_mean_over_slots_and_tastes() -> None:
    """Against plain sampling of what serving cannot see; and more quadrature nodes change nothing."""
    world = build_world(SIM_V1, np.random.SeedSequence(SEED), drift=True)
    rng = np.random.default_rng(SEED)
    visible = np.array([-9.0, -5.0, -2.0, 1.0])
    slots = rng.choice(world.position_effect, size=(200_000, 1))
    tastes = rng.normal(0.0, SIM_V1.component_sd(SIM_V1.shares.taste), size=(200_000, 1))

    expected = attainable_probability(visible, HiddenLogOdds.of(world))

    sampled = (1 / (1 + np.exp(-(visible + slots + tastes)))).mean(axis=0)
    assert expected == pytest.approx(sampled, rel=0.01)


def test_nine_taste_nodes_are_as_good_as_forty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expectation is called exact; the quadrature must not be its weak point."""
    world = build_world(SIM_V1, np.random.SeedSequence(SEED), drift=True)
    visible = np.linspace(-12, 3, 100)

    few = attainable_probability(visible, HiddenLogOdds.of(world))
    monkeypatch.setattr(oracles, "TASTE_NODES", 40)
    many = attainable_probability(visible, HiddenLogOdds.of(world))

    assert few == pytest.approx(many, rel=1e-11)


def test_knowing_less_costs_the_attainable_oracle(log: Log) -> None:
    """The true oracle is the best there is, the attainable one stands between it and the base rate."""
    tail = log.summary.tail

    assert (tail.n_impressions, tail.n_clicks) == (60_000, log.impressions["clicked"][-60_000:].sum())
    assert tail.true.normalized_entropy < tail.attainable.normalized_entropy < 1
    assert tail.true.auc > tail.attainable.auc > 0.5


def test_oracle_quality_gathered_in_batches_equals_the_plain_formulas(log: Log) -> None:
    """The tally sees hours, bins the log-odds and must still report the tail's own NE and AUC."""
    clicked, p = log.impressions["clicked"][-60_000:], log.truth["attainable_p"][-60_000:]
    ctr, ranks = clicked.mean(), np.argsort(np.argsort(p))
    entropy = -(ctr * np.log(ctr) + (1 - ctr) * np.log(1 - ctr))
    n_clicks = clicked.sum()
    rank_sum_of_best = (ranks[clicked].sum() - n_clicks * (n_clicks - 1) / 2) / (n_clicks * (~clicked).sum())

    quality = log.summary.tail.attainable

    log_loss = -np.log(np.where(clicked, p, 1 - p)).mean()
    assert quality.normalized_entropy == pytest.approx(log_loss / entropy, rel=1e-9)
    assert quality.auc == pytest.approx(rank_sum_of_best, abs=1e-5)


def test_equal_probabilities_count_half_in_the_auc() -> None:
    """A constant guess knows nothing: AUC 0.5 and NE 1 whatever the labels."""
    score = OracleScore()

    score.add(np.array([True, False, False, False]), np.full(4, 0.25))

    assert score.quality().auc == 0.5
    assert score.quality().normalized_entropy == pytest.approx(1.0)


def test_impressions_have_the_documented_columns(log: Log, log_folder: Path) -> None:
    """Readers rely on names and types, and on finding nothing of the truth among them."""
    schemas = {
        name: {field.name: str(field.type) for field in pq.read_schema(log_folder / f"{name}.parquet")}
        for name in ("impressions", "truth", "users", "ads")
    }

    assert schemas == {
        "impressions": {
            "time_ms": "int64",
            "user_id": "string",
            "ad_id": "string",
            "placement": "string",
            "device": "string",
            "hour": "int8",
            "position": "int8",
            "clicked": "bool",
            "click_time_ms": "int64",
        },
        "truth": {"true_p": "double", "attainable_p": "double"},
        "users": {"user_id": "string", "segment": "string", "home_region": "string", "account_age_days": "float"},
        "ads": {
            "ad_id": "string",
            "campaign_id": "string",
            "advertiser_id": "string",
            "category": "string",
            "created_ms": "int64",
            "price": "float",
        },
    }


def test_every_size_of_log_fills_the_same_fourteen_days_in_order(log: Log) -> None:
    """Size scales density; file order is time order; the hour column is the UTC hour of the time."""
    time_ms = log.impressions["time_ms"]

    assert np.all(np.diff(time_ms) >= 0)
    assert SIM_V1.start_ms == np.datetime64("2026-01-05T00:00:00", "ms").astype(np.int64)
    assert SIM_V1.start_ms <= time_ms[0] < SIM_V1.start_ms + HOUR_MS
    assert SIM_V1.start_ms + 14 * DAY_MS - HOUR_MS <= time_ms[-1] < SIM_V1.start_ms + 14 * DAY_MS
    assert np.array_equal(log.impressions["hour"], time_ms // HOUR_MS % 24)
    assert len(time_ms) == len(log.truth["true_p"]) == N_LOG


def test_positions_are_a_random_eighth_each_and_the_top_slot_is_clicked_most(log: Log) -> None:
    """The randomised slot is what makes the log's own position mix a fair reference."""
    position, true_p = log.impressions["position"], log.truth["true_p"]

    assert np.bincount(position, minlength=9)[1:] / N_LOG == pytest.approx(np.full(8, 1 / 8), abs=0.003)
    assert abs(np.corrcoef(position, log.truth["attainable_p"])[0, 1]) < 0.01
    assert np.all(np.diff([true_p[position == slot].mean() for slot in range(1, 9)]) < 0)


def test_no_ad_is_shown_before_its_creation_and_new_ones_keep_arriving(log: Log) -> None:
    """Cold start must be in the log, and must not be a leak from the future."""
    created_ms = log.ads["created_ms"]
    shown = log.impressions["ad_id"]
    arrived_in_last_fifth = created_ms[shown] > log.impressions["time_ms"][-N_LOG // 5]

    assert np.all(created_ms[shown] <= log.impressions["time_ms"])
    assert (created_ms > SIM_V1.start_ms).sum() == 600
    assert 0.001 < arrived_in_last_fifth[-N_LOG // 5 :].mean() < 0.15


def test_a_few_users_and_ads_own_much_of_the_log(log: Log) -> None:
    """Real traffic is heavy-tailed: caches, popularity features and cold start depend on it."""
    by_user = np.sort(np.bincount(log.impressions["user_id"], minlength=SIM_V1.n_users))[::-1]
    by_ad = np.sort(np.bincount(log.impressions["ad_id"], minlength=SIM_V1.n_ads))[::-1]

    assert by_user[: SIM_V1.n_users // 100].sum() / N_LOG > 0.2
    assert by_ad[: SIM_V1.n_ads // 10].sum() / N_LOG > 0.5
    assert by_ad[0] / N_LOG < 0.05
    assert by_user[0] / N_LOG < 0.005


def test_clicks_arrive_late_and_some_after_a_day(log: Log) -> None:
    """Median of minutes, a tail of hours, about one in a hundred later than 24 h; null exactly where not clicked."""
    clicked, click_time_ms = log.impressions["clicked"], log.impressions["click_time_ms"]
    delay_ms = (click_time_ms - log.impressions["time_ms"])[clicked]

    assert np.array_equal(click_time_ms >= 0, clicked)
    assert delay_ms.min() >= 1
    assert 3 * 60_000 < np.median(delay_ms) < 5 * 60_000
    assert 0.10 < (delay_ms > HOUR_MS).mean() < 0.18
    assert 0.003 < (delay_ms > DAY_MS).mean() < 0.02
    assert log.summary.clicks_later_than_24_h == (delay_ms > DAY_MS).mean()
    assert log.summary.click_delay_ms["p50"] == np.median(delay_ms)


def test_truth_is_aligned_with_the_impressions(log: Log) -> None:
    """Row i of the truth belongs to impression i: shifted by one row, the clicks would look random to it."""
    clicked, true_p = log.impressions["clicked"], log.truth["true_p"]

    aligned, shifted = true_p[clicked].mean(), np.roll(true_p, 1)[clicked].mean()

    assert aligned > 2 * SIM_V1.ctr
    assert shifted < 1.2 * SIM_V1.ctr


def test_drift_changes_categories_over_days(log: Log) -> None:
    """Recent windows can see it: a category's log-odds differ between days far more than chance allows."""
    log_odds = _log_odds(log.truth["attainable_p"])
    day = (log.impressions["time_ms"] - SIM_V1.start_ms) // DAY_MS
    residual = log_odds - (np.bincount(log.category, log_odds) / np.bincount(log.category))[log.category]

    share = _between_group_share(residual, log.category * 14 + day) * residual.var() / 1.2**2

    assert share == pytest.approx(SIM_V1.shares.drift, abs=0.03)


def test_without_drift_only_drift_is_missing(made: Callable[..., Log]) -> None:
    """Same people, same pages: the switch takes one component away and leaves the rest where it was."""
    with_drift, without = made("with"), made("without", drift=False)

    assert without.summary.variance_shares["drift"] == 0
    assert without.summary.log_odds_sd == pytest.approx(1.2 * np.sqrt(0.92), rel=0.02)
    assert without.truth["true_p"].mean() == pytest.approx(0.01, rel=0.05)
    for column in ("time_ms", "user_id", "ad_id", "placement", "device", "position"):
        assert np.array_equal(with_drift.impressions[column], without.impressions[column])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(
    made: Callable[..., Log], tmp_path: Path
) -> None:
    """A figure quoted with its seed must be reproducible; seeds must not share ads or clicks."""
    first, again, other = made("first"), made("again"), made("other", seed=SEED + 1)

    for file in ("impressions.parquet", "truth.parquet", "users.parquet", "ads.parquet", "summary.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert (tmp_path / "first" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()
    assert first.summary == again.summary
    assert not np.array_equal(first.ads["created_ms"], other.ads["created_ms"])


def test_a_longer_log_of_one_seed_is_a_closer_look_at_the_same_world(made: Callable[..., Log]) -> None:
    """Scaling a study up must not change who exists or how they click."""
    short, long = made("short", n_impressions=1_000), made("long")

    assert short.summary.intercept == long.summary.intercept
    for table in ("users", "ads"):
        for column, values in getattr(short, table).items():
            assert np.array_equal(values, getattr(long, table)[column])


def test_sim_v1_is_frozen(log: Log) -> None:
    """Figures are quoted against it. If this must change, raise GENERATOR_VERSION and commit the new summary.json."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))

    made = dataclasses.asdict(log.summary)

    assert made.keys() == golden.keys()
    for name, value in golden.items():
        if name == "tail":
            assert made[name]["true"] == pytest.approx(value.pop("true"), rel=1e-6)
            assert made[name]["attainable"] == pytest.approx(value.pop("attainable"), rel=1e-6)
            assert value.items() <= made[name].items()
        else:
            assert made[name] == (value if isinstance(value, int | str) else pytest.approx(value, rel=1e-6))
    assert PRESETS["sim-v1"] is SIM_V1


def test_the_summary_file_holds_the_summary(log: Log, log_folder: Path) -> None:
    """Later commands read the oracles from the file, not from this process."""
    assert json.loads((log_folder / "summary.json").read_text(encoding="utf-8")) == dataclasses.asdict(log.summary)


def test_a_log_of_one_impression_is_a_log(made: Callable[..., Log]) -> None:
    """Too small to judge an oracle is no reason to fail: its quality is unknown, not wrong."""
    log = made(n_impressions=1)

    assert len(log.impressions["time_ms"]) == 1
    assert log.summary.tail.true.normalized_entropy is None
    assert log.summary.tail.true.auc is None


def test_progress_ends_at_one_and_never_falls(tmp_path: Path) -> None:
    """A bar that jumps back or stops at 99 % is worse than none."""
    seen: list[tuple[str, float]] = []

    simulate(
        SIM_V1,
        n_impressions=2_000,
        seed=1,
        out_dir=tmp_path / "log",
        on_progress=lambda stage, done: seen.append((stage, done)),
    )

    shares = [done for stage, done in seen if stage == "impressions"]
    assert shares == sorted(shares)
    assert seen[0] == ("world", 0.0)
    assert seen[-1] == ("impressions", 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_impressions": 0, "seed": 1}, "n_impressions is 0; a log needs 1"),
        ({"n_impressions": 10, "seed": -1}, "seed is -1; use 0 or"),
    ],
)
def test_a_size_or_seed_out_of_range_is_named(arguments: dict[str, int], message: str, tmp_path: Path) -> None:
    """The message says what was asked and what to ask instead."""
    with pytest.raises(SimulationError, match=message):
        simulate(SIM_V1, out_dir=tmp_path / "log", **arguments)

    assert list(tmp_path.iterdir()) == []


def test_an_existing_log_is_replaced_only_when_asked(made: Callable[..., Log], tmp_path: Path) -> None:
    """An hour of somebody's work must not vanish by a repeated command."""
    made("log", n_impressions=100)

    with pytest.raises(SimulationError, match="already holds a simulated log; name another folder or ask to overwrite"):
        made("log", n_impressions=200)
    replaced = made("log", n_impressions=300, overwrite=True)

    assert len(replaced.impressions["time_ms"]) == 300
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_overwriting_never_deletes_foreign_files(made: Callable[..., Log], tmp_path: Path) -> None:
    """`--overwrite` on a mistyped folder must not cost the user that folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")

    with pytest.raises(SimulationError, match=r"holds 'thesis.txt', which is no part of a simulated log"):
        made("home", n_impressions=100, overwrite=True)

    assert (tmp_path / "home" / "thesis.txt").read_text() == "years"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """Whether it is the folder itself or a parent of it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(SimulationError, match="file is a file; name a folder"):
        simulate(SIM_V1, n_impressions=1, seed=1, out_dir=tmp_path / "file")
    with pytest.raises(SimulationError, match="cannot write the simulated log to"):
        simulate(SIM_V1, n_impressions=1, seed=1, out_dir=tmp_path / "file" / "log")


def test_a_log_that_was_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C half way: a folder that is there must be a whole log."""

    def interrupt_half_way(stage: str, done: float) -> None:
        if stage == "impressions" and done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SIM_V1, n_impressions=2_000, seed=1, out_dir=tmp_path / "log", on_progress=interrupt_half_way)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placement_mix": (0.5, 0.4)}, "placement_mix sum to 0.9; scale them"),
        ({"shares": dataclasses.replace(SIM_V1.shares, drift=0.1)}, "shares sum to 1.02"),
        ({"new_ad_share": 1.0}, "at least one ad exists when the log starts"),
    ],
)
def test_a_preset_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    """A share that is not accounted for would quietly bend every other one."""
    with pytest.raises(SimulationError, match=message):
        dataclasses.replace(SIM_V1, **change)  # type: ignore[arg-type]
