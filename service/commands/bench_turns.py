"""`clickserve bench turns A B`: two services under one generator, second by second in turns. Exit 3 if B is slower."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service import exit_codes
from service.commands.options import FiniteRange, json_option, tolerance_option
from service.console import Console
from service.terminal_text import say_error

if TYPE_CHECKING:
    from loadtest.bench_turns import Service
    from service.own_service import OwnService


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured: a service that runs at an URL, or the code of a checkout, which is started for it."""

    url: str | None
    pids: tuple[int, ...]
    checkout: Path | None
    folder: Path
    """For its reports and its log."""


@click.command("turns")
@click.argument("a")
@click.argument("b")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="clickserve.toml that checkouts are started with.",
)
@click.option(
    "--workload",
    "workload_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Which requests to send; workload.json beside --config where absent.",
)
@click.option("--rate", type=FiniteRange(1), default=1000.0, show_default=True, help="Requests a second.")
@click.option("--turns", "n_turns", type=click.IntRange(1), default=40, show_default=True, help="Of each.")
@click.option(
    "--turn",
    "turn_s",
    type=FiniteRange(0.1, 10),
    default=1.0,
    show_default=True,
    help="Seconds of a turn; a p99 needs 100 requests in each.",
)
@click.option(
    "--starts", type=click.IntRange(1), default=1, show_default=True, help="Start both anew so often, --turns each."
)
@click.option("--warmup", type=FiniteRange(0), default=2.0, show_default=True, help="Seconds for each before.")
@click.option("--cpu", type=click.IntRange(0), help="Core for the load generator; the kernel chooses where absent.")
@click.option("--server-cpu", type=click.IntRange(0), help="Core for the services that are started here.")
@click.option("--pid-a", type=click.IntRange(1), multiple=True, help="Process of A where A is an URL; may be repeated.")
@click.option("--pid-b", type=click.IntRange(1), multiple=True, help="The same of B; without them CPU is not compared.")
@click.option(
    "--budgets",
    "budgets_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What you promise, in the form of loadtest/budgets.toml, which is used where absent.",
)
@tolerance_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/turns"),
    show_default=True,
    help="Folder for compare.html and compare.json; the reports of each replace those in its a/ and b/.",
)
@json_option
def command(
    a: str,
    b: str,
    config_file: Path | None,
    workload_file: Path | None,
    rate: float,
    n_turns: int,
    turn_s: float,
    starts: int,
    warmup: float,
    cpu: int | None,
    server_cpu: int | None,
    pid_a: tuple[int, ...],
    pid_b: tuple[int, ...],
    budgets_file: Path | None,
    tolerance: float,
    out: Path,
    as_json: bool,
) -> int:
    """Measure A and B in turns of a second or --turn under the same load, then compare them as `bench compare` does.

    A and B are each the URL of a running service, or a folder with a checkout: its code is started with --config. What
    disturbs the machine longer than a second disturbs both, so a minute and a half finds a fifth more CPU time.

    Exit 0 no regression, 1 nothing could be compared, 3 a figure is slower or more requests failed.
    """
    from loadtest.bench_turns import TurnsOptions, run_bench_in_turns
    from loadtest.budgets import DEFAULT_BUDGETS
    from loadtest.comparing.page import document, write_page
    from loadtest.comparing.sides import read_side
    from loadtest.comparing.turns import LEAST_PAIRS
    from loadtest.comparing.verdict import compare
    from loadtest.errors import LoadTestError
    from service.bench_outcomes import exit_code_of, show_comparison

    sides = _side("A", a, pid_a, out / "a"), _side("B", b, pid_b, out / "b")
    _refuse_contradictions(sides, config_file, starts, server_cpu)
    if n_turns * starts < LEAST_PAIRS:
        raise click.UsageError(
            f"{n_turns * starts} turns of each are too few to compare, at least {LEAST_PAIRS}: --turns"
        )
    workload_file = _workload(workload_file, config_file)
    _forget_reports(sides)
    console = Console(json_only=as_json)
    try:
        with console.progress() as on_progress:
            for start in range(starts):

                def tell(text: str, fraction: float, start: int = start) -> None:
                    on_progress("in turns | " + _of(text, start, starts), (start + fraction) / starts)

                folders = [side.folder / str(start + 1) if starts > 1 else side.folder for side in sides]
                with ExitStack() as stack:
                    tell("services are started", 0.0)
                    running = _started(stack, sides, folders, config_file, server_cpu, first=start % 2)
                    run_bench_in_turns(
                        TurnsOptions(
                            a=_described(sides[0], running[0], folders[0]),
                            b=_described(sides[1], running[1], folders[1]),
                            workload_path=workload_file,
                            rate_per_s=rate,
                            n_turns=n_turns,
                            turn_s=turn_s,
                            warmup_s=warmup,
                            cpu=cpu,
                            budgets_path=budgets_file or DEFAULT_BUDGETS,
                            seed=7 + start,
                        ),
                        tell,
                    )
        comparison = compare(*(read_side(side.folder) for side in sides), tolerance=tolerance)
    except LoadTestError as error:
        say_error(error)
        return exit_code_of(error)
    described: dict[str, Any] = {**document(comparison), "html": str(write_page(comparison, out))}
    console.result(described, lambda screen: show_comparison(screen, described))
    return exit_codes.GATE if comparison.regressed else 0


def _side(name: str, given: str, pids: tuple[int, ...], folder: Path) -> Side:
    if "://" in given:
        return Side(given, pids, None, folder)
    checkout = Path(given)
    if not (checkout / "service" / "__main__.py").is_file():
        raise click.UsageError(
            f"{name} is {given!r}: neither an URL such as http://127.0.0.1:8080 nor a folder with a checkout "
            "(service/__main__.py is not in it)"
        )
    if pids:
        raise click.UsageError(f"--pid-{name.lower()}: {name} is a checkout, whose processes are known; leave it out")
    return Side(None, (), checkout, folder)


def _refuse_contradictions(
    sides: tuple[Side, Side], config_file: Path | None, starts: int, server_cpu: int | None
) -> None:
    if config_file is None and any(side.checkout for side in sides):
        raise click.UsageError("a checkout is started with a configuration: name it with --config")
    if any(side.url for side in sides):
        if starts > 1:
            raise click.UsageError("--starts: a service named by its URL runs already; name checkouts, or leave it out")
        if server_cpu is not None:
            raise click.UsageError("--server-cpu: pin a service named by its URL yourself, and the other one alike")


def _workload(workload_file: Path | None, config_file: Path | None) -> Path:
    beside = config_file.parent / "workload.json" if config_file else None
    if workload_file is not None:
        return workload_file
    if beside is None or not beside.exists():
        raise click.UsageError("which requests? name a workload file with --workload (see loadtest/README.md)")
    return beside


def _forget_reports(sides: tuple[Side, Side]) -> None:
    """Reports of an earlier measurement into the same folder would be taken for rounds of this one."""
    for side in sides:
        side.folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("report.json", "report.html", "*/report.json", "*/report.html"):
            for report in side.folder.glob(pattern):
                report.unlink()


def _of(text: str, start: int, starts: int) -> str:
    return f"start {start + 1} of {starts}: {text}" if starts > 1 else text


def _started(
    stack: ExitStack,
    sides: tuple[Side, Side],
    folders: list[Path],
    config_file: Path | None,
    server_cpu: int | None,
    *,
    first: int,
) -> list[OwnService]:
    """Both, running until `stack` is left. The first to be started owns an embedded store; each is now and then."""
    from loadtest.pinning import pin_threads_to_cpu

    running: dict[int, OwnService] = {}
    for place in (first, 1 - first):
        running[place] = stack.enter_context(_service(sides[place], folders[place], config_file))
        if server_cpu is not None:
            pin_threads_to_cpu(running[place].pids, server_cpu)
    return [running[0], running[1]]


def _service(side: Side, folder: Path, config_file: Path | None) -> AbstractContextManager[OwnService]:
    from service.own_service import OwnService, own_service

    if side.url is not None:
        return nullcontext(OwnService(side.url, side.pids))
    assert config_file is not None
    folder.mkdir(parents=True, exist_ok=True)
    return own_service(config_file, folder / "service.log", checkout=side.checkout)


def _described(side: Side, running: OwnService, folder: Path) -> Service:
    from loadtest.bench_turns import Service
    from loadtest.machine import read_commit

    commit = "not known" if side.checkout is None else read_commit(side.checkout)
    return Service(running.url, commit, folder, running.pids, running.metrics_url)
