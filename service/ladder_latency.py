"""The latency of a ladder: every model behind the real service, in turns, so that no model has the quiet minute alone.

The store is an embedded one in the folder of the comparison. Loads the load generator: import it where it is called.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from feature_store.errors import FeatureStoreError
from loadtest.bench import BenchOptions, run_bench
from loadtest.errors import LoadTestError
from loadtest.report import Measured
from models.comparing.figures import Ladder, Latency, Trained
from models.logs.frame import TrainingFrame
from service.comparing import registry_of
from service.console import OnProgress
from service.errors import ServiceError, StartError
from service.log_workload import write_workload
from service.materializing import materialize_views
from service.own_service import own_service
from service.settings_origins import load_settings

DEADLINE_MS = 1000.0
"""Of the measured service: what is slow is to show its latency, not the deadline that would cut it."""

WARM_UP_S = 1.0
SEED_OF_REQUESTS = 7


@dataclass(frozen=True, slots=True)
class Load:
    """What each model is put under in each round."""

    rate_per_s: float
    duration_s: float
    rounds: int

    def described(self) -> dict[str, Any]:
        """For the page and its document."""
        return {"rate_per_s": f"{self.rate_per_s:g}", "duration_s": f"{self.duration_s:g}", "rounds": self.rounds}


def with_latency(
    ladder: Ladder, frame: TrainingFrame, out: Path, load: Load, on_progress: OnProgress
) -> tuple[Ladder, dict[str, Any] | None, str]:
    """The ladder with the latency of every model, and how it was measured; or why it was not.

    What hinders measuring (no ads to rank, a store that does not start, a load that fails) must not throw away hours of
    training: it becomes a sentence on the page.
    """
    if not len(frame.ads.values) or not len(frame.users.values):
        return ladder, None, "the log names no users and ads, so there is nothing to rank for anybody"
    flags = {
        "redis.url": "",  # whatever the environment names: a measurement must not write into anybody's store
        "redis.embedded_dir": str(out / "valkey"),
        "items.snapshot_dir": str(out / "items"),
        "server.workers": "1",
        "deadline.total_ms": str(DEADLINE_MS),
        "deadline.features_ms": str(DEADLINE_MS / 2),
    }
    stage = "latency"
    try:
        n_candidates = write_workload(frame, out / "workload.json", SEED_OF_REQUESTS)
        views, settings = frame.inputs.views, load_settings(None, os.environ, flags)
        materialize_views(
            frame.log.project,
            views,
            frame.log,
            settings,
            time="log-end",
            workdir=out / "work",
            on_progress=on_progress,
        )
        turns: dict[str, list[Measured]] = {each.learner: [] for each in ladder.contenders}
        for turn in range(load.rounds):
            # Every other round goes backwards: a machine that slows down steadily then favours nobody.
            for contender in ladder.contenders[:: -1 if turn % 2 else 1]:
                stage = f"latency, round {turn + 1} of {load.rounds}, {contender.learner}"
                turns[contender.learner].append(_turn(contender.trained, out, flags, load, stage, on_progress))
        measured = tuple(msgspec.structs.replace(e, latency=_latency(turns[e.learner])) for e in ladder.contenders)
    except (FeatureStoreError, LoadTestError, ServiceError, OSError) as error:
        return ladder, None, f"{stage}: {error}"
    return msgspec.structs.replace(ladder, contenders=measured), load.described() | {"n_candidates": n_candidates}, ""


def _turn(
    trained: Trained, out: Path, flags: dict[str, str], load: Load, stage: str, on_progress: OnProgress
) -> Measured:
    """One model behind the real service, under the open loop."""
    folder = out / "load" / trained.learner
    folder.mkdir(parents=True, exist_ok=True)
    config = out / "clickserve.toml"
    config.write_text("# Written by clickserve compare: the flags of the measured service say the rest.\n")
    settings = [part for name, value in flags.items() for part in ("--set", f"{name}={value}")]
    arguments = ["--registry", str(registry_of(trained, out).directory), *settings]
    on_progress(stage, 0.0)
    with own_service(config, folder / "service.log", arguments) as service:
        result = run_bench(
            BenchOptions(
                url=service.url,
                workload_path=out / "workload.json",
                out_dir=folder,
                rate_per_s=load.rate_per_s,
                duration_s=load.duration_s,
                warmup_s=WARM_UP_S,
                engine="open-loop",
                server_pids=service.pids,
            ),
            lambda _text, fraction: on_progress(stage, fraction),
        )
    measured = result.report.measured[0]
    if measured.result.latency.p50_ms is None:
        raise StartError(f"no request was answered in time; see {result.html_path}")
    return measured


def _latency(turns: list[Measured]) -> Latency:
    """One model's rounds together."""
    results = [turn.result for turn in turns]
    p50s = [1000.0 * result.latency.p50_ms for result in results if result.latency.p50_ms is not None]
    p99s = [1000.0 * result.latency.p99_ms for result in results if result.latency.p99_ms is not None]
    cpu = [turn.server_cpu_us_per_request for turn in turns if turn.server_cpu_us_per_request is not None]
    inspected = sum(result.degraded.n_inspected for result in results)
    return Latency(
        p50_us=median(p50s),
        p99_us=median(p99s) if len(p99s) == len(turns) else None,
        p50_by_round_us=tuple(p50s),
        server_cpu_us=median(cpu) if cpu else None,
        requests=sum(result.n_requests for result in results),
        errors=sum(sum(result.errors.values()) for result in results),
        degraded_share=sum(result.degraded.n_degraded for result in results) / inspected if inspected else None,
        believable=all(result.lateness is None or result.lateness.believable for result in results),
    )
