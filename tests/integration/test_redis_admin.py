"""Looking into a project and taking rows away, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from feature_store.errors import CodecError, EntityIdError, WriterBusy
from feature_store.ids import hash_id
from feature_store.online.blocking_client import blocking_client
from feature_store.online.catalogue import RedisCatalogue
from feature_store.online.layout import ViewKeys
from feature_store.online.redis_admin import PrunedView, RedisAdmin
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.schema import Feature, FeatureView, TableSource
from tests.stores import DAY_MS, Now, make_view, numbered, project, store_url, valkey_server

__all__ = ["project", "store_url", "valkey_server"]

PROFILE = make_view("user_profile", "user")
TASTE = FeatureView(
    name="user_taste",
    entity="user",
    features=(
        Feature(name="embedding", width=2),
        Feature(name="segment", dtype="id", default="none"),
        Feature(name="ctr", default=0.01),
    ),
    source=TableSource(columns=("embedding", "segment", "ctr")),
    hash_seed=7,
    ttl_ms=DAY_MS,
)
ADS = make_view("ad_profile", "ad")


@pytest.fixture
def writer(store_url: str, project: str) -> Iterator[RedisRowWriter]:
    """Writes this test's project."""
    writer = RedisRowWriter(store_url, project)
    yield writer
    writer.close()


@pytest.fixture
def admin(store_url: str, project: str) -> Iterator[RedisAdmin]:
    """Looks after this test's project."""
    admin = RedisAdmin(store_url, project)
    yield admin
    admin.close()


def write(writer: RedisRowWriter, view: FeatureView, entity_ids: list[str], number: float, time_ms: int) -> None:
    with writer.session(view) as session:
        session.write(entity_ids, *numbered(view, [number] * len(entity_ids), time_ms))
        session.finish()


def test_inspect_shows_every_view_of_the_entity(writer: RedisRowWriter, admin: RedisAdmin, project: str) -> None:
    """A person asks why this user was ranked so; the project's files are elsewhere."""
    time_ms = Now()()
    write(writer, PROFILE, ["u1"], 3, time_ms)
    write(writer, TASTE, ["u2"], 1, time_ms)
    write(writer, ADS, ["u1"], 1, time_ms)

    profile, taste = admin.inspect("user", "u1")

    assert (profile.view, profile.found, profile.features) == ("user_profile", True, {"f0": 3.0, "f1": 3.0, "c0": 3})
    assert (profile.event_time_ms, profile.expires_ms) == (time_ms, time_ms + DAY_MS)
    assert profile.key == ViewKeys(project, PROFILE).row("u1").decode()
    assert (taste.view, taste.found, taste.event_time_ms) == ("user_taste", False, None)
    assert taste.features == {
        "embedding": [None, None],
        "segment": hash_id("none", 7),
        "ctr": pytest.approx(0.01),
    }


def test_inspect_of_an_empty_project_is_empty(admin: RedisAdmin) -> None:
    """Before anything was materialized there is nothing to show, and no error."""
    assert admin.inspect("user", "u1") == []


def test_inspect_refuses_what_is_no_id(admin: RedisAdmin) -> None:
    """The id comes from a command line."""
    with pytest.raises(EntityIdError):
        admin.inspect("user", "a b")


def test_a_definition_of_another_version_is_named(
    writer: RedisRowWriter, admin: RedisAdmin, project: str, store_url: str
) -> None:
    """A later clickserve may describe views in another way."""
    write(writer, PROFILE, ["u1"], 1, Now()())
    client = blocking_client(store_url)
    client.hset(ViewKeys(project, PROFILE).meta, mapping={"definition": '{"name": 7}'})
    client.close()

    with pytest.raises(CodecError, match=r"'user_profile'.*prune it"):
        admin.inspect("user", "u1")


def test_a_dry_run_prunes_nothing(writer: RedisRowWriter, admin: RedisAdmin) -> None:
    """Look first."""
    write(writer, PROFILE, ["u1", "u2"], 1, Now()())

    pruned = admin.prune(keep=[], dry_run=True)

    assert pruned == [PrunedView("user_profile", PROFILE.fingerprint, 3)]  # two rows and the meta
    assert admin.inspect("user", "u1")[0].found


def test_prune_removes_every_key_of_forgotten_meanings_and_no_other(
    writer: RedisRowWriter, admin: RedisAdmin, store_url: str, project: str
) -> None:
    """A changed view leaves its old rows behind; they cost memory until their time-to-live, catalogues for ever."""
    old_ads = make_view("ad_profile", "ad", n_float=5)
    write(writer, old_ads, [f"a{i}" for i in range(1_500)], 1, Now()())
    write(writer, ADS, ["a1"], 1, Now()())

    pruned = admin.prune(keep=[ADS.fingerprint], dry_run=False)

    client = blocking_client(store_url)
    left = set(client.scan_iter(match=f"cs:{project}:*".encode(), count=1_000))
    client.close()
    keys = ViewKeys(project, ADS)
    assert pruned == [PrunedView("ad_profile", old_ads.fingerprint, 1_500 + 2 + 2)]  # rows, chunks, meta, catalogue
    assert {key for key in left if not key.endswith(b"@views")} == {
        keys.row("a1"),
        keys.meta,
        keys.catalogue,
        next(key for key in left if b"@chunk" in key),
    }
    assert admin.prune(keep=[ADS.fingerprint], dry_run=True) == []


def test_a_view_that_is_being_written_is_not_pruned(writer: RedisRowWriter, admin: RedisAdmin) -> None:
    """Its writer would leave rows behind that nobody lists."""
    with writer.session(PROFILE), pytest.raises(WriterBusy):
        admin.prune(keep=[], dry_run=False)


def test_delete_erases_the_entity_everywhere(writer: RedisRowWriter, admin: RedisAdmin) -> None:
    """All views, all fingerprints: what an older model still reads counts as well."""
    older = make_view("user_profile", "user", n_float=4)
    for view in (PROFILE, older, TASTE):
        write(writer, view, ["u1", "u2"], 1, Now()())

    names = admin.delete("user", "u1")

    assert sorted(names) == ["user_profile", "user_profile", "user_taste"]
    assert not any(row.found for row in admin.inspect("user", "u1"))
    assert all(row.found for row in admin.inspect("user", "u2"))


def test_an_erased_item_leaves_no_bytes_in_the_catalogue(
    writer: RedisRowWriter, admin: RedisAdmin, store_url: str, project: str
) -> None:
    """A new version is made for one item, so that old chunks leave after their grace."""
    write(writer, ADS, ["a1", "a2"], 1, Now()())

    admin.delete("ad", "a1")

    catalogue = RedisCatalogue(store_url, project)
    loaded = catalogue.load(ADS)
    catalogue.close()
    client = blocking_client(store_url)
    chunk = client.get(ViewKeys(project, ADS).chunk(loaded.position.version, 0))
    client.close()
    assert loaded.entity_ids == ["a2"]
    assert chunk is not None
    assert b"a1" not in chunk
