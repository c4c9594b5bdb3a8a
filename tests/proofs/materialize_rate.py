"""Materializing a million rows of 20 numbers from Parquet, beside a plain redis-py pipeline of the same rows.

    python -m tests.proofs.materialize_rate FOLDER [ROWS]

Both go to the same private Valkey server, one after the other. The product's side is the whole command, process start,
Parquet reading and publication included; the plain side is `SET … PXAT` in pipelines of 2 000 with values made before.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from feature_store.online.embedded import EmbeddedServer
from tests.proofs.claim import clickserve

N_COLUMNS = 20
PIPELINE_ROWS = 2_000
DAY_MS = 86_400_000


def main(folder: Path, n_rows: int) -> None:
    """Prints rows a second of both, their ratio, and predicted and real bytes per entity."""
    numbers = np.random.default_rng(1).random((n_rows, N_COLUMNS), dtype=np.float32)
    now_ms = time.time_ns() // 1_000_000
    columns = {f"f{i}": numbers[:, i] for i in range(N_COLUMNS)}
    ids = [f"u{i}" for i in range(n_rows)]
    updated = np.full(n_rows, now_ms - 60_000)
    pq.write_table(pa.table({"user_id": ids, "updated_ms": updated, **columns}), folder / "rows.parquet")
    (folder / "features.toml").write_text(
        '[project]\nname = "rate"\n[log]\nuser_id = "user_id"\ntime = "shown_at"\n'
        '[views.numbers]\nentity = "user"\nttl = "7d"\n'
        'from = "external"\nkey = "user_id"\nevent_time = { column = "updated_ms", unit = "ms" }\n'
        "[views.numbers.features]\n" + "".join(f"f{i} = {{}}\n" for i in range(N_COLUMNS))
    )
    with EmbeddedServer(folder / "valkey") as server:
        started = time.monotonic()
        report = clickserve(
            *("materialize", "--features", folder / "features.toml", "--view", "numbers"),
            *("--from", folder / "rows.parquet", "--redis-url", server.url),
            cwd=folder,
        )["views"][0]
        command_s = time.monotonic() - started
        plain_s = plain_pipeline(server.url.removeprefix("unix://"), ids, numbers, now_ms + 7 * DAY_MS)
    rate = n_rows / report["seconds"]
    print(
        json.dumps(
            {
                "rows": report["written"],
                "rows_per_s": rate,
                "rows_per_s_whole_command": n_rows / command_s,
                "plain_pipeline_rows_per_s": n_rows / plain_s,
                "ratio_to_plain_pipeline": plain_s / report["seconds"],
                "predicted_bytes": report["predicted_bytes_per_entity"],
                "real_bytes": report["real_bytes_per_entity"],
            }
        )
    )


def plain_pipeline(socket: str, ids: list[str], numbers: np.ndarray, expires_ms: int) -> float:
    """Seconds to write the rows as anyone would."""
    values = [bytes(32) + row.tobytes() for row in numbers]
    client = redis.Redis(unix_socket_path=socket)
    started = time.monotonic()
    for start in range(0, len(ids), PIPELINE_ROWS):
        pipeline = client.pipeline(transaction=False)
        for entity_id, value in zip(
            ids[start : start + PIPELINE_ROWS], values[start : start + PIPELINE_ROWS], strict=True
        ):
            pipeline.set(f"plain:{{{entity_id}}}", value, pxat=expires_ms)
        pipeline.execute()
    seconds = time.monotonic() - started
    client.close()
    return seconds


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
