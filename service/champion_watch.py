"""Follows the registry: a promoted model serves within seconds, and the old one until then.

The new model is loaded, proven and warmed beside the requests; the swap is one assignment. A version that cannot be
loaded is logged once and tried again after a while, because what it lacks (rows of a view, a file still being copied)
may come. A registry that cannot be read, or is gone, is logged once too and asked again at every look. The old model
keeps its slot meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from feature_store.errors import FeatureStoreError
from models.errors import ModelsError
from models.registry.registry import Registry
from service.deadline import MonotonicClock
from service.model_loading import ModelLoading, champion_of
from service.model_slots import ModelSlots, ServedModel
from service.quiet_threads import quietly
from service.telemetry import P_CLICK_BUCKETS, Telemetry

RETRY_AFTER_S = 30.0
"""Rest after a version could not be loaded; proving one takes CPU from the requests."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the registry's champion does not serve, since when nothing else was tried."""

    version: str | None
    """None where the registry could not say which it is."""
    reason: str
    at_s: float


class ChampionWatch:
    """Keeps one slot at the registry's champion."""

    def __init__(
        self,
        registry: Registry,
        loading: ModelLoading,
        slots: ModelSlots,
        *,
        clock: MonotonicClock,
        telemetry: Telemetry,
    ) -> None:
        self._registry = registry
        self._loading = loading
        self._slots = slots
        self._clock = clock
        self._telemetry = telemetry
        self._failure: _Failure | None = None

    async def look(self) -> None:
        """Swaps the model if another one was promoted."""
        serving = self._slots.get(self._registry.name)
        version: str | None = None
        try:
            version = await quietly(lambda: champion_of(self._registry, has_served=True))
            if version == serving.version:
                self._agrees(serving)
                return
            if self._rests(version):
                return
            model = await self._loading.load(self._registry, version, run=quietly)
        except (ModelsError, FeatureStoreError) as error:
            self._fails(_Failure(version, str(error), self._clock()), serving)
            return
        serve(model, self._slots, self._telemetry)
        self._failure = None
        self._loading.retire(serving, self._slots)
        logger.info("a promoted model serves now", extra={"model_version": version, "replaced": serving.version})

    def _rests(self, version: str) -> bool:
        failure = self._failure
        return failure is not None and failure.version == version and self._clock() < failure.at_s + RETRY_AFTER_S

    def _agrees(self, serving: ServedModel) -> None:
        """The registry's champion is the model that serves."""
        if self._failure is not None:
            logger.info("the champion serves again", extra={"model": serving.name, "model_version": serving.version})
            self._telemetry.promotion_failing(serving.name, False)
        self._failure = None

    def _fails(self, failure: _Failure, serving: ServedModel) -> None:
        """Says so, unless it is what was said last."""
        told, self._failure = self._failure, failure
        if told is not None and (told.version, told.reason) == (failure.version, failure.reason):
            return
        self._telemetry.promotion_failing(serving.name, True)
        what = "the registry names no champion" if failure.version is None else "a promoted model cannot be loaded"
        logger.error(
            f"{what}, the old one keeps serving",
            extra={"version": failure.version, "serving": serving.version, "error": failure.reason},
        )


def serve(model: ServedModel, slots: ModelSlots, telemetry: Telemetry) -> None:
    """Puts a model into its slot, and says so in the metrics."""
    for replaced in slots:
        if replaced.name == model.name:
            _tell(replaced, telemetry, serves=False)
    slots.put(model)
    _tell(model, telemetry, serves=True)
    _tell_training(model, telemetry)
    telemetry.promotion_failing(model.name, False)


def _tell(model: ServedModel, telemetry: Telemetry, *, serves: bool) -> None:
    telemetry.model_serves(
        name=model.name,
        version=model.version,
        variant=model.variant,
        core_sha256=model.predictor.manifest.core_sha256,
        plan=model.predictor.plan.name,
        serves=serves,
    )


def _tell_training(model: ServedModel, telemetry: Telemetry) -> None:
    """What the manifest says about the figures, and the views, that answers can be held against."""
    manifest, reference = model.predictor.manifest, model.predictor.reference
    figures: dict[str, float] = {
        name: manifest.figures[name].value
        for name in ("calibration_ratio", "normalized_entropy")
        if name in manifest.figures
    }
    trained_on = manifest.trained_on
    if trained_on is not None and trained_on.impressions:
        figures["click_rate"] = trained_on.clicks / trained_on.impressions
    shares = [] if reference is None else reference.p_click.shares_up_to(P_CLICK_BUCKETS, 0.0, 1.0)
    telemetry.model_figures(model.name, figures, shares)
    for view in (*model.user_views, *model.ad_views):
        telemetry.view_served(view.name, view.ttl_ms / 1000)
