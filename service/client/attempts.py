"""How often one call may be tried, and how long it waits in between. Knows no socket.

`rank` and `predict` change nothing, so that trying again is always *safe*; whether it *helps* is another question:
- no connection (nothing was sent), or one that broke before the answer was complete (a worker was replaced, or an idle
  connection closed at that very moment): another connection probably reaches another worker, so try again;
- 503 or 429 with `Retry-After`: come again when the service says so, if that is still in time;
- time ran out while waiting for an answer: never. The time was the call's whole deadline, and a service that is slow
  needs fewer requests, not more;
- everything else would be answered the same again.
Waits are drawn from nothing up to a bound that doubles ("full jitter"), or clients that failed together come back
together (Brooker 2015, "Exponential Backoff And Jitter", AWS Architecture Blog). All retries of a client together are
bounded by a budget that calls fill: while nothing works, they add a tenth to the load and do not triple it (the budget
of gRPC, proposal A6).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from service.client.errors import ClickserveError, DeadlineExceeded, Overloaded, Unreachable

Clock = Callable[[], float]
"""Seconds that never go back."""
Draw = Callable[[float, float], float]
"""A random number between two."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a client tries again."""

    max_attempts: int = 3
    """The first included; 1 never tries again."""
    base_ms: float = 10.0
    """Bound of the first wait; it doubles with each."""
    max_ms: float = 250.0
    """Bound of any wait, but for one that the service asked for."""
    budget: float = 10.0
    """Retries that may be saved up. A new client has them all."""
    budget_ratio: float = 0.1
    """What each call adds to the budget: the share of retries among calls while nothing works."""

    def __post_init__(self) -> None:
        """Raises ValueError where a value means nothing."""
        if self.max_attempts < 1 or min(self.base_ms, self.max_ms, self.budget, self.budget_ratio) < 0:
            raise ValueError(f"at least one attempt, and nothing below 0: {self}")


class RetryBudget:
    """What the calls of one client may still try again; may be used from several threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._left = policy.budget
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._left = min(self._left + self._policy.budget_ratio, self._policy.budget)

    def spend(self) -> bool:
        """Whether one more retry may be made; counts it."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Call:
    """The attempts of one call."""

    def __init__(
        self, timeout_s: float, policy: RetryPolicy, budget: RetryBudget, clock: Clock, draw: Draw = random.uniform
    ) -> None:
        """`timeout_s` is the time of all attempts and waits together."""
        self.timeout_s = timeout_s
        self._policy, self._budget, self._clock, self._draw = policy, budget, clock, draw
        self._ends_s = clock() + timeout_s
        self._n_attempts = 1
        budget.earn()

    def remaining_s(self) -> float:
        """Time left; 0 or less once it is over."""
        return self._ends_s - self._clock()

    def out_of_time(self) -> DeadlineExceeded:
        """The error of a call whose time is over."""
        return DeadlineExceeded(f"no answer within {self.timeout_s * 1000:g} ms")

    def wait_before_next(self, error: ClickserveError) -> float:
        """Seconds until the next attempt. Raises `error` where there shall be none."""
        policy = self._policy
        wait_s = self._draw(0.0, min(policy.max_ms, policy.base_ms * 2 ** (self._n_attempts - 1)) / 1000)
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            wait_s += error.retry_after_s
        elif not isinstance(error, Unreachable):
            raise error
        if self._n_attempts >= policy.max_attempts or wait_s >= self.remaining_s() or not self._budget.spend():
            raise error
        self._n_attempts += 1
        return wait_s
