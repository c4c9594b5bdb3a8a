"""The one place that wires: settings in, a running application out.

The process around it (`server.py`, `supervisor.py`) knows a worker by `start`, `app`, `begin_drain` and `stop`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from service.settings import Settings

Asgi = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An ASGI 3 application."""


class Runtime:
    """One worker's parts, started and ready to answer."""

    app: Asgi

    @classmethod
    async def start(cls, settings: Settings, *, worker_id: int) -> Runtime:
        """Loads and proves the models, reads the item table, warms up; on return the app is ready.

        Args:
            settings: with `redis.url` set: whoever owns the embedded server puts its address there.
            worker_id: 0 to workers - 1, the same for the replacement of a dead worker.
        Raises:
            StoreError: the store is down and no snapshot on disk can stand in for it.
            RegistryError: no model, or one that is damaged, unproven or of another schema.
        """
        raise NotImplementedError

    def begin_drain(self) -> None:
        """From now on `/readyz` answers 503, and every answer carries `Connection: close`."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends background work and gives connections back; call it after the last answer was sent."""
        raise NotImplementedError
