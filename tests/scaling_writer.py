"""A planted skew: a writer that stores one number of a view times 1.001."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from feature_store.online.store import RowWriter, WriteReport, WriteSession
from feature_store.rows import Floats, Ids, Times
from feature_store.schema import FeatureView

SCALE = np.float32(1.001)


class ScalingWriter:
    """Writes through another writer what a second implementation of a feature may make of it."""

    def __init__(self, inner: RowWriter, view: str, column: int) -> None:
        self._inner, self._view, self._column = inner, view, column

    @contextmanager
    def session(self, view: FeatureView, *, distinct: bool = False) -> Iterator[WriteSession]:
        with self._inner.session(view, distinct=distinct) as session:
            if view.name == self._view:
                write = session.write

                def scaled(ids: list[str], times: Times, floats: Floats, hashes: Ids) -> WriteReport:
                    floats = floats.copy()
                    floats[:, self._column] *= SCALE
                    return write(ids, times, floats, hashes)

                session.write = scaled  # type: ignore[method-assign,assignment]
            yield session

    def predict_bytes_per_entity(self, view: FeatureView, mean_id_bytes: float, n_entities: int) -> float | None:
        return self._inner.predict_bytes_per_entity(view, mean_id_bytes, n_entities)

    def used_bytes(self) -> int | None:
        return self._inner.used_bytes()

    def close(self) -> None:
        self._inner.close()
