"""`clickserve compare`: every learner on one log, what each knows and costs, and one page that says which to choose."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import msgspec

from models.trainers import LEARNERS
from service.commands.options import data_option, features_option, json_option, rows_option
from service.console import Console, OnProgress
from service.ladder_table import show_ladder
from service.rejected_rows import rejects_document, say_rejects

if TYPE_CHECKING:
    from loadtest.report import Measured
    from models.comparing.figures import Ladder, Latency, Trained
    from models.logs.frame import TrainingFrame

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


class _Names(click.ParamType[tuple[str, ...]]):
    """Learners, in the order of the ladder whatever the order given."""

    name = "MODEL,…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        asked = [part.strip() for part in str(value).split(",")]
        if unknown := [name for name in asked if name not in LEARNERS]:
            self.fail(f"there is no model {unknown[0]!r}; choose from {', '.join(LEARNERS)}", param, ctx)
        return tuple(name for name in LEARNERS if name in asked)


class _Seeds(click.ParamType[tuple[int, ...]]):
    """Distinct whole numbers from 0."""

    name = "N,…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers from 0, such as 1,2,3", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


@click.command("compare")
@data_option
@features_option
@rows_option
@click.option("--models", "learners", type=_Names(), default=LEARNERS, show_default="all", help="Which learners.")
@click.option("--seeds", type=_Seeds(), default=(1, 2, 3), show_default="1,2,3", help="One model of each a seed.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/compare"),
    show_default=True,
    help="Folder for compare.html, compare.json and the models; a second run there trains only what is missing.",
)
@click.option(
    "--latency/--no-latency", default=True, help="Whether to measure through the service.  [default: measure]"
)
@click.option("--rate", type=click.FloatRange(1), default=300.0, show_default=True, help="Requests a second.")
@click.option("--duration", type=click.FloatRange(1), default=2.0, show_default=True, help="Seconds a model and round.")
@click.option("--rounds", type=click.IntRange(1), default=4, show_default=True, help="Turns of every model.")
@json_option
def command(
    data: str,
    features_file: Path | None,
    rows: tuple[float, float],
    learners: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    latency: bool,
    rate: float,
    duration: float,
    rounds: int,
    as_json: bool,
) -> int:
    """Train the whole ladder of models on one log and write one page: what each knows, what it costs, which to choose.

    The first four fifths of the rows train, the last fifth judges. Latency is that of 100 candidates through the real
    service with an embedded store; run it on an idle machine.
    """
    from feature_store.clock import system_clock
    from loadtest.machine import read_commit, read_machine
    from models.comparing.front import standings
    from models.comparing.judging import judge
    from models.comparing.page import render_page, report_of
    from models.registry.files import write_over
    from service.comparing import TRAIN_SHARE, claim, scored, train_ladder
    from service.jobs import read_frame
    from service.product_version import product_version

    claim(out)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        frame = read_frame(data, features_file, out / "work", on_progress)
        asked = frame.part(*rows)
        fit, judged = asked.part(0, TRAIN_SHARE), asked.part(TRAIN_SHARE, 1)
        trained, left_out = train_ladder(fit, learners, seeds, source=data, out=out, on_progress=on_progress)
        ladder = judge(judged, scored(trained, judged, out, on_progress), on_progress)
        machine = read_machine()
        load, why_not = None, "it was switched off (--no-latency)"
        if latency:
            ladder, load, why_not = _with_latency(ladder, frame, out, Load(rate, duration, rounds), on_progress)
        report = report_of(
            ladder,
            standings(ladder),
            created_ms=system_clock(),
            product=product_version(),
            commit=read_commit(),
            source=data,
            rows=rows,
            seeds=seeds,
            trained_on=len(fit),
            trained_on_clicks=int(fit.clicked.sum()),
            left_out=tuple(left_out),
            machine=msgspec.to_builtins(machine),
            load=load,
            why_no_latency=why_not,
        )
        page, figures = out / "compare.html", out / "compare.json"
        write_over(page, render_page(report).encode())
        write_over(figures, msgspec.json.format(msgspec.json.encode(report)))
    rejected = {"log": frame.log.rejects, **frame.table_rejects}
    say_rejects(console, rejected)
    document = msgspec.to_builtins(report, str_keys=True) | {"html": str(page), "json": str(figures)}
    console.result(document | rejects_document(rejected), lambda screen: show_ladder(screen, report, page))
    return 0


def _with_latency(
    ladder: Ladder, frame: TrainingFrame, out: Path, load: Load, on_progress: OnProgress
) -> tuple[Ladder, dict[str, Any] | None, str]:
    """The ladder with the latency of every model, and how it was measured; or why it was not.

    What hinders measuring (no ads to rank, a store that does not start, a load that fails) must not throw away hours of
    training: it becomes a sentence on the page.
    """
    from feature_store.errors import FeatureStoreError
    from loadtest.errors import LoadTestError
    from service.errors import ServiceError
    from service.jobs import materialize_views
    from service.log_workload import write_workload
    from service.settings_origins import load_settings

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
    from loadtest.bench import BenchOptions, run_bench
    from service.comparing import registry_of
    from service.errors import StartError
    from service.own_service import own_service

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
    from models.comparing.figures import Latency

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
