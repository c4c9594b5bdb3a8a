"""`clickserve compare`: every learner on one log, what each knows and costs, and one page that says which to choose."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from models.trainers import LEARNERS
from service.commands.options import FiniteRange, data_option, features_option, json_option, rows_option
from service.console import Console
from service.ladder_table import show_ladder
from service.rejected_rows import rejects_document, rejects_of, rejects_said


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
@click.option("--rate", type=FiniteRange(1), default=300.0, show_default=True, help="Requests a second.")
@click.option("--duration", type=FiniteRange(1), default=2.0, show_default=True, help="Seconds a model and round.")
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
    from loadtest.whole_files import write_whole
    from models.comparing.front import standings
    from models.comparing.judging import judge
    from models.comparing.page import render_page, report_of
    from service.comparing import TRAIN_SHARE, claim, scored, train_ladder
    from service.ladder_latency import Load, with_latency
    from service.product_version import product_version
    from service.training_jobs import read_frame

    claim(out)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        frame = read_frame(data, features_file, out / "work", on_progress)
        with rejects_said(console, rejects_of(frame)) as rejected:
            asked = frame.part(*rows)
            fit, judged = asked.part(0, TRAIN_SHARE), asked.part(TRAIN_SHARE, 1)
            trained, left_out = train_ladder(fit, learners, seeds, source=data, out=out, on_progress=on_progress)
            ladder = judge(judged, scored(trained, judged, out, on_progress), on_progress)
            machine = read_machine()
            load, why_not = None, "it was switched off (--no-latency)"
            if latency:
                ladder, load, why_not = with_latency(ladder, frame, out, Load(rate, duration, rounds), on_progress)
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
            write_whole({page: render_page(report), figures: msgspec.json.format(msgspec.json.encode(report))})
    document = msgspec.to_builtins(report, str_keys=True) | {"html": str(page), "json": str(figures)}
    console.result(document | rejects_document(rejected), lambda screen: show_ladder(screen, report, page))
    return 0
