"""Seeded ad-impression logs whose true click probability is known.

Real logs tell what was clicked, never how likely it was, so on them nobody knows how much a model leaves on the table.
Here the truth is written beside the log, together with the best that serving can attain (`oracles.py`).

A log is made clock hour by clock hour, each from its own random stream, so memory holds a few hours whatever the size.
The seed decides both the world and what happens in it: the same preset, seed and size give the same log.
`simulated_log.py` lists the files. Cost: linear in the impressions, some seconds for a million on one core.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from models.errors import SimulationError
from models.logs.oracles import HiddenLogOdds, attainable_probability
from models.logs.simulated_impressions import (
    HIDDEN,
    VISIBLE,
    Impressions,
    Outcomes,
    Popularity,
    click_delays,
    log_odds,
    show,
)
from models.logs.simulated_log import SUMMARY, LogWriter, new_log_folder, write_entities
from models.logs.simulated_world import Floats, World, build_world
from models.logs.simulation_preset import PRESETS, SIM_V1, RateShift, SimulationPreset
from models.logs.simulation_summary import SimulationSummary, Tally

__all__ = ["PRESETS", "SIM_V1", "RateShift", "SimulationPreset", "SimulationSummary", "simulate"]

CALIBRATION_DRAWS = 200_000
"""Impressions the intercept is solved on: the standard error of their mean probability is 0.4 % of it."""


def simulate(
    preset: SimulationPreset,
    *,
    n_impressions: int,
    seed: int,
    out_dir: Path,
    drift: bool = True,
    shift: RateShift | None = None,
    on_progress: Callable[[str, float], None] | None = None,
    overwrite: bool = False,
) -> SimulationSummary:
    """Write a log of `n_impressions` to the folder `out_dir`.

    Args:
        preset: the world to draw from; its days are filled whatever the size.
        n_impressions: 1 or more.
        seed: 0 or more; decides who exists and everything that happens.
        out_dir: new or empty, or a simulated log if `overwrite` is on. It appears when the log is complete.
        drift: off leaves that component out; everything else stays as it is, and the log-odds spread a little less.
        shift: a sudden drop of the click rate; all that is shown stays as it is.
        on_progress: called with the name of the stage and the share of it that is done, 0 to 1.
    Raises:
        SimulationError: a size or seed out of range, or a folder that cannot or must not be written.
    """
    if n_impressions < 1:
        raise SimulationError(f"n_impressions is {n_impressions}; a log needs 1 impression or more")
    if seed < 0:
        raise SimulationError(f"seed is {seed}; use 0 or a positive integer")
    if shift and not (1 <= shift.day < preset.span_days and 0.0 < shift.factor <= 1.0):
        raise SimulationError(
            f"a shift of the click rate on day {shift.day} by {shift.factor:g}; the log has {preset.span_days} days, "
            f"so use a day from 1 to {preset.span_days - 1} and a factor above 0 and at most 1"
        )
    report = on_progress or _unreported
    with new_log_folder(out_dir, overwrite=overwrite) as folder:
        report("world", 0.0)
        world_seed, calibration_seed, log_seed = np.random.SeedSequence(seed).spawn(3)
        world = build_world(preset, world_seed, drift=drift)
        intercept = _solve_intercept(world, calibration_seed)
        write_entities(folder, world)
        report("world", 1.0)
        hidden = HiddenLogOdds.of(world)
        tally = Tally(n_impressions)
        with LogWriter(folder, world) as writer:
            for shown, rng in _hours(world, n_impressions, log_seed):
                components = log_odds(world, shown)
                visible = intercept + _total(components, VISIBLE)
                factor = shift.factor_at(shown.hour) if shift else 1.0
                true_p = factor * _sigmoid(visible + _total(components, HIDDEN))
                attainable_p = factor * attainable_probability(visible, hidden)
                outcomes = Outcomes(true_p, attainable_p, click_delays(world, true_p, rng))
                writer.append(shown, outcomes)
                tally.add(components, outcomes)
                report("impressions", tally.n_seen / n_impressions)
        summary = tally.summary(preset, seed=seed, drift=drift, shift=shift, intercept=intercept)
        (folder / SUMMARY).write_text(json.dumps(dataclasses.asdict(summary), indent=2) + "\n", encoding="utf-8")
    return summary


def _hours(
    world: World, n_impressions: int, seed: np.random.SeedSequence
) -> Iterator[tuple[Impressions, np.random.Generator]]:
    """The impressions of the log hour by hour, with the generator that draws what happens next in that hour."""
    popularity = Popularity.of(world)
    n_hours = world.preset.n_hours
    traffic_seed, *hour_seeds = seed.spawn(1 + n_hours)
    n_by_hour = np.random.default_rng(traffic_seed).multinomial(n_impressions, world.traffic)
    for hour, (n, hour_seed) in enumerate(zip(n_by_hour, hour_seeds, strict=True)):
        if n:
            rng = np.random.default_rng(hour_seed)
            yield show(world, popularity, hour, int(n), rng), rng


def _solve_intercept(world: World, seed: np.random.SeedSequence) -> float:
    """The intercept that makes the mean true probability the preset's CTR, by bisection."""
    hours = _hours(world, CALIBRATION_DRAWS, seed)
    others = np.concatenate([_total(log_odds(world, shown), VISIBLE + HIDDEN) for shown, _ in hours])
    low, high = -30.0, 30.0
    for _ in range(50):
        middle = (low + high) / 2
        if _sigmoid(middle + others).mean() < world.preset.ctr:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _total(components: dict[str, Floats], names: tuple[str, ...]) -> Floats:
    return np.asarray(np.sum([components[name] for name in names], axis=0), dtype=np.float64)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-values)), dtype=np.float64)


def _unreported(stage: str, share_done: float) -> None:
    """Progress nobody asked for."""
