"""Sampler: how many answers admit to be degraded, found by reading one answer in k.

Reading every body would cost the generator the time it needs to be punctual. One in k, chosen by the request's number
and therefore not by its latency, estimates the same share; the status is counted for all requests elsewhere.

The chosen numbers keep no step with the prepared requests, which the generators send in a cycle: every tenth of 2 000
bodies would be the same 200 in each round, and what the other 1 800 are answered would never be seen.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from loadtest.results import DegradedShare

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
"""Its multiples modulo 1 fill the interval evenly, along the numbers of any one body too (Weyl 1916)."""


class _Answer(msgspec.Struct):
    """The part of an answer that is looked at; msgspec skips the rest without building it."""

    degraded: list[str] = []


class Sampler:
    """Reads the field `degraded` of one 2xx answer in `every`; an answer without that field is not degraded."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._decoder = msgspec.json.Decoder(_Answer)
        self._n_inspected = self._n_degraded = self._n_unreadable = 0
        self._codes: Counter[str] = Counter()

    def wants(self, number: int) -> bool:
        """Whether the answer to the request of this number should be read."""
        return number * _GOLDEN_RATIO % 1.0 < 1 / self.every

    def inspect(self, body: bytes) -> None:
        """Read one answer's body."""
        self._n_inspected += 1
        try:
            codes = self._decoder.decode(body).degraded
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._n_unreadable += 1
            return
        if codes:
            self._n_degraded += 1
            self._codes.update(set(codes))

    def summary(self) -> DegradedShare:
        """What was seen so far."""
        return DegradedShare(self._n_inspected, self._n_degraded, dict(self._codes), self._n_unreadable)
