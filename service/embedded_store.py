"""The embedded Valkey server in the hands of the parent process: started, looked after, stopped.

It lives in the parent because a worker may die at any time and all of them share it. When it dies, or when it belonged
to another process that has ended, the parent starts it again on the same socket with all data it had; until
then answers are degraded, not wrong. The server ends with the thread that started it, so one thread does all of it, and
loading a large file does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from feature_store.errors import EmbeddedServerError
from feature_store.online.embedded import EmbeddedServer

CHECK_S = 0.5
"""How often the server is looked after."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class EmbeddedStore:
    """A Valkey server that comes back. Use it as an asynchronous context manager."""

    def __init__(self, directory: Path) -> None:
        """`directory` is where data, log and socket lie."""
        self._directory = directory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-store")

    @property
    def url(self) -> str:
        """Where it answers; the same for all its lives."""
        return self._server.url

    async def __aenter__(self) -> Self:
        """Raises EmbeddedServerError: it does not start."""
        try:
            self._server = await self._in_thread(lambda: EmbeddedServer(self._directory))
        except EmbeddedServerError:
            self._thread.shutdown()
            raise
        self._care = asyncio.create_task(self._look_after())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._care.cancel()
        await asyncio.wait({self._care})
        try:
            await self._in_thread(self._server.close)
        finally:
            self._thread.shutdown()

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            if await self._accepts():
                continue
            logger.error("the embedded Valkey server is gone and is started again", extra={"url": self.url})
            try:
                await self._in_thread(self._server.close)
                self._server = await self._in_thread(lambda: EmbeddedServer(self._directory))
            except EmbeddedServerError as error:
                logger.error("the embedded Valkey server does not start", extra={"error": str(error)})

    async def _accepts(self) -> bool:
        """Whether somebody listens on the socket; a slow server counts as alive."""
        try:
            _, writer = await asyncio.open_unix_connection(str(self._server.socket_path))
        except OSError:
            return False
        writer.close()
        return True

    async def _in_thread(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, action)
