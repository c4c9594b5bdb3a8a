"""Changing ads under load: p99 while item tables are refreshed, beside p99 of steady runs.

Two disturbances, each in alternating turns with a steady run: all ads written anew, so that the table is built from the
store again with all its masks, and 1 000 ads changed a second, which the table follows row by row until the stream of
changes is full and there is a new version.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import numpy as np

from loadtest.results import EngineResult
from loadtest.workload import read_workload
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_ad_changes import TICK_S, AdChanges, SomeAds
from tests.proofs.hot_path_arena import OURS, W100_CANDIDATES, Arena, arena, service, w100
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_steady import figures, is_within, p99_pairs, shown

RATE_PER_S = 1_000.0
CHANGED_PER_S = 1_000
REFRESHES = 2
"""Of all ads in one run: ten in five."""
ENOUGH = 0.9
"""Share of the sessions that must have taken place in time, or the claim speaks of something else."""
STEADY, REFRESHED, CHANGED = "steady", "refreshed", "changed"


def copy_of_w100(scratch: Path) -> Path:
    """W100 to write on: other claims must find its rows as they were."""
    folder = scratch / "w100"
    shutil.copytree(w100(), folder, ignore=shutil.ignore_patterns("log", "work", "*.sock", "*.lock"))
    return folder


def refresh_latency(pace: Pace, scratch: Path) -> Outcome:
    """Steady, refreshed and changed runs in alternating order."""
    folder = copy_of_w100(scratch)
    n_ads = read_workload(folder / "workload.json").ads.size
    random = np.random.default_rng(3)
    disturbances = {
        REFRESHED: SomeAds(n_ads, 0, round(pace.open_s / REFRESHES / TICK_S), random),
        CHANGED: SomeAds(n_ads, CHANGED_PER_S, 0, random),
    }
    runs: dict[str, list[EngineResult]] = {STEADY: [], REFRESHED: [], CHANGED: []}
    written_per_s: list[float] = []
    shares: list[float] = []
    new_bases: dict[str, int] = {REFRESHED: 0, CHANGED: 0}
    with arena(folder, [service(folder)], scratch / "run", pace.warmup_s) as one:
        for turn in range(pace.rounds):
            for kind in runs if turn % 2 == 0 else reversed(runs):
                if kind == STEADY:
                    runs[kind].append(_run(one, pace, turn))
                    continue
                with AdChanges(folder, one.store.url, disturbances[kind], one.cores.client) as changes:
                    runs[kind].append(_run(one, pace, turn))
                new_bases[kind] += len(changes.bases) - 1
                shares.append(changes.share_of_ticks)
                if kind == CHANGED:
                    written_per_s.append(changes.rows_per_s)
    pairs = {kind: p99_pairs(runs[STEADY], runs[kind]) for kind in (REFRESHED, CHANGED)}
    all_runs = [run for of_kind in runs.values() for run in of_kind]
    errors = [run.errors for run in all_runs if run.errors]
    codes = [run.degraded.codes for run in all_runs if run.degraded.codes]
    changed_per_s = statistics.median(written_per_s)
    return Outcome.judged(
        f"{new_bases[REFRESHED]} refreshes of the whole table: {shown(pairs[REFRESHED])}; {changed_per_s:.0f} ads "
        f"changed a second ({new_bases[CHANGED]} new tables): {shown(pairs[CHANGED])}",
        {f"{kind} within 20 % or 0.3 ms": is_within(found) for kind, found in pairs.items()}
        | {
            f"{REFRESHES * pace.rounds} refreshes": new_bases[REFRESHED] >= REFRESHES * pace.rounds,
            f"the writer kept its pace ({min(shares):.0%})": min(shares) >= ENOUGH,
            f"nothing degraded (got {codes})": not codes,
            f"no errors (got {errors})": not errors,
        },
        {kind: [figures(run) for run in of_kind] for kind, of_kind in runs.items()}
        | {"written_per_s": written_per_s, "new_tables": new_bases},
    )


def _run(one: Arena, pace: Pace, seed: int) -> EngineResult:
    run, _ = one.generators.open(one.server(OURS), W100_CANDIDATES, RATE_PER_S, pace.open_s, seed)
    return run
