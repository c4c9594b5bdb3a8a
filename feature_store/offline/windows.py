"""Windowed counts as SQL: trailing impressions, clicks and their rate, as of a step.

Time is cut into steps. A *tile* is what happened to one key (an entity, or a group of them) within one step; an
observer at time t sees whole tiles only, those before `floor((t - lag) / step)`. A window of k steps as of step s is
therefore the sum over tiles s-k to s-1: exact, because a window is a whole number of steps. An impression lies in the
tile of its own time, a click in the tile of its arrival: before it arrived, nobody knew.

A rate may be pulled towards that of another view, a level above (`hierarchy.py`), whose value comes with the question.
Two questions about one key may then belong to two groups, so each has a row of its own, under a `row_key`.

Counts across an attribute of ads are kept apart by its value, the *part*, and come out as a vector. All parts are asked
for, also those where nothing happened: a smoothed rate is known there, too.

Decayed counts weigh the same tiles: `decayed.py`.

The SQL uses `RANGE` frames, which say just that ("k preceding to 1 preceding") and mean the same in DuckDB and Spark.
Cost: one sort of the tiles per key, then O(log tiles) per window and row in DuckDB, O(window) in Spark.
A vector of `width` numbers costs as much as so many features of views of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from feature_store.offline.decayed import block_steps, decayed_sum
from feature_store.schema import Level, WindowMeasure, WindowSource

EVER = "ever"


def step_of(time_ms: str, step_ms: int) -> str:
    """SQL of the number of the step that a time lies in. Exact for times up to 2**53 ms."""
    return f"CAST(floor(({time_ms}) / {step_ms}) AS BIGINT)"


def seen_ms(time_ms: str, source: WindowSource) -> str:
    """SQL of `WindowSource.as_of_ms`."""
    return f"{step_of(f'{time_ms} - {source.lag_ms}', source.step_ms)} * {source.step_ms}"


def window_rows(source: WindowSource, *, width: int = 1, events: str, asked: str) -> str:
    """SQL of the view's rows at the as-of times that somebody asks for.

    Args:
        source: what is counted.
        width: how many numbers each feature has; above 1 only across an attribute.
        events: relation (key, time_ms, click_time_ms); one row an impression, click_time_ms null where not clicked.
            Across an attribute it has part, which of the numbers the impression counts in: 0 to width - 1.
        asked: relation (key, seen_ms) of as-of times; duplicates do no harm. Where measure i is pulled towards a level,
            it has prior_i (the level's rate, or null), and row_key, which tells apart what differs in any of them.
    Returns:
        A query (key, event_time_ms, f0, f1, …) with one row per asked key that had an impression before; the key is the
        row_key where there is one. A key without any has no row, as it has none in the online store. Rates of groups
        are there in full precision as well: r0, r1, …, for the levels below.
    """
    step_ms = source.step_ms
    keys = "key" if width == 1 else "key, part"
    parts = "" if width == 1 else f" CROSS JOIN (VALUES {', '.join(f'({part})' for part in range(width))}) parts(part)"
    counts = {_Count.behind(measure, step_ms) for measure in source.measures} | {_Count(EVER, "UNBOUNDED PRECEDING")}
    sums = ", ".join(
        f"{count.sum_of(what, step_ms)} AS {what}_{count.name}"
        for count in sorted(counts)
        for what in ("impressions", "clicks")
    )
    windows = ", ".join(
        f"{count.name} AS (PARTITION BY {keys} ORDER BY step RANGE BETWEEN {count.start} AND 1 PRECEDING)"
        for count in sorted(counts)
    )
    measured = [_measured(i, measure, step_ms) for i, measure in enumerate(source.measures)]
    features = [f"CAST({value} AS FLOAT) AS f{i}" for i, value in enumerate(measured)]
    if source.by is not None:
        rates = [i for i, measure in enumerate(source.measures) if measure.measure == "ctr"]
        features += [f"{measured[i]} AS r{i}" for i in rates]
    key, priors = "key", ""
    if levels := [f"prior_{i}" for i, measure in enumerate(source.measures) if isinstance(measure.towards, Level)]:
        key, priors = (
            "row_key AS key",
            f"""JOIN (
            SELECT DISTINCT row_key, key, {step_of("seen_ms", step_ms)} AS step, {", ".join(levels)} FROM {asked}
        ) USING (key, step)""",
        )
    answered = f"""
        SELECT {key}, step * {step_ms} AS event_time_ms, {", ".join(features)}
        FROM counted JOIN everyone USING (step) {priors}
        WHERE asked = 1 AND impressions_{EVER} > 0
    """
    if width > 1:
        answered = _vectors(measured, width, step_ms)
    return f"""
        WITH tiles AS (
            SELECT {keys}, step, sum(impression) AS impressions, sum(click) AS clicks, max(asked) AS asked
            FROM (
                SELECT {keys}, {step_of("time_ms", step_ms)} AS step, 1.0::DOUBLE AS impression, 0.0::DOUBLE AS click,
                    0 AS asked
                FROM {events} WHERE key IS NOT NULL
                UNION ALL
                SELECT {keys}, {step_of("click_time_ms", step_ms)}, 0.0, 1.0, 0
                FROM {events} WHERE key IS NOT NULL AND click_time_ms IS NOT NULL
                UNION ALL
                SELECT DISTINCT {keys}, {step_of("seen_ms", step_ms)}, 0.0, 0.0, 1
                FROM {asked}{parts} WHERE key IS NOT NULL
            )
            GROUP BY {keys}, step
        ),
        everyone AS (
            SELECT step, sum(clicks) OVER earlier / nullif(sum(impressions) OVER earlier, 0) AS rate
            FROM (SELECT step, sum(impressions) AS impressions, sum(clicks) AS clicks FROM tiles GROUP BY step)
            WINDOW earlier AS (ORDER BY step RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ),
        counted AS (SELECT {keys}, step, asked, {sums} FROM tiles WINDOW {windows})
        {answered}
    """


def _vectors(measured: Sequence[str], width: int, step_ms: int) -> str:
    """The parts of each key and as-of time as one row of lists; a key without any impression has none."""

    def vector(value: str) -> str:
        numbers = (f"CAST(max(CASE WHEN part = {part} THEN {value} END) AS FLOAT)" for part in range(width))
        return f"[{', '.join(numbers)}]"

    lists = ", ".join(f"{vector(value)} AS f{i}" for i, value in enumerate(measured))
    return (
        f"SELECT key, step * {step_ms} AS event_time_ms, {lists} FROM counted JOIN everyone USING (step) "
        f"WHERE asked = 1 GROUP BY key, step HAVING sum(impressions_{EVER}) > 0"
    )


class _Count(NamedTuple):
    """A way to add tiles up, shared by all features that count over the same time."""

    name: str
    start: str
    """Where its frame begins."""
    half_life_ms: int | None = None

    @classmethod
    def behind(cls, measure: WindowMeasure, step_ms: int) -> _Count:
        """What a measure adds up."""
        if isinstance(half_life_ms := measure.half_life_ms, int):
            return cls(f"decayed_{half_life_ms}", f"{block_steps(half_life_ms, step_ms)} PRECEDING", half_life_ms)
        if measure.window_ms is None:
            return cls(EVER, "UNBOUNDED PRECEDING")
        n = measure.window_ms // step_ms
        return cls(f"last_{n}", f"{n} PRECEDING")

    def sum_of(self, what: str, step_ms: int) -> str:
        """SQL of impressions or clicks before each tile's step."""
        if self.half_life_ms is not None:
            return decayed_sum(what, self.name, self.half_life_ms, step_ms)
        return f"coalesce(sum({what}) OVER {self.name}, 0)"


def _measured(i: int, measure: WindowMeasure, step_ms: int) -> str:
    """SQL of measure i; null where a rate would divide by 0."""
    count = _Count.behind(measure, step_ms).name
    if measure.measure != "ctr":
        return f"{measure.measure}_{count}"
    prior = repr(measure.prior_impressions)
    towards = f"coalesce(prior_{i}, rate)" if isinstance(measure.towards, Level) else "rate"
    return f"(clicks_{count} + {prior} * {towards}) / nullif(impressions_{count} + {prior}, 0)"
