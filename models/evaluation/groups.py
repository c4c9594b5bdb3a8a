"""Impressions put into groups: by position, age of the ad, what is known of the user, or any column one asks for.

Ages are causal: how many impressions of the ad, or of the user, come earlier in the log than this one. They count the
whole log, also where only a part of it is evaluated.

A categorical column has one group a value, the 20 most frequent; the rest is one more. So has a number with at most 20
distinct values; one with more is cut into five ranges of equal mass. Missing values are a group of their own. The time
of the impression makes one group a day, the newest 20.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from feature_store.ids import hash_ids
from feature_store.offline.log import Factorised
from feature_store.offline.offline_store import OfflineStore
from feature_store.schema import FeatureView
from models.evaluation.grouping_columns import check_group
from models.logs.frame import TrainingFrame

MOST_VALUES = 20
RANGES = 5
AD_AGES = (100, 1_000)
"""Upper ends of the first groups of an ad's age, in impressions: pooled, because one cold ad has too few clicks."""
MISSING = "missing"
QUARTER_MS = 900_000


class Groups(NamedTuple):
    """Which group each impression is in."""

    by: str
    codes: npt.NDArray[np.int64]
    """(n,) index into `names`."""
    names: tuple[str, ...]
    judged: bool = True
    """Whether each group's promises should come true. By position they need not: `p_click` speaks of the mean place."""


def own_groups(frame: TrainingFrame) -> tuple[Groups, ...]:
    """What every log can be broken down by: position, age of the ad, and whether the user was seen before."""
    found = []
    if np.any(frame.position >= 0):
        places = _by_value("position", frame.position.astype(np.float64), unknown=frame.position < 0)
        found.append(places._replace(judged=False))
    if np.any(frame.earlier_of_ad >= 0):
        ages = np.searchsorted(AD_AGES, frame.earlier_of_ad, side="right")
        names = (f"first {AD_AGES[0]:,}", f"{AD_AGES[0] + 1:,} to {AD_AGES[1]:,}", f"more than {AD_AGES[1]:,}")
        found.append(_present("ad_age", np.where(frame.earlier_of_ad < 0, 3, ages), (*names, "unknown ad")))
    if np.any(frame.earlier_of_user >= 0):
        codes = np.where(frame.earlier_of_user < 0, 2, np.minimum(frame.earlier_of_user, 1))
        found.append(_present("user", codes, ("new: no earlier impression", "seen before", "unknown user")))
    return tuple(found)


def groups_by(frame: TrainingFrame, by: str) -> Groups:
    """Groups by a context feature (`device` or `context.device`), an attribute (`ad_profile.category`) or a log column.

    Raises:
        NoSuchColumn: as `grouping_columns.check_group`.
    """
    check_group(frame.log.project, frame.log.own_names(), by)
    context = {feature.name: feature.column or feature.name for feature in frame.inputs.context}
    name = by.removeprefix("context.")
    if name in context:
        return _by_column(by, frame.log_column(context[name]))
    view_name, _, feature = by.partition(".")
    for view in frame.inputs.views:
        if view.name == view_name and feature in (known.name for known in view.features):
            return _by_attribute(frame, by, view, feature)
    time = frame.log.project.log.time
    if time is not None and by == time.column:
        return _by_day(by, frame.time_ms, frame.log.project.schema.time_zone)
    return _by_column(by, frame.log_column(by))


def _by_attribute(frame: TrainingFrame, by: str, view: FeatureView, name: str) -> Groups:
    """Groups by a joined feature; a hash is told by the value that it stands for."""
    views = frame.inputs.user_views if view.entity == "user" else frame.inputs.ad_views
    block = frame.user if view.entity == "user" else frame.ad
    float_at = id_at = 0
    for other in views:
        for feature in other.features:
            if other.name == view.name and feature.name == name:
                if feature.dtype == "id":
                    return _by_hash(frame, by, view, name, block.ids[:, id_at])
                return _by_value(by, block.floats[:, float_at].astype(np.float64))
            if feature.dtype == "id":
                id_at += 1
            else:
                float_at += feature.width
    raise AssertionError(by)


def _by_hash(frame: TrainingFrame, by: str, view: FeatureView, name: str, hashes: npt.NDArray[np.uint32]) -> Groups:
    with OfflineStore(frame.log.project, frame.log, frame.log.path.parent) as store:
        values = store.distinct_values(view, name)
    texts = dict(zip(hash_ids(values, view.hash_seed).tolist(), map(str, values), strict=True))
    found, codes = np.unique(hashes, return_inverse=True)
    names = [MISSING if value == 0 else texts.get(value, f"hash {value:08x}") for value in found.tolist()]
    return _most_frequent(by, codes, names)


def _by_column(by: str, column: Factorised) -> Groups:
    """A column of the log as it stands; numbers are cut into ranges where there are many."""
    numbers = [value for value in column.values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == len(column.values) > MOST_VALUES:
        return _by_value(by, np.array([*numbers, np.nan], dtype=np.float64)[column.codes])
    names = [*(_text(value) for value in column.values), MISSING]
    return _most_frequent(by, np.where(column.codes < 0, len(names) - 1, column.codes), names)


def _by_day(by: str, time_ms: npt.NDArray[np.int64], zone: str) -> Groups:
    """One group a day of the calendar in the log's zone, in order; where there are many, the newest and all before."""
    quarters, of_quarter = np.unique(time_ms // QUARTER_MS, return_inverse=True)  # every zone's days begin with one
    moments = (datetime.fromtimestamp(quarter * QUARTER_MS / 1000, ZoneInfo(zone)) for quarter in quarters.tolist())
    days, of_day = np.unique([moment.date().isoformat() for moment in moments], return_inverse=True)
    codes, names = of_day[of_quarter], days.tolist()
    if (n_earlier := len(names) - MOST_VALUES) > 0:
        codes, names = np.maximum(codes - n_earlier + 1, 0), [f"{n_earlier:,} earlier days", *names[n_earlier:]]
    return Groups(by, codes.astype(np.int64), tuple(names))


def _by_value(by: str, values: npt.NDArray[np.float64], unknown: npt.NDArray[np.bool_] | None = None) -> Groups:
    """A number: one group a value, in order, or ranges of equal mass; NaN and `unknown` are missing."""
    missing = np.isnan(values) if unknown is None else unknown
    known = values[~missing]
    distinct = np.unique(known)
    if len(distinct) <= MOST_VALUES:
        codes, names = np.searchsorted(distinct, values), [_text(value) for value in distinct.tolist()]
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, RANGES + 1)[1:-1], method="lower"))
        codes = np.searchsorted(edges, values, side="left")
        shown = [_text(edge) for edge in edges.tolist()]
        names = [f"up to {shown[0]}", *(f"{low} to {high}" for low, high in pairwise(shown))]
        names.append(f"above {shown[-1]}")
    return _present(by, np.where(missing, len(names), codes), (*names, MISSING))


def _most_frequent(by: str, codes: npt.NDArray[np.integer], names: list[str]) -> Groups:
    """The most frequent values, best known first, and one group of all others."""
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    rank = np.full(len(names), MOST_VALUES)
    rank[order] = np.minimum(np.arange(len(order)), MOST_VALUES)
    kept = [names[i] for i in order[:MOST_VALUES].tolist()]
    if len(order) > MOST_VALUES:
        kept.append(f"{len(order) - MOST_VALUES:,} others")
    return Groups(by, rank[codes].astype(np.int64), tuple(kept))


def _present(by: str, codes: npt.NDArray[np.integer], names: tuple[str, ...]) -> Groups:
    """Without the groups that nobody is in."""
    present, codes = np.unique(codes, return_inverse=True)
    return Groups(by, codes.astype(np.int64), tuple(names[i] for i in present.tolist()))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
