"""The unchanging part of an item table: all ads as they were at one moment, in arrays that processes can share.

The last row holds nothing but defaults and stands for every ad that is not known, so that a request picks rows without
a branch. An ad is in it if any view knows it. Rows that have expired by the time it is made are left out: training
would not have seen them either.
Cost: 4 bytes a value, 9 a view and ad, the id and 20 to 36 bytes to find it by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_store.errors import CodecError, TooManyItems
from feature_store.online.id_index import DuplicateId, IdIndex, Indices, build_id_index, let_go
from feature_store.online.item_rows import ItemRows, columns_of
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.schema import FeatureView


@dataclass(frozen=True, slots=True)
class ItemBase:
    """n ads over V views."""

    views: tuple[FeatureView, ...]
    positions: tuple[CataloguePosition, ...]
    """Of each view: which catalogue version and change the rows are from."""
    rows: ItemRows
    """(n + 1) rows, the last one all defaults; read-only."""
    index: IdIndex
    """n ids."""
    loaded_ms: int
    """When its content was last known to be what the store holds."""
    folder: Path | None = None
    """Where its arrays are mapped from; None where they are this process's own."""

    def __len__(self) -> int:
        return len(self.index)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that it consists of, by name."""
        rows, index = self.rows, self.index
        return {
            "floats": rows.floats,
            "ids": rows.ids,
            "event_time_ms": rows.event_time_ms,
            "found": rows.found,
            "slots": index.slots,
            "offsets": index.offsets,
            "blob": index.blob,
        }


def build_item_base(
    views: Sequence[FeatureView], catalogues: Sequence[CatalogueRows], now_ms: int, *, max_ads: int
) -> ItemBase:
    """Joins the catalogues of the views, one each, every ad at most once in each.

    Raises:
        CodecError: a catalogue names an ad twice.
        TooManyItems: there are more than `max_ads`.
    """
    views = tuple(views)
    ad_ids: list[str] = []
    index = build_id_index(ad_ids)
    joins: list[tuple[Indices, Indices]] = []
    for view, catalogue in zip(views, catalogues, strict=True):
        held = np.flatnonzero(catalogue.rows.found & (catalogue.rows.event_time_ms > now_ms - view.ttl_ms))
        texts = catalogue.entity_ids
        if len(held) < len(texts):
            texts = [texts[row] for row in held.tolist()]
        at = index.lookup(texts, unknown=len(ad_ids))
        new = np.flatnonzero(at == len(ad_ids))
        check_size(len(ad_ids) + len(new), max_ads)
        at[new] = len(ad_ids) + np.arange(len(new))
        ad_ids += texts if len(new) == len(texts) else [texts[row] for row in new.tolist()]
        joins.append((at, held))
        try:
            index = build_id_index(ad_ids)
        except DuplicateId as error:
            raise CodecError(
                f"view {view.name!r}: its catalogue names the ad {error.text!r} twice; materialize the view again"
            ) from None
    let_go(ad_ids)
    rows = ItemRows.of_defaults(views, len(index) + 1)
    for number, ((at, held), catalogue) in enumerate(zip(joins, catalogues, strict=True)):
        float_columns, id_columns = columns_of(views, number)
        rows.floats[at, float_columns] = catalogue.rows.floats[held]
        rows.ids[at, id_columns] = catalogue.rows.ids[held]
        rows.event_time_ms[at, number] = catalogue.rows.event_time_ms[held]
        rows.found[at, number] = True
    positions = tuple(catalogue.position for catalogue in catalogues)
    return ItemBase(views, positions, rows.freeze(), index, loaded_ms=now_ms)


def check_size(n_ads: int, max_ads: int) -> None:
    """Raises TooManyItems where there are more ads than the setting allows."""
    if n_ads > max_ads:
        raise TooManyItems(
            f"the catalogue holds {n_ads} ads or more, items.max_ads allows {max_ads}; raise it if the memory is "
            "there, let fewer ads into the view, or keep no table (items.source = store)"
        )
