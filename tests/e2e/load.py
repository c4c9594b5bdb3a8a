"""Ranking requests without pause over many connections, and what became of each of them.

Every connection sends one request at a time. It reconnects where the server closed it, as HTTP clients do, and stops
where connections are refused. A request is lost if its connection broke before its answer was complete.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.raw_http import RawConnection


@dataclass
class Load:
    """A closed loop of `n_connections`, from entering it as an asynchronous context manager to leaving it."""

    port: int
    request: bytes
    n_connections: int = 8
    pause_s: float = 0.0
    """Rest between an answer and the connection's next request."""

    statuses: Counter[int] = field(default_factory=Counter)
    degraded: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    """When an answer came (time.monotonic) and its codes, in order."""
    lost: list[str] = field(default_factory=list)
    """One line per lost request."""
    refused: int = 0
    """Connections that ended because nobody listens."""

    @property
    def answered(self) -> int:
        """Complete answers."""
        return sum(self.statuses.values())

    async def __aenter__(self) -> Self:
        self._stopping = False
        self._progress = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self.n_connections)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def has_answered(self, more: int) -> None:
        """Wait for so many answers from now on."""
        wanted = self.answered + more
        async with asyncio.timeout(30):
            while self.answered < wanted:
                self._progress.clear()
                await self._progress.wait()

    async def has_ended(self) -> None:
        """Wait until every connection has been refused."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self._stopping:
            try:
                connection = await RawConnection.open(self.port)
            except ConnectionRefusedError:
                self.refused += 1
                return
            try:
                await self._use(connection)
            finally:
                await connection.close()

    async def _use(self, connection: RawConnection) -> None:
        """Requests on one connection, until it is over."""
        while not self._stopping:
            connection.send(self.request)
            try:
                answer = await connection.answer()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.lost.append(f"{type(error).__name__} after {self.answered} answers")
                return
            self.statuses[answer.status] += 1
            self._progress.set()
            codes = answer.json().get("degraded", ()) if answer.status == 200 else ()
            self.degraded.append((time.monotonic(), tuple(codes)))
            if answer.closes:
                return
            await asyncio.sleep(self.pause_s)
