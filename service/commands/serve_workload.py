"""`clickserve bench serve-workload`: the reference workload, built where it is missing, served in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from service.commands.options import json_option
from service.console import Console, key_value_table

REDIS_NAMES = ("REDIS_URL", "CLICKSERVE_REDIS__URL", "CLICKSERVE_REDIS__URL_FILE")
"""What would overrule the configuration of the workload, which names the Redis that holds its rows."""


@click.command("serve-workload")
@click.option("--users", type=click.IntRange(1), default=100_000, show_default=True, help="Users with rows in Redis.")
@click.option("--ads", type=click.IntRange(1), default=10_000, show_default=True, help="Ads with rows in Redis.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0 picks a free one.")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="For /metrics; 0 picks a free one.",
)
@click.option("--redis", "redis_url", help="Where the rows go; an embedded server in the folder where absent.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the built workload.  [default: .clickserve/workload/ and a name made of the parameters]",
)
@click.option("--model", "learner", type=click.Choice(["gbdt", "logistic"]), default="gbdt", show_default=True)
@click.option("--trees", type=click.IntRange(1), default=200, show_default=True, help="Exactly so many.")
@click.option("--leaves", type=click.IntRange(2, 64), default=31, show_default=True, help="Of each tree.")
@click.option("--candidates", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Of each request.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that score.")
@click.option("--build-only", is_flag=True, help="Build, say what was built, and stop.")
@json_option
def command(
    users: int,
    ads: int,
    port: int,
    admin_port: int,
    redis_url: str | None,
    folder: Path | None,
    learner: Any,
    trees: int,
    leaves: int,
    candidates: int,
    seed: int,
    workers: int,
    build_only: bool,
    as_json: bool,
) -> int:
    """Build the workload that every published latency speaks of, and serve it, so that any load generator can ask.

    100 000 users with 20 numbers, 10 000 ads with 16, 4 context values, 200 trees of 31 leaves; ids u0…, a0…, context
    keys c0 … c3 with numbers from -2 to 2. The folder gets workload.json (the requests, for clickserve bench) and
    baseline.json (all that another server needs to answer them). Building takes less than a minute, and only once.
    """
    from service.reference_workload.build import Place, build
    from service.reference_workload.parameters import WorkloadParameters
    from service.settings_origins import load_settings

    if candidates > ads:
        raise click.UsageError(f"--candidates {candidates} of only --ads {ads}: a request names each ad once")
    parameters = WorkloadParameters(users, ads, learner, trees, leaves, seed)
    named_url = load_settings(None, os.environ, {"redis.url": redis_url}).redis.url
    place = Place(folder or Path(".clickserve/workload") / parameters.digest, named_url or None)
    console = Console(json_only=as_json)
    with console.progress() as on_progress:
        build(place, parameters, candidates, on_progress)
    document = {"dir": str(place.folder), "config": str(place.config), "workload": str(place.folder / "workload.json")}
    if port and not build_only:
        document["url"] = f"http://127.0.0.1:{port}/v1/rank"
        document["request"] = '{"user_id": "u1", "candidates": ["a1", "a2", "a3"], "context": {"c0": 0.5}}'
    if admin_port and not build_only:
        document["metrics"] = f"http://127.0.0.1:{admin_port}/metrics"
    console.result(document, lambda screen: screen.print(key_value_table("reference workload", document)))
    if not build_only:
        _become_the_service(place.config, port, admin_port, workers)
    return 0


def _become_the_service(config: Path, port: int, admin_port: int, workers: int) -> None:
    """Does not return. What is measured is what is deployed, and nothing of the build stays loaded."""
    serve = [sys.executable, "-m", "service", "serve", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if name not in REDIS_NAMES}
    sys.stdout.flush()
    ports = ["--port", str(port), "--admin-port", str(admin_port)]
    os.execve(sys.executable, [*serve, *ports, "--workers", str(workers)], environment)
