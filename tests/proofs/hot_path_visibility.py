"""A changed ad: how soon it is ranked by its new row, and whether row and mask are ever of two versions.

Some watched ads get new numbers in every session of the writer, together with 100 others, while requests keep coming
and now and then all ads are written anew. Each watched ad's probability under each version is computed beforehand in
ONNX Runtime, and versions that follow each other differ clearly. A request for one watched ad alone and for a user whom
nobody knows then tells two things: `p_click`, which mask was used, and `features.age_ms_max`, which row, because the
ad's is the only one. Any answer whose row and mask are not of the same version breaks the claim.
"""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from feature_store.clock import system_clock
from loadtest.suite.servers import Server
from loadtest.workload import read_workload
from models.encoder import Block
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.reference_workload.parameters import AD_FEATURES, AD_PREFIX, CONTEXT_KEYS, USER_FEATURES
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_ad_changes import TICK_S, AdChanges, Change, SomeAds
from tests.proofs.hot_path_arena import OURS, W100_CANDIDATES, arena, service
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_refresh import CHANGED_PER_S, ENOUGH, RATE_PER_S, copy_of_w100

WATCHED = (0, 1, 17, 4_711, 9_999)
"""Popular ads and rare ones; the load asks for them, too."""
VISIBLE_WITHIN_S = 1.0
P_BOUND = 1e-6
CLEARLY = 1e-4
"""Versions that follow each other differ by at least so much in p_click."""
NEIGHBOURS = 20
ALL_ADS_EVERY = 30
"""Ticks between two versions of the whole catalogue."""
PAUSE_S = 0.004
"""Between two questions: a few hundred a second see a change within milliseconds and load nobody."""
CONTEXT = dict.fromkeys(CONTEXT_KEYS, 0.5)
EXPECTED_CODES = ({"user_missing"}, {"store_timeout"}, {"store_down"})
"""Nobody knows the user, whether the store was asked in time or not: the score is the same."""


@dataclass
class Watched:
    """The watched ads' numbers in every version and what each must be answered with, and when each was published.

    floats: (versions, ads, 16) float32; p_click: (versions, ads) float64.
    """

    floats: np.ndarray
    p_click: np.ndarray
    others: SomeAds
    event_time_ms: list[int] = field(default_factory=list)
    """Of each version that was published."""
    published_s: list[float] = field(default_factory=list)
    """When, by the monotonic clock."""

    @classmethod
    def drawn(cls, predictor: Predictor, n_versions: int, others: SomeAds) -> Watched:
        """Versions of random numbers, drawn again where they cannot be told from those before them."""
        random = np.random.default_rng(5)
        floats = np.empty((n_versions, len(WATCHED), AD_FEATURES), np.float32)
        p_click = np.full((n_versions, len(WATCHED)), np.inf)
        for version in range(n_versions):
            before = p_click[max(0, version - NEIGHBOURS) : version]
            unclear = np.ones(len(WATCHED), dtype=bool)
            while unclear.any():
                floats[version, unclear] = random.standard_normal((int(unclear.sum()), AD_FEATURES), np.float32)
                p_click[version] = _p_click(predictor, floats[version])
                unclear = (np.abs(before - p_click[version]) < CLEARLY).any(axis=0)
        return cls(floats, p_click, others)

    def at(self, tick: int) -> Change | None:
        """The watched ads' next version among the other ads of this tick."""
        version = len(self.event_time_ms)
        if version == len(self.floats):
            return None
        change = self.others.at(tick)
        numbers, floats = ([], np.empty((0, AD_FEATURES), np.float32)) if change is None else (
            list(change.numbers), change.floats
        )  # fmt: skip
        kept = [place for place, number in enumerate(numbers) if number not in WATCHED]
        return Change(
            [*WATCHED, *(numbers[place] for place in kept)], np.concatenate([self.floats[version], floats[kept]])
        )

    def published(self, tick: int, event_time_ms: int) -> None:
        """See `Changes`."""
        self.published_s.append(time.monotonic())
        self.event_time_ms.append(event_time_ms)


def _p_click(predictor: Predictor, ads: np.ndarray) -> np.ndarray:
    """(ads,) probabilities for a user whom nobody knows, in ONNX Runtime."""
    user = _numbers(np.full((1, USER_FEATURES), np.nan, np.float32))
    context = predictor.encoder.encode_context(CONTEXT).block
    return predictor.generic.score(*predictor.encoder.encode(user, _numbers(ads), context)).p_click


def _numbers(floats: np.ndarray) -> Block:
    return Block(np.ascontiguousarray(floats), np.empty((len(floats), 0), dtype=np.uint32))


@dataclass(frozen=True, slots=True)
class Sight:
    """What one answer shows of a watched ad."""

    ad: int
    """Its place in `WATCHED`."""
    asked_ms: int
    answered_ms: int
    answered_s: float
    age_ms: int
    p_click: float


def watch(server: Server, seconds: float) -> tuple[list[Sight], int]:
    """Asks for the watched ads in turn, over one connection; also answers how many requests were refused.

    Raises:
        RuntimeError: an answer of status 200 is not what was asked for.
    """
    sights: list[Sight] = []
    n_refused = 0
    bodies = [
        msgspec.json.encode({"user_id": "nobody", "candidates": [f"{AD_PREFIX}{number}"], "context": CONTEXT})
        for number in WATCHED
    ]
    end = time.monotonic() + seconds
    with closing(http.client.HTTPConnection(server.target.host, server.target.port, timeout=5)) as connection:
        while time.monotonic() < end:
            ad = (len(sights) + n_refused) % len(WATCHED)
            asked_ms = system_clock()
            connection.request("POST", "/v1/rank", bodies[ad], {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            answered_ms, answered_s = system_clock(), time.monotonic()
            if response.status != http.client.OK:
                n_refused += 1
                continue
            answer: dict[str, Any] = msgspec.json.decode(content)
            age_ms = answer["features"]["age_ms_max"]
            if set(answer["degraded"]) not in EXPECTED_CODES or age_ms is None:
                raise RuntimeError(f"ad {WATCHED[ad]} was answered in another way than expected: {content[:300]!r}")
            sights.append(Sight(ad, asked_ms, answered_ms, answered_s, age_ms, answer["results"][0]["p_click"]))
            time.sleep(PAUSE_S)
    return sights, n_refused


def change_visible(pace: Pace, scratch: Path) -> Outcome:
    """Delay from publication to the first answer with the new row, and answers of mixed versions."""
    folder = copy_of_w100(scratch)
    registry = Registry(folder / "registry")
    predictor = registry.load(registry.champion() or "")
    n_ads = read_workload(folder / "workload.json").ads.size
    n_versions = round((pace.watched_s + 2 * VISIBLE_WITHIN_S) / TICK_S)
    watched = Watched.drawn(
        predictor, n_versions, SomeAds(n_ads, CHANGED_PER_S, ALL_ADS_EVERY, np.random.default_rng(4))
    )
    with (
        arena(folder, [service(folder)], scratch / "run", pace.warmup_s) as one,
        ThreadPoolExecutor(1) as beside,
    ):
        server = one.server(OURS)
        with AdChanges(folder, one.store.url, watched, one.cores.client) as changes:
            load = beside.submit(one.generators.open, server, W100_CANDIDATES, RATE_PER_S, pace.watched_s, 1)
            sights, n_refused = watch(server, pace.watched_s + VISIBLE_WITHIN_S)
            run, _ = load.result()
    return _judged(watched, sights, changes, {**run.errors, "refused": n_refused} if n_refused else run.errors)


@dataclass(frozen=True, slots=True)
class Findings:
    """All sights, explained."""

    visible_s: np.ndarray
    """(versions, ads) when each version, or a later one, was first seen; infinite where never."""
    n_known: int
    mixed: list[Sight]
    """Row and mask of different versions, or of none that there was."""


def explained(watched: Watched, sights: list[Sight]) -> Findings:
    """Finds each sight's version: by its row's time, and among those by its probability."""
    times_ms = np.array(watched.event_time_ms)
    seen_s = np.full((len(times_ms), len(WATCHED)), np.inf)
    n_known, mixed = 0, []
    for sight in sights:
        # The row's event time, as exactly as two readings of the clock around the answer tell it.
        of_row = np.flatnonzero(
            (times_ms >= sight.asked_ms - sight.age_ms) & (times_ms <= sight.answered_ms - sight.age_ms)
        )
        of_both = of_row[np.abs(watched.p_click[of_row, sight.ad] - sight.p_click) <= P_BOUND]
        if len(of_both):
            n_known += 1
            seen_s[of_both[-1], sight.ad] = min(seen_s[of_both[-1], sight.ad], sight.answered_s)
        elif len(of_row) or np.isfinite(seen_s[:, sight.ad]).any():
            mixed.append(sight)
        # else: the ad as it was before its first change
    return Findings(np.minimum.accumulate(seen_s[::-1], axis=0)[::-1], n_known, mixed)


def _judged(watched: Watched, sights: list[Sight], changes: AdChanges, errors: dict[str, int]) -> Outcome:
    if not sights:
        return Outcome(f"no answer at all: {errors}", False, {})
    found = explained(watched, sights)
    published_s = np.array(watched.published_s)
    due = published_s <= sights[-1].answered_s - VISIBLE_WITHIN_S
    if not due.any():
        return Outcome("no version was published long enough before the end", False, {})
    delays_s = (found.visible_s - published_s[:, None])[due]
    slowest_s, new_tables = float(delays_s.max()), len(changes.bases) - 1
    return Outcome.judged(
        f"{len(delays_s)} versions of {len(WATCHED)} ads, {changes.rows_per_s:.0f} rows written a second, {new_tables} "
        f"new tables: visible after {np.median(delays_s):.2f} s (median), {slowest_s:.2f} s (slowest); "
        f"{len(found.mixed)} of {len(sights)} answers with row and mask of different versions",
        {
            f"visible within {VISIBLE_WITHIN_S:g} s": slowest_s <= VISIBLE_WITHIN_S,
            "row and mask of one version": not found.mixed,
            "most answers are of a known version": found.n_known > len(sights) // 2,
            "there were new tables": new_tables > 0,
            f"the writer kept its pace ({changes.share_of_ticks:.0%})": changes.share_of_ticks >= ENOUGH,
            f"no errors (got {errors})": not errors,
        },
        {
            "answers": len(sights),
            "of_a_known_version": found.n_known,
            "mixed": [asdict(sight) for sight in found.mixed[:20]],
            "new_tables": new_tables,
            "delay_s_p90": float(np.quantile(delays_s, 0.9)),
            "sessions_share": changes.share_of_ticks,
        },
    )
