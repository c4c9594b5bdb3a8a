"""What may be asked here, for people."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

SELF_CONTAINED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
"""The page loads nothing; a browser that is told so would refuse what somebody smuggled into it."""


def docs_routes(page: str) -> APIRouter:
    """`/docs`, which is not part of what it describes."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=SELF_CONTAINED)

    return router
