"""Which models answer here."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.model_slots import AdPartsOrigin, ModelSlots


class SlotState(BaseModel):
    """One slot and the model in it."""

    name: str
    version: str
    variant: str
    state: Literal["ready"]
    plan: str
    """How it is scored: `trees, compiled`, `linear, numpy`, `generic, onnxruntime`, …"""
    ad_parts: AdPartsOrigin
    """What scoring needs of each ad: `precomputed`; `per request` where no item table is kept, or all ads would take
    more than `items.derived_max_mb`; `none` where the model has no features of ads or ONNX Runtime scores."""
    context: list[str]
    """Keys of a request's context that the model reads; it passes over any other."""


class ModelsAnswer(BaseModel):
    """All slots."""

    models: list[SlotState]


def model_routes(slots: ModelSlots) -> APIRouter:
    """`/v1/models`."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Which models answer here?")
    async def models() -> ModelsAnswer:
        return ModelsAnswer(
            models=[
                SlotState(
                    name=model.name,
                    version=model.version,
                    variant=model.variant,
                    state="ready",
                    plan=model.predictor.plan.name,
                    ad_parts=model.ad_parts,
                    context=[feature.name for feature in model.predictor.manifest.inputs.context],
                )
                for model in slots
            ]
        )

    return router
