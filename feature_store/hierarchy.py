"""Hierarchical smoothing as it is declared: ad towards campaign, campaign towards advertiser, advertiser towards all.

A rate says which rate it is pulled `towards`: that of the next level up, a `ctr` of another window view of the same
entity that counts by a group. Both must cut time at the same places, or the parent's rate would be of another moment.
What a rate means depends on all levels above it, so their fingerprint becomes part of its own.
Pure: works on views that were read, and names the key of `features.toml` in every complaint.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from feature_store.schema import FeatureView, Level, WindowSource
from feature_store.toml_table import TomlTable, shown_duration


def with_levels(views: tuple[FeatureView, ...], table: TomlTable) -> tuple[FeatureView, ...]:
    """The views with every level found, checked and fingerprinted.

    Args:
        views: all of the project, as they were read.
        table: `views` of `features.toml`.
    Raises:
        SchemaError: a level is unknown, no rate of a group, of another entity or rhythm, or above itself.
    """
    declared = {view.name: view for view in views}
    return tuple(_resolved(view, declared, table, below=()) for view in views)


def _resolved(
    view: FeatureView, declared: Mapping[str, FeatureView], table: TomlTable, below: tuple[str, ...]
) -> FeatureView:
    """A view with the fingerprints of its levels; `below` are the views that are pulled towards it."""
    if not isinstance(view.source, WindowSource):
        return view
    measures = []
    for feature, measure in zip(view.features, view.source.measures, strict=True):
        if isinstance(measure.towards, Level):
            at = table.table(view.name).table("features").table(feature.name)
            parent = _parent(view, measure.towards, declared, at)
            if parent.name in (*below, view.name):
                raise at.error("towards", f'"{measure.towards.feature}" is itself pulled towards view "{view.name}"')
            above = _resolved(parent, declared, table, (*below, view.name))
            level = Level(feature=measure.towards.feature, fingerprint=above.fingerprint)
            measure = msgspec.structs.replace(measure, towards=level)
        measures.append(measure)
    source = msgspec.structs.replace(view.source, measures=tuple(measures))
    return msgspec.structs.replace(view, source=source)


def _parent(view: FeatureView, level: Level, declared: Mapping[str, FeatureView], at: TomlTable) -> FeatureView:
    """The view of a level, if its rate can be the prior of a rate of `view`."""
    assert isinstance(view.source, WindowSource)
    rates = {
        f"{other.name}.{feature.name}": other
        for other in declared.values()
        if isinstance(other.source, WindowSource) and other.source.by is not None and other.source.across is UNSET
        if other.entity == view.entity
        for feature, measure in zip(other.features, other.source.measures, strict=True)
        if measure.measure == "ctr"
    }
    if level.feature not in rates:
        known = ", ".join(sorted(rates)) or "none"
        raise at.error(
            "towards",
            f'there is no "{level.feature}" to pull towards; known rates of groups of {view.entity}s are {known}',
        )
    parent = rates[level.feature]
    assert isinstance(parent.source, WindowSource)
    for key, own, other in (
        ("step", view.source.step_ms, parent.source.step_ms),
        ("lag", view.source.lag_ms, parent.source.lag_ms),
    ):
        if own != other:
            raise at.error(
                "towards",
                f'the {key} of view "{parent.name}" is {shown_duration(other)}, here it is {shown_duration(own)}; '
                "rates of two moments cannot be mixed: make them equal",
            )
    return parent
