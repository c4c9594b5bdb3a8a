"""Feature views: the one description that storage, training and serving share.

A *view* is a group of features of one entity with one writer and one rhythm. Its *fingerprint* is the identity of what
a stored row means: the SHA-256 of the canonical JSON of name, entity, ordered features, definition and hash seed. Two
rows with the same fingerprint may be compared; with another fingerprint they live under another key. Time-to-live and
comments change no meaning and do not count. What a later version can say in addition is `UNSET` where it is not said,
and then absent from that JSON: views that do not say it keep their fingerprint.

Pure data: knows no TOML, no SQL dialect, no Redis. `definition.py` reads it from `features.toml`.
Durations and times are int64 milliseconds. Categorical features have dtype `id` (uint32 hashes, see `ids.py`).
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from feature_store.ids import MISSING_ID, hash_id

Dtype = Literal["float32", "id"]
PairOperator = Literal["equal", "product", "difference", "lookup", "cross_hash"]
Measure = Literal["impressions", "clicks", "ctr"]
EntityName = Literal["user", "ad"]

DECAYED_HALF_LIVES = 64
"""After so many an impression would weigh 5e-20: 2**40 of them would not move a float32 beside a single fresh one."""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named value of a view: a number, a vector of numbers, or a categorical value stored as its hash."""

    name: str
    dtype: Dtype = "float32"
    width: int = 1
    """How many numbers it has; an embedding of 64 is `float32[64]`."""
    default: float | str | None = None
    """What stands for a missing value; None leaves it missing (NaN, or hash 0)."""
    ngrams: tuple[int, ...] | UnsetType = UNSET
    """Set where the numbers are made from a text: how many words its n-grams have (`ngrams.py`)."""

    @property
    def read_as(self) -> Dtype:
        """What its column holds: a number or numbers, or a text, as under a category."""
        return self.dtype if self.ngrams is UNSET else "id"


class TableSource(msgspec.Struct, frozen=True, tag="table", forbid_unknown_fields=True):
    """Attributes from a Parquet or CSV file with one row per entity, or one per entity and change.

    Also how features computed elsewhere arrive: the file's path is not part of the meaning, its columns are.
    """

    columns: tuple[str, ...]
    """The column behind each feature, in order."""


class LogSource(msgspec.Struct, frozen=True, tag="log", forbid_unknown_fields=True):
    """Attributes that the click log itself carries: the newest value seen not later than the impression."""

    columns: tuple[str, ...]


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next level up of a hierarchy, such as the campaign of an ad."""

    feature: str
    """`view.feature`: a rate of the same entity, counted by group with the same step and lag."""
    fingerprint: str = ""
    """Of that view: a rate is another one when the rate that it is pulled towards is. Filled by `hierarchy.py`."""


class WindowMeasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one windowed feature counts.

    `ctr` is smoothed: (clicks + prior_impressions * r) / (impressions + prior_impressions), r being the rate that it is
    pulled `towards`; without one, or where no level above has a row, that of all entities over their whole history. All
    are of the same as-of time.
    """

    measure: Measure
    window_ms: int | None = None
    """Length of the trailing window; None is the whole history."""
    prior_impressions: float = 0.0
    half_life_ms: int | UnsetType = UNSET
    """Set for decayed counts: what happened in a step that began a half-life before as-of counts one half. There is no
    window then, but what is older than `DECAYED_HALF_LIVES` half-lives counts nothing."""

    towards: Level | UnsetType = UNSET

    @property
    def counts_whole(self) -> bool:
        """Whether it is a whole number, and so the same to the bit however it is added up."""
        return self.measure != "ctr" and self.half_life_ms is UNSET


class WindowSource(msgspec.Struct, frozen=True, tag="window", forbid_unknown_fields=True):
    """Trailing counts of the click log as of `floor((t - lag) / step) * step`.

    An impression counts from its own time, a click only from its arrival; both only when strictly earlier than as-of.
    """

    step_ms: int
    lag_ms: int
    measures: tuple[WindowMeasure, ...]
    by: str | None = None
    """`view.feature` of the same entity: every member then carries the counts of its whole group, so that a new ad
    starts from what its campaign earned. None counts the entity alone."""
    across: str | UnsetType = UNSET
    """`view.feature`, a whole number that ads have: number i of each feature then counts only impressions of ads that
    had an i there when they were shown. The pair operator `lookup` picks the number of the candidate's own i."""

    def as_of_ms(self, time_ms: int) -> int:
        """The as-of time whose counts an observer at `time_ms` sees."""
        return (time_ms - self.lag_ms) // self.step_ms * self.step_ms


class SqlSource(msgspec.Struct, frozen=True, tag="sql", forbid_unknown_fields=True):
    """Rows made by a query over the table `log` that answers `entity_id`, `event_time_ms` and one column a feature."""

    sql: str
    """Normalised by the reader of the definition, so that layout and comments do not change the fingerprint."""


Source = TableSource | LogSource | WindowSource | SqlSource


class FeatureView(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A group of features of one entity with one writer and one rhythm."""

    name: str
    entity: EntityName
    features: tuple[Feature, ...]
    source: Source
    hash_seed: int
    ttl_ms: int

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of everything that gives a stored row its meaning."""
        view = msgspec.convert(msgspec.to_builtins(self), FeatureView)  # one type a number: 0 and 0.0 mean the same
        meaning = {
            "name": view.name,
            "entity": view.entity,
            "features": [
                [f.name, f.dtype, f.width, f.default, *([] if f.ngrams is UNSET else [f.ngrams])] for f in view.features
            ],
            "source": msgspec.to_builtins(view.source),
            "hash_seed": view.hash_seed,
        }
        return hashlib.sha256(msgspec.json.encode(meaning, order="sorted")).hexdigest()

    @cached_property
    def n_float(self) -> int:
        """Numbers in a row: the widths of the float32 features added up."""
        return sum(f.width for f in self.features if f.dtype == "float32")

    @cached_property
    def n_id(self) -> int:
        """Hashes in a row: the widths of the id features added up."""
        return sum(f.width for f in self.features if f.dtype == "id")

    @cached_property
    def float_columns(self) -> tuple[str, ...]:
        """Names of the numbers in stored order: `view.feature`, or `view.feature[i]` where the width is above 1."""
        return self._columns("float32")

    @cached_property
    def id_columns(self) -> tuple[str, ...]:
        """Names of the hashes in stored order."""
        return self._columns("id")

    @cached_property
    def default_floats(self) -> npt.NDArray[np.float32]:
        """(n_float,) what stands for the numbers of an entity without a row; NaN where nothing was declared."""
        values = [_default_number(f) for f in self.features if f.dtype == "float32" for _ in range(f.width)]
        return np.array(values, dtype=np.float32)

    @cached_property
    def default_ids(self) -> npt.NDArray[np.uint32]:
        """(n_id,) what stands for the hashes of an entity without a row; 0 where nothing was declared."""
        values = [
            MISSING_ID if f.default is None else hash_id(f.default, self.hash_seed)
            for f in self.features
            if f.dtype == "id"
            for _ in range(f.width)
        ]
        return np.array(values, dtype=np.uint32)

    def _columns(self, dtype: Dtype) -> tuple[str, ...]:
        return tuple(
            f"{self.name}.{f.name}" if f.width == 1 else f"{self.name}.{f.name}[{i}]"
            for f in self.features
            if f.dtype == dtype
            for i in range(f.width)
        )


class ContextFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that the caller sends with the request, and that the log calls `column`."""

    name: str
    dtype: Dtype = "float32"
    default: float | str | None = None
    column: str = ""
    """The log's column; the feature's own name where empty."""


class PairFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of user (or context) and ad together, made by one of a closed set of operators (`models/pairs.py`)."""

    name: str
    op: PairOperator
    left: str
    right: str
    """Column names: `view.feature` or `context.name`."""


class Rate(NamedTuple):
    """One rate of a window view."""

    view: FeatureView
    number: int
    """Of the feature in the view."""


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All a project knows about its features: the content of one `features.toml`."""

    project: str
    views: tuple[FeatureView, ...] = ()
    context: tuple[ContextFeature, ...] = ()
    pairs: tuple[PairFeature, ...] = ()
    hash_seed: int = 0
    time_zone: str = "UTC"

    def views_of(self, entity: EntityName) -> tuple[FeatureView, ...]:
        """The views of one entity, in declared order."""
        return tuple(view for view in self.views if view.entity == entity)

    def view(self, name: str) -> FeatureView | None:
        """The view of that name, or None."""
        return next((view for view in self.views if view.name == name), None)

    def rates_above(self, measure: WindowMeasure) -> tuple[Rate, ...]:
        """The rates that a rate is pulled towards, near to far."""
        if not isinstance(measure.towards, Level):
            return ()
        view_name, feature_name = measure.towards.feature.split(".")
        view = self.view(view_name)
        assert view is not None  # the definition was checked
        assert isinstance(view.source, WindowSource)
        number = [feature.name for feature in view.features].index(feature_name)
        return (Rate(view, number), *self.rates_above(view.source.measures[number]))

    def levels_above(self, view: FeatureView) -> tuple[FeatureView, ...]:
        """The views whose rates those of `view` are pulled towards, each once."""
        measures = view.source.measures if isinstance(view.source, WindowSource) else ()
        return tuple({rate.view.name: rate.view for measure in measures for rate in self.rates_above(measure)}.values())


def _default_number(feature: Feature) -> float:
    return math.nan if feature.default is None else float(feature.default)
