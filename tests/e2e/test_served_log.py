"""The served log of a whole service: nothing is missing after an orderly end, nothing torn after a bad one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import service, until

N_CANDIDATES = 20


@pytest.fixture
def logging_arguments(arguments: list[str], tmp_path: Path) -> list[str]:
    """Of two workers that log to `tmp_path/served`, with room for all that a test asks."""
    named = {"folder": tmp_path / "served", "buffer_rows": 10_000_000}
    return [
        *arguments,
        "--workers",
        "2",
        *(w for key, value in named.items() for w in ("--set", f"served_log.{key}={value}")),
    ]


def rows_by_request(folder: Path) -> Counter[str]:
    """How many rows each request has in finished files."""
    return Counter(
        request_id
        for path in folder.glob("served-*.parquet")
        for request_id in pq.read_table(path, columns=["request_id"])["request_id"].to_pylist()
    )


async def test_after_sigterm_every_answered_request_is_in_a_file(
    logging_arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """What waits in memory is written before a worker ends; each worker has files of its own."""
    with service(*logging_arguments) as process:
        process.wait_for("ready")
        async with Load(process.port, project.rank_request(N_CANDIDATES), n_connections=8) as load:
            await load.has_answered(500)
            process.signal(signal.SIGTERM)
            await load.has_ended()
        assert process.wait() == 0

    rows = rows_by_request(tmp_path / "served")
    assert len(rows) == load.statuses[200]
    assert set(rows.values()) == {N_CANDIDATES}
    assert len({path.name.split("-")[2] for path in (tmp_path / "served").glob("*.parquet")}) == 2
    assert not list((tmp_path / "served").glob(".*"))


async def test_a_killed_worker_leaves_no_torn_file_to_read(
    logging_arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """Killed in the middle of writing: whoever lists the folder reads whole files, of whole requests."""
    folder = tmp_path / "served"
    with service(*logging_arguments, "--set", "served_log.roll_ms=1") as process:
        process.wait_for("ready")
        async with Load(process.port, project.rank_request(N_CANDIDATES), n_connections=8) as load:
            for n_files in (2, 5):
                await asyncio.to_thread(until, lambda n=n_files: len(list(folder.glob("*.parquet"))) >= n, "files")  # type: ignore[misc]
                os.kill(process.workers()[0]["pid"], signal.SIGKILL)
                assert set(rows_by_request(folder).values()) == {N_CANDIDATES}
        counted = process.counter("clickserve_served_log_rows_total")

    assert set(load.statuses) == {200}
    rows = rows_by_request(folder)
    assert set(rows.values()) == {N_CANDIDATES}
    assert 0 < counted <= sum(rows.values())
