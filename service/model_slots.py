"""Which model answers under which name, and the swap of one for another.

A slot is one reference to a model that is proven, warmed and complete; replacing it is one assignment on the event
loop, so a request sees the old model or the new one and never a mixture. A request keeps the model that it began with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from feature_store.online.layout import ViewKeys
from feature_store.schema import FeatureView
from models.registry.predictor import Predictor
from service.errors import UnknownModel
from service.live_items import LiveItems

AdPartsOrigin = Literal["precomputed", "per request", "none"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in its slot, with all that a request needs to use it."""

    name: str
    """Of the slot."""
    version: str
    variant: str
    predictor: Predictor
    user_views: tuple[FeatureView, ...]
    user_keys: tuple[ViewKeys, ...]
    """One per user view."""
    ad_views: tuple[FeatureView, ...]
    ad_keys: tuple[ViewKeys, ...]
    """One per ad view."""
    items: LiveItems | None
    """None where the model has no features of ads, or they are read from the store with every request."""

    @property
    def ad_parts(self) -> AdPartsOrigin:
        """Where the plan's parts of ads come from: made ahead for all ads, or by each request for its own.

        Follows the table: a catalogue that outgrows `items.derived_max_mb` has its parts worked out per request.
        """
        if self.predictor.factorised is None or not self.ad_views:
            return "none"
        kept = self.items is not None and self.items.table.derived(self.predictor.manifest.core_sha256) is not None
        return "precomputed" if kept else "per request"

    @property
    def asks_store(self) -> bool:
        """Whether every request needs an answer of the store."""
        return bool(self.user_views) or (bool(self.ad_views) and self.items is None)


class ModelSlots:
    """The models of one worker by name."""

    def __init__(self) -> None:
        self._slots: dict[str, ServedModel] = {}

    def put(self, model: ServedModel) -> None:
        """Requests from now on get this model under its name."""
        self._slots[model.name] = model

    def get(self, name: str) -> ServedModel:
        """The model of that name.

        Raises:
            UnknownModel: there is no such slot.
        """
        model = self._slots.get(name)
        if model is None:
            raise UnknownModel(name, tuple(self._slots))
        return model

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(tuple(self._slots.values()))
