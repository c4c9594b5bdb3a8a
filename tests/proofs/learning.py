"""The claims of learning from clicks honestly: offline features, models, calibration, on known truth and on real logs.

Bounds and settings were fixed before the runs; figures are medians over the stated seeds and carry their intervals.
Training goes through the command line that a user types.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.offline.engine import EngineName
from feature_store.offline.offline_store import OfflineStore
from feature_store.rows import Rows
from models.logs.reader import read_log
from tests.proofs import learning_exports, learning_parity, learning_refusals, learning_row_by_row
from tests.proofs.claim import REPOSITORY, Claim, Outcome, clickserve, timed
from tests.proofs.learning_simulated import CLAIMS as ON_SIMULATED_LOGS

DATA = REPOSITORY.parent / "shared" / "data"
SEEDS = (1, 2, 3, 4, 5)
FLOAT_BOUND = 1e-9


def same_rows_on_spark(data: Callable[[Path], str], scratch: Path) -> Outcome:
    """Every view at every impression, on DuckDB and on Spark."""
    log = read_log(data(scratch), workdir=scratch / "work")
    rows: dict[EngineName, dict[str, Rows]] = {}
    seconds = {}
    for engine in ("duckdb", "spark"):
        started = time.monotonic()
        with OfflineStore(log.project, log, scratch / engine, engine) as store:
            rows[engine] = {view.name: store.at_impressions(view) for view in log.project.schema.views}
        seconds[engine] = time.monotonic() - started
    pairs = [(view, rows["duckdb"][view], rows["spark"][view]) for view in rows["duckdb"]]
    exact = {
        view: bool(
            np.array_equal(a.found, b.found)
            and np.array_equal(a.event_time_ms, b.event_time_ms)
            and np.array_equal(a.ids, b.ids)
        )
        for view, a, b in pairs
    }
    floats = {view: _largest_difference(a.floats, b.floats) for view, a, b in pairs}
    joined = {view: int(a.found.sum()) for view, a, _ in pairs}
    return Outcome.judged(
        f"{log.n:,} impressions, {len(pairs)} views: largest difference {max(floats.values()):.2g}; "
        f"{seconds['duckdb']:.0f} s and {seconds['spark']:.0f} s",
        {
            "the same rows, times and hashes": all(exact.values()),
            f"floats within {FLOAT_BOUND:g}": max(floats.values()) <= FLOAT_BOUND,
            "something was joined": all(joined.values()),
        },
        {"joined": joined, "largest_difference": floats, "seconds": seconds},
    )


def recalibration_after_a_drop(scratch: Path) -> Outcome:
    """The click rate drops by 40 % on day 8; a calibrator of the next days, judged on the days after them."""
    runs = []
    for seed in (1, 2, 3):
        data, registry = scratch / f"sim-{seed}", scratch / f"registry-{seed}"
        clickserve(
            "simulate", "--out", data, "--impressions", 2_000_000, "--seed", seed, "--no-drift",
            "--rate-shift", "8:0.6", cwd=scratch,
        )  # fmt: skip
        log = ("--data", f"simulated:{data}", "--registry", registry)
        clickserve("train", *log, "--rows", "0:0.57", "--seed", seed, cwd=scratch)
        before = clickserve("evaluate", *log, "--rows", "0.8:1", cwd=scratch)["metrics"]["calibration_ratio"]
        found = clickserve("recalibrate", *log, "--rows", "0.58:0.8", cwd=scratch)
        after = clickserve("evaluate", *log, "--rows", "0.8:1", cwd=scratch)["metrics"]["calibration_ratio"]
        runs.append({"seed": seed, "before": before, "after": after, "seconds": found["seconds"]["recalibrating"]})
        shutil.rmtree(data)
    median = statistics.median(run["after"]["value"] for run in runs)
    slowest = max(run["seconds"] for run in runs)
    return Outcome.judged(
        "promised / seen clicks "
        + ", ".join(f"{_shown(run['before'])} -> {_shown(run['after'])}" for run in runs)
        + f"; at most {slowest:.1f} s of work beside reading the log",
        {"median within 1 ± 0.05": abs(median - 1) <= 0.05, "under 10 s": slowest < 10},
        {"runs": runs},
    )


def real_log(kind: str, path: str, baseline: float, learners: tuple[str, ...], train: str, test: str) -> Any:
    """Median NE of five seeds of each learner; the best of them against the best baseline of the log's README."""

    def measure(scratch: Path) -> Outcome:
        if not (DATA / path).exists():
            return Outcome("the log is not on this machine", False, {})
        data = f"{kind}:{DATA / path}"
        runs: dict[str, list[dict[str, Any]]] = {}
        for learner in learners:
            for seed in SEEDS:
                log = ("--data", data, "--registry", scratch / f"{learner}-{seed}")
                clickserve("train", *log, "--rows", train, "--model", learner, "--seed", seed, cwd=scratch)
                seen = clickserve("evaluate", *log, "--rows", test, cwd=scratch)["metrics"]["normalized_entropy"]
                runs.setdefault(learner, []).append(seen)
        medians = {learner: sorted(found, key=lambda ne: ne["value"])[2] for learner, found in runs.items()}
        best = min(medians, key=lambda learner: medians[learner]["value"])
        error = (medians[best]["high"] - medians[best]["low"]) / (2 * 1.96)
        return Outcome.judged(
            f"{best} {_shown(medians[best])}, standard error {error:.4f}; "
            + ", ".join(f"{learner} {_shown(ne)}" for learner, ne in medians.items() if learner != best),
            {f"NE ≤ {baseline} + one standard error": medians[best]["value"] <= baseline + error},
            {"runs": runs},
        )

    return measure


def no_better_than_the_base_rate(kind: str, path: str, scratch: Path) -> Outcome:
    """A log with hardly a click in it: what `train` says of a model, where the interval of NE reaches 1."""
    data = f"{kind}:{DATA / path}" if path else f"{kind}:"
    said = {}
    for learner in ("gbdt", "logistic"):
        log = ("--data", data, "--registry", scratch / learner)
        found = clickserve("train", *log, "--model", learner, cwd=scratch)
        said[learner] = {
            "normalized_entropy": found["metrics"]["normalized_entropy"],
            "better_than_base_rate": found["better_than_base_rate"],
            "champion": found["champion"],
        }
    return Outcome.judged(
        ", ".join(f"{learner} NE {_shown(seen['normalized_entropy'])}" for learner, seen in said.items()),
        {
            "said so exactly where the interval says so": all(
                seen["better_than_base_rate"] == (seen["normalized_entropy"]["high"] < 1) for seen in said.values()
            ),
            "and no such model becomes champion": all(
                seen["better_than_base_rate"] or not seen["champion"] for seen in said.values()
            ),
        },
        said,
    )


def out_of_core(scratch: Path) -> Outcome:
    """FTRL on 10 M simulated impressions: rows a second of the learning itself, and the process's peak memory."""
    data = scratch / "sim"
    clickserve("simulate", "--out", data, "--impressions", 10_000_000, "--seed", 11, cwd=scratch)
    command = [
        "taskset", "-c", "0", "/usr/bin/time", "-f", "%M", "-o", str(scratch / "peak"),
        str(REPOSITORY / ".venv/bin/clickserve"), "train", "--data", f"simulated:{data}", "--model", "ftrl",
        "--registry", str(scratch / "registry"), "--json",
    ]  # fmt: skip
    seconds, printed = timed(command, scratch, timeout_s=3600)
    trained = json.loads(printed)
    peak_mb = int((scratch / "peak").read_text().split()[-1]) / 1024
    rate = 0.8 * 10_000_000 / trained["seconds"]["learning the fit part"]
    entropy = trained["metrics"]["normalized_entropy"]
    return Outcome.judged(
        f"{rate:,.0f} impressions/s learnt on one core, peak {peak_mb:.0f} MB, {seconds:.0f} s with joining the "
        f"features; NE {_shown(entropy)}",
        {"≥ 100 k impressions/s": rate >= 100_000, "memory < 1 GB": peak_mb < 1000},
        {"stages": trained["seconds"], "peak_mb": peak_mb, "metrics": trained["metrics"]},
    )


def trees_of_many_rows(scratch: Path) -> Outcome:
    """LightGBM on 5 M rows of 40 numbers: the learner itself, as `gbdt` calls it, on two cores."""
    seconds, printed = timed([sys.executable, "-m", "tests.proofs.many_rows"], REPOSITORY, timeout_s=1800)
    seen = json.loads(printed)
    return Outcome.judged(
        f"{seen['seconds']:.0f} s for {seen['rows']:,} rows x {seen['columns']} columns, {seen['rounds']} rounds, peak "
        f"{seen['peak_mb']:,.0f} MB",
        {"within 5 minutes": seen["seconds"] < 300},
        seen | {"whole_seconds": seconds},
    )


def _largest_difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Of two float arrays; infinite where one lacks a value that the other has."""
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0.0))


def _simulated(n: int, scratch: Path) -> str:
    clickserve("simulate", "--out", scratch / "sim", "--impressions", n, "--seed", 1, cwd=scratch)
    return f"simulated:{scratch / 'sim'}"


def _shown(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"


CLAIMS = [
    Claim(
        "same-rows-simulated",
        "python -m tests.proofs learning --only same-rows-simulated",
        "sim-v1, 100 000 impressions: DuckDB and Spark join the same rows; counts exact, floats within 1e-9",
        partial(same_rows_on_spark, partial(_simulated, 100_000)),
    ),
    Claim(
        "same-rows-movielens",
        "python -m tests.proofs learning --only same-rows-movielens",
        "MovieLens 100k: DuckDB and Spark join the same rows; counts exact, floats within 1e-9",
        partial(same_rows_on_spark, lambda scratch: "movielens:"),
    ),
    Claim(
        "recalibration",
        "clickserve simulate --rate-shift 8:0.6 --no-drift, train, evaluate, recalibrate, evaluate: 2 M, seeds 1 to 3",
        "after a drop of 40 %: median calibration ratio back within 1 ± 0.05, in under 10 s of work",
        recalibration_after_a_drop,
    ),
    Claim(
        "criteo",
        "clickserve train/evaluate --data criteo:FILE --rows 0:0.8 / 0.8:1, seeds 1 to 5",
        "best median NE no worse than .900 by more than one standard error",
        real_log("criteo", "criteo10k/train.tsv.gz", 0.900, ("gbdt", "gbdt-lr", "logistic", "fm"), "0:0.8", "0.8:1"),
    ),
    Claim(
        "avazu",
        "clickserve train/evaluate --data avazu:FILE --rows 0:0.8 / 0.8:1, seeds 1 to 5",
        "best median NE no worse than .916 by more than one standard error",
        real_log("avazu", "avazu10k/train.csv.gz", 0.916, ("gbdt", "gbdt-lr", "logistic", "fm"), "0:0.8", "0.8:1"),
    ),
    Claim(
        "talkingdata",
        "clickserve train/evaluate --data talkingdata:FILE --rows 0:0.8 / 0.8:1, seeds 1 to 5",
        "point-in-time features: best median NE no worse than .364 by more than one standard error",
        real_log("talkingdata", "talkingdata/clicks.parquet", 0.364, ("gbdt", "logistic"), "0:0.8", "0.8:1"),
    ),
    Claim(
        "movielens",
        "clickserve train/evaluate --data movielens:FOLDER (75 000 ratings) --rows 0:0.8 / 0.8:1, seeds 1 to 5",
        "point-in-time features: best median NE no worse than .847 by more than one standard error",
        real_log("movielens", "movielens100k", 0.847, ("gbdt", "logistic"), "0:0.8", "0.8:1"),
    ),
    Claim(
        "ipinyou",
        "clickserve train --data ipinyou:FILE",
        "`no better than the base rate` is said exactly where the interval of NE reaches 1",
        partial(no_better_than_the_base_rate, "ipinyou", "ipinyou48k/train.parquet"),
    ),
    Claim(
        "open-bandit",
        "clickserve train --data obd:FOLDER",
        "`no better than the base rate` is said exactly where the interval of NE reaches 1",
        partial(no_better_than_the_base_rate, "obd", "obd"),
    ),
    Claim(
        "ftrl-out-of-core",
        "taskset -c 0 /usr/bin/time clickserve train --model ftrl: sim-v1, 10 M impressions, seed 11",
        "≥ 100 k impressions/s on one core, memory < 1 GB",
        out_of_core,
    ),
    Claim(
        "trees-of-many-rows",
        "python -m tests.proofs.many_rows",
        "LightGBM on 5 M rows x 40 columns within 5 minutes on 2 cores",
        trees_of_many_rows,
    ),
    *ON_SIMULATED_LOGS,
    *learning_parity.CLAIMS,
    *learning_exports.CLAIMS,
    *learning_refusals.CLAIMS,
    *learning_row_by_row.CLAIMS,
]
