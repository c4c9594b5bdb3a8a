"""Questions about smoothed rates, with the rates of the levels above: campaign, advertiser, and so on.

A level answers the same questions as the view below it, so its rate is of the same as-of time and of the group that the
entity belonged to when it was asked about. A level without a row (a new campaign of an old advertiser) is passed over:
the next one up answers for it, and where none does the rate of all entities (`windows.py`).
Cost: two joins a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from feature_store.schema import Schema, WindowSource


class Answered(NamedTuple):
    """Names of two tables: the history of a view, and the answers (q, i, event_time_ms) that point into it."""

    history: str
    answers: str


def with_levels_above(keyed: str, source: WindowSource, schema: Schema, levels: Mapping[str, Answered]) -> str:
    """SQL of the questions with what `window_rows` wants to know of levels.

    Args:
        keyed: relation (q, key, …) of questions.
        source: of the view that is asked.
        schema: knows which rate is above which.
        levels: by name of view, what `Schema.levels_above` answered to the same questions.
    Returns:
        A query that adds row_key, which tells apart questions of one key and as-of time but other groups, and prior_i
        for each measure i that is pulled towards a level.
    """
    alias = {name: f"h{n}" for n, name in enumerate(levels)}
    joins = " ".join(
        f"LEFT JOIN {level.answers} a{alias[name]} ON a{alias[name]}.q = keyed.q "
        f"LEFT JOIN {level.history} {alias[name]} ON {alias[name]}.i = a{alias[name]}.i"
        for name, level in levels.items()
    )
    rows = " || ".join(f"'/' || coalesce(CAST({h}.i AS VARCHAR), '')" for h in alias.values())
    priors = []
    for i, measure in enumerate(source.measures):
        if above := schema.rates_above(measure):
            rates = ", ".join(f"{alias[rate.view.name]}.r{rate.number}" for rate in above)
            priors.append(f"coalesce({rates}) AS prior_{i}")
    return f"SELECT keyed.*, keyed.key || {rows} AS row_key, {', '.join(priors)} FROM {keyed} keyed {joins}"
