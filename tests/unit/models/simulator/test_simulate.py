"""Making a log: the same seed gives the same bytes, and nobody's folder is harmed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import SimulationError
from models.logs.simulated_world import DAY_MS
from models.logs.simulator import PRESETS, SIM_V1, RateShift, simulate
from tests.simulation import SEED, SimulatedLog

GOLDEN = Path(__file__).parents[3] / "golden" / "sim_v1_summary.json"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(
    made: Callable[..., SimulatedLog], tmp_path: Path
) -> None:
    """A figure quoted with its seed must be reproducible; seeds must not share ads or clicks."""
    first, again, other = made("first"), made("again"), made("other", seed=SEED + 1)

    for file in ("impressions.parquet", "truth.parquet", "users.parquet", "ads.parquet", "summary.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert (tmp_path / "first" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()
    assert first.summary == again.summary
    assert not np.array_equal(first.ads["created_ms"], other.ads["created_ms"])


def test_sim_v1_is_frozen(log: SimulatedLog) -> None:
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
            assert made[name] == (value if isinstance(value, int | str | None) else pytest.approx(value, rel=1e-6))
    assert PRESETS["sim-v1"] is SIM_V1


def test_a_shift_thins_the_clicks_of_its_days_and_changes_nothing_else(made: Callable[..., SimulatedLog]) -> None:
    """What is shown, and what happens before, must not depend on a drop that comes later."""
    steady, dropped = made("steady"), made("dropped", shift=RateShift(day=7, factor=0.6))
    later = steady.impressions["time_ms"] >= SIM_V1.start_ms + 7 * DAY_MS

    for column in ("time_ms", "user_id", "ad_id", "position"):
        assert np.array_equal(steady.impressions[column], dropped.impressions[column])
    factor = np.where(later, 0.6, 1.0)
    assert dropped.truth["true_p"] == pytest.approx(factor * steady.truth["true_p"], rel=1e-12)
    assert dropped.truth["attainable_p"] == pytest.approx(factor * steady.truth["attainable_p"], rel=1e-12)
    assert np.array_equal(steady.impressions["clicked"][~later], dropped.impressions["clicked"][~later])
    assert not np.any(dropped.impressions["clicked"][later] & ~steady.impressions["clicked"][later])


@pytest.mark.parametrize("shift", [RateShift(0, 0.6), RateShift(14, 0.6), RateShift(7, 0.0), RateShift(7, 1.5)])
def test_a_shift_outside_the_log_or_upwards_is_refused(tmp_path: Path, shift: RateShift) -> None:
    """Probabilities above 1 or a drop that never comes would make figures nobody asked for."""
    with pytest.raises(SimulationError, match=r"use a day from 1 to 13 and a factor above 0 and at most 1"):
        simulate(SIM_V1, n_impressions=1_000, seed=1, out_dir=tmp_path / "log", shift=shift)


def test_the_summary_file_holds_the_summary(log: SimulatedLog, log_folder: Path) -> None:
    """Later commands read the oracles from the file, not from this process."""
    assert json.loads((log_folder / "summary.json").read_text(encoding="utf-8")) == dataclasses.asdict(log.summary)


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


def test_an_existing_log_is_replaced_only_when_asked(made: Callable[..., SimulatedLog], tmp_path: Path) -> None:
    """An hour of somebody's work must not vanish by a repeated command."""
    made("log", n_impressions=100)

    with pytest.raises(SimulationError, match="already holds a simulated log; name another folder or ask to overwrite"):
        made("log", n_impressions=200)
    replaced = made("log", n_impressions=300, overwrite=True)

    assert len(replaced.impressions["time_ms"]) == 300
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_overwriting_never_deletes_foreign_files(made: Callable[..., SimulatedLog], tmp_path: Path) -> None:
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
