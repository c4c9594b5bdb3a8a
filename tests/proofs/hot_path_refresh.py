"""Changing ads under load: p99 while ten times all ads and a thousand ads a second are written, beside p99 without.

Writing all ads makes a new version of the catalogue, so that the table is built from the store again, with all its
masks; single changes are followed row by row until their stream is full and there is a new version as well.

Writer, Redis and load generator share a core, so part of what a writer costs has nothing to do with the service. It
is measured apart: three kinds of runs alternate, without a writer, with one that writes just as much for another
project into the same Redis, and with one that changes the ads that are ranked. The last two are the pairs that decide.
"""

from __future__ import annotations

import shutil
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
MAX_DEGRADED = 0.001
"""Of the answers: a hiccup of the machine may hold up Redis for longer than a read's deadline, a refresh must not."""
ALONE, ELSEWHERE, HERE = "no writer", "another project's ads", "the ranked ads"
OTHER_PROJECT = "elsewhere"


def copy_of_w100(scratch: Path) -> Path:
    """W100 to write on: other claims must find its rows as they were."""
    folder = scratch / "w100"
    shutil.copytree(w100(), folder, ignore=shutil.ignore_patterns("log", "work", "*.sock", "*.lock"))
    return folder


def refresh_latency(pace: Pace, scratch: Path) -> Outcome:
    """Runs of the three kinds in alternating order."""
    folder = copy_of_w100(scratch)
    n_ads = read_workload(folder / "workload.json").ads.size
    runs: dict[str, list[EngineResult]] = {ALONE: [], ELSEWHERE: [], HERE: []}
    written: list[AdChanges] = []
    with arena(folder, [service(folder)], scratch / "run", pace.warmup_s) as one:
        for turn in range(pace.rounds):
            changes = SomeAds(
                n_ads, CHANGED_PER_S, round(pace.open_s / REFRESHES / TICK_S), np.random.default_rng(turn)
            )
            for kind in runs if turn % 2 == 0 else reversed(runs):
                if kind == ALONE:
                    runs[kind].append(_run(one, pace, turn))
                    continue
                project = OTHER_PROJECT if kind == ELSEWHERE else None
                with AdChanges(folder, one.store.url, changes, one.cores.client, project) as writer:
                    runs[kind].append(_run(one, pace, turn))
                written.append(writer)
    here = [writer for writer in written if writer.is_of_the_workload]
    new_tables = sum(len(writer.bases) - 1 for writer in here)
    pairs = p99_pairs(runs[ELSEWHERE], runs[HERE])
    all_runs = [run for of_kind in runs.values() for run in of_kind]
    errors = [run.errors for run in all_runs if run.errors]
    codes = [run.degraded.codes for run in all_runs if run.degraded.codes]
    degraded = sum(run.degraded.n_degraded for run in all_runs) / sum(run.degraded.n_inspected for run in all_runs)
    share = min(writer.share_of_ticks for writer in written)
    return Outcome.judged(
        f"all ads {REFRESHES * pace.rounds} times and {CHANGED_PER_S} a second beside them, {new_tables} new tables: "
        f"{shown(pairs)}; without any writer {shown(p99_pairs(runs[ALONE], runs[HERE]))}",
        {
            "p99 within 20 % or 0.3 ms": is_within(pairs),
            f"at least {REFRESHES * pace.rounds} new tables": new_tables >= REFRESHES * pace.rounds,
            f"the writer kept its pace ({share:.0%})": share >= ENOUGH,
            f"at most {MAX_DEGRADED:.1%} degraded (got {degraded:.3%}, {codes})": degraded <= MAX_DEGRADED,
            f"no errors (got {errors})": not errors,
        },
        {kind: [figures(run) for run in of_kind] for kind, of_kind in runs.items()}
        | {"rows_per_s": [writer.rows_per_s for writer in here], "new_tables": new_tables},
    )


def _run(one: Arena, pace: Pace, seed: int) -> EngineResult:
    run, _ = one.generators.open(one.server(OURS), W100_CANDIDATES, RATE_PER_S, pace.open_s, seed)
    return run
