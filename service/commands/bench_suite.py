"""`clickserve bench --suite`: this service beside other servers doing the same work, in one run on one machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from service import exit_codes
from service.commands.options import json_option
from service.console import Console, Screen
from service.reference_workload.parameters import WorkloadParameters
from service.terminal_text import say_error

if TYPE_CHECKING:
    from loadtest.suite.cores import Cores
    from loadtest.suite.results import SuiteResult
    from loadtest.suite.servers import ServerPlan
    from service.reference_workload.build import Place

OWN_NAME, ECHO = "clickserve", "echo"
REDIS_NAMES = ("REDIS_URL", "CLICKSERVE_REDIS__URL", "CLICKSERVE_REDIS__URL_FILE")
"""What would overrule the workload's configuration, which names the Redis that holds its rows."""


@click.command("suite")
@click.option("--quick", is_flag=True, help="Two minutes once the workload is built: for a look.")
@click.option("--users", type=click.IntRange(1), default=100_000, show_default=True, help="Users of the workload.")
@click.option("--ads", type=click.IntRange(1), default=10_000, show_default=True, help="Ads of the workload.")
@click.option("--model", "learner", type=click.Choice(["gbdt", "logistic"]), default="gbdt", show_default=True)
@click.option("--trees", type=click.IntRange(1), default=200, show_default=True)
@click.option("--candidates", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Of each request.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder of the workload.")
@click.option("--redis", "redis_url", help="Where the rows are; an embedded server in the folder where absent.")
@click.option("--only", multiple=True, help="Measure beside this baseline only (repeat for more); all where absent.")
@click.option("--no-pin", is_flag=True, help="Leave the cores to the kernel: for machines with one, or for a try.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/suite"),
    show_default=True,
    help="Folder for suite.html, suite.json and the servers' logs.",
)
@click.option(
    "--write",
    "document",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the figures as Markdown into this file, and its drawings beside it.",
)
@click.option(
    "--from",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: draw the pages of this suite.json anew.",
)
@json_option
def command(
    quick: bool,
    users: int,
    ads: int,
    learner: Any,
    trees: int,
    candidates: int,
    folder: Path | None,
    redis_url: str | None,
    only: tuple[str, ...],
    no_pin: bool,
    out: Path,
    document: Path | None,
    recorded: Path | None,
    as_json: bool,
) -> int:
    """Measure throughput, latency under load, saturation and cost per candidate beside loadtest/baselines.

    The server gets one core; the load generator and Redis share another. Every server's probabilities are checked
    before its speed. The first run builds the workload, which takes about a minute more.
    """
    from loadtest.errors import LoadTestError
    from loadtest.suite.cores import choose_cores, no_cores
    from loadtest.suite.pages import read_result, write_document, write_report
    from service.reference_workload.build import Place, build
    from service.settings_origins import load_settings

    if candidates > ads:
        raise click.UsageError(f"--candidates {candidates} of only --ads {ads}: a request names each ad once")
    console = Console(json_only=as_json)
    try:
        if recorded is not None:
            result = read_result(recorded)
        else:
            cores = no_cores() if no_pin else choose_cores()
            parameters = WorkloadParameters(users, ads, learner, trees)
            named_url = load_settings(None, os.environ, {"redis.url": redis_url}).redis.url
            place = Place(folder or Path(".clickserve/workload") / parameters.digest, named_url or None)
            with console.progress() as on_progress:
                build(place, parameters, candidates, on_progress)
            result = _measure(place, cores, only, quick, out, console)
        report = write_report(result, out)
        if document is not None:
            write_document(result, document)
    except LoadTestError as error:
        say_error(error)
        return exit_codes.FAILURE
    console.result({"html": str(report), **described(result)}, lambda screen: show(screen, result, report))
    return 0


def _measure(
    place: Place, cores: Cores, only: tuple[str, ...], quick: bool, out: Path, console: Console
) -> SuiteResult:
    from loadtest.suite.plan import FULL, QUICK
    from loadtest.suite.run import SuiteOptions, run_suite
    from loadtest.suite.variants import read_variants

    ours = _own_plan(place)
    baselines = _baseline_plans(place.folder, only)
    variants = [
        replace(
            ours,
            name=variant.name,
            says=variant.says,
            role="variant",
            command=(*ours.command, *variant.arguments),
            environment={**ours.environment, **variant.environment},
        )
        for variant in ([] if quick else read_variants())
    ]
    with _pinned_redis(place, cores.client) as redis_pids:
        return run_suite(
            SuiteOptions(
                plan=QUICK if quick else FULL,
                subject=ours,
                echo=next(plan for plan in baselines if plan.name == ECHO),
                baselines=tuple(plan for plan in baselines if plan.name != ECHO),
                variants=tuple(variants),
                workload_path=place.folder / "workload.json",
                out_dir=out,
                cores=cores,
                redis_pids=redis_pids,
            ),
            console.say,
        )


def _own_plan(place: Place) -> ServerPlan:
    """`clickserve serve` as it is deployed, with one worker."""
    from loadtest.suite.servers import ServerPlan

    serve = (sys.executable, "-m", "service", "serve", "--config", str(place.config), "--port", "{port}")
    return ServerPlan(
        name=OWN_NAME,
        says="this service as it is deployed: metrics, request ids, admission and deadlines on; one worker",
        command=(*serve, "--workers", "1"),
        role="subject",
        environment=dict.fromkeys(REDIS_NAMES),
    )


def _baseline_plans(folder: Path, only: tuple[str, ...]) -> list[ServerPlan]:
    """The echo server and the wanted baselines.

    Raises:
        click.UsageError: there is no such baseline.
    """
    from loadtest.suite.baseline_plans import baseline_plans

    plans = baseline_plans(folder)
    unknown = sorted(set(only) - {plan.name for plan in plans})
    if unknown:
        known = ", ".join(sorted(plan.name for plan in plans))
        raise click.UsageError(f"--only {unknown[0]}: no such baseline; there are {known}")
    return [plan for plan in plans if not only or plan.name in only or plan.name == ECHO]


@contextmanager
def _pinned_redis(place: Place, core: int | None) -> Iterator[tuple[int, ...]]:
    """The embedded server of the workload's folder on the client's core; a Redis of the caller's stays where it is."""
    from feature_store.online.embedded import EmbeddedServer
    from loadtest.pinning import pin_to_cpu

    if place.redis_url is not None:
        yield ()
        return
    with EmbeddedServer(place.folder / "valkey") as server:
        pids = () if server.pid is None else (server.pid,)
        for pid in pids:
            if core is not None:
                pin_to_cpu(pid, core)
        yield pids


def described(result: SuiteResult) -> dict[str, Any]:
    """The closed-loop figures as a plain document; everything else is in suite.json."""
    from loadtest.suite.closed_rounds import per_s, ratio

    servers = {}
    for server in result.servers:
        rate, to_echo = per_s(result.closed, server.name), ratio(result.closed, server.name, result.echo)
        servers[server.name] = {
            "requests_per_s": rate.median if rate else None,
            "of_echo": to_echo.median if to_echo else None,
        }
    return {"servers": servers, "absent": {absent.name: absent.reason for absent in result.absent}}


def show(screen: Screen, result: SuiteResult, report: Path) -> None:
    """A line per server, and where the whole of it lies."""
    table = Table("server", "requests/s", "of echo", box=None, pad_edge=False)
    for name, figures in described(result)["servers"].items():
        rate, of_echo = figures["requests_per_s"], figures["of_echo"]
        table.add_row(name, "-" if rate is None else f"{rate:,.0f}", "-" if of_echo is None else f"{of_echo:.3f}")
    screen.print(table)
    screen.print(f"report: {report}")
