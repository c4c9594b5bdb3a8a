"""From a version in the registry to a model that may answer: proven, of the served schema, complete, warm.

All of it happens beside the requests, in a worker thread where it blocks. A model is refused when the store serves
other features than it was trained on: it would answer, and be wrong. Where the store cannot be asked there is nothing
to compare, and a model that served before may serve again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from feature_store.errors import StoreError
from feature_store.online.layout import ViewKeys
from feature_store.online.store import CatalogueReader
from feature_store.schema import FeatureView
from models.encoder import Block, ModelInputs, Side
from models.errors import ModelNotFound, SchemaMismatch
from models.plans.choice import PlanChoice
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.candidates import GivenAds
from service.entity_rows import unknown_entities
from service.live_items import LiveItems
from service.model_slots import ServedModel
from service.quiet_threads import Run

CHAMPION = "champion"
"""The variant that answers; challengers and shadows will stand beside it."""

WARM_UP_ROWS = (1, 100, 128)
"""One row, a usual request and a whole chunk: what the runtime allocates at its first run of a size is there before the
first request."""

ItemsOf = Callable[[CatalogueReader, Sequence[FeatureView]], LiveItems]
"""Makes the item table of some ad views."""

logger = logging.getLogger(__name__)


class ModelLoading:
    """Loads models. Those of one project share a catalogue reader, those with the same ad views an item table."""

    def __init__(
        self,
        reader_of: Callable[[str], CatalogueReader],
        items_of: ItemsOf | None,
        choice: PlanChoice,
    ) -> None:
        """`reader_of` makes the catalogue reader of a project, `items_of` the item table of some ad views.

        Without `items_of` no table is kept, and every request reads its ads from the store.
        """
        self._choice = choice
        self._reader_of = reader_of
        self._items_of = items_of
        self._readers: dict[str, CatalogueReader] = {}
        self._items: dict[tuple[str, ...], LiveItems] = {}

    async def load(
        self, registry: Registry, version: str, run: Run = asyncio.to_thread, patience_s: float | None = None
    ) -> ServedModel:
        """One version, ready for its slot.

        Args:
            run: `quietly` where requests are served meanwhile.
            patience_s: how long to wait, twice, for a store that does not answer where the disk can stand in.
        Raises:
            RegistryError: it is damaged or unproven, or trained on features that the store does not serve.
            StoreError: it needs an item table, the store is away and no snapshot can stand in.
        """
        predictor = await run(lambda: Predictor(registry.get(version), self._choice))
        if predictor.fallback is not None:
            logger.warning(
                "no fast plan for this model, ONNX Runtime serves it",
                extra={"model": registry.name, "model_version": version, "reason": predictor.fallback},
            )
        inputs = predictor.manifest.inputs
        items = None
        if inputs.views:
            reader = self._reader(inputs.project)
            model_name = f"{registry.name} {version}"
            try:
                async with asyncio.timeout(patience_s):
                    await run(lambda: _check_schema(model_name, inputs, reader))
            except TimeoutError:
                _schema_unknown(model_name, f"it did not answer within {patience_s} s")
            if inputs.ad_views and self._items_of is not None:
                items = await self._loaded_items(self._items_of, reader, inputs.ad_views, patience_s)
                await _derive(predictor, items)
        await run(lambda: _warm_up(predictor))
        model = ServedModel(
            name=registry.name,
            version=version,
            variant=CHAMPION,
            predictor=predictor,
            user_views=inputs.user_views,
            user_keys=tuple(ViewKeys(inputs.project, view) for view in inputs.user_views),
            ad_views=inputs.ad_views,
            ad_keys=tuple(ViewKeys(inputs.project, view) for view in inputs.ad_views),
            items=items,
        )
        if items is not None and model.ad_parts == "per request":
            logger.warning(
                "what scoring needs of all ads is larger than items.derived_max_mb, each request works it out",
                extra={"model": registry.name, "model_version": version, "ads": len(items.table)},
            )
        return model

    def retire(self, model: ServedModel, serving: Iterable[ServedModel]) -> None:
        """Gives back what was kept for a model that left its slot, unless another still needs it."""
        if model.items is None:
            return
        kept = {other.predictor.manifest.core_sha256 for other in serving if other.items is model.items}
        if model.predictor.manifest.core_sha256 not in kept:
            model.items.forget(model.predictor.manifest.core_sha256)

    def _reader(self, project: str) -> CatalogueReader:
        if project not in self._readers:
            self._readers[project] = self._reader_of(project)
        return self._readers[project]

    async def _loaded_items(
        self, items_of: ItemsOf, reader: CatalogueReader, views: Sequence[FeatureView], patience_s: float | None
    ) -> LiveItems:
        content = (reader.origin, *(view.fingerprint for view in views))
        items = self._items.get(content)
        if items is None:
            items = items_of(reader, views)
            await items.load(patience_s)
            self._items[content] = items
        return items


async def _derive(predictor: Predictor, items: LiveItems) -> None:
    """Has what the plan keeps of each ad computed ahead of time."""
    plan = predictor.factorised
    if plan is not None:
        await items.derive(
            predictor.manifest.core_sha256,
            plan.width,
            plan.dtype,
            lambda floats, ids: plan.part(Side.AD, Block(floats, ids)),
        )


def champion_of(registry: Registry, *, has_served: bool) -> str:
    """The version that should serve.

    Args:
        has_served: whether this service has had a champion from this registry, so that none now is one that was lost.
    Raises:
        ModelNotFound: there is none; says whether to put it back, to train or to promote.
        RegistryError: the registry cannot be read.
    """
    champion = registry.champion()
    if champion is not None:
        return champion
    if has_served:
        raise ModelNotFound(
            f"{registry.missing()} is not there any more, so nothing says which version of {registry.name!r} is "
            "champion; put it back, or promote a version that is still there with `clickserve models promote`"
        )
    newest = registry.newest()
    raise ModelNotFound(
        f"the registry {registry.directory} has no champion named {registry.name!r}: no model passed the gate; see why "
        f"with `clickserve models show {newest}`, train another, or promote one"
    )


def _check_schema(model: str, inputs: ModelInputs, reader: CatalogueReader) -> None:
    """Raises SchemaMismatch where the store holds no finished rows of a view under the model's fingerprint."""
    try:
        finished = [state for state in reader.states() if state.finished_ms is not None]
    except StoreError as error:
        _schema_unknown(model, str(error))
        return
    for view in inputs.views:
        served = tuple(state.fingerprint for state in finished if state.view == view.name)
        if view.fingerprint not in served:
            raise SchemaMismatch(model, view.name, view.fingerprint, served)


def _schema_unknown(model: str, reason: str) -> None:
    logger.warning("the store cannot be asked for its schema", extra={"model": model, "error": reason})


def _warm_up(predictor: Predictor) -> None:
    """Scores made-up rows of unknown entities."""
    inputs = predictor.manifest.inputs
    user = unknown_entities(inputs.user_views, 1).block
    context = predictor.encoder.encode_context({}).block
    for n in WARM_UP_ROWS:
        scores = predictor.score_ads(user, context, GivenAds(unknown_entities(inputs.ad_views, n).block))
        assert np.isfinite(scores.p_click).all(), "a proven model answered no number for unknown entities"
