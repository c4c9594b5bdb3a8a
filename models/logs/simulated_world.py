"""The world behind a simulated log: who exists, and what each trait adds to the log-odds of a click.

A click has log-odds `intercept + ad + segment_category + context + position + taste + drift`. Each component is
scaled against the *expected distribution of impressions*, not against the list of entities: a famous ad weighs as
much as it is shown. So a component's share of the variance over the log is its share in the preset, up to sampling.

Invariants
- Components have mean 0 over impressions and are uncorrelated: `ad` is centred within each category, `taste` within
  each segment x category, `drift` over the categories of each hour. (`ad` and `drift` may correlate slightly, because
  the ads on show change.) Drift therefore moves clicks between categories and leaves the overall CTR where it is.
- A world depends on its preset and seed only, never on the number of impressions: a longer log of the same seed is
  a closer look at the same world. Switching drift off leaves everything else as it was.
- Ads are numbered by creation time, so "may be shown at time t" is "has an index below k(t)".

Times are int64 milliseconds since 1970 UTC; drift is constant within a clock hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.logs.simulation_preset import SimulationPreset

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Users:
    """Row i is user `u{i}`."""

    segment: Indices  # (users,)
    popularity: Floats  # (users,) expected share of the impressions
    taste: npt.NDArray[np.float32]  # (users, categories) log-odds; half the memory of float64
    home_region: Indices  # (users,) noise
    account_age_days: npt.NDArray[np.float32]  # (users,) noise


@dataclass(frozen=True, slots=True)
class Ads:
    """Row i is ad `a{i}`, in order of creation."""

    advertiser: Indices  # (ads,)
    campaign: Indices  # (ads,)
    category: Indices  # (ads,)
    created_ms: Indices  # (ads,) ascending
    popularity: Floats  # (ads,) weight among the ads that exist; the shares follow from who is there
    effect: Floats  # (ads,) log-odds
    price: npt.NDArray[np.float32]  # (ads,) noise


@dataclass(frozen=True, slots=True)
class World:
    """What is true about everybody. All effects are log-odds with mean 0 over impressions."""

    preset: SimulationPreset
    users: Users
    ads: Ads
    traffic: Floats  # (hours,) expected share of the impressions in each hour of the log
    segment_category_effect: Floats  # (segments, categories)
    placement_effect: Floats  # (placements,)
    device_effect: Floats  # (devices,)
    hour_effect: Floats  # (24,)
    position_effect: Floats  # (positions,), slot 1 first
    drift_effect: Floats  # (hours, categories); all 0 with drift off


def build_world(preset: SimulationPreset, seed: np.random.SeedSequence, *, drift: bool) -> World:
    """Draw the world of `preset` and `seed`; `drift=False` only sets the drift effect to 0."""
    user_rng, ad_rng, effect_rng, drift_rng = (np.random.default_rng(part) for part in seed.spawn(4))
    hour_of_day = np.arange(preset.n_hours) % 24
    traffic = _normalized(1.0 + 0.5 * np.cos(2 * np.pi * (hour_of_day - 20) / 24))  # busiest at 20:00 UTC

    users = _draw_users(preset, user_rng)
    ads, exposure = _draw_ads(preset, traffic, ad_rng)
    category_by_hour = exposure @ np.eye(preset.n_categories)[ads.category]  # (hours, ads) x (ads, categories)

    segment_mix = np.bincount(users.segment, users.popularity, preset.n_segments)
    segment_category_effect = _standardized(
        effect_rng.standard_normal((preset.n_segments, preset.n_categories)),
        np.outer(segment_mix, category_by_hour.sum(axis=0)),
        preset.component_sd(preset.shares.segment_category),
    )
    placement_sd, device_sd, hour_sd = (
        preset.component_sd(preset.shares.context * part) for part in preset.context_variance_split
    )
    phases = effect_rng.uniform(0, 24, size=2)
    hours = np.arange(24)
    daily_curve = np.cos(2 * np.pi * (hours - phases[0]) / 24) + 0.5 * np.cos(4 * np.pi * (hours - phases[1]) / 24)
    slots = np.arange(1, preset.n_positions + 1)
    return World(
        preset=preset,
        users=users,
        ads=ads,
        traffic=traffic,
        segment_category_effect=segment_category_effect,
        placement_effect=_standardized(
            effect_rng.standard_normal(len(preset.placement_mix)), np.array(preset.placement_mix), placement_sd
        ),
        device_effect=_standardized(
            effect_rng.standard_normal(len(preset.device_mix)),
            np.array([share for _, share in preset.device_mix]),
            device_sd,
        ),
        hour_effect=_standardized(daily_curve, traffic[:24], hour_sd),
        position_effect=_standardized(
            -np.log(slots),
            np.full(preset.n_positions, 1 / preset.n_positions),
            preset.component_sd(preset.shares.position),
        ),
        drift_effect=_draw_drift(preset, category_by_hour, drift_rng) * float(drift),
    )


def _draw_users(preset: SimulationPreset, rng: np.random.Generator) -> Users:
    popularity = _zipf(preset.n_users, preset.user_zipf_exponent, preset.user_zipf_offset)
    rng.shuffle(popularity)
    segment = rng.integers(preset.n_segments, size=preset.n_users)
    taste = rng.standard_normal((preset.n_users, preset.n_categories), dtype=np.float32)
    for index in range(preset.n_segments):
        members = np.flatnonzero(segment == index)
        weights = _normalized(popularity[members])
        # What all members of a segment share belongs to the segment, not to taste.
        own = taste[members] - weights @ taste[members]  # (members, categories)
        taste[members] = own / np.sqrt(weights @ own**2) * preset.component_sd(preset.shares.taste)
    return Users(
        segment=segment,
        popularity=popularity,
        taste=taste,
        home_region=rng.integers(preset.n_regions, size=preset.n_users),
        account_age_days=rng.exponential(400.0, size=preset.n_users).astype(np.float32),
    )


def _draw_ads(preset: SimulationPreset, traffic: Floats, rng: np.random.Generator) -> tuple[Ads, Floats]:
    """The ads, and the expected share of the impressions of each hour and ad, (hours, ads)."""
    advertiser_category = rng.integers(preset.n_categories, size=preset.n_advertisers)
    campaign_advertiser = rng.integers(preset.n_advertisers, size=preset.n_campaigns)
    campaign_category = np.where(
        rng.random(preset.n_campaigns) < preset.campaign_in_home_category,
        advertiser_category[campaign_advertiser],
        rng.integers(preset.n_categories, size=preset.n_campaigns),
    )
    campaign = rng.integers(preset.n_campaigns, size=preset.n_ads)
    advertiser, category = campaign_advertiser[campaign], campaign_category[campaign]
    popularity = _zipf(preset.n_ads, preset.ad_zipf_exponent, preset.ad_zipf_offset)
    rng.shuffle(popularity)

    n_new = round(preset.n_ads * preset.new_ad_share)
    before = rng.integers(-preset.oldest_ad_days * DAY_MS, 0, size=preset.n_ads - n_new)
    during = rng.integers(0, preset.span_days * DAY_MS, size=n_new)
    created_ms = preset.start_ms + np.sort(np.concatenate([before, during]))

    middle_of_hour_ms = preset.start_ms + HOUR_MS * np.arange(preset.n_hours) + HOUR_MS // 2
    on_show = popularity * (created_ms <= middle_of_hour_ms[:, None])  # (hours, ads)
    exposure = traffic[:, None] * on_show / on_show.sum(axis=1, keepdims=True)

    weights = exposure.sum(axis=0)
    effect = np.zeros(preset.n_ads)
    for owner, n_owners, part in zip(
        (advertiser, campaign, np.arange(preset.n_ads)),
        (preset.n_advertisers, preset.n_campaigns, preset.n_ads),
        preset.ad_variance_split,
        strict=True,
    ):
        effect += _standardized(rng.standard_normal(n_owners)[owner], weights, np.sqrt(part))
    # Without centring, a few strong ads would lend their quality to their category and the two shares would overlap.
    effect -= _mean_by_group(effect, weights, category, preset.n_categories)[category]
    ads = Ads(
        advertiser=advertiser,
        campaign=campaign,
        category=category,
        created_ms=created_ms,
        popularity=popularity,
        effect=_standardized(effect, weights, preset.component_sd(preset.shares.ad)),
        price=np.exp(rng.normal(3.0, 0.8, size=preset.n_ads)).astype(np.float32),
    )
    return ads, exposure


def _draw_drift(preset: SimulationPreset, category_by_hour: Floats, rng: np.random.Generator) -> Floats:
    """(hours, categories) slow waves, centred over the categories on show in each hour."""
    size = (2, preset.n_categories)
    period_days = rng.uniform(*preset.drift_period_days, size=size)
    phase = rng.uniform(0, 2 * np.pi, size=size)
    days = np.arange(preset.n_hours)[:, None, None] / 24
    waves = np.sin(2 * np.pi * days / period_days + phase).sum(axis=1)  # (hours, 2, categories) -> (hours, categories)
    level = (waves * category_by_hour).sum(axis=1, keepdims=True) / category_by_hour.sum(axis=1, keepdims=True)
    return _standardized(waves - level, category_by_hour, preset.component_sd(preset.shares.drift))


def _zipf(n: int, exponent: float, offset: float) -> Floats:
    """(n,) popularity by rank, summing to 1."""
    return _normalized(np.asarray((np.arange(1, n + 1) + offset) ** -exponent, dtype=np.float64))


def _normalized(weights: Floats) -> Floats:
    """`weights` scaled to sum to 1."""
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _mean_by_group(values: Floats, weights: Floats, group: Indices, n_groups: int) -> Floats:
    """(groups,) weighted means; a group without weight has mean 0."""
    total = np.bincount(group, weights, n_groups)
    return np.bincount(group, weights * values, n_groups) / np.where(total > 0, total, 1.0)


def _standardized(values: Floats, weights: Floats, sd: float) -> Floats:
    """`values` shifted and scaled to weighted mean 0 and weighted standard deviation `sd`; same shape."""
    centred = values - np.average(values, weights=weights)
    return np.asarray(centred * (sd / np.sqrt(np.average(centred**2, weights=weights))), dtype=np.float64)
