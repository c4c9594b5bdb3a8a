"""Serving parity: what a live service read for an impression, and what the offline store says of it.

A log is materialized four times through the command line while a service runs and somebody ranks. After each, the
impressions that followed it in the log are asked for (`/v1/predict`, each with its own user, ad and context), so every
served row is an impression and has a point-in-time truth of its own. Three judges look at the served log:

- `clickserve evaluate --skew`, which asks the offline store about each row as of the row that was served;
- the frame that training makes of the log: the same impression's columns, joined as of the impression itself;
- counting by hand (`parity_oracle.py`), which shares no code with either.

Then a second service is fed by a program that gets one feature wrong by a thousandth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from feature_store.clock import system_clock
from feature_store.definition import load_project
from feature_store.offline.materialize import materialize
from feature_store.online.embedded import EmbeddedServer
from feature_store.online.redis_writer import RedisRowWriter
from models.logs.reader import read_log
from tests.e2e.service_process import ServiceProcess, until
from tests.proofs.claim import Claim, Outcome, clickserve
from tests.proofs.learning_service import Caller, logging_service
from tests.proofs.parity_judges import REPLAY, against_counting, against_training, is_exact, read_replayed
from tests.proofs.parity_project import AS_OF_HOURS, ParityLog, as_of_ms, write_project
from tests.scaling_writer import ScalingWriter

WANTED_ROWS = 100_000
BATCH = 500
PLANTED = ("ad_clicks", "ctr_decayed")
PLANTED_ROWS = 5_000
RANKED = 25
METRICS_S = 1.0
"""Gauges are no older than this."""


class Shop(NamedTuple):
    """A log, its project and a model that reads all of its features."""

    folder: Path
    log: ParityLog
    registry: Path

    @property
    def data(self) -> tuple[str | Path, ...]:
        """What commands are told of it."""
        return (
            *("--data", f"parquet:{self.folder / 'log.parquet'}"),
            *("--features", self.folder / "features.toml", "--workdir", self.folder / "work"),
        )


def serving_parity(scratch: Path) -> Outcome:
    """The honest run with its three judges, then the planted skew."""
    folder = scratch / "shop"
    log = write_project(folder, scratch)
    shop = Shop(folder, log, scratch / "registry")
    clickserve("train", *shop.data, "--model", "logistic", "--registry", shop.registry, "--seed", 1, cwd=scratch)
    registry_champion = shop.registry / "default" / "champion"
    if not registry_champion.exists():
        raise RuntimeError("the model is no better than the base rate, so nothing would be served")

    served_dir = scratch / "served"
    _serve(shop, scratch, served_dir)
    skew = clickserve("evaluate", "--skew", "--served", served_dir, *shop.data, cwd=scratch)
    served = read_replayed(served_dir)
    exact, rounded = against_training(folder, log, served)
    by_hand = against_counting(log, served)
    as_of_times = {view["view"]: view["as_of_times"] for view in skew["views"]}
    planted = _planted(shop, scratch)
    name = ".".join(PLANTED)
    return Outcome.judged(
        f"{len(served.rows):,} served impressions ({served.all_rows:,} served rows) over "
        f"{min(as_of_times.values())} materializations; of {len(exact) + len(rounded)} columns {len(exact)} bit-equal "
        f"to training's and {len(rounded)} rates and decayed counts at most {max(rounded.values())} ulp away; counted "
        f"by hand, {len(by_hand)} windowed columns at most {max(by_hand.values())} ulp; planted skew: exit 3, "
        f"{', '.join(planted['skewed']) or 'nothing'} named",
        {
            f"at least {WANTED_ROWS:,} served impressions": len(served.rows) >= WANTED_ROWS,
            "at least three materializations": min(as_of_times.values()) >= 3,
            "most rows are there": all(2 * view["missing"] < view["rows"] for view in skew["views"]),
            "evaluate --skew finds nothing": skew["skewed"] == [],
            "it compared every served row": skew["rows"] == served.all_rows,
            "counts, attributes, hashes and texts bit-equal to training's": not any(exact.values()),
            "rates and decayed counts within 1 ulp of training's": max(rounded.values()) <= 1,
            "and of counting by hand": all(
                apart <= (0 if is_exact(column) else 1) for column, apart in by_hand.items()
            ),
            "the planted column is named and nothing else": planted["skewed"] == [name],
        },
        {
            "skew": {"views": skew["views"], "largest_ulps": {c["column"]: c["max_ulps"] for c in skew["columns"]}},
            "exact_columns_differing_rows": exact,
            "rounded_columns_ulps": rounded,
            "by_hand_ulps": by_hand,
            "planted": [column for column in planted["columns"] if column["column"] == name],
        },
    )


def _serve(shop: Shop, scratch: Path, served_dir: Path) -> None:
    """Four materializations while the service runs; the impressions after each, and rankings all the time."""
    first, *later = AS_OF_HOURS
    with EmbeddedServer(scratch / "valkey") as store:
        _materialize(shop, store.url, first)
        with (
            logging_service(shop.registry, store.url, scratch, served_dir) as process,
            _ranking(process, shop.log),
            Caller(process.port) as caller,
        ):
            _replay(caller, shop.log, first)
            for hour in later:
                _materialize(shop, store.url, hour)
                _refreshed(process)
                _replay(caller, shop.log, hour)


def _planted(shop: Shop, scratch: Path) -> dict[str, Any]:
    """What `evaluate --skew` says where one of two materializations scaled one feature."""
    served_dir = scratch / "served-planted"
    honest, scaled = AS_OF_HOURS[:2]
    with EmbeddedServer(scratch / "valkey-planted") as store:
        _materialize(shop, store.url, honest)
        with (
            logging_service(shop.registry, store.url, scratch, served_dir) as process,
            Caller(process.port) as caller,
        ):
            _replay(caller, shop.log, honest, PLANTED_ROWS)
            _materialize_scaled(shop, store.url, scaled)
            _refreshed(process)
            _replay(caller, shop.log, scaled, PLANTED_ROWS)
    return clickserve("evaluate", "--skew", "--served", served_dir, *shop.data, cwd=scratch, expect=3)


def _materialize(shop: Shop, url: str, hour: int) -> None:
    clickserve("materialize", *shop.data, "--as-of", str(as_of_ms(hour)), "--redis-url", url, cwd=shop.folder)


def _materialize_scaled(shop: Shop, url: str, hour: int) -> None:
    project = load_project(shop.folder / "features.toml")
    log = read_log(f"parquet:{shop.folder / 'log.parquet'}", project, workdir=shop.folder / "work")
    view = project.schema.view(PLANTED[0])
    assert view is not None
    column = [feature.name for feature in view.features].index(PLANTED[1])
    writer = ScalingWriter(RedisRowWriter(url, project.schema.project), view.name, column)
    materialize(
        project,
        project.schema.views,
        log,
        writer,
        workdir=shop.folder / "work",
        clock=system_clock,
        as_of_ms=as_of_ms(hour),
    )
    writer.close()


def _refreshed(process: ServiceProcess) -> None:
    """Returns when the item table was confirmed after this call."""
    called_ms = system_clock()

    def is_younger() -> bool:
        age_s = process.counter("clickserve_item_table_age_seconds")
        return age_s + METRICS_S < (system_clock() - called_ms) / 1000

    until(is_younger, "the item table is refreshed")


def _replay(caller: Caller, log: ParityLog, hour: int, at_most: int | None = None) -> None:
    """Asks for the impressions of an hour, some hundred a request; a request's id names its first."""
    rows = log.replayed(hour)[:at_most]
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH].tolist()
        answer = caller.post("/v1/predict", {"instances": [_instance(log, row) for row in part]}, f"{REPLAY}{part[0]}")
        if len(answer["predictions"]) != len(part) or "deadline_partial" in answer["degraded"]:
            raise RuntimeError(f"{len(part)} impressions were answered with {answer['degraded']}")


def _instance(log: ParityLog, row: int) -> dict[str, Any]:
    context = {name: log.impressions[name][row] for name in ("placement", "device", "hour")}
    return {"user_id": log.impressions["user_id"][row], "ad_id": log.impressions["ad_id"][row], "context": context}


@contextmanager
def _ranking(process: ServiceProcess, log: ParityLog) -> Iterator[None]:
    """Somebody ranks, a few times a second, through materializations and refreshes as well."""
    ended = threading.Event()
    failed: list[Exception] = []

    def rank() -> None:
        random = np.random.default_rng(5)
        try:
            with Caller(process.port) as caller:
                number = 0
                while not ended.wait(0.05):
                    asked = _instance(log, int(random.integers(len(log.time_ms))))
                    del asked["ad_id"]
                    asked["candidates"] = random.choice(log.ads["ad_id"], RANKED, replace=False).tolist()
                    caller.post("/v1/rank", asked, f"rank-{number}")
                    number += 1
        except (OSError, RuntimeError) as error:
            failed.append(error)

    thread = threading.Thread(target=rank)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise RuntimeError(f"ranking beside the materializations failed: {failed[0]}") from failed[0]


CLAIMS = [
    Claim(
        "serving-parity",
        "python -m tests.proofs learning --only serving-parity",
        f"≥ {WANTED_ROWS:,} impressions served live over at least three materializations: counts and attributes "
        "bit-equal to the offline point-in-time features, rates and decayed within 1 ulp; one feature x 1.001 makes "
        "`clickserve evaluate --skew` exit 3 and name it",
        serving_parity,
    )
]
