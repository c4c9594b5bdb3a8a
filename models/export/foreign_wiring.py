"""From the names in `[model] columns` to the places of a foreign graph's inputs among our columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from feature_store.errors import SchemaError
from feature_store.graph_columns import THE_MATRIX
from models.encoder import Encoder
from models.export.foreign_graph import ForeignInput
from models.export.wrapping import Wiring
from models.plans.foreign_source import ForeignColumns
from models.specs import Float64s, Int64s


def wiring_of(
    inputs: Sequence[ForeignInput], listed: Mapping[str, Sequence[str]], encoder: Encoder, origin: str
) -> Wiring:
    """Where each input's columns come from; nothing is filled yet.

    Args:
        listed: names of features by input, as `Project.graph_columns`.
        origin: the file that lists them, for messages.
    Raises:
        SchemaError: the list does not fit the graph, or names a column that no number has.
    """
    if not listed:
        example = _first([f'"{name}"' for name in encoder.float_names])
        raise SchemaError(
            f"{origin}: model.columns: is missing; give the features in the order in which the graph reads them, for "
            f"example columns = [{example}]"
        )
    if tuple(listed) == (THE_MATRIX,):
        if len(inputs) > 1:
            example = _first([f'"{each.name}" = "view.feature"' for each in inputs])
            raise SchemaError(
                f"{origin}: model.columns: is one list, but the graph reads {len(inputs)} inputs; name the feature of "
                f"each: columns = {{ {example} }}"
            )
        listed = {inputs[0].name: listed[THE_MATRIX]}
    unknown = sorted(listed.keys() - {each.name for each in inputs})
    missing = [each.name for each in inputs if each.name not in listed]
    if unknown or missing:
        raise SchemaError(
            f"{origin}: model.columns: the graph reads inputs {_named([each.name for each in inputs])}; "
            f"{'none is called ' + _named(unknown) if unknown else 'nothing is said of ' + _named(missing)}"
        )
    positions = {}
    for each in inputs:
        places = [place for name in listed[each.name] for place in _places(name, encoder, origin)]
        if each.width is not None and len(places) != each.width:
            raise SchemaError(
                f"{origin}: model.columns: input {each.name!r} of the graph reads {each.width} numbers, the list has "
                f"{len(places)}; list every column of the training's matrix, in its order, and no other"
            )
        positions[each.name] = np.array(places, dtype=np.int64)
    _refuse_twice(positions, encoder, origin)
    nothing = np.full(len(encoder.float_names), np.nan)
    return Wiring(tuple(inputs), ForeignColumns(positions, nothing, len(encoder.id_names)))


def filled(wiring: Wiring, must_be_known: Sequence[int], encoder: Encoder, origin: str) -> Wiring:
    """The same wiring, with the declared defaults for numbers that the graph cannot do without.

    Raises:
        SchemaError: one of them has no default.
    """
    if not must_be_known:
        return wiring
    defaults = default_numbers(encoder)
    without = [encoder.float_names[place] for place in must_be_known if np.isnan(defaults[place])]
    if without:
        raise SchemaError(
            f"{origin}: the graph has no answer where {_named(without)} is missing, and a row can always be missing; "
            "give each a default, for example { default = 0.0 }, or export a model that takes missing values"
        )
    fills = wiring.columns.fills.copy()
    fills[list(must_be_known)] = defaults[list(must_be_known)]
    return Wiring(wiring.inputs, ForeignColumns(wiring.columns.positions, fills, wiring.columns.n_ids))


def default_numbers(encoder: Encoder) -> Float64s:
    """(d,) the declared default of each float column, NaN where there is none; pairs have none."""
    inputs = encoder.inputs
    views = [view.default_floats for view in (*inputs.user_views, *inputs.ad_views)]
    context = [np.nan if f.default is None else float(f.default) for f in inputs.context if f.dtype == "float32"]
    known = np.concatenate([*views, np.array(context, dtype=np.float64)]).astype(np.float64)
    return np.concatenate([known, np.full(len(encoder.float_names) - len(known), np.nan)])


def _refuse_twice(positions: Mapping[str, Int64s], encoder: Encoder, origin: str) -> None:
    """Raises SchemaError where one matrix holds a feature twice, or two inputs of one number read the same.

    Matrices may share features, as those of a wide and a deep part do.
    """
    single = [places for places in positions.values() if len(places) == 1]
    for places in (*positions.values(), np.concatenate([np.empty(0, dtype=np.int64), *single])):
        known, counts = np.unique(places, return_counts=True)
        if (counts > 1).any():
            twice = [encoder.float_names[place] for place in known[counts > 1]]
            read = np.concatenate(list(positions.values()))
            unread = [name for place, name in enumerate(encoder.float_names) if place not in read]
            hint = f" (not named is {_named(unread)})" if unread else ""
            raise SchemaError(
                f"{origin}: model.columns: {_named(twice)} is named twice; a column of the training's matrix is one "
                f"feature, so another one was probably meant{hint}"
            )


def _first(examples: Sequence[str]) -> str:
    """Three, and that there are more."""
    return ", ".join([*examples[:3], *(["…"] if len(examples) > 3 else [])])


def _places(name: str, encoder: Encoder, origin: str) -> list[int]:
    """One place, or those of all numbers of a vector."""
    found = [place for place, known in enumerate(encoder.float_names) if known == name or known.startswith(f"{name}[")]
    if found:
        return found
    if name in encoder.id_names or any(known.startswith(f"{name}[") for known in encoder.id_names):
        raise SchemaError(
            f"{origin}: model.columns: {name!r} is a category, of which only a hash is stored; keep the number that "
            'the model was trained on in a column of its own, with dtype = "float32"'
        )
    close = get_close_matches(name, encoder.float_names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {_named(encoder.float_names)}"
    raise SchemaError(f"{origin}: model.columns: there is no feature {name!r}; {hint}")


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
