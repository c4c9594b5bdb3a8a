"""What happens in a simulated world: one clock hour of impressions, their log-odds, and their clicks.

An impression is a user, an ad that exists at that millisecond, a placement, a device and a slot. All are drawn
independently of each other: nobody targets, so what a model finds in the log is the effect itself. The slot above all
is random, which is what makes "the log's own mix of positions" a fair reference for a model that cannot know it.
Pure: all randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.logs.simulated_world import HOUR_MS, Floats, Indices, World

VISIBLE = ("ad", "segment_category", "context", "drift")
"""Components that serving may see; the fields of `VarianceShares` name all of them."""
HIDDEN = ("position", "taste")


@dataclass(frozen=True, slots=True)
class Impressions:
    """n impressions of one clock hour, in order of time; entities by their index in the world."""

    hour: int
    """Hours since the start of the log."""
    time_ms: Indices  # (n,) ascending
    user: Indices
    ad: Indices
    placement: Indices
    device: Indices
    slot: Indices  # 0 is the top

    @property
    def hour_of_day(self) -> int:
        """UTC hour; logs start at midnight."""
        return self.hour % 24


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of n impressions, and what could be known about it beforehand."""

    true_p: Floats  # (n,)
    attainable_p: Floats  # (n,)
    click_delay_ms: Indices  # (n,) -1 where there was no click

    @property
    def clicked(self) -> npt.NDArray[np.bool_]:
        """(n,)"""
        return self.click_delay_ms >= 0


@dataclass(frozen=True, slots=True)
class Popularity:
    """Cumulative weights to draw from, summed once per log."""

    users: Floats
    ads: Floats  # in order of creation: those that exist at some time are a prefix
    placements: Floats
    devices: Floats

    @classmethod
    def of(cls, world: World) -> Popularity:
        """Sum up the weights of `world`."""
        return cls(
            users=np.cumsum(world.users.popularity),
            ads=np.cumsum(world.ads.popularity),
            placements=np.cumsum(world.preset.placement_mix),
            devices=np.cumsum([share for _, share in world.preset.device_mix]),
        )


def show(world: World, popularity: Popularity, hour: int, n: int, rng: np.random.Generator) -> Impressions:
    """Draw n impressions of the given hour of the log."""
    time_ms = world.preset.start_ms + hour * HOUR_MS + np.sort(rng.integers(HOUR_MS, size=n))
    n_existing = np.searchsorted(world.ads.created_ms, time_ms, side="right")
    ad_draw = rng.random(n) * popularity.ads[n_existing - 1]
    return Impressions(
        hour=hour,
        time_ms=time_ms,
        user=_pick(popularity.users, n, rng),
        # Rounding may lift a draw onto the end of the prefix: the last ad that exists takes it.
        ad=np.minimum(np.searchsorted(popularity.ads, ad_draw, side="right"), n_existing - 1),
        placement=_pick(popularity.placements, n, rng),
        device=_pick(popularity.devices, n, rng),
        slot=rng.integers(world.preset.n_positions, size=n),
    )


def log_odds(world: World, shown: Impressions) -> dict[str, Floats]:
    """Every component's contribution without the intercept, each (n,), named as in `VarianceShares`."""
    category = world.ads.category[shown.ad]
    segment = world.users.segment[shown.user]
    return {
        "ad": world.ads.effect[shown.ad],
        "segment_category": world.segment_category_effect[segment, category],
        "context": (
            world.placement_effect[shown.placement]
            + world.device_effect[shown.device]
            + world.hour_effect[shown.hour_of_day]
        ),
        "position": world.position_effect[shown.slot],
        "taste": world.users.taste[shown.user, category].astype(np.float64),
        "drift": world.drift_effect[shown.hour, category],
    }


def click_delays(world: World, true_p: Floats, rng: np.random.Generator) -> Indices:
    """(n,) ms from impression to click, at least 1, or -1 where there is none; log-normal."""
    preset = world.preset
    clicked = rng.random(len(true_p)) < true_p
    delay_ms = preset.click_delay_median_ms * np.exp(preset.click_delay_log_sd * rng.standard_normal(clicked.sum()))
    delays = np.full(len(true_p), -1, dtype=np.int64)
    delays[clicked] = np.ceil(delay_ms).astype(np.int64)
    return delays


def _pick(cumulative: Floats, n: int, rng: np.random.Generator) -> Indices:
    """n indices in proportion to the weights behind the cumulative sum."""
    draws: Floats = rng.random(n) * cumulative[-1]
    return np.searchsorted(cumulative[:-1], draws, side="right")
