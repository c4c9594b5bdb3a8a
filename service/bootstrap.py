"""The one place that wires: settings in, a running application out.

The process around it (`worker.py`, `server.py`) knows a worker by `start`, `app`, `begin_drain` and `stop`. Everything
that reads a clock, a socket or the disk gets it from here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from feature_store.clock import system_clock
from feature_store.online.catalogue import RedisCatalogue
from feature_store.online.item_table_source import ItemLimits
from feature_store.online.opening import open_store
from feature_store.online.redis_store import RedisReadSettings
from feature_store.online.store import CatalogueReader
from feature_store.schema import FeatureView
from models.registry.registry import Registry
from service.admission import Admission
from service.answering import Answering
from service.app import Application
from service.asgi import RoutedApp
from service.background import Background
from service.champion_watch import ChampionWatch, serve
from service.explaining import Explaining
from service.hot_path import HotPath
from service.live_items import LiveItems
from service.model_loading import ModelLoading, champion_of
from service.model_slots import ModelSlots
from service.negotiation import json_only, json_or_frames
from service.openapi import PREDICT_ROUTE, RANK_ROUTE
from service.quiet_threads import quietly
from service.readiness import Readiness
from service.request_id import RequestIds
from service.routes.health import health_routes
from service.routes.models import model_routes
from service.routes.version import version_routes
from service.scoring import Scoring
from service.served_log.log import WRITE_MS, Counts, ServedLog
from service.settings import Settings
from service.telemetry import Telemetry

if TYPE_CHECKING:
    from service.tracing.tracing import Tracing

FLUSH_MS = 250.0
"""Rhythm of metrics; also the longest piece of detail that a killed worker takes with it."""
LAG_SAMPLE_MS = 100.0
"""How often the event loop is timed."""
SWITCH_INTERVAL_S = 0.0002
"""How long a worker thread that computes in Python may keep the event loop waiting for its turn. Python's own 5 ms
would show in the answers while item tables refresh or a model loads."""
START_PATIENCE_S = 0.4
"""How long a start waits, twice, for a store that took the connection and does not answer, where the disk can stand in
for it: with what else a start takes, two seconds."""
CATALOGUE_TIMEOUT_MS = 3_000.0
"""One command of the item table's reader; a frozen store may hold up the end of the process for no longer."""

logger = logging.getLogger(__name__)


class Runtime:
    """One worker's parts, started and ready to answer."""

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        """Builds the parts; nothing is read or started. Use `start`."""
        self._tracing = tracing
        self._trace_counts = (0, 0, 0)
        self._settings = settings
        self._background = Background()
        self._readers: list[RedisCatalogue] = []
        self._clock = time.monotonic  # not the loop's: uvloop counts whole milliseconds
        self.telemetry = Telemetry()
        self._store = open_store(
            settings.redis.url,
            RedisReadSettings(
                connect_timeout_ms=settings.redis.connect_timeout_ms,
                max_merged_reads=settings.redis.max_merged_reads,
                late_after_ms=settings.deadline.features_ms,
            ),
            self._observe_store,
        )
        self._slots = ModelSlots()
        self._readiness = Readiness(self._store, self._slots, system_clock)
        self._admission = Admission(settings.admission, self._clock)
        self._loading = ModelLoading(
            self._reader_of,
            self._items_of if settings.items.source == "table" else None,
            settings.plan.choice,
        )
        folder = settings.served_log.folder
        self._served_log = None if folder is None else ServedLog(folder, settings.served_log, system_clock)
        self._served_counts = Counts(0, 0, 0)
        self.answering = self._answering()
        """The use cases, for whoever puts another route around them (`loadtest/micro`)."""
        self.app = self._application()

    @classmethod
    async def start(cls, settings: Settings, tracing: Tracing | None = None, *, has_served: bool = False) -> Runtime:
        """Loads and proves the models, reads the item table, warms up; on return the app is ready.

        Args:
            settings: with `redis.url` set: whoever owns the embedded server puts its address there.
            tracing: records requests; closed by `stop`.
            has_served: whether a worker of this service has been ready before.
        Raises:
            StoreError: the store is down and no snapshot on disk can stand in for it.
            RegistryError: no model, or one that is damaged, unproven or of another schema.
            PlanError: ONNX Runtime cannot load a model's graph.
        """
        runtime = cls(settings, tracing)
        try:
            await runtime._load_models(has_served=has_served)
        except BaseException:
            await runtime.stop()
            raise
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        runtime._start_background()
        # A full collection takes 15 to 22 ms with this many long-lived objects, and 0 once they are set aside.
        gc.collect()
        gc.freeze()
        return runtime

    def begin_drain(self) -> None:
        """From now on `/readyz` answers 503, and every answer carries `Connection: close`."""
        self._readiness.draining = True

    async def stop(self) -> None:
        """Ends background work and gives connections back; call it after the last answer was sent."""
        await self._background.stop()
        if self._served_log is not None:
            await asyncio.to_thread(self._served_log.close)
            self._count_served_log()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
            self._count_spans()
        self.telemetry.flush()
        await self._store.aclose()
        for reader in self._readers:
            await asyncio.to_thread(reader.close)

    async def _load_models(self, *, has_served: bool) -> None:
        for name in self._settings.registry.models:
            registry = Registry(self._settings.registry.dir, name)
            version = await asyncio.to_thread(champion_of, registry, has_served=has_served)
            model = await self._loading.load(registry, version, patience_s=START_PATIENCE_S)
            serve(model, self._slots, self.telemetry)
            logger.info("a model is ready", extra={"model": name, "model_version": version})

    def _start_background(self) -> None:
        for name in self._settings.registry.models:
            watch = ChampionWatch(
                Registry(self._settings.registry.dir, name),
                self._loading,
                self._slots,
                clock=self._clock,
                telemetry=self.telemetry,
            )
            self._background.every(self._settings.registry.reload_ms, watch.look, f"watch champion {name}")
        self._background.every(self._settings.items.refresh_ms, self._refresh_items, "refresh item tables")
        if self._served_log is not None:
            self._background.every(WRITE_MS, self._write_served_log, "write served log")
        self._background.every(FLUSH_MS, self._flush_metrics, "flush metrics")
        self._background.every(0.0, self._time_event_loop, "time event loop")

    def _answering(self) -> Answering:
        settings, telemetry = self._settings, self.telemetry
        features_ms = settings.deadline.features_ms
        if self._tracing is None:
            scoring = Scoring(self._store, features_ms=features_ms, clock=system_clock, telemetry=telemetry)
        else:
            scoring = self._tracing.scoring(
                self._store, features_ms=features_ms, clock=system_clock, telemetry=telemetry, url=settings.redis.url
            )
        explaining = Explaining(settings.deadline.explain_ms, self._clock)
        return Answering(self._slots, scoring, explaining, telemetry, settings.server.max_candidates, self._served_log)

    def _application(self) -> Application:
        settings, telemetry = self._settings, self.telemetry
        request_ids = RequestIds()
        hot_paths: list[RoutedApp] = [
            HotPath(
                route,
                negotiate,
                admission=self._admission,
                readiness=self._readiness,
                request_ids=request_ids,
                deadline=settings.deadline,
                max_body_bytes=settings.server.max_body_bytes,
                clock=self._clock,
                telemetry=telemetry,
            )
            for route, negotiate in (
                (RANK_ROUTE, json_or_frames(self.answering.rank)),
                (PREDICT_ROUTE, json_only(self.answering.predict)),
            )
        ]
        if self._tracing is not None:
            hot_paths = [self._tracing.path(hot_path) for hot_path in hot_paths]
        return Application(
            hot_paths,
            [model_routes(self._slots), health_routes(self._readiness), version_routes()],
            readiness=self._readiness,
            request_ids=request_ids,
            clock=self._clock,
            telemetry=telemetry,
        )

    def _reader_of(self, project: str) -> CatalogueReader:
        reader = RedisCatalogue(self._settings.redis.url, project, timeout_ms=CATALOGUE_TIMEOUT_MS)
        self._readers.append(reader)
        return reader

    def _items_of(self, reader: CatalogueReader, views: Sequence[FeatureView]) -> LiveItems:
        items = self._settings.items
        return LiveItems(
            reader,
            views,
            snapshot_dir=items.snapshot_dir,
            stale_ms=items.stale_ms,
            clock=system_clock,
            telemetry=self.telemetry,
            limits=ItemLimits(items.delta_rows, int(items.derived_max_mb * 2**20), items.max_ads),
        )

    def _live_items(self) -> list[LiveItems]:
        """The item tables in use; models may share one."""
        return list({id(model.items): model.items for model in self._slots if model.items is not None}.values())

    async def _refresh_items(self) -> None:
        for items in self._live_items():
            await items.refresh()

    async def _write_served_log(self) -> None:
        if self._served_log is not None:
            await quietly(self._served_log.write)

    def _count_served_log(self) -> None:
        if self._served_log is not None:
            counts, before = self._served_log.counts, self._served_counts
            self.telemetry.served_log(*(now - then for now, then in zip(counts, before, strict=True)))
            self._served_counts = counts

    def _count_spans(self) -> None:
        if self._tracing is not None:
            counts, before = self._tracing.counts, self._trace_counts
            self.telemetry.trace_spans(*(now - then for now, then in zip(counts, before, strict=True)))
            self._trace_counts = counts

    async def _flush_metrics(self) -> None:
        self._count_served_log()
        self._count_spans()
        now_ms = system_clock()
        tables = self._live_items()
        self.telemetry.levels(
            inflight=self._admission.inflight,
            table_rows=sum(len(items.table) for items in tables),
            table_age_s=max((items.age_ms(now_ms) for items in tables), default=0) / 1000,
        )
        for _ in self.telemetry.flushing():
            await asyncio.sleep(0)

    async def _time_event_loop(self) -> None:
        due_s = self._clock() + LAG_SAMPLE_MS / 1000
        await asyncio.sleep(LAG_SAMPLE_MS / 1000)
        self.telemetry.event_loop_lag(max(0.0, self._clock() - due_s))

    def _observe_store(self, event: str, amount: int) -> None:
        if event in ("timeout", "down"):
            self.telemetry.store_error("read", amount)
        elif event == "breaker_open":
            logger.warning("the store does not answer, requests go on without it")
        elif event == "breaker_closed":
            logger.info("the store answers again")
