"""One writer per view: a lock in Redis that says who holds it and dies with its holder.

Why at all: whether a stored row is newer is asked first and answered by a later command, so two writers could each
replace the other's newer row. The lock is a key with a time-to-live; its text names the holder (`lock_holder.py`), and
only its holder may prolong or free it. A holder that pauses for longer than the time-to-live finds out at its next
`renew` and stops; what it had sent in between may stand, which is the price of not fencing every write.

A holder that was killed on this machine is known to be gone, and its lock is taken over at once: by comparing and
setting in one step, so that of two that see it only one gets it. Any other holder is waited for, if the caller wants to
wait, for as long as its lock had to live when it was met: by then the lock of a dead one has run out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from feature_store.errors import WriterBusy, WriterLockLost
from feature_store.online.blocking_client import BlockingClient
from feature_store.online.lock_holder import LockHolder

OnWait = Callable[[str, float], None]
"""Told what is waited for, and the share of the longest wait that has passed."""

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_TAKE_OVER = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then "
    "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0"
)
_ASK_AGAIN_S = 0.1


class WriterLock:
    """Held from construction to the end of the `with` block."""

    def __init__(
        self, client: BlockingClient, key: bytes, view: str, ttl_ms: int, on_wait: OnWait | None = None
    ) -> None:
        """Takes the lock.

        Args:
            on_wait: told while another holder is waited for; None: not to wait.
        Raises:
            WriterBusy: somebody else has it, and kept it while we waited; says who.
        """
        self._client = client
        self._key = key
        self._view = view
        self._ttl_ms = ttl_ms
        self._ours = LockHolder.ourselves().text
        if not self._taken() and (on_wait is None or not self._taken_in_time(on_wait)):
            raise self._busy(waited=on_wait is not None)
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Prolongs the lock once a third of its life has passed; cheap to call before every batch.

        Raises:
            WriterLockLost: it ran out, and another writer may have begun.
        """
        if (time.monotonic() - self._renewed) * 1000 < self._ttl_ms / 3:
            return
        if not self._client.eval(_RENEW, 1, self._key, self._ours, self._ttl_ms):
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
            self._client.eval(_FREE, 1, self._key, self._ours)

    def _taken(self) -> bool:
        """Whether the lock is ours now: it was free, or its holder is known to be gone."""
        if self._client.set(self._key, self._ours, nx=True, px=self._ttl_ms):
            return True
        holder_text = self._holder_text()
        holder = LockHolder.parse(holder_text)
        if holder is None or not holder.is_gone:
            return False
        return bool(self._client.eval(_TAKE_OVER, 1, self._key, holder_text, self._ours, self._ttl_ms))

    def _taken_in_time(self, on_wait: OnWait) -> bool:
        """Asks again until the lock is ours, or the one that was met must have run out."""
        left_s = self._left_ms() / 1000 + _ASK_AGAIN_S
        stage = f"waiting for {self._holder_name()}, who is writing {self._view}"
        started = time.monotonic()
        while (waited_s := time.monotonic() - started) < left_s:
            on_wait(stage, waited_s / left_s)
            time.sleep(_ASK_AGAIN_S)
            if self._taken():
                on_wait(stage, 1.0)
                return True
        return False

    def _left_ms(self) -> int:
        """How long the lock has to live; a key without an expiry is none of ours and is given one life."""
        left_ms: int = self._client.pttl(self._key)
        return self._ttl_ms if left_ms == -1 else max(0, left_ms)

    def _holder_text(self) -> str:
        stored: bytes | None = self._client.get(self._key)
        return "" if stored is None else stored.decode(errors="replace")

    def _holder_name(self) -> str:
        return self._holder_text().partition(" ")[0] or "somebody who has just left"

    def _busy(self, *, waited: bool) -> WriterBusy:
        way_out = (
            "its lock has outlived our wait, so it is at work; run this again when it is done"
            if waited
            else f"run this again when it is done; if it was killed, its lock runs out within {self._left_ms()} ms"
        )
        return WriterBusy(f"view {self._view!r} is being written by {self._holder_name()}; {way_out}")
