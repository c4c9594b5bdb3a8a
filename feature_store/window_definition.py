"""A windowed view of `features.toml`: what is counted, over which time, of whom, and how rates are smoothed."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from feature_store.feature_definition import RESERVED_FEATURES, check_name, read_default
from feature_store.schema import EntityName, Feature, Level, Measure, WindowMeasure, WindowSource
from feature_store.toml_table import TomlTable, shown_duration

MIN_STEP_MS: Final = 1_000
"""A window is summed step by step, so a shorter step makes more sums than the log has impressions."""

MAX_ACROSS: Final = 256
"""Each number is counted for each user or group and as-of time, and a request carries all of them."""

_MEASURES: dict[str, Measure] = {"impressions": "impressions", "clicks": "clicks", "ctr": "ctr"}


def read_windows(table: TomlTable, entity: EntityName, ttl_ms: int) -> tuple[tuple[Feature, ...], WindowSource]:
    """The features of a windowed view of an entity, and how they are counted."""
    step_ms, lag_ms = table.duration_ms("step"), table.duration_ms("lag")
    if step_ms < MIN_STEP_MS:
        raise table.error("step", f'is shorter than 1s: "{table.text("step")}"; windows are counted in whole steps')
    if ttl_ms < step_ms + lag_ms:
        raise table.error("ttl", "is shorter than step + lag, so a row would expire before the next one is made")
    across, width = _across(table, entity)
    features, measures = [], []
    for name, described in table.table("features").tables():
        check_name(name, described, RESERVED_FEATURES)
        measure = _measure(described, step_ms)
        if across is not UNSET and measure.towards is not UNSET:
            raise described.error("towards", "is for one rate; a view across has a vector of them, pulled towards all")
        measures.append(measure)
        features.append(Feature(name=name, width=width, default=read_default(described, "float32")))
    source = WindowSource(
        step_ms=step_ms, lag_ms=lag_ms, measures=tuple(measures), by=table.optional_text("by"), across=across
    )
    return tuple(features), source


def _across(table: TomlTable, entity: EntityName) -> tuple[str | UnsetType, int]:
    """The attribute of ads that the counts of users are split by, and how many values it has."""
    if "across" not in table:
        if "width" in table:
            raise table.error("width", "says how many numbers across has, and there is no across")
        return UNSET, 1
    if entity != "user":
        raise table.error("across", "splits what users did by an attribute of ads; this is a view of ads")
    table.require("width", "12")
    width = table.whole("width", 0)
    if not 2 <= width <= MAX_ACROSS:
        raise table.error("width", f"must be 2 to {MAX_ACROSS}: one more than the largest index, got {width}")
    return table.text("across"), width


def _measure(table: TomlTable, step_ms: int) -> WindowMeasure:
    """What one windowed feature counts."""
    table.expect((*_MEASURES, "half_life", "prior_impressions", "towards", "default"))
    asked = [key for key in table if key in _MEASURES]
    if len(asked) != 1:
        raise table.error("", 'counts exactly one thing, for example { clicks = "7d" } or { ctr = "all" }')
    measure = _MEASURES[asked[0]]
    for key in ("prior_impressions", "towards"):
        if measure != "ctr" and key in table:
            raise table.error(key, f"smooths a ctr; {measure} are counted as they are")
    prior_impressions = table.number("prior_impressions", 0.0)
    if prior_impressions < 0:
        raise table.error("prior_impressions", f"must be 0 or more, got {prior_impressions}")
    towards: Level | UnsetType = UNSET
    if "towards" in table:
        if prior_impressions == 0:
            raise table.error("towards", "pulls by prior_impressions, which must be above 0")
        towards = Level(feature=table.text("towards"))
    window = table.text(measure)
    if window == "decayed":
        return WindowMeasure(
            measure=measure,
            prior_impressions=prior_impressions,
            half_life_ms=_half_life_ms(table, measure, step_ms),
            towards=towards,
        )
    if "half_life" in table:
        raise table.error("half_life", f'is of decayed counts: {measure} = "decayed"; a window forgets by its length')
    window_ms = None if window == "all" else table.duration_ms(measure)
    if window_ms is not None and (window_ms == 0 or window_ms % step_ms):
        step = shown_duration(step_ms)
        raise table.error(measure, f"{window} is not a multiple of the view's step of {step}")
    return WindowMeasure(measure=measure, window_ms=window_ms, prior_impressions=prior_impressions, towards=towards)


def _half_life_ms(table: TomlTable, measure: Measure, step_ms: int) -> int:
    """After which time an event of a decayed count weighs one half."""
    table.require("half_life", '"24h"')
    half_life_ms = table.duration_ms("half_life")
    if half_life_ms < step_ms:
        step, half_life = shown_duration(step_ms), table.text("half_life")
        raise table.error(
            "half_life", f"is shorter than the view's step of {step}, got {half_life}; say {measure} in a window"
        )
    return half_life_ms
