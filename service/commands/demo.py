"""`clickserve demo`: the whole chain on one machine, each link the real one.

    click log → features as of each impression → two learners → calibration → ONNX → proof → registry
              → rows in Redis → the service → a load test of it

Everything lands in one folder: log, registry with model cards, configuration, workload, load report. `clickserve serve
--config FOLDER/clickserve.toml` serves what was made.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from models.registry.files import write_over
from service.commands import bench as bench_command
from service.commands.options import FiniteRange, json_option
from service.console import Console, OnProgress, Screen, key_value_table
from service.log_workload import write_workload

if TYPE_CHECKING:
    from loadtest.bench import BenchResult
    from models.logs.frame import TrainingFrame
    from models.registry.registry import Published
    from service.measuring import Measured

MARKER = "demo.json"
"""Holds the last run's figures; a folder without it was not made by a demo and is not touched."""

OWN = ("log", "work", "registry", "report")
"""Folders inside the demo's that every run makes anew. Stored rows stay: another process may be serving them."""

TRAIN_SHARE = {"simulated": 0.8, "movielens": 0.75}
SHOWN = ("auc", "normalized_entropy", "calibration_ratio")


@dataclass(frozen=True, slots=True)
class Contender:
    """One published model of the demo, measured on the impressions after its training."""

    title: str
    published: Published
    measured: Measured


@click.command("demo")
@click.option("--data", type=click.Choice(["simulated", "movielens"]), default="simulated", show_default=True)
@click.option("--impressions", type=click.IntRange(50_000), default=500_000, show_default=True, help="To simulate.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".clickserve/demo"),
    show_default=True,
    help="Folder for everything that is made.",
)
@click.option("--rate", type=FiniteRange(1), default=500.0, show_default=True, help="Load-test requests a second.")
@click.option("--duration", type=FiniteRange(1), default=10.0, show_default=True, help="Seconds per load generator.")
@json_option
def command(data: str, impressions: int, seed: int, out: Path, rate: float, duration: float, as_json: bool) -> int:
    """Run the chain from click logs to a load-tested ranked answer, and print what came out."""
    from service.settings_origins import load_settings

    _prepare(out)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        frame, spec = _log(data, impressions, seed, out, on_progress)
        contenders = _contenders(frame, spec, data, seed, out, on_progress)
        config_file = _write_config(out)
        settings = load_settings(config_file, os.environ, {})
        _materialize(frame, contenders[0].published, settings, out, on_progress)
        write_workload(frame, out / "workload.json", seed)
        result = _load_test(config_file, out, rate, duration, on_progress)
    document = {
        "models": [_described(contender) for contender in contenders],
        "bench": bench_command.described(result),
        "config": str(config_file),
    }
    write_over(out / MARKER, f"{json.dumps(document, indent=2)}\n".encode())
    console.result(document, lambda screen: _show(screen, contenders, result, config_file))
    return 0


def _prepare(out: Path) -> None:
    """Clears what an earlier demo made, and nothing else."""
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise click.UsageError(f"{out} is not empty and was not made by a demo; name another folder with --out")
    for name in OWN:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("{}\n")


def _log(data: str, impressions: int, seed: int, out: Path, on_progress: OnProgress) -> tuple[TrainingFrame, str]:
    from models.logs.simulator import SIM_V1, simulate
    from service.training_jobs import read_frame

    spec = "movielens:"
    if data == "simulated":
        simulate(SIM_V1, n_impressions=impressions, seed=seed, out_dir=out / "log", on_progress=on_progress)
        spec = f"simulated:{out / 'log'}"
    return read_frame(spec, None, out / "work", on_progress), spec


def _contenders(
    frame: TrainingFrame, spec: str, data: str, seed: int, out: Path, on_progress: OnProgress
) -> list[Contender]:
    """Both learners on all features; on real ratings also the trees without history, to show what history is worth."""
    from models.logs.frame import build_frame
    from models.logs.presets import preset
    from models.registry.registry import Registry
    from models.training import TrainOptions
    from service.measuring import measure
    from service.training_jobs import train_and_publish

    cut = TRAIN_SHARE[data]
    wanted = [("GBDT", "gbdt", frame, "default"), ("logistic", "logistic", frame, "default")]
    if data == "movielens":
        static = build_frame(frame.log, preset("movielens_static"), on_progress=on_progress)
        wanted.append(("GBDT, static features only", "gbdt", static, "static"))
    contenders = []
    for title, learner, columns, name in wanted:
        registry = Registry(out / "registry", name)
        published = train_and_publish(
            columns.part(0, cut),
            learner=learner,
            registry=registry,
            source=spec,
            options=TrainOptions(),
            seed=seed,
            on_progress=_titled(on_progress, title),
        )
        contenders.append(Contender(title, published, measure(registry.load(published.version), columns.part(cut, 1))))
    return contenders


def _titled(on_progress: OnProgress, title: str) -> OnProgress:
    """The same progress with the model's name before each stage."""
    return lambda text, fraction: on_progress(f"{title}: {text}", fraction)


def _write_config(out: Path) -> Path:
    """A configuration whose paths are relative to itself, so that the folder can be moved."""
    path = out / "clickserve.toml"
    workers = 2 if (os.cpu_count() or 1) >= 4 else 1
    path.write_text(
        "# Written by clickserve demo. Serve it with: clickserve serve --config FILE\n"
        f"[server]\nworkers = {workers}\n\n"
        '[registry]\ndir = "registry"\n\n'
        '[redis]\nembedded_dir = "valkey"\n\n'
        '[items]\nsnapshot_dir = "items"\n'
    )
    return path


def _materialize(frame: TrainingFrame, published: Published, settings: Any, out: Path, on_progress: OnProgress) -> None:
    """Rows of every view the model reads, as known at the end of the log."""
    from service.materializing import materialize_views

    views = published.manifest.inputs.views
    materialize_views(
        frame.log.project, views, frame.log, settings, time="log-end", workdir=out / "work", on_progress=on_progress
    )


def _load_test(config_file: Path, out: Path, rate: float, duration: float, on_progress: OnProgress) -> BenchResult:
    from loadtest.bench import BenchOptions, run_bench
    from service.own_service import own_service

    on_progress("starting the service", 0.0)
    (out / "report").mkdir(exist_ok=True)
    with own_service(config_file, out / "report" / "service.log") as service:
        return run_bench(
            BenchOptions(
                url=service.url,
                workload_path=out / "workload.json",
                out_dir=out / "report",
                rate_per_s=rate,
                duration_s=duration,
                engine="both",
                server_pids=service.pids,
                metrics_url=service.metrics_url,
            ),
            on_progress,
        )


def _described(contender: Contender) -> dict[str, Any]:
    return {
        "title": contender.title,
        "learner": contender.published.manifest.learner,
        "version": contender.published.version,
        "card": str(contender.published.path / "card.html"),
        **contender.measured.document(),
    }


def _show(screen: Screen, contenders: list[Contender], result: BenchResult, config_file: Path) -> None:
    screen.print(_quality(contenders))
    bench_command.show(screen, result)
    rows = {f"card of {contender.title}": str(contender.published.path / "card.html") for contender in contenders}
    screen.print(key_value_table("what was made", rows))
    screen.print("serve it", style="italic")
    command = shlex.join([as_typed(), "serve", "--config", str(config_file)])
    screen.print(command, soft_wrap=True)  # one line, to be copied


def as_typed() -> str:
    """This program, as the shell that started it finds it: `make demo` runs one that is not on its path."""
    program = Path(sys.executable).with_name("clickserve")
    return "clickserve" if shutil.which("clickserve") == str(program) else os.path.relpath(program)


def _quality(contenders: list[Contender]) -> Table:
    """Models beside the oracles, all on the same later impressions."""
    first = contenders[0].measured.evaluation.metrics["auc"]
    table = Table(
        title=f"on the {first.n:,} impressions after training, {first.clicks:,} clicked [95 % intervals]", box=None
    )
    table.title_justify = "left"
    for heading in ("model", "AUC", "NE", "promised / seen clicks", "share of attainable NE gain"):
        table.add_column(heading)
    for contender in contenders:
        metrics, oracles = contender.measured.evaluation.metrics, contender.measured.oracles
        table.add_row(
            contender.title,
            *(_figure(metrics[name]) for name in SHOWN),
            _figure(oracles.share_of_attainable_gain) if oracles else "-",
        )
    oracles = contenders[0].measured.oracles
    if oracles is not None:
        for title, figures in (("what serving could know", oracles.attainable), ("the truth", oracles.true)):
            table.add_row(
                title,
                *(_figure(figures[name]) for name in SHOWN),
                "",
            )
    return table


def _figure(interval: Any) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
