"""One writer per view: who has the lock, who may take it, and what becomes of it when its holder is killed."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from feature_store.errors import WriterBusy, WriterLockLost
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.layout import ViewKeys
from feature_store.online.lock_holder import LockHolder
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.online.store import WriteSession
from tests.stores import Now, make_view, numbered

USERS = make_view("user_profile", "user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only there a dead process is known to be dead")


@pytest.fixture
def client(store_url: str) -> Iterator[BlockingClient]:
    """A look behind the scenes."""
    client = blocking_client(store_url)
    yield client
    client.close()


@pytest.fixture
def writer(store_url: str, project: str) -> Iterator[RedisRowWriter]:
    """Writes this test's project; does not wait."""
    writer = RedisRowWriter(store_url, project)
    yield writer
    writer.close()


def holder_that_has_ended() -> LockHolder:
    """The process that had our id before us."""
    ours = LockHolder.ourselves()
    return replace(ours, start=ours.start - 1)


def test_a_busy_view_says_who_has_it_and_how_to_go_on(writer: RedisRowWriter) -> None:
    """Somebody reads this at three in the morning."""
    with writer.session(USERS), pytest.raises(WriterBusy) as caught, writer.session(USERS):
        pass

    message = str(caught.value)
    assert f"being written by {socket.gethostname()}:{os.getpid()}" in message
    assert "run this again when it is done" in message
    assert "DEL" not in message


@on_linux
def test_the_lock_of_a_killed_process_is_taken_over_at_once(
    writer: RedisRowWriter, client: BlockingClient, project: str
) -> None:
    """A job that was killed is started again by its scheduler, which should not have to wait a minute."""
    client.set(ViewKeys(project, USERS).lock, holder_that_has_ended().text, px=60_000)

    with writer.session(USERS) as session:
        report = session.write(["u1"], *numbered(USERS, [1], Now()()))

    assert report.written == 1


@on_linux
def test_of_many_that_see_a_dead_lock_one_gets_it(store_url: str, client: BlockingClient, project: str) -> None:
    """Taken over blindly, it would be had by two."""
    client.set(ViewKeys(project, USERS).lock, holder_that_has_ended().text, px=60_000)
    everybody = threading.Barrier(4)

    def try_it(_: int) -> bool:
        writer = RedisRowWriter(store_url, project)
        everybody.wait(timeout=30)
        try:
            with writer.session(USERS):
                everybody.wait(timeout=30)
                return True
        except WriterBusy:
            everybody.wait(timeout=30)
            return False
        finally:
            writer.close()

    with ThreadPoolExecutor(4) as pool:
        got_it = list(pool.map(try_it, range(4)))

    assert sum(got_it) == 1


def test_a_lock_of_another_machine_is_respected(writer: RedisRowWriter, client: BlockingClient, project: str) -> None:
    """Nobody here can know whether that process is alive."""
    elsewhere = replace(holder_that_has_ended(), place="another-boot/1")
    client.set(ViewKeys(project, USERS).lock, elsewhere.text, px=60_000)

    with pytest.raises(WriterBusy), writer.session(USERS):
        pass


def test_a_writer_that_may_wait_begins_when_the_other_is_done(
    store_url: str, client: BlockingClient, project: str
) -> None:
    """Two jobs that a scheduler started together both end well, and the second says what it waits for."""
    lock = ViewKeys(project, USERS).lock
    client.set(lock, "another:1 token", px=60_000)
    told: list[tuple[str, float]] = []

    def end_the_other(stage: str, share: float) -> None:
        told.append((stage, share))
        if share < 1:
            client.delete(lock)

    writer = RedisRowWriter(store_url, project, on_wait=end_the_other)
    with writer.session(USERS):
        held_by = client.get(lock)
    writer.close()

    assert {stage for stage, _ in told} == {"waiting for another:1, who is writing user_profile"}
    assert told[-1][1] == 1.0
    assert held_by is not None
    assert held_by.startswith(f"{socket.gethostname()}:{os.getpid()} ".encode())


def test_waiting_ends_when_the_lock_must_have_run_out(store_url: str, client: BlockingClient, project: str) -> None:
    """A holder that prolongs its lock is at work, perhaps for hours."""
    lock = ViewKeys(project, USERS).lock
    client.set(lock, "another:1 token", px=1_000)

    def prolong(stage: str, share: float) -> None:
        client.set(lock, "another:1 token", px=60_000)

    writer = RedisRowWriter(store_url, project, on_wait=prolong)
    with pytest.raises(WriterBusy, match="has outlived our wait, so it is at work"), writer.session(USERS):
        pass
    writer.close()


def test_a_writer_that_lost_its_lock_stops(store_url: str, project: str, client: BlockingClient) -> None:
    """It slept through its time; another may be writing now."""
    writer = RedisRowWriter(store_url, project, lock_ttl_ms=3)  # renewed after 1 ms
    rows = numbered(USERS, [1], Now()())

    def write_until_the_lock_is_renewed(session: WriteSession) -> None:
        while True:
            session.write(["u1"], *rows)

    with writer.session(USERS) as session:
        client.delete(ViewKeys(project, USERS).lock)
        with pytest.raises(WriterLockLost, match="run the job again"):
            write_until_the_lock_is_renewed(session)
    writer.close()


def test_a_lock_of_somebody_else_is_left_alone(writer: RedisRowWriter, client: BlockingClient, project: str) -> None:
    """After losing the lock, leaving must not free the next one's."""
    lock = ViewKeys(project, USERS).lock
    with writer.session(USERS):
        client.set(lock, "another:1 token")

    assert client.get(lock) == b"another:1 token"
