"""What the service's own metrics counted between two moments: time by stage, requests shed, answers degraded.

A load generator sees one number per request. The service knows where it went: its histograms are read before and after
a run, and the difference is that run's. Buckets bound a percentile from above only: what stands here is interpolated
inside a bucket and is a rounding, while means are exact. The service adds up its metrics four times a second, so the
second look waits that long.
"""

from __future__ import annotations

import http.client
import math
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from loadtest.errors import TargetError, UrlError

PREFIX = "clickserve_"
SETTLE_S = 0.6
"""Two of the service's quarter-second steps, and a little."""
_TIMEOUT_S = 5.0
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


class StageTime(msgspec.Struct, frozen=True):
    """Time that requests spent in one stage."""

    stage: str
    n: int
    mean_us: float
    p50_us: float | None
    p99_us: float | None
    """Interpolated inside a bucket; None where it lies beyond the last bucket's bound."""


class ServerSide(msgspec.Struct, frozen=True):
    """What the service itself counted during one run, warm-up included."""

    n_requests: int
    """Ranking requests, whatever they were answered."""
    mean_us: float
    """From a request's arrival to its answer."""
    stages: list[StageTime]
    shed: dict[str, int]
    """Requests refused to protect the others, by reason; reasons without one are left out."""
    degraded: dict[str, int]
    """Answers of less knowledge by code; an answer may carry several."""

    @property
    def stages_us(self) -> float:
        """All stages together, of a mean request."""
        return sum(stage.mean_us * stage.n for stage in self.stages) / max(self.n_requests, 1)


def read_samples(url: str) -> Samples:
    """Fetch a metrics page.

    Raises:
        UrlError: not an http or https URL.
        TargetError: it does not answer, or not with metrics of this service.
    """
    _refuse_other_urls(url)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            text = answer.read().decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise TargetError(f"metrics {url}: {reason}; name the address of /metrics, or leave it out") from error
    samples = parse_samples(text)
    if not any(name.startswith(PREFIX) for name, _ in samples):
        raise TargetError(f"metrics {url}: no metric there begins with {PREFIX}; is that the service's /metrics?")
    return samples


def _refuse_other_urls(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise UrlError(f"metrics {url!r}: {error}") from error
    if not usable:
        raise UrlError(f"metrics {url!r}: expected http://HOST:PORT/metrics")


def parse_samples(text: str) -> Samples:
    """Read Prometheus' text format; comments and what is no sample are skipped."""
    found: Samples = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is not None:
            found[sample["name"], frozenset(_LABEL.findall(sample["labels"] or ""))] = float(sample["value"])
    return found


def settled_samples(url: str) -> Samples:
    """`read_samples` once the service has added up what it saw."""
    time.sleep(SETTLE_S)
    return read_samples(url)


def settled_samples_of(urls: Sequence[str | None]) -> list[Samples | None]:
    """The same of several services that come to rest at once; None for one whose page is not known."""
    if any(urls):
        time.sleep(SETTLE_S)
    return [read_samples(url) if url else None for url in urls]


def server_side(before: Samples, after: Samples, path: str) -> ServerSide:
    """The difference of two looks at the metrics, for the requests to one path."""
    gained = {key: value - before.get(key, 0.0) for key, value in after.items()}
    stages = []
    for labels, n in _of(gained, "stage_duration_seconds_count"):
        if n > 0:
            stages.append(_stage(gained, labels["stage"], n))
    requests = [(labels, n) for labels, n in _of(gained, "request_duration_seconds_count") if labels["route"] == path]
    seconds = sum(s for labels, s in _of(gained, "request_duration_seconds_sum") if labels["route"] == path)
    n_requests = sum(n for _, n in requests)
    order = ("parse", "features", "assemble", "model", "rank", "encode")  # a request's way; an unknown stage comes last
    stages.sort(key=lambda stage: order.index(stage.stage) if stage.stage in order else len(order))
    return ServerSide(
        n_requests=round(n_requests),
        mean_us=seconds / n_requests * 1e6 if n_requests else 0.0,
        stages=stages,
        shed={labels["reason"]: round(n) for labels, n in _of(gained, "shed_total") if n > 0},
        degraded={labels["code"]: round(n) for labels, n in _of(gained, "degraded_answers_total") if n > 0},
    )


def _of(samples: Samples, name: str) -> Iterator[tuple[dict[str, str], float]]:
    return ((dict(labels), value) for (found, labels), value in samples.items() if found == PREFIX + name)


def _stage(gained: Samples, stage: str, n: float) -> StageTime:
    label = frozenset({("stage", stage)})
    buckets = sorted(
        (float(labels["le"]), count)
        for labels, count in _of(gained, "stage_duration_seconds_bucket")
        if labels["stage"] == stage
    )
    mean_us = gained[PREFIX + "stage_duration_seconds_sum", label] / n * 1e6
    return StageTime(stage, round(n), mean_us, _quantile_us(buckets, 0.5), _quantile_us(buckets, 0.99))


def _quantile_us(buckets: list[tuple[float, float]], q: float) -> float | None:
    """Linear inside the bucket, as Prometheus' `histogram_quantile`; buckets are cumulative and end at infinity."""
    rank, below_s, below_n = q * buckets[-1][1], 0.0, 0.0
    for bound_s, count in buckets:
        if count >= rank:
            if math.isinf(bound_s):
                return None
            return (below_s + (bound_s - below_s) * (rank - below_n) / (count - below_n)) * 1e6
        below_s, below_n = bound_s, count
    return None
