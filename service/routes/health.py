"""Probes: is the process alive, and should it get requests?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.readiness import Readiness
from service.wire import DegradedCode


class Liveness(BaseModel):
    """The event loop turns."""

    status: Literal["alive"] = "alive"


class ReadinessAnswer(BaseModel):
    """Whether this worker should get requests, and what it cannot do at the moment."""

    ready: bool
    degraded: list[DegradedCode]
    """Codes that every answer carries now; they do not make the worker unready."""


def health_routes(readiness: Readiness) -> APIRouter:
    """`/livez`, its alias `/healthz`, and `/readyz`."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", summary="Is the process alive?")
    @router.get("/healthz", summary="Alias of /livez")
    async def livez() -> Liveness:
        return Liveness()

    @router.get(
        "/readyz",
        summary="Should this worker get requests?",
        description="Ready once models are proven and warmed and item tables loaded; 503 while draining. Losing the "
        "store shows in `degraded` and never makes it unready.",
        responses={503: {"model": ReadinessAnswer, "description": "Draining: send requests elsewhere."}},
    )
    async def readyz(response: Response) -> ReadinessAnswer:
        if readiness.draining:
            response.status_code = 503
        return ReadinessAnswer(ready=not readiness.draining, degraded=await readiness.degraded())

    return router
