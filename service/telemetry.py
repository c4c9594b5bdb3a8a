"""Metrics: what the service tells Prometheus, at a cost that a request does not notice.

Names, labels and units are a contract with `deploy/prometheus/rules` and the dashboard; `docs/metrics.md` lists them.
Requests are counted at once, so that no answer is lost from the count even when the worker is killed. Everything else
is collected and added four times a second: a histogram observation costs 1.6 µs in multiprocess mode, an append 0.03,
and a request makes a hundred of them (one per `p_click`). Adding goes in steps of less than a tenth of a millisecond,
between which requests have their turn: in one go it would make the p99. A killed worker loses that quarter of a second
of detail.

Several workers add up through files: the parent process sets and empties `PROMETHEUS_MULTIPROC_DIR` before anything
imports this module. Counters of dead workers stay, or sums would fall; their gauges go (`forget_process`).
The only importer of `prometheus_client`.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.utils import floatToGoString

from service.batched_histogram import BatchedHistogram
from service.knowledge import ViewRows
from service.wire import DegradedCode

STAGES = ("parse", "features", "assemble", "model", "rank", "encode")
ROW_STATUSES = ("present", "missing", "stale")
Reals = npt.NDArray[np.float64]

KNOWN_LABELS = {
    "shed": ("queue_full", "queue_time", "explain_busy"),
    "degraded": get_args(DegradedCode),
    "store_errors": ("read", "decode", "items", "snapshot"),
    "served_log_dropped": ("no_room", "write_failed"),
    "trace_spans_dropped": ("no_room", "export_failed"),
}
"""Of counters of what should not happen."""

MULTIPROC_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST

REFUSED = "refused"
"""Route label of what never reached the application."""

REQUEST_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
STAGE_BUCKETS_S = (0.00001, 0.000025, 0.00005, 0.0001, *REQUEST_BUCKETS_S[:-2])
LAG_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
AGE_BUCKETS_S = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
P_CLICK_BUCKETS = (0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

BOUND_NAMES = tuple(map(floatToGoString, P_CLICK_BUCKETS))
"""How the buckets of `p_click` call their bounds: a rule compares the two by it."""


class Declared(NamedTuple):
    """One family of metrics, as `docs/metrics.md` lists it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""


class _Families:
    """Declares metrics in one registry, and remembers what it declared."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.declared: list[Declared] = []

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.declared.append(Declared(f"clickserve_{name}", "counter", labels, text))
        return Counter(name.removesuffix("_total"), text, labels, namespace="clickserve", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.declared.append(Declared(f"clickserve_{name}", "histogram", labels, text, tuple(buckets)))
        return Histogram(name, text, labels, namespace="clickserve", buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemax"], *labels: str) -> Gauge:
        self.declared.append(Declared(f"clickserve_{name}", "gauge", labels, text))
        return Gauge(name, text, labels, namespace="clickserve", multiprocess_mode=mode, registry=self.registry)


class Telemetry(_Families):
    """The metrics of one worker."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Metrics go to `registry`, a new one where None; in multiprocess mode also to the shared files."""
        super().__init__(registry)
        self._requests: dict[tuple[str, int], tuple[Any, BatchedHistogram]] = {}
        self._request_seconds = self._histogram(
            "request_duration_seconds",
            "Time to the answer from a request's arrival, from that of its head where more than 64 KiB follow.",
            REQUEST_BUCKETS_S,
            "route",
            "code",
        )
        self._requests_total = self._counter("requests_total", "Requests answered.", "route", "code")
        self._tallies = {
            "candidates": self._counter("candidates_total", "Candidates and instances scored."),
            "shed": self._counter("shed_total", "Requests refused to protect the others.", "reason"),
            "degraded": self._counter("degraded_answers_total", "Answers that carry a code of less knowledge.", "code"),
            "rows": self._counter("feature_rows_total", "Feature rows read for requests.", "view", "status"),
            "store_errors": self._counter("store_errors_total", "Operations of the online store that failed.", "op"),
            "served_log_rows": self._counter(
                "served_log_rows_total", "Candidates in finished files of the served log."
            ),
            "served_log_dropped": self._counter(
                "served_log_dropped_total", "Candidates that were to be logged and were not.", "reason"
            ),
            "trace_spans": self._counter("trace_spans_total", "Spans of recorded requests that the collector took."),
            "trace_spans_dropped": self._counter(
                "trace_spans_dropped_total", "Spans of recorded requests that the collector never got.", "reason"
            ),
        }
        for name, values in KNOWN_LABELS.items():
            for value in values:
                self._tallies[name].labels(value)  # there from the start, at 0: a rate needs a value before the first
        self._tally: Tally[tuple[str, tuple[str, ...]]] = Tally()
        self._figured: set[str] = set()
        """Models of which figures were told."""
        self._stages = array("d")
        self._rows: dict[str, list[int]] = {}
        """Rows present, missing and stale of each view."""
        self._histograms = {
            "stage": self._histogram(
                "stage_duration_seconds", "Time a request spent in one stage.", STAGE_BUCKETS_S, "stage"
            ),
            "age": self._histogram(
                "feature_age_seconds", "Age of the oldest row of a view that a request used.", AGE_BUCKETS_S, "view"
            ),
            "p_click": self._histogram("p_click", "Click probabilities answered.", P_CLICK_BUCKETS, "model"),
            "lag": self._histogram(
                "event_loop_lag_seconds", "How late the event loop came back to a timer.", LAG_BUCKETS_S
            ),
        }
        self._batched: dict[tuple[str, str], BatchedHistogram] = {}
        self._inflight = self._gauge("inflight_requests", "Requests past the door.", "livesum")
        self._model_info = self._gauge(
            "model_info", "1 for the model that serves.", "livemax", "name", "version", "variant", "core_sha256", "plan"
        )
        self._model_promotion_failing = self._gauge(
            "model_promotion_failing",
            "1 while the champion cannot be loaded or found, and the old one serves.",
            "livemax",
            "model",
        )
        self._model_figures = {
            "calibration_ratio": self._gauge(
                "model_calibration_ratio", "Promised over seen clicks, held out at its training.", "livemax", "model"
            ),
            "normalized_entropy": self._gauge(
                "model_normalized_entropy",
                "Log loss relative to guessing the mean, held out at its training.",
                "livemax",
                "model",
            ),
            "click_rate": self._gauge(
                "model_click_rate", "Clicks per impression of its training log.", "livemax", "model"
            ),
        }
        self._reference_share = self._gauge(
            "model_reference_p_click_share",
            "Share of the p_click of its training that are at most the bound.",
            "livemax",
            "model",
            "bound",
        )
        self._ttl = self._gauge("feature_ttl_seconds", "Age at which rows of a view expire.", "livemax", "view")
        self._table_rows = self._gauge("item_table_rows", "Ads in the item table.", "livemax")
        self._table_age = self._gauge("item_table_age_seconds", "Since the store confirmed the item table.", "livemax")

    def answered(self, route: str, code: int, seconds: float) -> None:
        """One request; `route` is one of the paths the application knows, or `other` for all it does not."""
        children = self._requests.get((route, code))
        if children is None:
            labels = (route, str(code))
            children = self._requests_total.labels(*labels), BatchedHistogram(self._request_seconds.labels(*labels))
            self._requests[route, code] = children
        children[0].inc()
        children[1].add(seconds)

    def refused(self, code: int) -> None:
        """One request that the server answered itself, because it was no HTTP, too large, too slow or never ended.

        Has no path, hence the route `refused`, and no duration: nobody knows when it should have been there.
        """
        self._requests_total.labels(REFUSED, str(code)).inc()

    def stages(self, seconds: tuple[float, float, float, float, float, float]) -> None:
        """Time that a request spent in each of `STAGES`."""
        self._stages.extend(seconds)

    def scored(self, model: str, p_click: Reals) -> None:
        """(n,) probabilities that were answered."""
        self._tally["candidates", ()] += len(p_click)
        self._batch("p_click", model).add_all(p_click)

    def shed(self, reason: str) -> None:
        """One request refused at the door."""
        self._tally["shed", (reason,)] += 1

    def degraded(self, codes: Sequence[str]) -> None:
        """The codes of one answer."""
        for code in codes:
            self._tally["degraded", (code,)] += 1

    def views(self, views: Sequence[ViewRows]) -> None:
        """Rows that a request asked for, view by view, and the age of the oldest."""
        rows = self._rows
        for view in views:
            counts = rows.get(view.view)
            if counts is None:
                counts = rows[view.view] = [0, 0, 0]
            counts[0] += view.present
            counts[1] += view.missing
            counts[2] += view.stale
            if view.age_ms is not None:
                self._batch("age", view.view).add(view.age_ms / 1000)

    def store_error(self, operation: str, amount: int = 1) -> None:
        """A failed operation of the online store."""
        self._tally["store_errors", (operation,)] += amount

    def served_log(self, written: int, no_room: int, failed: int) -> None:
        """Rows of the served log since the last call: finished, dropped for want of room, lost to the disk."""
        self._tally["served_log_rows", ()] += written
        self._tally["served_log_dropped", ("no_room",)] += no_room
        self._tally["served_log_dropped", ("write_failed",)] += failed

    def trace_spans(self, exported: int, no_room: int, failed: int) -> None:
        """Spans since the last call: taken by the collector, dropped for want of room, not taken."""
        self._tally["trace_spans", ()] += exported
        self._tally["trace_spans_dropped", ("no_room",)] += no_room
        self._tally["trace_spans_dropped", ("export_failed",)] += failed

    def event_loop_lag(self, seconds: float) -> None:
        """How late the event loop came back to a timer."""
        self._batch("lag", "").add(seconds)

    def model_serves(self, *, name: str, version: str, variant: str, core_sha256: str, plan: str, serves: bool) -> None:
        """Says which model a slot holds; a model that left its slot stays visible with the value 0."""
        self._model_info.labels(name, version, variant, core_sha256, plan).set(1 if serves else 0)

    def model_figures(self, model: str, figures: Mapping[str, float], reference: Sequence[float]) -> None:
        """What is known of the model in a slot from its training; what is not known of a new one is NaN.

        Args:
            figures: some of calibration_ratio, normalized_entropy and click_rate.
            reference: share of its p_click up to each of `P_CLICK_BUCKETS`; empty where nobody kept them.
        """
        for name, gauge in self._model_figures.items():
            if name in figures or model in self._figured:
                gauge.labels(model).set(figures.get(name, nan))
        if reference or model in self._figured:
            for bound, share in zip(BOUND_NAMES, reference or [nan] * len(BOUND_NAMES), strict=True):
                self._reference_share.labels(model, bound).set(share)
        self._figured.add(model)

    def promotion_failing(self, model: str, fails: bool) -> None:
        """Whether the registry's champion of that name cannot be loaded."""
        self._model_promotion_failing.labels(model).set(1 if fails else 0)

    def view_served(self, view: str, ttl_s: float) -> None:
        """A view that is read from now on, and when its rows expire."""
        self._ttl.labels(view).set(ttl_s)
        for status in ROW_STATUSES:
            self._tallies["rows"].labels(view, status)  # at 0: the first missing row is to have a rate

    def levels(self, *, inflight: int, table_rows: int, table_age_s: float) -> None:
        """What gauges show until the next call."""
        self._inflight.set(inflight)
        self._table_rows.set(table_rows)
        self._table_age.set(table_age_s)

    def flush(self) -> None:
        """Adds everything collected since the last call."""
        for _ in self.flushing():
            pass

    def flushing(self) -> Iterator[None]:
        """The same in small steps; what is not added yet when somebody stops half-way waits for the next call."""
        rows, self._rows = self._rows, {}
        for view, counts in rows.items():
            for status, amount in zip(ROW_STATUSES, counts, strict=True):
                if amount:
                    self._tally["rows", (view, status)] += amount
        tally, self._tally = self._tally, Tally()
        for (name, labels), amount in tally.items():
            counter = self._tallies[name]
            (counter.labels(*labels) if labels else counter).inc(amount)
        stages, self._stages = self._stages, array("d")
        for stage, seconds in zip(STAGES, np.frombuffer(stages).reshape(-1, len(STAGES)).T, strict=True):
            self._batch("stage", stage).add_all(seconds)
        yield
        for histogram in (*self._batched.values(), *(seconds for _, seconds in self._requests.values())):
            yield from histogram.flushing()

    def _batch(self, name: str, label: str) -> BatchedHistogram:
        batched = self._batched.get((name, label))
        if batched is None:
            histogram = self._histograms[name]
            batched = BatchedHistogram(histogram.labels(label) if label else histogram)
            self._batched[name, label] = batched
        return batched


class SupervisorTelemetry(_Families):
    """The metrics of the parent process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._workers = self._gauge("workers", "Workers that answer.", "livesum")
        self._restarts = self._counter("worker_restarts_total", "Workers that died and were replaced.")
        self._hangs = self._counter(
            "worker_hangs_total", "Workers killed because their event loop stood still; counted as restarts as well."
        )

    def workers(self, alive: int) -> None:
        """How many workers answer now."""
        self._workers.set(alive)

    def worker_restarted(self) -> None:
        """One worker died and was replaced."""
        self._restarts.inc()

    def worker_hung(self) -> None:
        """One worker was killed because its event loop stood still."""
        self._hangs.inc()


def exposition(registry: CollectorRegistry) -> bytes:
    """All metrics as text: of every process that shares the files, or of `registry` where there are none."""
    if MULTIPROC_VARIABLE in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Takes the gauges of a dead process out of the sums; its counters stay."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
