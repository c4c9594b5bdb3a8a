"""What a net adds to a linear model, one row and one product at a time, in plain Python."""

from __future__ import annotations

import math

from models.specs import DeepCrossSpec, DenseLayer, LinearSpec, NetInputs, Tower, TwoTowerSpec


def net_by_hand(spec: DeepCrossSpec | TwoTowerSpec, features: list[float], ids: list[int]) -> float:
    """The net's part of one row's margin."""
    vectors = spec.id_vectors.tolist()
    if isinstance(spec, TwoTowerSpec):
        query, ad = (_vector(t, _input(t.inputs, spec.linear, vectors, features, ids)) for t in (spec.query, spec.ad))
        return math.fsum(q * a for q, a in zip(query, ad, strict=True))
    first = _input(spec.inputs, spec.linear, vectors, features, ids)
    crossed, hidden = first, first
    for cross in spec.crosses:
        narrow = _times(crossed, cross.narrow.tolist())
        factors = [f + b for f, b in zip(_times(narrow, cross.wide.tolist()), cross.bias.tolist(), strict=True)]
        crossed = [x0 * factor + x for x0, factor, x in zip(first, factors, crossed, strict=True)]
    for layer in spec.hidden:
        hidden = [max(0.0, value) for value in _dense(layer, hidden)]
    return math.fsum(w * x for w, x in zip(spec.out.tolist(), [*crossed, *hidden], strict=True))


def _input(
    inputs: NetInputs, linear: LinearSpec, vectors: list[list[float]], features: list[float], ids: list[int]
) -> list[float]:
    x = []
    for column in inputs.numbers.tolist():
        value = features[column]
        if math.isnan(value):
            x.append(0.0)
            continue
        z = (math.copysign(math.log(1 + abs(value)), value) - linear.mean[column]) / linear.spread[column]
        x.append(min(max(z, -linear.limit), linear.limit))
    x += [float(math.isnan(features[column])) for column in inputs.missing.tolist()]
    for column in inputs.ids.tolist():
        x += vectors[linear.id_offsets[column] + ids[column] % linear.id_sizes[column]]
    return x


def _vector(tower: Tower, x: list[float]) -> list[float]:
    return _dense(tower.out, [max(0.0, value) for value in _dense(tower.hidden, x)])


def _dense(layer: DenseLayer, x: list[float]) -> list[float]:
    return [s + b for s, b in zip(_times(x, layer.weights.T.tolist(), rows=True), layer.bias.tolist(), strict=True)]


def _times(x: list[float], matrix: list[list[float]], *, rows: bool = False) -> list[float]:
    """x @ matrix; with `rows`, the matrix is given by its columns."""
    columns = matrix if rows else [list(column) for column in zip(*matrix, strict=True)]
    return [math.fsum(a * b for a, b in zip(x, column, strict=True)) for column in columns]
