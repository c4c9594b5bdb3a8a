"""What the contract cannot see from outside: how Redis holds a project, and what happens to it in accidents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from feature_store.errors import CodecError, SchemaError, ViewNotMaterialized
from feature_store.online import catalogue_writer
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.catalogue import RedisCatalogue, require_materialized
from feature_store.online.catalogue_version import CHANGES_PER_READ
from feature_store.online.item_table import ItemTable
from feature_store.online.item_table_source import ItemTableSource
from feature_store.online.layout import ViewKeys
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.schema import FeatureView
from tests.stores import DAY_MS, Now, make_view, numbered

USERS = make_view("user_profile", "user")
ADS = make_view("ad_profile", "ad")


@pytest.fixture
def client(store_url: str) -> Iterator[BlockingClient]:
    """A look behind the scenes."""
    client = blocking_client(store_url)
    yield client
    client.close()


@pytest.fixture
def writer(store_url: str, project: str) -> Iterator[RedisRowWriter]:
    """Writes this test's project."""
    writer = RedisRowWriter(store_url, project)
    yield writer
    writer.close()


@pytest.fixture
def catalogue(store_url: str, project: str) -> Iterator[RedisCatalogue]:
    """Reads this test's project."""
    catalogue = RedisCatalogue(store_url, project)
    yield catalogue
    catalogue.close()


def write(writer: RedisRowWriter, view: FeatureView, ads: dict[str, float], time_ms: int | None = None) -> None:
    with writer.session(view) as session:
        session.write(list(ads), *numbered(view, list(ads.values()), Now()() if time_ms is None else time_ms))
        session.finish()


def test_a_row_expires_at_event_time_plus_time_to_live(
    writer: RedisRowWriter, client: BlockingClient, project: str
) -> None:
    """Redis forgets the row at the very moment at which training would."""
    time_ms = Now()()
    write(writer, USERS, {"u1": 1}, time_ms)

    left_ms = client.pttl(ViewKeys(project, USERS).row("u1"))

    assert abs(time_ms + DAY_MS - Now()() - left_ms) < 5_000


def test_rows_of_many_lengths_and_times_are_all_written(
    writer: RedisRowWriter, client: BlockingClient, project: str
) -> None:
    """Commands are packed by hand: every length of key and every expiry must be told right, over several buffers."""
    entity_ids = [f"{'x' * (i % 50)}{i}" for i in range(4_500)]
    times, floats, ids = numbered(USERS, [float(i) for i in range(4_500)], [Now()() - i for i in range(4_500)])
    with writer.session(USERS) as session:
        report = session.write(entity_ids, times, floats, ids)

    keys = ViewKeys(project, USERS).rows(entity_ids)
    stored = client.mget(keys)

    assert report.written == 4_500
    assert [np.frombuffer(value or b"", "<f4", 1, 32)[0] for value in stored] == list(range(4_500))
    assert client.pttl(keys[-1]) < client.pttl(keys[0])


def test_a_killed_writer_leaves_a_watermark_that_protects_its_rows(writer: RedisRowWriter, project: str) -> None:
    """The watermark is raised before rows are sent: the next writer must read them before it dares to write."""
    now = Now()()
    with writer.session(USERS) as killed:
        killed.write(["u1"], *numbered(USERS, [2], now))  # and no finish

    with writer.session(USERS, distinct=True) as session:
        report = session.write(["u1"], *numbered(USERS, [1], now - 1))

    assert report.older_skipped == 1


def test_two_meanings_that_share_eight_digits_are_refused(
    writer: RedisRowWriter, client: BlockingClient, project: str
) -> None:
    """Once in four billion their rows would share keys."""
    write(writer, USERS, {"u1": 1})
    other = USERS.fingerprint[:8] + "0" * 56
    client.hset(ViewKeys(project, USERS).meta, mapping={"fingerprint": other})

    with pytest.raises(SchemaError, match="share their first 8 digits"), writer.session(USERS):
        pass


def test_the_service_names_the_view_that_is_missing(writer: RedisRowWriter, catalogue: RedisCatalogue) -> None:
    """A model trained on another meaning must not be served."""
    write(writer, USERS, {"u1": 1})
    changed = make_view("user_profile", "user", n_float=3)

    with pytest.raises(ViewNotMaterialized) as caught:
        require_materialized((USERS, changed), catalogue.states())

    message = str(caught.value)
    assert "'user_profile'" in message
    assert changed.fingerprint[:8] in message
    assert f"holds the fingerprints {USERS.fingerprint[:8]}" in message


def test_a_long_stream_is_written_out_and_its_readers_go_on(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """The change stream is bounded, but loading a million ads anew for each bound would be worse than none."""
    write(writer, ADS, {"a1": 1, "a2": 2})
    before = catalogue.load(ADS).position
    with patch.object(catalogue_writer, "MIN_LONG_STREAM", 3):
        write(writer, ADS, {"a1": 3, "a3": 3})  # 2 changes: into the stream
        write(writer, ADS, {"a4": 4, "a5": 5})  # 4 in all: written out
    write(writer, ADS, {"a2": 6})

    followed, loaded = catalogue.changes(ADS, before), catalogue.load(ADS)

    assert followed is not None
    assert followed.position == loaded.position
    assert loaded.position.version > before.version
    assert followed.entity_ids == ["a1", "a3", "a4", "a5", "a2"]
    assert followed.rows.floats[:, 0].tolist() == [3, 3, 4, 5, 6]
    assert sorted(loaded.entity_ids) == ["a1", "a2", "a3", "a4", "a5"]


def test_a_reader_two_versions_behind_loads(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Entries are kept for one version more, not for ever."""
    write(writer, ADS, {f"a{i}": i for i in range(4)})
    start = catalogue.load(ADS).position
    with patch.object(catalogue_writer, "MIN_LONG_STREAM", 1):
        for value in range(3):
            write(writer, ADS, {"a1": value, "a2": value})
        middle = catalogue.load(ADS).position
        for value in range(3, 5):
            write(writer, ADS, {"a1": value, "a2": value})

    entries = client.xrange(ViewKeys(project, ADS).changes, "-", "+")

    assert catalogue.changes(ADS, start) is None
    assert catalogue.changes(ADS, middle) is not None
    assert {int(name.split(b"-")[0]) for name, _ in entries} == {middle.version, catalogue.load(ADS).position.version}


def test_most_items_at_once_make_a_version_that_all_load(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Row by row through the stream would be the longer way."""
    write(writer, ADS, {"a1": 1, "a2": 2})
    before = catalogue.load(ADS).position
    with patch.object(catalogue_writer, "MIN_LONG_STREAM", 1):
        write(writer, ADS, {"a1": 3, "a2": 3})

    assert catalogue.changes(ADS, before) is None
    assert catalogue.load(ADS).position.version > before.version
    assert client.xrange(ViewKeys(project, ADS).changes, "-", "+") == []


def test_a_reader_of_the_old_version_is_not_disturbed(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Chunks of both versions stand side by side; the old ones leave after a grace."""
    write(writer, ADS, {"a1": 1})
    old = catalogue.load(ADS).position
    with patch.object(catalogue_writer, "MIN_LONG_STREAM", 0):
        write(writer, ADS, {"a2": 2})
    keys = ViewKeys(project, ADS)
    new = catalogue.load(ADS).position

    assert client.get(keys.chunk(old.version, 0)) is not None
    assert 0 < client.pttl(keys.chunk(old.version, 0)) <= catalogue_writer.OLD_CHUNKS_GRACE_MS
    assert client.pttl(keys.chunk(new.version, 0)) == -1  # for good


def test_a_reader_overtaken_by_a_new_version_starts_again(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """It read the head, then slept longer than the grace: the chunks it looks for are gone."""
    write(writer, ADS, {"a1": 1})
    keys = ViewKeys(project, ADS)
    head = client.get(keys.catalogue)
    assert head is not None
    with patch.object(catalogue_writer, "MIN_LONG_STREAM", 0):
        write(writer, ADS, {"a2": 2})
    old_version = msgspec.json.decode(head)["version"]
    client.delete(keys.chunk(old_version, 0))
    real_get, answers = client.get, iter([head])
    with patch.object(type(client), "get", lambda self, name: next(answers, None) or real_get(name)):
        loaded = catalogue.load(ADS)

    assert sorted(loaded.entity_ids) == ["a1", "a2"]


def test_a_publisher_that_was_killed_is_caught_up_with(
    writer: RedisRowWriter, catalogue: RedisCatalogue, project: str
) -> None:
    """Its rows are stored but not listed; the next session lists them, whatever it writes itself."""
    write(writer, ADS, {"a1": 1})
    with writer.session(ADS) as killed:
        killed.write(["a2"], *numbered(ADS, [2], Now()()))  # and no finish

    before = catalogue.load(ADS).entity_ids
    write(writer, ADS, {"a3": 3})

    assert before == ["a1"]
    assert sorted(catalogue.load(ADS).entity_ids) == ["a1", "a2", "a3"]


def test_a_gap_in_the_changes_asks_for_a_new_load(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """The stream was evicted or trimmed; what is missing may be the ad that matters."""
    write(writer, ADS, {"a1": 1})
    position = catalogue.load(ADS).position
    write(writer, ADS, {"a2": 2, "a3": 3})
    assert catalogue.changes(ADS, position) is not None

    client.delete(ViewKeys(project, ADS).changes)

    assert catalogue.changes(ADS, position) is None


def test_a_server_that_went_back_in_time_asks_for_a_new_load(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Restored from an older file, it will use the numbers of lost changes again for other ones."""
    write(writer, ADS, {"a1": 1, "a2": 2})
    keys = ViewKeys(project, ADS)
    head = client.get(keys.catalogue)
    write(writer, ADS, {"a1": 3})
    seen = catalogue.load(ADS).position
    client.set(keys.catalogue, head)

    assert catalogue.changes(ADS, seen) is None


def test_more_changes_than_one_read_arrive_whole(writer: RedisRowWriter, catalogue: RedisCatalogue) -> None:
    """They are read in parts, so that other threads get their turns."""
    write(writer, ADS, {"a0": 0})
    start = catalogue.load(ADS).position
    many = {f"a{i}": i for i in range(CHANGES_PER_READ + 1)}
    write(writer, ADS, many)

    changed = catalogue.changes(ADS, start)

    assert changed is not None
    assert changed.entity_ids == list(many)
    assert catalogue.load(ADS).entity_ids == list(many)


def test_a_lost_stream_is_an_error_and_materializing_again_mends_it(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Chunks without their changes would bring back what was withdrawn."""
    write(writer, ADS, {"a1": 1})
    write(writer, ADS, {"a2": 2})
    client.delete(ViewKeys(project, ADS).changes)

    with pytest.raises(CodecError, match="has a gap; materialize the view again"):
        catalogue.load(ADS)
    write(writer, ADS, {"a3": 3})

    assert sorted(catalogue.load(ADS).entity_ids) == ["a1", "a2", "a3"]


def test_a_publisher_killed_between_entries_and_head_is_caught_up_with(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Its entries stand in the stream but are not counted; the next publisher must not stumble over their numbers."""
    write(writer, ADS, {"a1": 1})
    keys = ViewKeys(project, ADS)
    head = client.get(keys.catalogue)
    assert head is not None
    write(writer, ADS, {"a2": 2})
    client.set(keys.catalogue, head)

    write(writer, ADS, {"a3": 3})

    assert sorted(catalogue.load(ADS).entity_ids) == ["a1", "a2", "a3"]


def test_a_lost_chunk_is_an_error_and_materializing_again_mends_it(
    writer: RedisRowWriter, catalogue: RedisCatalogue, client: BlockingClient, project: str
) -> None:
    """Eviction took it. The message's way out must really lead out, and with all ads, not only the new ones."""
    write(writer, ADS, {"a1": 1, "a2": 2})
    keys = ViewKeys(project, ADS)
    client.delete(keys.chunk(catalogue.load(ADS).position.version, 0))

    with pytest.raises(CodecError, match="is gone; materialize the view again"):
        catalogue.load(ADS)
    write(writer, ADS, {"a3": 3})

    assert sorted(catalogue.load(ADS).entity_ids) == ["a1", "a2", "a3"]


def test_an_item_table_follows_redis(
    store_url: str, writer: RedisRowWriter, catalogue: RedisCatalogue, tmp_path: Path
) -> None:
    """The whole way: rows, catalogue, table, change, row of the delta, a version that goes on, one that starts anew."""
    write(writer, ADS, {"a1": 1, "a2": 2})
    source = ItemTableSource(catalogue, [ADS], Now(), tmp_path)

    def table_after(ads: dict[str, float]) -> ItemTable:
        with patch.object(catalogue_writer, "MIN_LONG_STREAM", 1):
            write(writer, ADS, ads)
        source.refresh()
        assert source.table is not None
        return source.table

    source.refresh()
    first = source.table
    second = table_after({"a2": 20})
    version = second.positions[0].version
    third = table_after({"a1": 10})
    values_of_third = third.take(third.lookup(["a1", "a2"])).floats[:, 0].tolist()
    fourth = table_after({"a1": 11, "a2": 21})

    assert first is second is third is not fourth
    assert third.positions[0].version > version
    assert values_of_third == [10.0, 20.0]
    assert fourth.take(fourth.lookup(["a1", "a2"])).floats[:, 0].tolist() == [11.0, 21.0]
    assert fourth.n_changed == 0
