"""`clickserve bench`: load a running service at one rate, judge it, and write a report that a person can read."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service import exit_codes
from service.commands.options import FiniteRange, config_option, json_option
from service.console import Console, Screen, key_value_table
from service.lazy_group import LazyGroup
from service.terminal_text import say_error

if TYPE_CHECKING:
    from loadtest.bench import BenchResult
    from loadtest.sweep import Sweep


COMMANDS = {
    "compare": ("service.commands.bench_compare", "Two reports: is the second one slower? Exit 3 if so."),
    "turns": ("service.commands.bench_turns", "Two services in turns of a second: is the second one slower?"),
    "suite": ("service.commands.bench_suite", "Measure beside other servers; --suite is the same."),
    "serve-workload": ("service.commands.serve_workload", "Build and serve the workload of the published figures."),
}


class Rates(click.ParamType[tuple[float, ...]]):
    """Rates with commas between them: `500,1000,2000`."""

    name = "rates"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list such as 500,1000,2000", param, ctx)
        if not all(1 <= rate < float("inf") for rate in rates):
            self.fail(f"{value!r}: a rate is a number of requests a second, at least 1", param, ctx)
        return rates


class _BenchGroup(LazyGroup):
    """Takes `bench --suite …` for `bench suite …`: what follows are options of the suite, not of one measurement."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["suite", *args[1:]] if args[:1] == ["--suite"] else args)


@click.command("bench", cls=_BenchGroup, table=COMMANDS, invoke_without_command=True)
@click.option("--url", help="A running service; without it one is started with --config, and stopped afterwards.")
@config_option
@click.option(
    "--workload",
    "workload_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Which requests to send; workload.json beside --config where absent.",
)
@click.option("--engine", type=click.Choice(["open-loop", "locust", "both"]), default="both", show_default=True)
@click.option("--rate", type=FiniteRange(1), default=500.0, show_default=True, help="Requests a second.")
@click.option("--duration", type=FiniteRange(1), default=20.0, show_default=True, help="Measured time per engine.")
@click.option("--warmup", type=FiniteRange(0), default=2.0, show_default=True, help="Seconds before that.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/bench"),
    show_default=True,
    help="Folder for report.html and report.json.",
)
@click.option("--cpu", type=click.IntRange(0), help="Core for the load generator; the kernel chooses where absent.")
@click.option("--sweep", is_flag=True, help="Also raise the rate until the service cannot keep up; about two minutes.")
@click.option("--rates", type=Rates(), default=(), metavar="R,R,…", help="Sweep these rates instead of finding them.")
@click.option("--sweep-duration", type=FiniteRange(1), default=5.0, show_default=True, help="Measured time per rate.")
@click.option(
    "--budgets",
    "budgets_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What you promise, in the form of loadtest/budgets.toml, which is used where absent.",
)
@click.option(
    "--metrics-url", help="The service's /metrics, to show where its time goes; known where it is started here."
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    url: str | None,
    config_file: Path | None,
    workload_file: Path | None,
    engine: Any,
    rate: float,
    duration: float,
    warmup: float,
    out: Path,
    cpu: int | None,
    sweep: bool,
    rates: tuple[float, ...],
    sweep_duration: float,
    budgets_file: Path | None,
    metrics_url: str | None,
    as_json: bool,
) -> int:
    """Measure latency from the scheduled arrival, judge it against your budgets, write HTML and JSON.

    With --sweep also: up to which rate the service keeps its promise, and what it does beyond.

    Exit 0 if every budget was kept, 1 if one was broken or the generator was too late for the run to be judged.
    """
    if context.invoked_subcommand is not None:
        return 0
    from loadtest.bench import BenchOptions, run_bench
    from loadtest.budgets import DEFAULT_BUDGETS
    from loadtest.errors import LoadTestError
    from service.bench_outcomes import exit_code_of
    from service.own_service import OwnService, own_service

    if url is None and config_file is None:
        raise click.UsageError("name a running service with --url, or a configuration to start one with --config")
    if workload_file is None:
        beside = config_file.parent / "workload.json" if config_file else None
        if beside is None or not beside.exists():
            raise click.UsageError("which requests? name a workload file with --workload (see loadtest/README.md)")
        workload_file = beside
    out.mkdir(parents=True, exist_ok=True)
    console = Console(json_only=as_json)
    service = nullcontext(OwnService(url, ())) if url else own_service(_given(config_file), out / "service.log")
    try:
        with service as running, console.progress() as on_progress:
            result = run_bench(
                BenchOptions(
                    url=running.url,
                    workload_path=workload_file,
                    out_dir=out,
                    rate_per_s=rate,
                    duration_s=duration,
                    warmup_s=warmup,
                    engine=engine,
                    cpu=cpu,
                    server_pids=running.pids,
                    metrics_url=metrics_url or running.metrics_url,
                    budgets_path=budgets_file or DEFAULT_BUDGETS,
                    sweep=sweep or bool(rates),
                    sweep_rates_per_s=rates,
                    sweep_s=sweep_duration,
                ),
                on_progress,
            )
    except LoadTestError as error:
        say_error(error)
        return exit_code_of(error)
    console.result(described(result), lambda screen: show(screen, result))
    return 0 if result.passed else exit_codes.FAILURE


def described(result: BenchResult) -> dict[str, Any]:
    """The figures of a bench as a plain document: verdict, then one entry an engine."""
    engines = {
        measured.result.engine.replace("-", "_"): {
            "n": measured.result.latency.n,
            "p50_ms": measured.result.latency.p50_ms,
            "p90_ms": measured.result.latency.p90_ms,
            "p99_ms": measured.result.latency.p99_ms,
            "p999_ms": measured.result.latency.p999_ms,
            "max_ms": measured.result.latency.max_ms,
            "requests": measured.result.n_requests,
            "errors": measured.result.errors,
        }
        for measured in result.report.measured
    }
    return {
        "passed": result.passed,
        "outcome": result.verdict.outcome,
        "verdict": result.verdict.headline,
        "html": str(result.html_path),
        "json": str(result.json_path),
        **engines,
        **({"sweep": _described_sweep(result.report.sweep)} if result.report.sweep else {}),
    }


def _described_sweep(sweep: Sweep) -> dict[str, Any]:
    kept = sweep.highest_kept
    return {
        "highest_kept_per_s": kept.rate_per_s if kept else None,
        "ended_by": sweep.ended_by,
        "points": [
            {
                "rate_per_s": point.rate_per_s,
                "goodput_per_s": point.goodput_per_s,
                "p50_ms": point.result.latency.p50_ms,
                "p99_ms": point.result.latency.p99_ms,
                "shed_share": point.shed_share,
                "kept": point.kept,
                "generator_late": point.late,
            }
            for point in sweep.points
        ],
    }


def show(screen: Screen, result: BenchResult) -> None:
    """The verdict and a line per engine."""
    from loadtest.statuses import failures_in_words
    from loadtest.words import sweep_in_short

    rows = {"verdict": result.verdict.headline}
    for measured in result.report.measured:
        latency = measured.result.latency
        rows[measured.result.engine] = (
            f"p50 {_ms(latency.p50_ms)}, p99 {_ms(latency.p99_ms)}, "
            f"p99.9 {_ms(latency.p999_ms)} of {latency.n} requests; "
            f"{failures_in_words([measured.result]) or 'no errors'}"
        )
    sweep = result.report.sweep
    if sweep is not None:
        rows["sweep"] = sweep_in_short(sweep)
    rows["report"] = str(result.html_path)
    screen.print(key_value_table("load test", rows))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _given(config_file: Path | None) -> Path:
    if config_file is None:
        raise click.UsageError("name a configuration with --config")
    return config_file
