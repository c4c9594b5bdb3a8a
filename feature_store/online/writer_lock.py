"""One writer per view: a lock in Redis that says who holds it and dies with its holder.

Why at all: whether a stored row is newer is asked first and answered by a later command, so two writers could each
replace the other's newer row. The lock is a key with a time-to-live; its text is the holder and a random token, and
only its holder may prolong or free it. A holder that pauses for longer than the time-to-live finds out at its next
`renew` and stops; what it had sent in between may stand, which is the price of not fencing every write.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from feature_store.errors import WriterBusy, WriterLockLost
from feature_store.online.blocking_client import BlockingClient

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class WriterLock:
    """Held from construction to the end of the `with` block."""

    def __init__(self, client: BlockingClient, key: bytes, view: str, ttl_ms: int) -> None:
        """Takes the lock.

        Raises:
            WriterBusy: somebody else has it; says who, for how long yet, and how to break it.
        """
        self._client = client
        self._key = key
        self._view = view
        self._ttl_ms = ttl_ms
        self._holder = f"{socket.gethostname()}:{os.getpid()} {secrets.token_hex(8)}"
        self._renewed = time.monotonic()
        if not client.set(key, self._holder, nx=True, px=ttl_ms):
            raise self._busy()

    def renew(self) -> None:
        """Prolongs the lock once a third of its life has passed; cheap to call before every batch.

        Raises:
            WriterLockLost: it ran out, and another writer may have begun.
        """
        if (time.monotonic() - self._renewed) * 1000 < self._ttl_ms / 3:
            return
        if not self._client.eval(_RENEW, 1, self._key, self._holder, self._ttl_ms):
            raise WriterLockLost(
                f"the writer of view {self._view!r} paused for more than {self._ttl_ms} ms and lost its lock; "
                "run the job again: what it wrote stays valid"
            )
        self._renewed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the lock back, if it is still ours."""
        with suppress(RedisError):  # a server that is away frees it by its time-to-live
            self._client.eval(_FREE, 1, self._key, self._holder)

    def _busy(self) -> WriterBusy:
        holder = self._client.get(self._key) or b"somebody who has just left"
        left_ms = max(0, self._client.pttl(self._key))
        return WriterBusy(
            f"view {self._view!r} is being written by {holder.decode()}; wait for it, or, if that process is gone, "
            f"up to {left_ms} ms until its lock runs out (to break it now: DEL {self._key.decode()})"
        )
