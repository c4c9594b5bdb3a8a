"""What a simulated log turned out to be, added up while it is made.

Everything is a running sum, so memory does not grow with the log; only the delays of the clicks are kept (8 bytes for
one impression in a hundred).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.logs.oracles import OracleQuality, OracleScore
from models.logs.simulated_impressions import Outcomes
from models.logs.simulated_world import DAY_MS, Floats, Indices
from models.logs.simulation_preset import RateShift, SimulationPreset

GENERATOR_VERSION = 1
"""Raised whenever the same preset, seed and size give another log."""

TAIL_SHARE = 0.2
"""The oracles are judged on this last part of the log, where a model split by time is judged too."""

DELAY_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class OraclesOnTail:
    """Both oracles on the last fifth of the log."""

    n_impressions: int
    n_clicks: int
    true: OracleQuality
    attainable: OracleQuality


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """What was made; `summary.json` holds the same fields. Means and variances are over the impressions made."""

    preset: str
    generator_version: int
    seed: int
    drift: bool
    shift: RateShift | None
    n_impressions: int
    n_clicks: int
    ctr: float
    mean_true_p: float
    mean_attainable_p: float
    intercept: float
    log_odds_sd: float
    variance_shares: dict[str, float]
    """Variance of each component over that of the log-odds; they sum to 1 up to chance correlations."""
    click_delay_ms: dict[str, float]
    """Quantiles of the time from impression to click; empty without clicks."""
    clicks_later_than_24_h: float
    """Share of the clicks; 0 without clicks."""
    tail: OraclesOnTail


class Tally:
    """Running sums over a log of known length."""

    def __init__(self, n_impressions: int) -> None:
        self.n_seen = 0
        self._n_impressions = n_impressions
        self._tail_starts_at = n_impressions - round(n_impressions * TAIL_SHARE)
        self._component_moments: dict[str, Floats] = {}  # name -> (sum, sum of squares)
        self._total_moments = np.zeros(2)
        self._p_sums = np.zeros(2)  # true, attainable
        self._delays_ms: list[Indices] = []
        self._true_on_tail, self._attainable_on_tail = OracleScore(), OracleScore()

    def add(self, components: Mapping[str, Floats], outcomes: Outcomes) -> None:
        """Take in the next n impressions: each component's log-odds, (n,), and what came of them."""
        for name, values in components.items():
            self._component_moments[name] = self._component_moments.get(name, 0.0) + _moments(values)
        self._total_moments += _moments(np.sum(list(components.values()), axis=0))
        self._p_sums += outcomes.true_p.sum(), outcomes.attainable_p.sum()
        clicked = outcomes.clicked
        self._delays_ms.append(outcomes.click_delay_ms[clicked])

        tail = slice(max(self._tail_starts_at - self.n_seen, 0), None)
        self._true_on_tail.add(clicked[tail], outcomes.true_p[tail])
        self._attainable_on_tail.add(clicked[tail], outcomes.attainable_p[tail])
        self.n_seen += len(clicked)

    def summary(
        self, preset: SimulationPreset, *, seed: int, drift: bool, shift: RateShift | None, intercept: float
    ) -> SimulationSummary:
        """The finished sums, once every impression has been added."""
        n = self._n_impressions
        delays_ms = np.concatenate(self._delays_ms)
        variance = _variance(self._total_moments, n)
        mean_true_p, mean_attainable_p = self._p_sums / n
        return SimulationSummary(
            preset=preset.name,
            generator_version=GENERATOR_VERSION,
            seed=seed,
            drift=drift,
            shift=shift,
            n_impressions=n,
            n_clicks=len(delays_ms),
            ctr=len(delays_ms) / n,
            mean_true_p=float(mean_true_p),
            mean_attainable_p=float(mean_attainable_p),
            intercept=intercept,
            log_odds_sd=float(np.sqrt(variance)),
            variance_shares={
                name: _variance(moments, n) / variance if variance else 0.0
                for name, moments in self._component_moments.items()
            },
            click_delay_ms={
                name: float(np.quantile(delays_ms, share)) for name, share in DELAY_QUANTILES.items() if len(delays_ms)
            },
            clicks_later_than_24_h=float((delays_ms > DAY_MS).mean()) if len(delays_ms) else 0.0,
            tail=OraclesOnTail(
                n_impressions=self._true_on_tail.n_impressions,
                n_clicks=self._true_on_tail.n_clicks,
                true=self._true_on_tail.quality(),
                attainable=self._attainable_on_tail.quality(),
            ),
        )


def _moments(values: Floats) -> Floats:
    """(2,) sum and sum of squares; the components have mean 0, so their difference loses no digits."""
    return np.array([values.sum(), values @ values])


def _variance(moments: Floats, n: int) -> float:
    return float(moments[1] / n - (moments[0] / n) ** 2)
