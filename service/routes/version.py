"""What runs here."""

from __future__ import annotations

import platform

from fastapi import APIRouter
from pydantic import BaseModel

from service.product_version import product_version


class VersionAnswer(BaseModel):
    """Versions of the service and of the Python below it."""

    clickserve: str
    python: str


def version_routes() -> APIRouter:
    """`/version`."""
    answer = VersionAnswer(clickserve=product_version(), python=platform.python_version())
    router = APIRouter(tags=["health"])

    @router.get("/version", summary="What runs here?")
    async def version() -> VersionAnswer:
        return answer

    return router
