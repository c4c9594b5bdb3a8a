"""Tracing as the wiring sees it: what to put around which part, what was counted, and the end."""

from __future__ import annotations

from feature_store.clock import Clock
from feature_store.online.store import OnlineStore
from service.asgi import RoutedApp
from service.scoring import Scoring
from service.telemetry import Telemetry
from service.tracing.export import Counts, SpanExport
from service.tracing.spans import TracedPath, TracedScoring


class Tracing:
    """Records the requests of one process."""

    def __init__(self, export: SpanExport) -> None:
        self._export = export

    def path(self, hot_path: RoutedApp) -> RoutedApp:
        """A hot path with spans named by the last word of its route: `rank`, `predict`."""
        return TracedPath(hot_path.route.rpartition("/")[2], hot_path, self._export)

    def scoring(
        self, store: OnlineStore, *, features_ms: float, clock: Clock, telemetry: Telemetry, url: str
    ) -> Scoring:
        """Scoring with spans; `url` is the store's."""
        return TracedScoring(
            store, features_ms=features_ms, clock=clock, telemetry=telemetry, url=url, export=self._export
        )

    @property
    def counts(self) -> Counts:
        """What became of the spans so far."""
        return self._export.counts

    def close(self) -> None:
        """Sends what is left, in bounded time. Blocks."""
        self._export.close()
