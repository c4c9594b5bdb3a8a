"""Whether this worker should get requests, and what it would answer them with.

Ready from the moment the application exists, because it is built from proven, warmed models and loaded item tables;
unready only while draining. Losing the store never makes it unready: every worker would leave together, and a degraded
answer beats none.
"""

from __future__ import annotations

from feature_store.clock import Clock
from feature_store.errors import StoreError
from feature_store.online.store import OnlineStore
from service.knowledge import in_order
from service.model_slots import ModelSlots
from service.wire import DegradedCode

PING_TIMEOUT_MS = 50.0
"""A probe waits no longer for the store; load balancers give a probe about a second."""


class Readiness:
    """What `/readyz` says."""

    def __init__(self, store: OnlineStore, slots: ModelSlots, clock: Clock) -> None:
        self._store = store
        self._slots = slots
        self._clock = clock
        self.draining = False
        """Set once the process has been told to stop; every answer then closes its connection."""

    async def degraded(self) -> list[DegradedCode]:
        """Codes that answers of this moment would carry whatever they are asked for."""
        codes: set[DegradedCode] = set()
        if any(model.asks_store for model in self._slots):
            try:
                await self._store.ping(timeout_ms=PING_TIMEOUT_MS)
            except StoreError:
                codes.add("store_down")
        if any(model.items is not None and model.items.is_stale(self._clock()) for model in self._slots):
            codes.add("items_stale")
        return in_order(codes)
