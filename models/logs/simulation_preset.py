"""Presets: every knob of a simulated world, frozen under a name.

A published preset never changes, because figures are quoted against it: another world gets another name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from types import MappingProxyType

from models.errors import SimulationError


@dataclass(frozen=True, slots=True)
class VarianceShares:
    """What each component adds to the variance of the log-odds, measured over impressions; they sum to 1."""

    ad: float
    """Quality of the ad: its advertiser's, its campaign's and its own, so that a new ad is partly predictable."""

    segment_category: float
    """Liking of a user segment for an ad category."""

    context: float
    """Placement, device and hour of day, added up."""

    position: float
    """Slot on the page; drawn independently of everything else, and unknown when serving."""

    taste: float
    """Liking of one user for one category beyond their segment's; serving never sees it."""

    drift: float
    """Slow change of each category over the days of the log."""


@dataclass(frozen=True, slots=True)
class SimulationPreset:
    """Every knob of a world; see `simulated_world.py` for what they do."""

    name: str
    start_ms: int
    """First millisecond of the log; midnight UTC, so that hours of the log are hours of the day."""
    span_days: int
    """Length of the log whatever its size: more impressions make it denser, not longer."""

    ctr: float
    """Mean true probability over impressions; the intercept is solved for it."""
    log_odds_sd: float
    """Standard deviation of the log-odds over impressions with drift on; without drift it is smaller by that share."""
    shares: VarianceShares

    n_users: int
    n_segments: int
    n_regions: int
    """Home regions carry no signal: real user tables have such columns, and a model must cope with them."""
    user_zipf_exponent: float
    user_zipf_offset: float
    """Popularity of rank r is (r + offset) ** -exponent; the offset keeps the first rank from owning the log."""

    n_advertisers: int
    n_campaigns: int
    n_ads: int
    n_categories: int
    campaign_in_home_category: float
    """Chance that a campaign stays in its advertiser's own category; otherwise any category."""
    ad_zipf_exponent: float
    ad_zipf_offset: float
    new_ad_share: float
    """Share of the ads that are created, evenly, while the log runs; an ad is never shown before its creation."""
    oldest_ad_days: int
    """The other ads were created evenly over this many days before the log starts."""
    ad_variance_split: tuple[float, float, float]
    """Parts of the ad's variance that lie with the advertiser, the campaign and the ad itself."""

    placement_mix: tuple[float, ...]
    device_mix: tuple[tuple[str, float], ...]
    context_variance_split: tuple[float, float, float]
    """Parts of the context's variance that lie with placement, device and hour of day."""
    n_positions: int
    """Slots 1 to n, equally often; the odds of a click fall with a power of the slot number."""

    drift_period_days: tuple[float, float]
    """Each category follows two waves with periods drawn from this range."""

    click_delay_median_ms: float
    click_delay_log_sd: float
    """A click arrives a log-normal time after its impression."""

    def __post_init__(self) -> None:
        for what, parts in (
            ("shares", sum(astuple(self.shares))),
            ("ad_variance_split", sum(self.ad_variance_split)),
            ("context_variance_split", sum(self.context_variance_split)),
            ("placement_mix", sum(self.placement_mix)),
            ("device_mix", sum(share for _, share in self.device_mix)),
        ):
            if not math.isclose(parts, 1.0):
                raise SimulationError(f"preset {self.name!r}: {what} sum to {parts:g}; scale them to a sum of 1")
        if round(self.n_ads * self.new_ad_share) >= self.n_ads:
            raise SimulationError(
                f"preset {self.name!r}: new_ad_share is {self.new_ad_share:g} of {self.n_ads} ads; "
                "lower it so that at least one ad exists when the log starts"
            )

    @property
    def n_hours(self) -> int:
        """Clock hours in the log."""
        return self.span_days * 24

    def component_sd(self, share: float) -> float:
        """Standard deviation, in log-odds, of a component that holds `share` of the variance."""
        return self.log_odds_sd * math.sqrt(share)


@dataclass(frozen=True, slots=True)
class RateShift:
    """A sudden drop: from the start of day `day` of the log on, click probabilities are `factor` of what they were."""

    day: int
    """1 or more: as many days of the log pass before it."""
    factor: float
    """Above 0, at most 1."""

    def factor_at(self, hour: int) -> float:
        """What the probabilities of that clock hour of the log are multiplied by."""
        return self.factor if hour >= 24 * self.day else 1.0


SIM_V1 = SimulationPreset(
    name="sim-v1",
    start_ms=1_767_571_200_000,  # 2026-01-05T00:00:00Z, a Monday
    span_days=14,
    ctr=0.01,
    log_odds_sd=1.2,
    shares=VarianceShares(ad=0.25, segment_category=0.25, context=0.15, position=0.15, taste=0.12, drift=0.08),
    n_users=50_000,
    n_segments=8,
    n_regions=12,
    user_zipf_exponent=0.9,
    user_zipf_offset=50.0,
    n_advertisers=100,
    n_campaigns=300,
    n_ads=2_000,
    n_categories=12,
    campaign_in_home_category=0.8,
    ad_zipf_exponent=1.0,
    ad_zipf_offset=8.0,
    new_ad_share=0.3,
    oldest_ad_days=60,
    ad_variance_split=(0.3, 0.35, 0.35),
    placement_mix=(0.30, 0.22, 0.18, 0.14, 0.10, 0.06),
    device_mix=(("mobile", 0.58), ("desktop", 0.30), ("tablet", 0.12)),
    context_variance_split=(0.5, 0.2, 0.3),
    n_positions=8,
    drift_period_days=(6.0, 14.0),
    click_delay_median_ms=4 * 60_000.0,
    click_delay_log_sd=2.5,
)

PRESETS: Mapping[str, SimulationPreset] = MappingProxyType({SIM_V1.name: SIM_V1})
