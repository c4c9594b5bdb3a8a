"""Somebody changes ads while they are being ranked: the product's own writer, in a thread that keeps out of the way.

Ten times a second a session writes some ads with new numbers and publishes; now and then it writes all of them, which
makes a new version of the catalogue, so that every item table is read anew. The thread runs on the core of client and
Redis whenever that has nothing else to do: it stands for a job elsewhere and must not take time from what is measured.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from feature_store.clock import system_clock
from feature_store.definition import load_project
from feature_store.errors import FeatureStoreError
from feature_store.online.redis_writer import RedisRowWriter
from service.reference_workload.parameters import AD_FEATURES, AD_PREFIX

TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """Some ads and their new numbers, (n, d) float32."""

    numbers: Sequence[int]
    floats: np.ndarray


class Changes(Protocol):
    """What is written, tick by tick."""

    def at(self, tick: int) -> Change | None:
        """The ads to be changed now; None for none."""

    def published(self, tick: int, event_time_ms: int) -> None:
        """That change is known to all readers from now on."""


class AdChanges:
    """Writes changes from entering to leaving the block, one session a tick."""

    def __init__(
        self, folder: Path, redis_url: str, changes: Changes, core: int | None, other_project: str | None = None
    ) -> None:
        """`folder` is that of the workload, whose ads are changed unless another project is named."""
        self._snapshots = folder / "items"
        project = load_project(folder / "features.toml")
        (self._view,) = project.schema.views_of("ad")
        self._writer = RedisRowWriter(redis_url, other_project or project.schema.project)
        self.is_of_the_workload = other_project is None
        self._changes = changes
        self._core = core
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: FeatureStoreError | RuntimeError | None = None
        self.bases: list[str] = []
        """Snapshots that the service made current, in order; the first is that of the beginning."""
        self.n_rows = 0
        self.n_ticks = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._writer.close()
        if error is None and self.error is not None:
            raise RuntimeError(f"the writer failed: {self.error}") from self.error

    @property
    def rows_per_s(self) -> float:
        """Ads changed a second, over the whole block."""
        return self.n_rows / self.seconds if self.seconds else 0.0

    @property
    def share_of_ticks(self) -> float:
        """Sessions that took place of those that were due; below 1 the writer could not keep up."""
        return self.n_ticks * TICK_S / self.seconds if self.seconds else 0.0

    def _run(self) -> None:
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})  # of this thread alone
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        started = due = time.monotonic()
        try:
            while not self._end.wait(max(0.0, due - time.monotonic())):
                self._look_at_snapshots()
                change = self._changes.at(self.n_ticks)
                if change is not None:
                    self._write(change)
                self.n_ticks += 1
                due += TICK_S
        except (FeatureStoreError, RuntimeError) as error:
            self.error = error
        self._look_at_snapshots()
        self.seconds = time.monotonic() - started

    def _look_at_snapshots(self) -> None:
        for current in self._snapshots.glob("*/current"):
            name = current.read_text()
            if name not in self.bases:
                self.bases.append(name)

    def _write(self, change: Change) -> None:
        n, now_ms = len(change.numbers), system_clock()
        ids = np.empty((n, 0), dtype=np.uint32)
        names = [f"{AD_PREFIX}{number}" for number in change.numbers]
        with self._writer.session(self._view, distinct=True) as session:
            report = session.write(names, np.full(n, now_ms, dtype=np.int64), change.floats, ids)
            session.finish()
        if report.written != n:
            raise RuntimeError(f"{n} ads were to be changed: {report}")
        self.n_rows += n
        self._changes.published(self.n_ticks, now_ms)


@dataclass(frozen=True, slots=True)
class SomeAds:
    """So many random ads a second, all of them every `whole_every` ticks (never where 0)."""

    n_ads: int
    per_s: int
    whole_every: int
    random: np.random.Generator

    def at(self, tick: int) -> Change | None:
        """See `Changes`."""
        is_whole = self.whole_every > 0 and tick % self.whole_every == self.whole_every // 2
        n = self.n_ads if is_whole else int(self.per_s * TICK_S)
        if not n:
            return None
        numbers = range(self.n_ads) if is_whole else self.random.choice(self.n_ads, n, replace=False).tolist()
        return Change(numbers, self.random.standard_normal((n, AD_FEATURES), np.float32))

    def published(self, tick: int, event_time_ms: int) -> None:
        """Nobody asks."""
