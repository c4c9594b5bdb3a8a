"""What the online store costs: codec, item table, reading by callers at once, writing beside redis-py's own pipeline.

    python -m loadtest.micro.online_store [ROWS]

Starts a private Valkey server on a Unix socket. CPU is that of this process; the server runs on another core if there
is one. Codec and writing: best and median of five rounds, because the machine's other work only ever adds time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import uvloop

from feature_store.clock import system_clock
from feature_store.online.blocking_client import blocking_client
from feature_store.online.codec import decode_row, decode_rows, encode_rows, row_bytes
from feature_store.online.embedded import EmbeddedServer
from feature_store.online.id_index import COMPILED
from feature_store.online.item_base import build_item_base
from feature_store.online.item_table import ItemTable
from feature_store.online.layout import ViewKeys
from feature_store.online.redis_store import RedisStore
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Floats, Ids, Rows, Times
from feature_store.schema import Feature, FeatureView, TableSource

ROUNDS = 5
CALLERS = (1, 4, 16, 64)
READS = 20_000
BATCH_ROWS = 20_000
CHANGES = 1_000
PLAIN_PIPELINE_ROWS = 2_000
DAY_MS = 86_400_000

VIEW = FeatureView(
    name="micro",
    entity="user",
    features=tuple(Feature(name=f"f{i}") for i in range(20)),
    source=TableSource(columns=tuple(f"f{i}" for i in range(20))),
    hash_seed=0,
    ttl_ms=DAY_MS,
)
"""Twenty numbers: 112 bytes a row."""


def main(n_rows: int) -> None:
    """Prints the measurements as one JSON object."""
    generator = np.random.default_rng(1)
    floats = generator.random((n_rows, VIEW.n_float), dtype=np.float32)
    ids = np.empty((n_rows, 0), dtype=np.uint32)
    times = np.full(n_rows, system_clock(), dtype=np.int64)
    with TemporaryDirectory(prefix="cs-micro-") as directory, EmbeddedServer(Path(directory)) as server:
        result = {
            "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
            "rows": n_rows,
            "row_bytes": row_bytes(VIEW),
            "codec_ns_per_row": codec(floats, ids, times),
            "item_table": item_table(floats, ids, times),
            "write_rows_per_s": writing(server.url, floats, ids, times),
            "read_us_cpu_per_call": uvloop.run(reading(server.url, n_rows)),
        }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def codec(floats: Floats, ids: Ids, times: Times) -> dict[str, dict[str, float]]:
    """Nanoseconds a row, both ways."""
    stored = encode_rows(VIEW, floats, ids, times)
    some = stored[:BATCH_ROWS]
    np.testing.assert_array_equal(decode_rows(VIEW, stored).floats, floats)
    return {
        "encode_many": rounds(lambda: encode_rows(VIEW, floats, ids, times), len(stored)),
        "decode_many": rounds(lambda: decode_rows(VIEW, stored), len(stored)),
        "decode_one": rounds(lambda: [decode_row(VIEW, value) for value in some], len(some)),
    }


def item_table(floats: Floats, ids: Ids, times: Times) -> dict[str, object]:
    """Nanoseconds an ad: to build the base, to look up 100 of its ads beside a dictionary, to apply changes."""
    ad_ids = [f"ad-{i}" for i in range(len(times))]
    rows = Rows(floats, ids, times, np.ones(len(times), dtype=np.bool_))
    catalogue = CatalogueRows(CataloguePosition(1, 0), ad_ids, rows)
    changed = CatalogueRows(CataloguePosition(1, 1), ad_ids[:CHANGES], rows.take(np.arange(CHANGES)))

    def build() -> ItemTable:
        return ItemTable(build_item_base([VIEW], [catalogue], int(times[0]), max_ads=len(times)), ROUNDS * CHANGES)

    table = build()
    row_of = {ad_id: row for row, ad_id in enumerate(ad_ids)}
    generator = np.random.default_rng(2)
    requests = [[ad_ids[i] for i in generator.integers(0, len(ad_ids), 100)] for _ in range(200)]
    # Built anew for every measurement, as decoding a request does: no hash of a text is known yet.
    fresh = [[[str(text.encode(), "utf-8") for text in request] for request in requests] for _ in range(2 * ROUNDS)]
    np.testing.assert_array_equal(table.take(table.lookup(ad_ids[-5:])).floats, floats[-5:])
    return {
        "compiled_index": COMPILED,
        "build": rounds(build, len(times)),
        "lookup": rounds(lambda: [table.lookup(request) for request in fresh.pop()], 100 * len(requests)),
        "lookup_in_dictionary": rounds(
            lambda: [np.fromiter(map(row_of.get, request), np.int64, 100) for request in fresh.pop()],
            100 * len(requests),
        ),
        "apply_changes": rounds(lambda: table.apply(0, changed), CHANGES),
    }


def rounds(work: Callable[[], object], n: int) -> dict[str, float]:
    """Best and median nanoseconds per item."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return {"best": round(min(seconds) / n * 1e9), "median": round(statistics.median(seconds) / n * 1e9)}


def writing(url: str, floats: Floats, ids: Ids, times: Times) -> dict[str, float]:
    """Rows a second: a session of ours from arrays, redis-py's pipeline from encoded rows; medians of turns."""
    entity_ids = [f"u{i}" for i in range(len(times))]
    ours, plain = [], []
    for _ in range(ROUNDS):
        plain.append(len(times) / write_with_plain_pipeline(url, entity_ids, floats, ids, times))
        ours.append(len(times) / write_with_session(url, entity_ids, floats, ids, times))
    check_written(url, entity_ids, floats)
    return {
        "session": round(statistics.median(ours)),
        "plain_pipeline": round(statistics.median(plain)),
        "ratio": round(statistics.median(ours) / statistics.median(plain), 2),
    }


def write_with_session(url: str, entity_ids: list[str], floats: Floats, ids: Ids, times: Times) -> float:
    """Seconds, from arrays to finished view."""
    writer = RedisRowWriter(url, "micro")
    started = time.perf_counter()
    with writer.session(VIEW, distinct=True) as session:
        for start in range(0, len(times), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            session.write(entity_ids[part], times[part], floats[part], ids[part])
        session.finish()
    seconds = time.perf_counter() - started
    writer.close()
    return seconds


def write_with_plain_pipeline(url: str, entity_ids: list[str], floats: Floats, ids: Ids, times: Times) -> float:
    """Seconds of `SET … PXAT` alone; keys and values are made before the clock starts."""
    client = blocking_client(url)
    keys = ViewKeys("plain", VIEW).rows(entity_ids)
    values = encode_rows(VIEW, floats, ids, times)
    expires_ms = (times + VIEW.ttl_ms).tolist()
    started = time.perf_counter()
    for start in range(0, len(keys), PLAIN_PIPELINE_ROWS):
        pipeline = client.pipeline(transaction=False)
        for row in range(start, min(start + PLAIN_PIPELINE_ROWS, len(keys))):
            pipeline.set(keys[row], values[row], pxat=expires_ms[row])
        pipeline.execute()
    seconds = time.perf_counter() - started
    client.close()
    return seconds


def check_written(url: str, entity_ids: list[str], floats: Floats) -> None:
    """Both wrote the same rows."""
    client = blocking_client(url)
    for project in ("plain", "micro"):
        values = client.mget(ViewKeys(project, VIEW).rows(entity_ids[-100:]))
        np.testing.assert_array_equal(decode_rows(VIEW, values).floats, floats[-100:])
    client.close()


async def reading(url: str, n_rows: int) -> dict[str, dict[str, float]]:
    """CPU and wall microseconds of one `get_many` of one key, by how many callers ask at the same time."""
    commands = 0

    def count(event: str, amount: int) -> None:
        nonlocal commands
        commands += event == "mget"

    store = RedisStore(url, observe=count)
    keys = ViewKeys("micro", VIEW).rows([f"u{i}" for i in range(n_rows)])

    async def ask(caller: int, times: int) -> None:
        for i in range(times):
            (value,) = await store.get_many([keys[(caller * 7_919 + i) % n_rows]], timeout_ms=10_000)
            assert value is not None

    measured = {}
    await ask(0, 100)  # connects
    for callers in CALLERS:
        commands = 0
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(ask(caller, READS // callers) for caller in range(callers)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        measured[f"{callers} callers"] = {
            "cpu_us": round(cpu / READS * 1e6, 1),
            "wall_us": round(wall / READS * 1e6, 1),
            "calls_per_command": round(READS / commands, 1),
        }
    await store.aclose()
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the online store costs, as one JSON document.")
    parser.add_argument("rows", nargs="?", type=int, default=200_000, help="rows that are written and read (200 000)")
    main(parser.parse_args().rows)
