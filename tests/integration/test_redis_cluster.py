"""A Cluster from inside: what is sent to which node, and what happens while slots move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from feature_store.errors import StoreDown
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.cluster_slots import slot_of
from feature_store.online.cluster_store import ClusterStore
from feature_store.online.layout import ViewKeys
from feature_store.online.redis_store import RedisReadSettings
from feature_store.online.redis_writer import RedisRowWriter
from tests.redis_servers.cluster import Cluster
from tests.redis_servers.programs import valkey_9
from tests.redis_servers.server import Server, free_port
from tests.stores import Now, make_view, numbered, project

__all__ = ["project"]

USERS = make_view("user_profile", "user")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with Cluster.running(valkey_9(), tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[ClusterStore]:
    """A reader that knows the slots already."""
    store = ClusterStore(cluster.url)
    await store.ping(timeout_ms=5_000)
    yield store
    await store.aclose()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[BlockingClient]:
    """A writer that knows the slots already."""
    client = blocking_client(cluster.url)
    client.ping()
    yield client
    client.close()


def calls(cluster: Cluster) -> Counter[str]:
    """How often each master was asked for rows."""
    counts = Counter[str]()
    for number, server in enumerate(cluster.servers[:3]):
        counts[str(number)] = server.client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    return counts


async def test_a_turn_of_the_loop_sends_one_pipeline_a_node_with_one_mget_a_slot(
    cluster: Cluster, store: ClusterStore, client: BlockingClient
) -> None:
    """A hundred callers, two keys each that share a slot: as many commands as there are slots."""
    users = [f"u{n}" for n in range(100)]
    keys = [[b"a:{%s}" % user.encode(), b"b:{%s}" % user.encode()] for user in users]
    for a, _ in keys:
        client.set(a, a)
    before = calls(cluster)

    values = await asyncio.gather(*(store.get_many(pair, timeout_ms=5_000) for pair in keys))

    asked = calls(cluster) - before
    assert values == [[a, None] for a, _ in keys]
    assert sum(asked.values()) == len({slot_of(a) for a, _ in keys})
    assert len(asked) == 3


async def test_a_read_of_all_nodes_keeps_its_order(store: ClusterStore, client: BlockingClient) -> None:
    """Row i answers key i, wherever it lies."""
    keys = [b"order:%d" % n for n in range(300)]
    for key in keys[::2]:
        client.set(key, key)

    values = await store.get_many(keys, timeout_ms=5_000)

    assert values == [key if n % 2 == 0 else None for n, key in enumerate(keys)]
    assert client.mget(keys) == values


def moved_slot(cluster: Cluster, key: bytes) -> tuple[int, Server, Server]:
    """The key's slot, its owner, and another master that it can go to."""
    owner = cluster.owner(key)
    other = next(server for server in cluster.masters() if server is not owner)
    return slot_of(key), owner, other


def my_id(server: Server) -> str:
    """A node's name in its Cluster."""
    answer = server.client.execute_command("CLUSTER MYID")
    return answer.decode() if isinstance(answer, bytes) else str(answer)


async def test_rows_are_read_and_written_while_their_slot_moves(
    cluster: Cluster, store: ClusterStore, client: BlockingClient, project: str
) -> None:
    """Resharding a live Cluster: half of the keys are there already, one nowhere, and new ones belong to the target."""
    here, there, nowhere, fresh = (b"%s:{moving}" % name for name in (b"here", b"there", b"nowhere", b"fresh"))
    client.set(here, b"1")
    client.set(there, b"2")
    slot, source, target = moved_slot(cluster, here)
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", my_id(source))
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", my_id(target))
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, there, 0, 5_000)

    one_by_one = await store.get_many([there], timeout_ms=5_000)
    together = await store.get_many([here, there, nowhere], timeout_ms=5_000)
    client.set(fresh, b"3")
    written = client.get(fresh)
    row = ViewKeys(project, USERS).row("moving")
    writer = RedisRowWriter(cluster.url, project)
    with writer.session(USERS) as session:
        session.write(["moving"], *numbered(USERS, [1.0], Now()()))
    writer.close()
    of_session = await store.get_many([row], timeout_ms=5_000)

    assert one_by_one == [b"2"]
    assert together == [b"1", b"2", None]
    assert written == b"3"
    assert of_session[0] is not None
    assert slot_of(row) == slot

    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, here, 0, 5_000)
    for server in (target, source, *cluster.masters()):
        server.client.execute_command("CLUSTER SETSLOT", slot, "NODE", my_id(target))

    after = await store.get_many([here, there, fresh, row], timeout_ms=5_000)

    assert after == [b"1", b"2", b"3", of_session[0]]
    assert client.mget([here, there]) == [b"1", b"2"]
    client.set(here, b"4")
    assert await store.get_many([here], timeout_ms=5_000) == [b"4"]


async def test_a_cluster_is_found_by_the_node_that_is_there(cluster: Cluster) -> None:
    """Two of three addresses may be wrong, as after a move."""
    nobody = f"127.0.0.1:{free_port()}"
    url = f"redis+cluster://{nobody},127.0.0.1:{cluster.servers[4].port}"
    store = ClusterStore(url, RedisReadSettings(probe_interval_ms=20))
    client = blocking_client(url)
    client.set(b"found", b"1")

    values = await store.get_many([b"found"], timeout_ms=5_000)
    await store.aclose()
    client.close()

    assert values == [b"1"]


async def test_a_cluster_that_is_not_there_is_down_and_says_so() -> None:
    """Before the first map there is no node to have a breaker: the second read waits for nothing."""
    store = ClusterStore(f"redis+cluster://127.0.0.1:{free_port()}", RedisReadSettings(probe_interval_ms=20))

    with pytest.raises(StoreDown, match=r"redis\+cluster://127\.0\.0\.1:.*Error 111"):
        await store.get_many([b"k"], timeout_ms=5_000)
    with pytest.raises(StoreDown):
        await store.get_many([b"k"], timeout_ms=60_000)
    with pytest.raises(StoreDown):
        await store.ping(timeout_ms=60_000)
    await store.aclose()

    with pytest.raises(StoreDown, match="has been closed"):
        await store.get_many([b"k"], timeout_ms=5_000)
